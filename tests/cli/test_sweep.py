"""``resnet8 sweep``, ``sensitivity`` and ``search`` on a small network."""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING

import pytest
from tiny_float import LAYERS, tiny

from resnet8.results import Search, SeedStudy, Sensitivity, Sweep, load

if TYPE_CHECKING:
    from pathlib import Path

    from shell import Shell

QUICK = ("--data-dir", "data", "--samples-per-class", 20, "--jobs", 1, "--cells", "cells")
FEW = ("--weights", "4,8", "--activations", "8")


@pytest.fixture
def model(shell: Shell) -> Path:
    return tiny(shell.folder)[0]


def test_sweep(shell: Shell, model: Path) -> None:
    asked = ("sweep", model, *QUICK, *FEW, "--per", "channel,tensor", "--signed", "yes", "--seeds", "1-2")
    text = shell.good(*asked, "--edge-bits", "same", "--json", "s.json", "--plot", "s.svg", "--plot", "s.png")
    for words in ("correct, per channel, signed activations", "correct, per tensor", "W4", "A8", "±", "60 images"):
        assert words in text
    found = load(Sweep, shell.folder / "s.json")
    assert len(found.cells) == 8
    assert found.ground.settings["edge_bits"] is None
    before = shell.files()
    assert len([name for name in before if name.startswith("cells/")]) == 8
    assert before["s.svg"].startswith(b"<?xml")
    assert shell.good(*asked, "--edge-bits", "same", "--plot", "s.svg") == text
    assert shell.files() == before


def test_finished_cells_are_kept_in_the_cache(shell: Shell, model: Path, tmp_path: Path) -> None:
    shell.good("sweep", model, *QUICK[:-2], *FEW, RESNET8_CACHE=str(tmp_path / "cache"))
    assert len(list((tmp_path / "cache" / "cells").iterdir())) == 2


def test_sensitivity(shell: Shell, model: Path) -> None:
    text = shell.good("sensitivity", model, *QUICK, "--bits", 3, "--json", "s.json", "--plot", "s.svg")
    assert "all layers with 3 bits" in text
    assert [one.layer for one in load(Sensitivity, shell.folder / "s.json").layers] == list(LAYERS)


def test_search(shell: Shell, model: Path) -> None:
    asked = ("search", model, *QUICK, "--bits", "4,8", "--max-drop", 30, "--held-out", 50)
    text = shell.good(*asked, "--json", "s.json", "--plot", "s.png", "--recipe", "r.toml", "-o", "mixed.onnx")
    assert "chosen" in text
    found = load(Search, shell.folder / "s.json")
    assert tuple(tomllib.loads((shell.folder / "r.toml").read_text())["layer_bits"].items()) == found.layer_bits
    said = shell.good("evaluate", "mixed.onnx", "--data-dir", "data")
    assert "60" in said


def test_all_other_settings_are_those_of_a_recipe(shell: Shell, model: Path) -> None:
    (shell.folder / "few.toml").write_text(
        'mode = "native"\nform = "qdq"\nrounding = "reconstruct"\nasymmetric_weights = true\nedge_bits = 4\n'
    )
    like = (*QUICK, "--like", "few.toml", "--json", "s.json")
    shell.good("sweep", model, *like, "--weights", "2", "--activations", "8")
    (cell,) = load(Sweep, shell.folder / "s.json").cells
    assert (cell.rounding, cell.per_channel, cell.bias_correction) == ("reconstruct", True, True)
    settings = load(Sweep, shell.folder / "s.json").ground.settings
    assert (settings["asymmetric_weights"], settings["edge_bits"]) == (True, 4)
    shell.good("sweep", model, *like, "--weights", "2", "--activations", "8", "--edge-bits", "8", "--per", "tensor")
    assert load(Sweep, shell.folder / "s.json").ground.settings["edge_bits"] == 8
    shell.good("sensitivity", model, *like, "--bits", "2")
    assert load(Sensitivity, shell.folder / "s.json").ground.settings["asymmetric_weights"] is True
    shell.good("search", model, *like, "--bits", "2,8", "--max-drop", 50, "--recipe", "r.toml", "-o", "r.onnx")
    for front in load(Search, shell.folder / "s.json").front:
        assert front.measured is None or front.measured.size_bytes == front.size_bytes
    assert {
        name: value
        for name, value in tomllib.loads((shell.folder / "r.toml").read_text()).items()
        if name in ("form", "asymmetric_weights")
    } == {"form": "qdq", "asymmetric_weights": True}
    shell.good("quantize", model, "--recipe", "r.toml", "--output", "again.onnx", *QUICK[:4])
    assert (shell.folder / "again.onnx").read_bytes() == (shell.folder / "r.onnx").read_bytes()


def test_bad_input(shell: Shell, model: Path) -> None:
    shell.all_bad(
        [
            (("sweep", model, *QUICK, "--weights", "1"), "weight bits: found 1"),
            (("sweep", model, *QUICK, *FEW, "--plot", "s.jpg"), "cannot draw s.jpg"),
            (("sweep", "nothing.onnx", *QUICK), "nothing.onnx"),
            (("sweep", model, *QUICK[:-4], "--scheduler", "nonsense"), "no Dask scheduler answers at nonsense"),
            (("sweep", model, *QUICK, "--scheduler", "tcp://x:1"), "exclude each other"),
            (("search", model, *QUICK, "--held-out", 101), "held-out"),
            (("search", model, *QUICK, "--like", "int9"), "the recipe is not known: found int9"),
            (("sensitivity", model, *QUICK, "--like", "torch-int8"), "the recipe torch-int8 has no scheme"),
            (("search", model, *QUICK, "--bits", "8"), "nothing to choose from"),
            (("sensitivity", model, *QUICK, "--bits", "12"), "found 12"),
        ]
    )
    shell.all_bad(
        [
            (("sweep", model, *QUICK, "--weights", "four"), "--weights takes numbers"),
            (("sweep", model, *QUICK, "--weights", "8-2"), "ranges like 2-8"),
            (("sweep", model, *QUICK, "--per", "row"), "--per takes channel or tensor"),
        ],
        code=2,
    )


def test_seeds(shell: Shell, model: Path) -> None:
    asked = ("audit", "seeds", model, *QUICK, "--recipe", "int8")
    text = shell.good(*asked, "--seeds", "1,3", "--json", "s.json")
    for words in ("int8", "1, 3", "mean ± sd", "60 images"):
        assert words in text
    assert [run.seed for run in load(SeedStudy, shell.folder / "s.json").runs] == [1, 3]
    shell.all_bad(
        [
            ((*asked, "--seeds", "1"), "too few calibration draws"),
            (("audit", "seeds", model, *QUICK, "--recipe", "ort-uint8"), "another backend carries out"),
            (("sweep", model, *QUICK, "--weights", "9"), "weight bits: found 9"),
        ]
    )
    shell.all_bad(
        [
            ((*asked, "--seeds", "some"), "--seeds takes numbers"),
            (("sweep", model, *QUICK, "--rounding", "up"), "--rounding takes nearest or reconstruct, or several"),
        ],
        code=2,
    )
