"""The RTL export: both simulators agree with every golden value, notice a wrong one, and the files say the same."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from quantized import network, retyped

from resnet8.data.cifar10 import random_images
from resnet8.errors import DataError, QuantizationError, StorageError
from resnet8.export.rtl import MANIFEST, MAX_WORD, RtlSet, export_rtl
from resnet8.network.layers import Rescale
from resnet8.numeric.grid import limits, qparams
from resnet8.numeric.variants import ROUNDINGS, Requantization
from resnet8.results import ModelDescription, load

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from resnet8.network.program import Program

MODEL = ModelDescription("models/tiny.onnx", "0" * 64, 1, "onnx", "uint8", "int8")
IMAGES = random_images(4, seed=3)
FIXED32 = Requantization("fixed32")


def needs(*tools: str) -> pytest.MarkDecorator:
    missing = [tool for tool in ("make", *tools) if shutil.which(tool) is None]
    return pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")


def write(
    folder: Path, program: Program, how: Requantization = FIXED32, word: int = 4, images: tuple[int, ...] = (2,)
) -> RtlSet:
    return export_rtl(folder, program, IMAGES, images, how, model=MODEL, word=word)


def make(folder: Path, *arguments: str) -> tuple[int, str]:
    tool = shutil.which("make")
    assert tool is not None
    done = subprocess.run([tool, "-C", folder, *arguments], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export of the small network, for reading only."""
    path = tmp_path_factory.mktemp("rtl") / "out"
    write(path, network(per_channel=True), images=(0, 2))
    return path


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    return shutil.copytree(folder, tmp_path / "copy")


def read(path: Path, like: str) -> NDArray[Any]:
    """A memory file, one value a line."""
    words = [int(line, 16) for line in path.read_text().splitlines() if not line.startswith("//")]
    return np.array(words, np.uint64).astype(f"u{np.dtype(like).itemsize}").view(like)


def words(path: Path, lanes: int) -> NDArray[np.uint8]:
    """A packed file: (words, lanes)."""
    lines = [line for line in path.read_text().splitlines() if not line.startswith("//")]
    assert all(re.fullmatch(rf"[0-9a-f]{{{2 * lanes}}}", line) for line in lines)
    return np.array([list(bytes.fromhex(line)[::-1]) for line in lines], np.uint8)


# --- simulators ---


def with_rescale_and_relu(program: Program) -> Program:
    """The network with its residual sum clamped, and its logits on another grid."""
    layers = [replace(layer, relu=layer.kind == "add") for layer in program.layers]
    low = limits(program.logits.params.dtype)[0]
    out = replace(program.logits, name="finer", grid=qparams(0.3, low + 101, program.logits.params.dtype))
    return replace(program, layers=(*layers, Rescale(name="finer", output=out, x=program.logits)), logits=out)


@needs("iverilog")
@pytest.mark.parametrize(
    ("program", "how", "word"),
    [
        (network(1, per_channel=True), FIXED32, 4),
        (network(1, "uint8", "uint8"), Requantization("fixed16", "half-away"), 1),
        (network(1, "int8"), Requantization("fixed8", "half-up"), 8),
        (network(1, "int8", "uint8", per_channel=True), Requantization("power-of-two", "truncate"), 3),
    ],
    ids=["fixed32", "fixed16", "fixed8", "power-of-two"],
)
def test_icarus_agrees_with_every_value(tmp_path: Path, program: Program, how: Requantization, word: int) -> None:
    result = write(tmp_path / "out", with_rescale_and_relu(program), how, word)
    code, output = make(tmp_path / "out", "icarus")
    assert code == 0, output
    assert "PASS" in output
    for record in result.layers:
        for mode in ("alone", "chained"):
            assert re.search(rf"layers/{record.folder} {mode}: \d+ values, 0 wrong", output)


@needs("iverilog")
def test_a_shift_of_nothing(tmp_path: Path) -> None:
    """Multipliers of exactly 1 in powers of two: nothing is dropped, nothing rounded, in each rounding."""
    program = network(2)
    out = replace(program.logits, name="same")
    program = replace(program, layers=(*program.layers, Rescale(name="same", output=out, x=program.logits)), logits=out)
    for rounding in ROUNDINGS:
        result = write(tmp_path / rounding, program, Requantization("power-of-two", rounding))
        assert result.layers[-1].shift == (0,)
        code, output = make(tmp_path / rounding, "icarus")
        assert code == 0, output


