"""``resnet8 export c`` as its users run it: what it writes, and what it refuses in one line."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from resnet8.data import demo

if TYPE_CHECKING:
    from shell import Shell

    from resnet8.pipeline import Reproduction

MODELS = Path(demo.__file__).parent / "run/models"
INT8 = MODELS / "resnet8_int8.onnx"

needs_cc = pytest.mark.skipif(
    None in map(shutil.which, ("cc", "make")), reason="no C compiler (cc) or no make on this machine"
)


def checked(folder: Path) -> str:
    make = shutil.which("make")
    assert make is not None
    done = subprocess.run([make, "-s", "check"], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@needs_cc
@pytest.mark.parametrize("name", ["resnet8_int8.onnx", "resnet8_uint8.onnx", "resnet8_ort-7bit-weights.onnx"])
def test_the_library_predicts_noise(shell: Shell, name: str) -> None:
    said = shell.good("export", "c", MODELS / name, "-o", "c", "--images", 2)
    assert re.match(r"c: \d+ steps, fixed32/half-even; parameters [\d,]+ bytes, memory [\d,]+ bytes \(", said)
    assert "check it with «make -C c check»; c/README.md says" in said
    assert checked(shell.folder / "c") == "images 2\nwrong logits 0\nPASS\n"


@needs_cc
def test_the_check_has_the_test_images_of_the_data(shell: Shell) -> None:
    shell.good(
        "export", "c", INT8, "-o", "c", "--demo", "--images", 3, "--requantize", "fixed16", "--rounding", "half-up"
    )
    readme = (shell.folder / "c/README.md").read_text()
    assert (
        "requantization: `fixed16/half-up`; products are rounded to the nearest whole number, exact halves upw"
        in readme
    )
    assert "3 golden images" in readme
    assert "| static memory | 51,456 |" in readme
    assert "The widest number is of\n32 bits." in readme
    assert checked(shell.folder / "c").startswith("images 3\n")


def test_what_cannot_be_exported(shell: Shell, reproduced: Reproduction) -> None:
    shell.folder.joinpath("text.onnx").write_text("no model")
    shell.folder.joinpath("there").mkdir()
    torchscript = reproduced.output_dir / "models/resnet8_int8.pt"
    shell.all_bad(
        [
            (("export", "c", MODELS / "resnet8.onnx", "-o", "c"), "quantize"),
            (
                ("export", "c", torchscript, "-o", "c"),
                "found torchscript, expected a quantized ONNX file; quantize with",
            ),
            (("export", "c", "text.onnx", "-o", "c"), "text.onnx"),
            (("export", "c", "nothing.onnx", "-o", "c"), "nothing.onnx does not exist"),
            (("export", "c", INT8, "-o", "c", "--requantize", "float32"), "the C library computes with integer mult"),
            (("export", "c", INT8, "-o", "there"), "there exists already: expected a folder that is not there yet"),
            (("export", "c", INT8, "-o", "text.onnx/c"), "cannot write text.onnx/c: found File exists"),
            (("export", "c", INT8, "-o", "c", "--data-dir", "there"), "there"),
        ]
    )
    shell.all_bad(
        [
            (("export", "c", INT8), "'-o'"),
            (("export", "c", INT8, "-o", "c", "--images", "0"), "--images"),
            (("export", "c", INT8, "-o", "c", "--rounding", "up"), "--rounding"),
        ],
        code=2,
    )
