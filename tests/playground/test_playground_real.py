"""The playground's logic on the real models and images."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pytest

from resnet8.data.cifar10 import preprocess, read_split
from resnet8.playground.activations import capture, noise, probabilities, sensitivity
from resnet8.playground.change import Change, apply
from resnet8.playground.compare import compare, flips
from resnet8.playground.network import open_network, reference
from resnet8.playground.save import save
from resnet8.runtimes import open_model, ort

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.real, pytest.mark.slow]


@pytest.mark.parametrize("recipe", ["published-int8", "published-uint8"])
def test_look_inside_change_compare_and_save(
    recipe: str, real_models: dict[str, Path], real_assets: Path, tmp_path: Path
) -> None:
    split = read_split(real_assets, "test")
    opened = open_network(real_models[recipe])
    real = open_network(real_models[recipe].with_name("resnet8.onnx"))
    quantized, behind = opened.require_quantized(), reference(opened, real)
    assert [layer.operator for layer in opened.layers].count("conv") == 9
    assert sum(layer.macs for layer in opened.layers) == 12_501_632

    rows = noise(quantized, behind, split.images[:200])
    assert rows[0].accumulated == np.inf  # the images' scale is 1
    assert all(25 < one.isolated < 50 for one in rows[1:])
    assert all(12 < one.accumulated < 35 for one in rows[1:])
    assert rows[-1].accumulated == pytest.approx(22, abs=2)

    alone = sensitivity(quantized, behind, split.images[:100], split.labels[:100])
    assert alone.reference.correct >= 85
    assert all(one.score.correct >= alone.reference.correct - 4 for one in alone.layers)

    name = next(one.output.name for one in opened.layers if one.residual)
    changes = [Change(name, "bits", 3)]
    changed = apply(quantized, changes, behind)
    found = compare(capture(quantized, behind, split.images[:1]), changed, split.images[:1])
    difference = next(one for one in found.layers if one.activation == name)
    assert difference.original is not None
    assert difference.changed is not None
    assert difference.changed < difference.original
    turned = flips(quantized, changed, split.images[:300], split.labels[:300])
    assert turned.changed.correct < turned.original.correct
    assert turned.images

    save(tmp_path / "changed.onnx", opened, changes, real)
    exact = partial(ort.open_content, options={"session.x64quantprecision": "1"})  # no saturation without VNNI
    theirs = open_model(tmp_path / "changed.onnx", exact).probabilities(preprocess(split.images[:300])).argmax(axis=1)
    ours = probabilities(changed, split.images[:300]).argmax(axis=1)
    assert (theirs == ours).mean() >= 0.99