@needs("iverilog")
def test_weights_of_few_bits(tmp_path: Path) -> None:
    write(tmp_path / "out", retyped(network(per_channel=True), ("int4", "uint2", "uint8")))
    code, output = make(tmp_path / "out", "icarus")
    assert code == 0, output


@needs("iverilog")
def test_some_rows_only(copy: Path) -> None:
    code, output = make(copy, "icarus-rows", "ROWS=2")
    assert code == 0, output
    assert "first_conv alone, 2 of 8 rows" in output
    assert "chained" not in output


@needs("iverilog", "verilator", "g++")
def test_both_simulators_check_the_same_values(copy: Path) -> None:
    counts = set()
    for tool in ("verilator", "icarus"):
        code, output = make(copy, tool)
        assert code == 0, output
        counts.add(re.search(r"PASS: \d+ values", output)[0])  # type: ignore[index]
    assert len(counts) == 1
    spoil(copy / "layers/layer_03_second_conv/multiplier.hex", 1)
    code, output = make(copy, "verilator")
    assert code != 0
    assert "layers/layer_03_second_conv output[" in output
    assert "FAIL" in output


def spoil(path: Path, line: int) -> None:
    """Change the lowest bit of a line."""
    lines = path.read_text().splitlines()
    lines[line] = f"{int(lines[line], 16) ^ (1 << 20 if 'multiplier' in path.name else 1):0{len(lines[line])}x}"
    path.write_text("\n".join(lines) + "\n")


@needs("iverilog")
@pytest.mark.parametrize(
    ("file", "named"),
    [
        ("layers/layer_00_first_conv/weights_packed.hex", "layer_00_first_conv weights_packed[0]"),
        ("layers/layer_00_first_conv/bias.hex", "layer_00_first_conv accumulator[0]"),
        ("layers/layer_01_scaling/factor.hex", "layer_01_scaling accumulator[0]"),
        ("layers/layer_02_shifting/b.hex", "layer_02_shifting b_stream[0]"),
        ("layers/layer_03_second_conv/x_stream.hex", "layer_03_second_conv x_stream[0]"),
        ("layers/layer_04_joining/output.hex", "layer_04_joining output[0]"),
        ("layers/layer_05_pool/accumulator.hex", "layer_05_pool accumulator[0]"),
        ("layers/layer_06_dense/output_packed.hex", "layer_06_dense output_packed[0]"),
        ("network/logits.hex", "network logits[0]"),
    ],
)
def test_a_wrong_number_is_found_and_named(copy: Path, file: str, named: str) -> None:
    spoil(copy / file, 1)
    code, output = make(copy, "icarus")
    assert code != 0
    assert re.search(rf"{re.escape(named)}: got -?\w+, expected -?\w+", output), output
    assert "FAIL" in output


@needs("iverilog")
@pytest.mark.parametrize("parameter", ["PAD_TOP", "Y_ZERO_POINT", "X_ZERO_POINT", "STRIDE_COLUMNS", "Y_LOWEST"])
def test_a_wrong_parameter_is_found(copy: Path, parameter: str) -> None:
    header = copy / "layers/layer_00_first_conv/parameters.svh"
    text, count = re.subn(rf"({parameter} = )(-?\d+);", lambda at: f"{at[1]}{int(at[2]) + 40};", header.read_text())
    assert count == 1
    header.write_text(text)
    code, output = make(copy, "icarus")
    assert code != 0
    assert "layers/layer_00_first_conv " in output


@needs("verilator")
def test_lint_is_clean(folder: Path) -> None:
    code, output = make(folder, "lint")
    assert code == 0, output
    assert "%Warning" not in output


@needs("yosys")
def test_yosys_reads_and_synthesizes_the_units(copy: Path) -> None:
    code, output = make(copy, "synth")
    assert code == 0, output
    cells = re.findall(r"^(layer_\d\d_\w+) (\d+) cells$", output, re.MULTILINE)
    assert len(cells) == 4
    assert all(int(count) > 100 for _, count in cells)


