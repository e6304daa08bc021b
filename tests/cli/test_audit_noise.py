"""``resnet8 audit noise``, and its result in ``resnet8 compare``."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
from shell import INTERRUPTIBLE

from resnet8.pipeline import FLOAT_RESULTS
from resnet8.results import Comparison, NoiseStudy, load

if TYPE_CHECKING:
    from pathlib import Path

    from shell import Case, Shell

    from resnet8.pipeline import Reproduction

QUICK = ("--recipe", "ort-portable", "--demo", "--seeds", 2)


@pytest.fixture
def temporary(shell: Shell) -> Path:
    """Where the commands put their temporary files."""
    folder = shell.folder.parent / "temporary"
    folder.mkdir()
    shell.environment["TMPDIR"] = str(folder)
    return folder


def test_a_study_goes_into_the_comparison(
    shell: Shell, onnx_model: Path, reproduced: Reproduction, temporary: Path
) -> None:
    text = shell.good("audit", "noise", onnx_model, *QUICK, "--json", "noise/n.json")
    for words in ("ort-portable", "mean ± sd", "as unperturbed", "between runs", "597 images: demo digits"):
        assert words in text
    assert list(temporary.iterdir()) == []
    study = load(NoiseStudy, shell.folder / "noise/n.json")
    assert study.counts == tuple(run.overall.correct for run in study.runs[1:])

    files = [reproduced.output_dir / name for name in (FLOAT_RESULTS["onnxruntime"], "results/ort-portable.json")]
    text = shell.good("compare", *files, "noise", "--json", "c.json")
    assert f"{study.spread.least} – {study.spread.greatest}" in text
    assert [row.noise for row in load(Comparison, shell.folder / "c.json").rows] == [None, study.spread]
    assert "noise" not in shell.good("compare", *files)
    assert "nothing to compare" in shell.bad("compare", "noise")


def test_bad_input(shell: Shell, onnx_model: Path) -> None:
    recipe = ("--recipe", "ort-portable")
    cases: list[Case] = [
        (("audit", "noise", onnx_model, "--recipe", "ort-none", "--demo"), "the recipe is not known: found ort-none"),
        (("audit", "noise", onnx_model, "--recipe", "torch-uint8", "--demo"), "the backend refuses it"),
        (("audit", "noise", onnx_model, *recipe, "--demo", "--seeds", 1), "too few seeds"),
        (("audit", "noise", "none.onnx", *recipe, "--demo"), "none.onnx does not exist"),
        (("audit", "noise", onnx_model, *recipe, "--data-dir", "nowhere"), "no CIFAR-10 in nowhere"),
    ]
    shell.all_bad(cases)
    shell.all_bad([(("audit", "noise", onnx_model), "Missing option '--recipe'")], code=2)


def test_an_interrupt_leaves_nothing(shell: Shell, onnx_model: Path, temporary: Path) -> None:
    command = ["audit", "noise", str(onnx_model), "--recipe", "ort-portable", "--demo", "--json", "n.json"]
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTIBLE, *command],
        cwd=shell.folder,
        env=shell.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    while not list(temporary.rglob("moved.onnx")):  # in the middle of the second run
        assert process.poll() is None
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)
    out, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert out == ""
    assert len(said.splitlines()) == 1
    assert said.startswith("interrupted; ")
    assert list(temporary.iterdir()) == []
    assert shell.files() == {}
