"""The generated parts of the pages on arithmetic: what stands in them is what the results say."""

from __future__ import annotations

import builders
import pytest
import quantized

from resnet8.audit.accumulators import audit
from resnet8.audit.requantization import study
from resnet8.audit.worked import worked
from resnet8.cifar10 import Split, read_split
from resnet8.render import blocks
from resnet8.results import Agreement, GraphAgreement, LayerAgreement, PredictionDifference

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
