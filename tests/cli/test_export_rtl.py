"""``resnet8 export rtl`` as its users run it."""

from __future__ import annotations

import re
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from resnet8.export.rtl import MANIFEST, RtlSet
from resnet8.results import load

if TYPE_CHECKING:
    from pathlib import Path

    from shell import Shell

    from resnet8.pipeline import Reproduction


@pytest.fixture
def models(reproduced: Reproduction) -> Path:
    return reproduced.output_dir / "models"


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("resnet8_int8.onnx", ()),
        ("resnet8_uint8.onnx", ("--requantize", "power-of-two", "--rounding", "half-up", "--word", "8")),
    ],
)
def test_the_demo_is_exported_and_checked(shell: Shell, models: Path, name: str, options: tuple[str, ...]) -> None:
    text = shell.good("export", "rtl", models / name, "-o", "out", "--demo", *options)
    result = load(RtlSet, shell.folder / "out" / MANIFEST)
    assert f"out: {len(result.layers)} layers, 1 images, {result.requantization}, words of {result.word} bytes" in text
    make = shutil.which("make")
    if make is None or shutil.which("iverilog") is None:
        pytest.skip("not installed: make, iverilog")
    done = subprocess.run(
        [make, "-C", shell.folder / "out", "icarus-rows"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^PASS: \d+ values$", done.stdout, re.MULTILINE)


def test_errors_are_one_line_and_leave_nothing(shell: Shell, models: Path) -> None:
    (shell.folder / "there").mkdir()
    (shell.folder / "there" / "file").touch()
    int8, arguments = models / "resnet8_int8.onnx", ("--demo", "-o", "out")
    shell.all_bad(
        [
            (("export", "rtl", models / "resnet8.onnx", *arguments), "resnet8.onnx"),
            (("export", "rtl", int8, "--demo", "-o", "there"), "there exists already"),
            (("export", "rtl", int8, *arguments, "--word", "0"), "the word is not usable"),
            (("export", "rtl", int8, *arguments, "--images", "none"), "the images are not usable"),
            (("export", "rtl", int8, *arguments, "--requantize", "float32"), "integer multipliers"),
        ]
    )
