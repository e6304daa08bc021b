"""The generated parts of the pages on arithmetic: what stands in them is what the results say."""

from __future__ import annotations

from dataclasses import replace

import builders
import pytest
import quantized

from resnet8.audit.accumulators import audit
from resnet8.audit.requantization import study
from resnet8.audit.worked import worked
from resnet8.cifar10 import Split, read_split
from resnet8.render import blocks
from resnet8.results import (
    Agreement,
    GraphAgreement,
    LayerAgreement,
    PlaygroundUse,
    PredictionDifference,
    from_json,
    to_json,
)

MODEL = builders.model("models/q.onnx", "uint8", "int8")
CAUSES = {"tie": 2, "float rounding": 1, "saturation": 0, "other": 0}


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> Split:
    return read_split(builders.cifar_folder(tmp_path_factory.mktemp("data") / "cifar"), "test")


def agreement(*differences: PredictionDifference) -> Agreement:
    layers = (
        LayerAgreement("conv", "conv", "integer", 1000, 3, CAUSES, 1),
        LayerAgreement("dense", "dense", "float", 10, 0, dict.fromkeys(CAUSES, 0), 0),
    )
    graph = GraphAgreement("optimized", 1, 8, 9, layers, differences)
    return Agreement(MODEL, builders.CIFAR10, 10, (graph,), builders.ENVIRONMENT, "2026-01-02T03:04:05+00:00")


def test_agreement_shows_layers_that_differ_and_the_sum() -> None:
    text = blocks.agreement("x", agreement())["agreement-x"]
    assert "Model `q.onnx`, 10 images" in text
    assert "1 of 2 layers with integer kernels" in text
    assert "All 10 predictions are equal." in text
    assert "| conv | conv | integer | 1,000 | 3 | 2 | 1 | 0 | 0 | 1 |" in text
    assert "| all layers | 2 | 1 integer | 1,010 | 3 | 2 | 1 | 0 | 0 | 1 |" in text
    assert "dense" not in text


def test_agreement_says_where_differing_predictions_come_from() -> None:
    text = blocks.agreement("x", agreement(PredictionDifference(4, 1, 2, "pool", "tie", tie=False)))["agreement-x"]
    assert (
        "1 of 10 predictions differ; the first differing code of each of these images is in `pool`, its cause: tie"
        in text
    )


def test_requantization(split: Split) -> None:
    result = study(MODEL, quantized.network(), split)
    (text,) = blocks.requantization("x", result).values()
    assert text.count("\n| ") == 2 + 20
    for row in result.rows:
        assert f"| {row.multiplier} | {row.rounding} | {row.changed:,} |" in text


def test_accumulators_and_widths(split: Split) -> None:
    result = audit(MODEL, quantized.network(), split)
    found = blocks.accumulators("x", result)
    assert set(found) == {"accumulators-x", "widths-x"}
    for row in result.layers:
        assert f"| {row.layer} | {row.operator} | {row.depth} |" in found["accumulators-x"]
    assert "| 16 | wrap |" in found["widths-x"]


def test_worked(split: Split) -> None:
    result = worked(MODEL, quantized.network(), split)
    found = blocks.worked("x", result)
    assert set(found) == {"layers-x", "pixels-x"} | {f"example-{one.operator}-x" for one in result.examples}
    assert found["example-conv-x"].count("```") == 2
    assert found["layers-x"].count("\n| ") == 1 + len(result.layers) + 1


def test_portability_counts_changed_predictions() -> None:
    labels = "0123456789"
    there = builders.evaluation(labels, labels, recipe="ort-int8", described=builders.model("q.onnx", "int8", "int8"))
    here = builders.evaluation(labels, "1123456780", backend="emulated-avx2")
    text = blocks.portability({"ort-int8": here}, {"ort-int8": there})
    assert "| ort-int8 | int8 | 10 | 8 | -2 | 2 |" in text


def test_mistakes_change_the_code_that_the_example_gives(split: Split) -> None:
    result = worked(MODEL, quantized.network(), split)
    found = blocks.pitfalls("x", result, audit(MODEL, quantized.network(), split))
    assert set(found) >= {"mistakes-x", "clipping-x"}
    for example in result.examples:
        rows = [row for row in found["mistakes-x"].splitlines() if row.startswith(f"| {example.layer} |")]
        assert any("| rounded down |" in row for row in rows)
        for row in rows:
            _, _, right, wrong, difference = (cell.strip() for cell in row.strip("|").split("|"))
            assert int(right) == example.code
            assert int(wrong) - int(right) == int(difference)


def test_a_forgotten_zero_point_shifts_the_sum_by_its_weights(split: Split) -> None:
    result = worked(MODEL, quantized.network(dtype="int8"), split)
    example = next(one for one in result.examples if one.operator == "conv")
    (facts,) = (one for one in result.layers if one.layer == example.layer)
    wrong = (example.accumulator or 0) + facts.inputs[0].zero_points[0] * sum(term.b or 0 for term in example.terms)
    code = min(max(round(wrong * example.multipliers[0]) + example.zero_point, -128), 127)
    text = blocks.pitfalls("x", result, None)["mistakes-x"]
    assert f"| {example.layer} | zero point of the input forgotten | {example.code} | {code} |" in text


def test_per_channel_models_show_how_far_multipliers_are_apart(split: Split) -> None:
    result = worked(MODEL, quantized.network(per_channel=True), split)
    found = blocks.pitfalls("x", result, None)
    low, high = result.layers[0].multipliers[0]
    assert f"| {high / low:.3g} |" in found["channels-x"]
    assert "clipping-x" not in found


def test_qemu_compares_the_images_that_both_have() -> None:
    everything = builders.evaluation("0123456789", "0123456780", backend="emulated-avx2")
    genuine = builders.evaluation("01234", "01235")
    assert "| m | 5 | 4 | 5 | 1 |" in blocks.qemu({"m": genuine}, {"m": everything})


def test_the_playground_has_a_column_for_each_model() -> None:
    first = PlaygroundUse(
        model=MODEL,
        images=200,
        opening_seconds=7.94,
        layer_seconds=(0.5, 0.7, 2.0),
        change_seconds=(0.2, 0.4, 0.3),
        sqnr_seconds=1.44,
        alone_seconds=2.5,
        compared_seconds=3.86,
        resident_mb=(425, 426),
        load=0.15,
        browser="Chromium 1.2",
        environment=builders.ENVIRONMENT,
        created="2026-01-02T03:04:05+00:00",
    )
    assert from_json(PlaygroundUse, to_json(first), "memory") == first
    second = replace(first, model=builders.model("models/r.onnx", "uint8", "uint8"), change_seconds=(0.9,), load=1.25)
    text = blocks.playground([first, second])
    assert "| measured | `q.onnx` | `r.onnx` |" in text
    assert (
        "| change a scale and see what becomes of one image (s) | 0.30 (at most 0.40) | 0.90 (at most 0.90) |" in text
    )
    assert "| show another layer (s) | 0.70 (at most 2.00) | 0.70 (at most 2.00) |" in text
    assert "| SQNR of every layer (s) | 1.4 | 1.4 |" in text
    assert "(MB) | 425, 426 | 425, 426 |" in text
    assert "3 changes" in text
    assert "Chromium 1.2" in text
    assert "load before: 0.1, 1.2." in text
