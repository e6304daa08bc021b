"""Headings and cells, from results alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
from builders import CIFAR10, CLASS_NAMES, evaluation, model, noise_study, parity, quantization, wrong_on
from hypothesis import given, settings
from hypothesis import strategies as st

from resnet8.comparison import compare
from resnet8.quantization.recipes import RECIPES
from resnet8.report import tables
from resnet8.results import Comparison, Evaluation, PairParity

LABELS = "0123456789" * 100
FP32 = evaluation(LABELS, wrong_on(LABELS, range(100)))


def int8(wrong: int, recipe: str = "ort-int8") -> Evaluation:
    described = model("models/q.onnx", "int8", "int8", 123_456)
    return evaluation(LABELS, wrong_on(LABELS, range(wrong)), described=described, recipe=recipe)


def cells(result: Comparison, row: int) -> dict[str, str]:
    table = tables.comparison(result)
    return dict(zip(table.headings, table.rows[row], strict=True))


@pytest.mark.parametrize(
    ("dataset", "subset", "text"),
    [
        ("CIFAR-10", "all", "CIFAR-10 (official), test split"),
        ("CIFAR-10", "mlperf-perf", "CIFAR-10 (official), test split, subset mlperf-perf"),
        ("demo digits", "all", "demo digits (handwritten digits, not CIFAR-10), test split"),
        ("unofficial", "first-9", "NOT the official CIFAR-10 (other checksum), test split, subset first-9"),
        ("random images", "all", "random images, test split"),
    ],
)
def test_source_says_what_the_images_are(dataset: str, subset: str, text: str) -> None:
    assert tables.source(replace(CIFAR10, dataset=dataset, subset=subset)) == text


def test_comparison_with_published_numbers() -> None:
    result = compare([FP32, int8(151, "published-int8"), int8(110)])
    table = tables.comparison(result)
    assert table.title == "1,000 images: CIFAR-10 (official), test split"
    assert table.left == 3
    assert cells(result, 0) == {
        "model": "fp32",
        "framework": "ONNX Runtime",
        "dtype": "float32",
        "correct": "900",
        "accuracy": "90.00 %",
        "delta (points)": "baseline",
        "p": "–",
        "agreement": "–",
        "size": "312.5 KB",
        "reduction": "–",
        "published": "8,719",
        "difference": "-7819",
    }
    assert cells(result, 1) == {
        "model": "published-int8",
        "framework": "ONNX Runtime",
        "dtype": "int8",
        "correct": "849",
        "accuracy": "84.90 %",
        "delta (points)": "-5.10 ⚠ drop",
        "p": "< 0.001",
        "agreement": "949",
        "size": "120.6 KB",
        "reduction": "61%",
        "published": "8,558",
        "difference": "-7709",
    }
    assert cells(result, 2)["published"] == cells(result, 2)["difference"] == "–"
    assert cells(result, 2)["p"] == "0.002"  # ten lost, none gained: 2 / 2**10


def test_comparison_on_other_images_has_no_published_column() -> None:
    data = replace(CIFAR10, dataset="demo digits")
    table = tables.comparison(compare([replace(FP32, data=data), replace(int8(110), data=data)]))
    assert table.headings[-1] == "reduction"
    assert "not CIFAR-10" in table.title


def test_the_noise_stands_beside_the_count() -> None:
    studies = [noise_study(int8(110), [range(108), range(115)])]
    result = compare([FP32, int8(110), int8(110, "ort-uint8")], noise=studies)
    assert tables.comparison(result).headings[3:6] == ("correct", "noise", "accuracy")
    assert [cells(result, i)["noise"] for i in range(3)] == ["–", "885 – 892", "–"]
    assert {len(row) for row in tables.comparison(result).rows} == {len(tables.comparison(result).headings)}
    assert "noise" not in tables.comparison(compare([FP32, int8(110)])).headings


def test_noise() -> None:
    table = tables.noise([noise_study(int8(110), [range(108), range(116), range(109)])])
    assert table.title.endswith("1,000 images: CIFAR-10 (official), test split")
    row = dict(zip(table.headings, table.rows[0], strict=True))
    assert row == {
        "recipe": "ort-int8",
        "correct": "890",
        "runs": "3",
        "mean ± sd": "889.0 ± 4.4",  # of 892, 884, 891: variance (9 + 25 + 4) / 2 = 19
        "range": "884 – 892",
        "as unperturbed": "99.40 – 99.90, mean 99.70 %",
        "between runs": "99.20 – 99.90, mean 99.47 %",
    }


def test_only_one_row_is_the_baseline() -> None:
    """Two float files of one runtime, say before and after folding: the second has a delta."""
    folded = evaluation(LABELS, wrong_on(LABELS, range(101)), described=model("models/folded.onnx"))
    named_like_it = evaluation(
        LABELS, wrong_on(LABELS, range(102)), described=model("models/fp32.onnx", "int8", "int8")
    )
    result = compare([named_like_it, FP32, folded])
    assert [cells(result, i)["delta (points)"] for i in range(3)] == ["-0.20", "baseline", "-0.10"]


@settings(derandomize=True, max_examples=30, deadline=None)
@given(wrong=st.lists(st.integers(0, 1000), min_size=1, max_size=6))
def test_every_row_has_a_cell_for_each_heading(wrong: list[int]) -> None:
    result = compare([FP32, *(int8(count) for count in wrong)])
    table = tables.comparison(result)
    assert {len(row) for row in table.rows} == {len(table.headings)}
    assert [row[3] for row in table.rows] == ["900", *(f"{1000 - count:,}" for count in wrong)]
    assert ["⚠" in row[5] for row in table.rows] == [False, *(count > 150 for count in wrong)]


def test_evaluation() -> None:
    table = tables.evaluation(int8(13))
    assert table.title == "models/q.onnx (onnxruntime, int8) on CIFAR-10 (official), test split"
    assert [row[0] for row in table.rows] == [*CLASS_NAMES, "overall"]
    assert table.rows[2] == ("bird", "98", "100", "98.00 %")
    assert table.rows[3] == ("cat", "99", "100", "99.00 %")
    assert table.rows[-1] == ("overall", "987", "1,000", "98.70 %")


def test_per_class() -> None:
    table = tables.per_class((FP32, int8(13)), ("float", "int8"))
    assert table.headings == ("class", "images", "float", "int8")
    assert table.rows[2] == ("bird", "100", "90", "98")
    assert len(table.rows) == 10


def test_parity() -> None:
    table = tables.parity(parity(PairParity("keras", "onnxruntime", 1.54e-6, 17, 2, 1)))
    assert table.title == "200 images: CIFAR-10 (official), test split"
    assert table.rows == (("keras – onnxruntime", "1.54e-06", "17", "2", "1"),)


def test_calibration() -> None:
    drawn = quantization("ort-int8", "second").calibration
    assert drawn is not None
    table = tables.calibration(drawn)
    assert "CIFAR-10 (official), train split, subset calibration; draw «second», seed 42" in table.title
    assert table.rows == tuple((name, "2") for name in CLASS_NAMES)


def test_recipes() -> None:
    table = tables.recipes(tuple(RECIPES.values()))
    assert [row[0] for row in table.rows] == list(RECIPES)
    recommended = dict(zip(table.headings, table.rows[list(RECIPES).index("ort-per-channel")], strict=True))
    assert recommended["activations"] == "uint8"
    assert recommended["weights"] == "int8"
    assert recommended["scales"] == "per channel"
    assert recommended["folded"] == "yes"
    assert {len(row) for row in table.rows} == {len(table.headings)}
