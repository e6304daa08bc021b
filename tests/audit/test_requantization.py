"""The study of requantization: its counts against an independent count, and its laws."""

from __future__ import annotations

import builders
import numpy as np
import pytest
import quantized

from resnet8.audit.requantization import VARIANTS, audit_requantization
from resnet8.data.cifar10 import Split, read_split
from resnet8.execute import engine
from resnet8.numeric.variants import MULTIPLIERS, ROUNDINGS, Requantization
from resnet8.results import RequantizationStudy, from_json, to_json

MODEL = builders.model("q.onnx", "uint8", "int8")


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> Split:
    return read_split(builders.cifar_folder(tmp_path_factory.mktemp("data") / "cifar", per_class=6), "test")


@pytest.fixture(scope="module")
def result(split: Split) -> RequantizationStudy:
    return audit_requantization(MODEL, quantized.network(seed=5), split)


def test_every_multiplier_meets_every_rounding(result: RequantizationStudy) -> None:
    assert [(row.multiplier, row.rounding) for row in result.rows] == [(m, r) for m in MULTIPLIERS for r in ROUNDINGS]
    assert len(VARIANTS) == 20


def test_the_reference_differs_from_itself_nowhere(result: RequantizationStudy) -> None:
    reference = result.rows[0]
    assert (reference.changed, reference.largest_difference) == (0, 0)
    assert (reference.changed_logits, reference.changed_predictions) == (0, 0)


def test_coarser_multipliers_change_more_codes(result: RequantizationStudy) -> None:
    even = [row.changed for row in result.rows if row.rounding == "half-even"]
    assert even == sorted(even)
    assert even[-1] > even[1]


def test_counts_are_those_of_a_direct_count(split: Split, result: RequantizationStudy) -> None:
    program = quantized.network(seed=5)
    variant = Requantization("fixed8", "half-up")
    row = next(one for one in result.rows if (one.multiplier, one.rounding) == ("fixed8", "half-up"))
    values = {program.input.name: engine.input_codes(program, split.images)}
    expected = engine.run(program, values[program.input.name], watch=values.__setitem__)
    differences = [
        np.abs(engine.step(layer, values, variant).astype(int) - values[layer.output.name]) for layer in program.layers
    ]
    assert row.codes == sum(one.size for one in differences)
    assert row.changed == sum(np.count_nonzero(one) for one in differences)
    assert row.largest_difference == max(one.max() for one in differences)
    logits = engine.run(program, values[program.input.name], variant)
    assert row.changed_logits == np.count_nonzero(logits != expected)
    ours, theirs = (engine.probabilities(program, one).argmax(axis=1) for one in (logits, expected))
    assert row.changed_predictions == np.count_nonzero(ours != theirs)
    assert row.overall.correct == np.count_nonzero(ours == split.labels)


def test_it_comes_back_from_json(result: RequantizationStudy) -> None:
    assert from_json(RequantizationStudy, to_json(result), "memory") == result


def test_the_images_of_the_isolated_comparison_are_limited_and_said(
    split: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("resnet8.audit.requantization.ISOLATED_IMAGES", 10)
    few = audit_requantization(MODEL, quantized.network(seed=5), split, [Requantization("fixed16")])
    assert few.isolated_images == 10
    assert few.images == len(split)
    assert few.rows[0].codes == 10 * sum(int(np.prod(one.output.shape)) for one in quantized.network(seed=5).layers)


def test_progress_reaches_its_total(split: Split) -> None:
    seen: list[tuple[int, int]] = []
    audit_requantization(
        MODEL, quantized.network(), split, [Requantization("fixed16")], lambda *step: seen.append(step)
    )
    assert seen[-1][0] == seen[-1][1] == 3 * len(split)
