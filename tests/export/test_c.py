"""The exported C predicts the engine's logits: on this machine, and on an emulated Cortex-M4."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from quantized import network, refilled, retyped

from resnet8.data import demo
from resnet8.data.cifar10 import Split, random_images, read_split
from resnet8.errors import ModelError, QuantizationError, StorageError
from resnet8.export.c import Library, export_c
from resnet8.network.layers import Rescale
from resnet8.numeric.grid import limits, qparams
from resnet8.numeric.variants import MULTIPLIERS, ROUNDINGS, Requantization
from resnet8.results import ModelDescription
from resnet8.runtimes.integer import open_integer

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from resnet8.data.assets import Assets
    from resnet8.network.program import Program
    from resnet8.numeric.grid import Dtype

MODEL = ModelDescription("models/tiny.onnx", "0" * 64, 1, "onnx", "uint8", "int8")
FIXED32 = Requantization("fixed32")
IMAGES = random_images(5, seed=3)

CROSS = ("arm-none-eabi-gcc", "qemu-system-arm")
needs_cc = pytest.mark.skipif(
    None in map(shutil.which, ("cc", "make")), reason="no C compiler (cc) or no make on this machine"
)
needs_cross = pytest.mark.skipif(
    None in map(shutil.which, (*CROSS, "make")),
    reason=f"not installed: {' or '.join(CROSS)} (Debian: gcc-arm-none-eabi, qemu-system-arm) or make",
)
needs_clang = pytest.mark.skipif(
    None in map(shutil.which, ("clang", "make")), reason="no clang (Debian: clang) or no make on this machine"
)


def write(folder: Path, program: Program, how: Requantization = FIXED32, split: Split = IMAGES) -> Library:
    return export_c(folder, program, split, how, model=MODEL)


def run(folder: Path, command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    program = shutil.which(command)
    assert program is not None
    return subprocess.run([program, *arguments], cwd=folder, capture_output=True, text=True, check=False)


def make(folder: Path, *arguments: str, code: int = 0) -> str:
    done = run(folder, "make", "-s", *arguments)
    assert done.returncode == code, done.stdout + done.stderr
    if code == 0:
        # The firmware's words come on the emulator's standard error.
        assert "warning" not in done.stderr
    return done.stdout + done.stderr


def numbers(said: str) -> dict[str, int]:
    return {what: int(number) for what, number in re.findall(r"^([a-z ]+) (\d+)$", said, re.MULTILINE)}


def assert_agrees(said: str, images: int = len(IMAGES)) -> None:
    assert said.splitlines()[-1] == "PASS", said
    assert (numbers(said)["images"], numbers(said)["wrong logits"]) == (images, 0)


def with_rescale_and_relu(program: Program) -> Program:
    """The network with its residual sum clamped, and its logits on another grid."""
    layers = [replace(layer, relu=layer.kind == "add") for layer in program.layers]
    dtype = program.logits.params.dtype
    out = replace(program.logits, name="finer", grid=qparams(0.3, limits(dtype)[0] + 101, dtype))
    return replace(program, layers=(*layers, Rescale(name="finer", output=out, x=program.logits)), logits=out)


@needs_cc
@pytest.mark.parametrize(
    ("dtype", "weights", "per_channel"),
    [("uint8", "int8", True), ("uint8", "uint8", False), ("int8", "int8", False), ("int8", "uint8", True)],
)
def test_every_type_and_kind_of_layer(tmp_path: Path, dtype: Dtype, weights: Dtype, per_channel: bool) -> None:
    program = with_rescale_and_relu(network(1, dtype, weights, per_channel=per_channel))
    write(tmp_path / "c", program)
    assert_agrees(make(tmp_path / "c", "check-sanitized"))


@needs_cc
@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("multiplier", [one for one in MULTIPLIERS if one != "float32"])
def test_every_requantization(tmp_path: Path, multiplier: str, rounding: str) -> None:
    how = Requantization(multiplier, rounding)  # type: ignore[arg-type]
    write(tmp_path / "c", network(2, per_channel=multiplier != "fixed8"), how)
    assert_agrees(make(tmp_path / "c", "check-sanitized"))
    # Only the 31-bit multipliers need a product of 64 bits, and only for them is one compiled.
    wide = "USES_HIGH 1" in (header := (tmp_path / "c/parameters.h").read_text()) or "USES_WIDE 1" in header
    assert wide == (multiplier == "fixed32")


@needs_cc
@pytest.mark.parametrize(
    "types",
    [("int4", "int4", "int8"), ("uint4", "int2", "int4"), ("int8", "uint3", "int6"), ("uint5", "int4", "uint2")],
)
def test_narrow_weights(tmp_path: Path, types: tuple[Dtype, ...]) -> None:
    library = write(tmp_path / "c", retyped(network(per_channel=True), types))
    assert_agrees(make(tmp_path / "c", "check-sanitized"))
    wide = write(tmp_path / "wide", network(per_channel=True))
    assert library.parameters < wide.parameters


@needs_cc
def test_extreme_weights_around_any_zero_point(tmp_path: Path) -> None:
    program = network(3, "uint8", "uint8", per_channel=True)
    layers = [
        refilled(layer, np.where(np.arange(layer.weights.codes.size) % 2, 255, 0).reshape(layer.weights.shape))
        if layer.name == "second_conv"
        else layer
        for layer in program.layers
    ]
    write(tmp_path / "c", replace(program, layers=tuple(layers)))
    assert_agrees(make(tmp_path / "c", "check-sanitized"))


@needs_cc
@pytest.mark.parametrize("sign", [-1, 1])
def test_the_largest_bias_there_can_be(tmp_path: Path, sign: int) -> None:
    """Accumulators reach to the ends of int32; with the zero point in it, the bias does as well, and no sum beyond."""
    program = network(dtype="uint8")
    (first,) = [layer for layer in program.weighted if layer.name == "first_conv"]
    least, most = first.worst_case()
    room = (2**31 - 1 - (most - first.added)) if sign > 0 else (-(2**31) - (least - first.added))
    layers = (refilled(first, bias=room.astype(np.int32)), *program.layers[1:])
    write(tmp_path / "c", replace(program, layers=layers))
    assert_agrees(make(tmp_path / "c", "check-sanitized"))


@needs_cc
def test_a_wrong_number_is_noticed(tmp_path: Path) -> None:
    write(tmp_path / "c", network())
    path = tmp_path / "c/check/images.h"
    text = path.read_text()
    at = text.index("check_logits[50] = {\n    ") + len("check_logits[50] = {\n    ")
    first = re.match(r"\d+", text[at:])
    assert first is not None
    path.write_text(text[:at] + str(255 - int(first[0])) + text[at + first.end() :])
    said = make(tmp_path / "c", "check", code=2)
    assert "wrong logits 1\nFAIL" in said


@needs_clang
def test_clang_finds_nothing_undefined(tmp_path: Path) -> None:
    write(tmp_path / "c", retyped(network(per_channel=True), ("int8", "int4", "int8")))
    assert_agrees(make(tmp_path / "c", "check-sanitized", "CC=clang"))


@needs_cc
@pytest.mark.skipif(shutil.which("cmake") is None, reason="no cmake on this machine")
def test_cmake_builds_and_checks_it(tmp_path: Path) -> None:
    write(tmp_path / "c", network())
    for command in (["cmake", "-B", "build"], ["cmake", "--build", "build"], ["ctest", "--test-dir", "build"]):
        done = run(tmp_path / "c", *command)
        assert done.returncode == 0, done.stdout + done.stderr
    assert "100% tests passed" in done.stdout


# --- a Cortex-M4 ---


@pytest.fixture(scope="module")
def folded() -> Program:
    return open_integer(Path(demo.__file__).parent / "run/models/resnet8_ort-7bit-weights.onnx").program


@pytest.fixture(scope="module")
def hundred(demo_assets: Assets) -> Split:
    return read_split(demo_assets.data_dir, "test").first(100)


@needs_cc
def test_a_hundred_images_of_a_whole_network(tmp_path: Path, folded: Program, hundred: Split) -> None:
    library = write(tmp_path / "c", folded, split=hundred)
    assert_agrees(make(tmp_path / "c", "check"), 100)
    # Ten layers and the pool; the three sums go with convolutions.
    assert (library.steps, library.live) == (11, 32_768)


@needs_cross
@pytest.mark.slow
def test_a_hundred_images_on_a_cortex_m4(tmp_path: Path, folded: Program, hundred: Split) -> None:
    library = write(tmp_path / "c", folded, split=hundred)
    said = make(tmp_path / "c", "emulate")
    assert_agrees(said, 100)
    found = numbers(said)
    assert found["instructions at most"] < 30_000_000
    assert found["stack bytes"] < 1_000
    assert_takes(tmp_path / "c", library, flash=92_000, ram=36_000)


@needs_cross
@pytest.mark.parametrize("options", ["", " -DRESNET8_NO_DSP", " -mcpu=cortex-m0"])
def test_both_ways_to_multiply_agree_on_a_cortex_m4(tmp_path: Path, options: str) -> None:
    types = ("int4", "uint8", "int8")
    write(tmp_path / "c", with_rescale_and_relu(retyped(network(per_channel=True), types)))
    said = make(tmp_path / "c", "emulate", f"TARGET=-mcpu=cortex-m4 -mthumb{options}")
    assert_agrees(said)
    assert ("smlad" in run(tmp_path / "c", "arm-none-eabi-objdump", "-d", "library.o").stdout) == (options == "")


@needs_cross
def test_instructions_are_counted(tmp_path: Path) -> None:
    """A loop of two instructions in place of the prediction: the count grows by what it runs, to a tick of 40."""
    write(tmp_path / "c", network())
    check = tmp_path / "c/check/check.c"
    text = check.read_text()
    counted = []
    for rounds in (0x10000, 0x20000, 0x400000):
        loop = f'__asm__ volatile("mov r3, #{rounds}\\n1: subs r3, r3, #1\\nbne 1b" ::: "r3", "cc"); logits[0] = 0;'
        check.write_text(re.sub(r"resnet8_predict\(.*\);", lambda _, loop=loop: loop, text))  # type: ignore[misc]
        said = make(tmp_path / "c", "emulate", code=2)  # the logits are wrong
        counted.append(numbers(said)["instructions at most"])
    assert abs(counted[1] - counted[0] - 2 * 0x10000) <= 80
    assert abs(counted[2] - counted[0] - 2 * (0x400000 - 0x10000)) <= 80
    assert 0 <= counted[0] - 2 * 0x10000 <= 200


@needs_cross
@pytest.mark.parametrize("how", [FIXED32, Requantization("fixed16", "half-up"), Requantization("power-of-two")])
def test_the_library_needs_nothing_and_no_float(tmp_path: Path, how: Requantization) -> None:
    library = write(tmp_path / "c", network(per_channel=True), how)
    assert_takes(tmp_path / "c", library, flash=library.parameters + 6_000, ram=library.memory)


@needs_cross
def test_the_documented_line_compiles_it(tmp_path: Path) -> None:
    write(tmp_path / "c", network())
    (line,) = re.findall(r"^    (arm-none-eabi-gcc .*)$", (tmp_path / "c/README.md").read_text(), re.MULTILINE)
    done = run(tmp_path / "c", *line.split())
    assert (done.returncode, done.stderr) == (0, "")
    assert {path.stem for path in (tmp_path / "c").glob("*.o")} == {"resnet8", "resnet8_kernels", "parameters"}


def assert_takes(folder: Path, library: Library, *, flash: int, ram: int) -> None:
    """At most so many bytes, and not a function from elsewhere: no memcpy, no float or 64-bit helper."""
    sizes = make(folder, "library").splitlines()[-1].split()
    text, data, bss = map(int, sizes[:3])
    assert (data, bss) == (0, library.memory)
    assert library.parameters < text + data <= flash
    assert bss <= ram
    undefined = run(folder, "arm-none-eabi-nm", "-u", "library.o")
    assert (undefined.returncode, undefined.stdout) == (0, "")


# --- what is refused ---


def test_the_same_bytes_for_the_same_model(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write(tmp_path / name, network())
    files = [path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*") if path.is_file()]
    assert len(files) == 15
    assert all((tmp_path / "one" / path).read_bytes() == (tmp_path / "two" / path).read_bytes() for path in files)


def test_float_multipliers_are_refused(tmp_path: Path) -> None:
    with pytest.raises(QuantizationError, match="the C library computes with integer multipliers: found float32"):
        write(tmp_path / "c", network(), Requantization())
    assert list(tmp_path.iterdir()) == []


def test_a_bias_that_no_accumulator_holds_is_refused(tmp_path: Path) -> None:
    program = network()
    first = program.layers[0]
    huge = refilled(first, bias=np.full(4, 2**31 - 1, np.int32))  # type: ignore[arg-type]
    with pytest.raises(ModelError, match="layer first_conv cannot be exported: found accumulators from"):
        write(tmp_path / "c", replace(program, layers=(huge, *program.layers[1:])))


def test_a_layer_that_rounds_otherwise_is_refused(tmp_path: Path) -> None:
    program = network()
    layers = (replace(program.layers[0], rounding="half-up"), *program.layers[1:])
    with pytest.raises(ModelError, match="found a layer that rounds half-up, expected all layers to round half-even"):
        write(tmp_path / "c", replace(program, layers=layers))


def test_logits_that_are_not_quantized_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="layer dense cannot be exported: found codes of type int32"):
        write(tmp_path / "c", network().with_float_logits())


def test_a_folder_that_is_there_stays(tmp_path: Path) -> None:
    (tmp_path / "c").mkdir()
    (tmp_path / "c/mine").touch()
    with pytest.raises(StorageError, match="exists already"):
        write(tmp_path / "c", network())
    assert [path.name for path in tmp_path.rglob("*")] == ["c", "mine"]


def test_a_full_disk_leaves_nothing(tmp_path: Path, no_room: Callable[[], AbstractContextManager[None]]) -> None:
    with no_room(), pytest.raises(StorageError, match=r"cannot write .*c: found File too large"):
        write(tmp_path / "new/c", network())
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_would_end_a_comment(tmp_path: Path) -> None:
    odd = replace(MODEL, path="a*/b\\\nc\udcff.onnx")
    export_c(tmp_path / "c", network(), IMAGES, FIXED32, model=odd)
    if shutil.which("cc") and shutil.which("make"):
        assert_agrees(make(tmp_path / "c", "check"))
