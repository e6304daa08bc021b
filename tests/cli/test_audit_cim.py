"""``resnet8 audit cim``: one kind of arrays, maps of several, and what is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from resnet8.files import sha256_file
from resnet8.results import CimAudit, load

if TYPE_CHECKING:
    from pathlib import Path

    from shell import Case, Shell

    from resnet8.pipeline import Reproduction

FEW = ("--demo", "--images", 4, "--cells", "cells", "--jobs", 1)


@pytest.fixture
def int8(reproduced: Reproduction) -> Path:
    return reproduced.output_dir / "models/resnet8_int8.onnx"


def test_one_kind_of_arrays(shell: Shell, int8: Path) -> None:
    text = shell.good("audit", "cim", int8, *FEW, "--adc-bits", 7, "--json", "c.json")
    for words in (
        "differential cells of 1 bit, bit-serial inputs, full ADC range",
        "as exact",
        "4 images: demo digits",
    ):
        assert words in text
    result = load(CimAudit, shell.folder / "c.json")
    (cell,) = result.cells
    assert (cell.rows, cell.adc_bits, cell.variation, cell.read_noise, len(cell.runs)) == (64, 7, 0, 0, 1)
    assert cell.runs[0].predictions == result.predictions
    assert (result.data.subset, result.model.sha256) == ("first-4", sha256_file(int8))
    assert [layer.layer for layer in cell.layers if layer.layer in text] == [layer.layer for layer in cell.layers]


def test_a_map_is_drawn_and_goes_on(shell: Shell, int8: Path) -> None:
    asked = ("audit", "cim", int8, *FEW, "--rows", "64,128", "--adc-range", "calibrated", "--calibration-images", 5)
    text = shell.good(*asked, "--adc-bits", "3", "--json", "a.json")
    assert "ADC range to the largest sum" in text
    kept = {file.name for file in (shell.folder / "cells").iterdir()}
    assert len(kept) == 2
    text = shell.good(*asked, "--adc-bits", "3-4", "--json", "b.json", "--plot", "map.svg", "--plot", "map.png")
    assert "ADC 3 bits" in text
    assert kept < {file.name for file in (shell.folder / "cells").iterdir()}
    first, both = (load(CimAudit, shell.folder / name) for name in ("a.json", "b.json"))
    assert (both.calibration_images, both.calibration and both.calibration.split) == (5, "train")
    assert [cell for cell in both.cells if cell.adc_bits == 3] == list(first.cells)
    svg = (shell.folder / "map.svg").read_text()
    assert "rows of an array" in svg
    assert "bits of the ADC" in svg
    assert (shell.folder / "map.png").read_bytes().startswith(b"\x89PNG")


def test_runs_with_noise(shell: Shell, int8: Path) -> None:
    options = ("--dac-bits", 4, "--cell-bits", 4, "--signed", "offset", "--adc-bits", 10)
    text = shell.good(*("audit", "cim", int8, *FEW), *options, "--variation", 0.3, "--runs", 2, "--json", "n.json")
    assert "multiplicative variation 0.3" in text
    assert "±" in text
    assert len(load(CimAudit, shell.folder / "n.json").cells[0].runs) == 2


def test_what_is_refused(shell: Shell, int8: Path, onnx_model: Path) -> None:
    asked = ("audit", "cim", int8, *FEW)
    cases: list[Case] = [
        ((*asked, "--rows", "0"), "the rows of an array are out of range: found 0, expected 1 to 1,024"),
        ((*asked, "--adc-bits", "6,40"), "the bits of the ADC are out of range: found 40"),
        ((*asked, "--signed", "both"), "signed of an array is not known: found both"),
        ((*asked, "--adc-range", "calibrated", "--calibration-images", 0), "number of held-out images"),
        ((*asked, "--runs", 0), "nothing to compute in memory"),
        ((*asked, "--jobs", 0), "number of processes"),
        ((*asked, "--plot", "map.pdf"), "cannot draw map.pdf"),
        (("audit", "cim", onnx_model, *FEW), "is not quantized"),
        (("audit", "cim", "none.onnx", *FEW), "none.onnx does not exist"),
        (("audit", "cim", int8, "--demo", "--images", 0), "number of images is not usable"),
    ]
    shell.all_bad(cases)
    shell.all_bad([((*asked, "--rows", "many"), "--rows takes numbers")], code=2)
