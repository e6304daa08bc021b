"""The playground's logic on the real models and images."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pytest

from resnet8.data.cifar10 import preprocess, read_split
from resnet8.network.change import Change, apply
from resnet8.playground.flow import flow, predictions
from resnet8.playground.noise import noise, of_flow, sensitivity
from resnet8.playground.opened import open_file
from resnet8.playground.saving import save
from resnet8.runtimes import open_model, ort

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.real, pytest.mark.slow]


@pytest.mark.parametrize("recipe", ["published-int8", "published-uint8"])
def test_look_inside_change_compare_and_save(
    recipe: str, real_models: dict[str, Path], real_assets: Path, tmp_path: Path
) -> None:
    split = read_split(real_assets, "test")
    opened = open_file(real_models[recipe])
    real = open_file(real_models[recipe].with_name("resnet8.onnx"))
    quantized, behind = opened.require_quantized(), opened.reference(real)
    assert [layer.operator for layer in opened.network.layers].count("conv") == 9
    assert sum(layer.macs for layer in opened.network.layers) == 12_501_632

    errors = noise(quantized, behind, split.images[:200])
    assert errors.accumulated[0].sqnr == np.inf  # the images' scale is 1
    assert all(25 < one.sqnr < 50 for one in errors.isolated[1:])
    assert all(12 < one.sqnr < 35 for one in errors.accumulated[1:])
    assert errors.accumulated[-1].sqnr == pytest.approx(22, abs=2)

    alone = sensitivity(quantized, behind, split.images[:100], split.labels[:100])
    assert alone.score().correct >= 85
    assert all(alone.score(layer).correct >= alone.score().correct - 4 for layer in alone.variants)

    name = next(one.output.name for one in opened.network.layers if one.residual)
    changes = [Change(name, "bits", 3)]
    changed = apply(quantized, changes, behind)
    wanted, *both = (flow(one, split.images[:1]) for one in (behind, quantized, changed))
    at = list(quantized.activations).index(name)
    before, after = (of_flow(wanted, one)[at].sqnr for one in both)
    assert after < before
    mine, ours = (predictions(one, split.images[:300]) for one in (quantized, changed))
    assert (ours == split.labels[:300]).sum() < (mine == split.labels[:300]).sum()

    save(tmp_path / "changed.onnx", opened, changes, real)
    exact = partial(ort.open_content, options={"session.x64quantprecision": "1"})  # no saturation without VNNI
    theirs = open_model(tmp_path / "changed.onnx", exact).probabilities(preprocess(split.images[:300])).argmax(axis=1)
    assert (theirs == ours).mean() >= 0.99