@needs("iverilog")
def test_cocotb_agrees(copy: Path) -> None:
    if find_spec("cocotb") is None:
        pytest.skip("cocotb is not installed")
    code, output = make(copy, "cocotb", f"PYTHON={sys.executable}")
    assert code == 0, output
    assert "layer_00_first_conv: 1 test, 0 failed" in output


# --- files ---


def test_the_manifest_is_right_about_every_file(folder: Path) -> None:
    result = load(RtlSet, folder / MANIFEST)
    contents = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    del contents[MANIFEST]
    assert result.files == {name: hashlib.sha256(content).hexdigest() for name, content in sorted(contents.items())}
    assert (result.word, result.images, result.requantization) == (4, (0, 2), "fixed32/half-even")
    assert [record.folder for record in result.layers] == sorted(path.name for path in (folder / "layers").iterdir())
    for layer, values in result.parameters.items():
        header = (folder / "layers" / layer / "parameters.svh").read_text()
        assert dict(re.findall(r"localparam int (\w+) = (-?\d+);", header)) == {
            name: str(value) for name, value in values.items()
        }


def test_every_channel_has_its_line(tmp_path: Path) -> None:
    for per_channel in (True, False):
        path = tmp_path / str(per_channel)
        result = write(path, network(per_channel=per_channel))
        for record in result.layers:
            layer = path / "layers" / record.folder
            names = ("multiplier_a", "multiplier_b", "shift") if record.kind == "add" else ("multiplier", "shift")
            for name in names:
                assert len(read(layer / f"{name}.hex", "u1" if name == "shift" else "i4")) == record.output.shape[-1]


def test_words_are_the_values_in_the_order_of_reading(folder: Path) -> None:
    """Im2col by loops, from the files with one value a line; padding of rows is uneven here."""
    result = load(RtlSet, folder / MANIFEST)
    record = result.layers[0]
    layer = folder / "layers" / record.folder
    assert record.pads == (0, 1, 1, 1)
    assert record.strides is not None
    x = read(layer / "x.hex", "u1").reshape(2, 32, 32, 3)
    zero, expected = record.inputs[0].zero_point, []
    rows, columns = record.output.shape[:2]
    for image in range(2):
        for row in range(rows):
            for column in range(columns):
                for i in range(3):
                    for j in range(3):
                        at = (row * record.strides[0] + i - 0, column * record.strides[1] + j - 1)
                        inside = all(0 <= place < 32 for place in at)
                        codes = x[image, at[0], at[1]].tolist() if inside else [zero] * 3
                        expected.append([*codes, zero])
    np.testing.assert_array_equal(words(layer / "x_stream.hex", 4), expected)
    weights = read(layer / "weights.hex", "u1").reshape(4, 3, 3, 3)
    packed = words(layer / "weights_packed.hex", 4).reshape(4, 3, 3, 4)
    np.testing.assert_array_equal(packed[..., :3], weights)
    assert not packed[..., 3].any()  # the weights' zero point


def test_widths_hold_what_the_bounds_give(folder: Path) -> None:
    result = load(RtlSet, folder / MANIFEST)
    for record in result.layers:
        found = result.parameters[record.folder]
        if record.accumulator_bounds is None:
            continue
        reach = [bound * multiplier for bound in record.accumulator_bounds for multiplier in record.multiplier]
        limit = 2 ** (found["NUMERATOR_WIDTH"] - 1)
        assert -limit <= min(reach) <= max(reach) < limit
        assert max(record.multiplier) < 2 ** found["MULTIPLIER_WIDTH"]
        assert max(record.shift) < 2 ** found["SHIFT_WIDTH"]


# --- what is refused ---


@pytest.mark.parametrize("word", [0, -1, MAX_WORD + 1])
def test_a_word_that_is_none_is_refused(tmp_path: Path, word: int) -> None:
    with pytest.raises(DataError, match=f"the word is not usable: found {word} bytes"):
        write(tmp_path / "out", network(), word=word)
    assert not any(tmp_path.iterdir())


def test_float_multipliers_are_refused(tmp_path: Path) -> None:
    with pytest.raises(QuantizationError, match="integer multipliers"):
        write(tmp_path / "out", network(), Requantization("float32"))
    assert not any(tmp_path.iterdir())


def test_a_folder_that_exists_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(StorageError, match="exists already"):
        write(tmp_path / "out", network())
    assert not any((tmp_path / "out").iterdir())
