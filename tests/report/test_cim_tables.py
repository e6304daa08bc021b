"""Compute-in-memory as tables, pages and pictures: of a result whose every number is chosen."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import builders
import pytest
from test_documents import evidence_root

from resnet8 import results
from resnet8.errors import ResultError
from resnet8.report import cim, plots
from resnet8.report.documents import CIM, stale
from resnet8.results import ArrayCell, ArrayLayer, ArrayRun, CimAudit, score

if TYPE_CHECKING:
    from pathlib import Path

LABELS = "0123456789"


def run(predictions: str, number: int = 0) -> ArrayRun:
    correct = sum(a == b for a, b in zip(predictions, LABELS, strict=True))
    return ArrayRun(number, score(correct, 10), predictions)


def cell(rows: int, adc_bits: int, *runs: ArrayRun, clipped: int = 0, variation: float = 0.0) -> ArrayCell:
    layer = ArrayLayer("stem", "conv", 27, 1, 224, 1000, rows, max(1.0, rows / 2**adc_bits), clipped)
    return ArrayCell(
        rows=rows,
        cell_bits=1,
        dac_bits=1,
        adc_bits=adc_bits,
        signed="differential",
        adc_range="full",
        percentile=100.0,
        variation=variation,
        spread="multiplicative",
        read_noise=0.0,
        seed=0,
        layers=(layer, replace(layer, layer="dense", operator="dense", clipped=0)),
        runs=runs,
    )


RESULT = CimAudit(
    model=builders.model("q.onnx", "int8", "int8"),
    data=builders.CIFAR10,
    labels=LABELS,
    exact=score(9, 10),
    predictions="0123456780",
    calibration=None,
    calibration_images=0,
    cells=(
        cell(32, 4, run("0000000000"), clipped=30),
        cell(32, 6, run("0123456780")),
        cell(64, 6, run("0123456789")),
    ),
    environment=builders.ENVIRONMENT,
    created=builders.parity().created,
)


def test_a_map_marks_what_the_test_tells_from_the_exact_engine() -> None:
    (found,) = cim.maps(RESULT)
    assert found.title == "differential cells of 1 bit, bit-serial inputs, full ADC range"
    assert found.headings == ("correct / as exact", "ADC 4 bits", "ADC 6 bits")
    # 8 lost, none gained: p = 2 / 2^8; one gained: p = 1. An image that both miss alike agrees.
    assert found.rows == (("32 rows", "1 / 2*", "9 / 10"), ("64 rows", "–", "10 / 9"))
    assert [cim.p_values(RESULT, one) for one in RESULT.cells] == [(2 / 2**8,), (1.0,), (1.0,)]


def test_a_row_says_what_was_lost_gained_and_clipped() -> None:
    found = cim.arrays(RESULT)
    assert found.title.endswith("exact engine 9 of 10 images: CIFAR-10 (official), test split")
    assert found.headings[3:] == (
        *("correct", "accuracy", "as exact", "lost", "gained", "p", "clipped", "conversions"),
    )
    assert found.rows[0] == ("32", "4 bits", "1", "1", "10.00 %", "2", "8", "0", "0.008", "0.15 %", "2,000")
    assert found.rows[2][3:10] == ("10", "100.00 %", "9", "0", "1", "1.000", "0")


def test_runs_are_a_mean_a_deviation_and_ends() -> None:
    varied = cell(32, 4, run("0000000000"), run("0123456780", 1), variation=0.2)
    result = replace(RESULT, cells=(varied, replace(varied, rows=64)))
    row = cim.arrays(result).rows[0]
    assert row[2:9] == ("2", "5.0 ± 5.7", "50.00 %", "6.0 ± 5.7", "0 … 8", "0", "0.008 … 1.000")
    assert not cim.told(result, varied)
    assert "mean ± standard deviation of 2 programmings" in cim.blocks("x", result)["cim-x"]


def test_layers() -> None:
    first, second = cim.layers(RESULT, RESULT.cells[0]).rows
    assert first == ("stem", "conv", "27", "1", "224", "1,000", "32", "2", "30", "0.3 %")
    assert second[-2:] == ("0", "0")


def test_a_picture_is_the_same_bytes_each_time() -> None:
    svg = plots.content(plots.cim(RESULT), ".svg")
    assert svg == plots.content(plots.cim(RESULT), ".svg")
    for words in ("bits of the ADC", "rows of an array", "10.00*", "90.00", "100.00", "exact 90.00"):
        assert words in svg.decode()
    alone = replace(RESULT, cells=RESULT.cells[:1])
    assert plots.content(plots.cim(alone), ".png").startswith(b"\x89PNG")


# --- the page ---


def page(root: Path, result: CimAudit, name: str = "ort-int8_small") -> Path:
    evidence_root(root)
    results.save(result, root / CIM / f"{name}.json")
    path = root / "docs/cim.md"
    path.write_text("<!-- cim-ort-int8-small:begin -->\n<!-- cim-ort-int8-small:end -->\n")
    return path


def test_the_page_is_filled_in(tmp_path: Path) -> None:
    path = page(tmp_path, RESULT)
    filled = stale(tmp_path)[path]
    assert "| 32 rows | 1 / 2* | 9 / 10 |" in filled
    assert "3 comparisons, not corrected for their number" in filled
    assert "Differential cells of 1 bit, bit-serial inputs, full ADC range:" in filled
    assert "ranges are set on" not in filled
    drawn = replace(
        RESULT, calibration=replace(RESULT.data, split="train", subset="held-out-50"), calibration_images=50
    )
    words = "ranges are set on 50 images: CIFAR-10 (official), train split, subset held-out-50."
    assert words in cim.blocks("x", drawn)["cim-x"]


def test_what_is_about_another_model_or_other_images_is_refused(tmp_path: Path) -> None:
    other = replace(RESULT, model=replace(RESULT.model, sha256="0" * 64))
    images = replace(RESULT, data=replace(RESULT.data, fingerprint="0" * 64))
    for name, result in (("model", other), ("images", images)):
        page(tmp_path / name, result)
        with pytest.raises(ResultError, match=r"about another model, or other images, than results/ort-int8\.json"):
            stale(tmp_path / name)
