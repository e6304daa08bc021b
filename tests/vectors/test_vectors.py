"""Golden vectors: every file says the same, the C program agrees, and it notices when a number is wrong."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from fractions import Fraction
from itertools import product as every
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from builders import cifar_folder
from onnx import TensorProto, helper, numpy_helper
from quantized import network, refilled, retyped, to_onnx
from roundings import rounded

from resnet8.cli import app
from resnet8.data.cifar10 import FOLDER, random_images
from resnet8.errors import DataError, ModelError, QuantizationError, Resnet8Error, StorageError
from resnet8.execute import engine
from resnet8.facts import IMAGE_SHAPE, IR_VERSION, OPSET
from resnet8.network.change import Change, apply
from resnet8.network.layers import Rescale, Sum, Weighted
from resnet8.numeric.grid import limits, qparams
from resnet8.numeric.rounding import round_shift
from resnet8.numeric.variants import MULTIPLIERS, ROUNDINGS, Requantization
from resnet8.results import ModelDescription, load
from resnet8.vectors import MANIFEST, MAX_IMAGES, Intermediates, Reference, VectorSet, choose_images, export_vectors

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from resnet8.network.program import Program
    from resnet8.numeric.grid import Dtype

CC = shutil.which("cc")
FLAGS = "-std=c99 -O2 -Wall -Wextra -Wpedantic -Wconversion -Wshadow -Werror -fsanitize=undefined -fno-sanitize-recover"
needs_cc = pytest.mark.skipif(CC is None, reason="no C compiler (cc) on this machine")

MODEL = ModelDescription("models/tiny.onnx", "0" * 64, 1, "onnx", "uint8", "int8")
FIXED32 = Requantization("fixed32")
IMAGES = (0, 2)
CHOSEN = random_images(4, seed=3)


def write(
    folder: Path, program: Program, how: Requantization = FIXED32, reference: Reference | None = None
) -> VectorSet:
    return export_vectors(folder, program, CHOSEN, IMAGES, how, model=MODEL, reference=reference)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export of the small network, for reading only."""
    path = tmp_path_factory.mktemp("vectors") / "golden"
    write(path, network(per_channel=True))
    return path


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    """The same, to spoil."""
    return shutil.copytree(folder, tmp_path / "copy")


def compiled(folder: Path, flags: str = FLAGS) -> Path:
    assert CC is not None
    program = folder / "c" / "program"
    done = subprocess.run(
        [CC, *flags.split(), "-o", program.name, "main.c", "vectors.c", "resnet8_integer.c"],
        cwd=folder / "c",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return program


def checked(folder: Path, flags: str = FLAGS) -> tuple[int, str]:
    """Exit code and output of the C program."""
    done = subprocess.run([compiled(folder, flags)], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    return done.returncode, done.stdout


def arrays(path: Path) -> dict[str, NDArray[Any]]:
    with np.load(path / "vectors.npz", allow_pickle=False) as found:
        return dict(found)


def layer_folders(folder: Path) -> list[Path]:
    return sorted((folder / "layers").iterdir())


def edge(folder: Path, name: str) -> dict[str, NDArray[Any]]:
    (path,) = (folder / "edge").glob(f"edge_??_{name}")
    return arrays(path)


def everything(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# --- the C program ---


@needs_cc
@pytest.mark.parametrize(
    ("dtype", "weights", "per_channel"),
    [("uint8", "int8", True), ("uint8", "uint8", False), ("int8", "int8", False), ("int8", "uint8", True)],
)
def test_the_c_program_agrees_with_every_number(
    tmp_path: Path, dtype: Dtype, weights: Dtype, per_channel: bool
) -> None:
    program = with_rescale_and_relu(network(1, dtype, weights, per_channel=per_channel))
    vectors = write(tmp_path / "golden", program)
    code, output = checked(tmp_path / "golden")
    assert code == 0, output
    lines = output.splitlines()
    assert lines[-1] == "PASS"
    for record in (*vectors.layers, *vectors.edges):
        (line,) = [line for line in lines if line.split()[:1] == [record.folder]][:1]
        assert f" {record.codes} codes" in line
        assert " 0 wrong" in line
        assert ("accumulators" in line) == (record.kind != "add")
    # Each layer alone, and again in the whole network.
    assert output.count(vectors.layers[0].folder) == 2


def with_rescale_and_relu(program: Program) -> Program:
    """The network with its residual sum clamped, and its logits on another grid."""
    layers = [replace(layer, relu=layer.kind == "add") for layer in program.layers]
    low = limits(program.logits.params.dtype)[0]
    out = replace(program.logits, name="finer", grid=qparams(0.3, low + 101, program.logits.params.dtype))
    layers.append(Rescale(name="finer", output=out, x=program.logits))
    return replace(program, layers=tuple(layers), logits=out)


@needs_cc
def test_every_rounding_and_multiplier(tmp_path: Path) -> None:
    """Each once: to the program a multiplier is data, whichever the rounding."""
    outputs = set()
    for multiplier, rounding in zip((kind for kind in MULTIPLIERS if kind != "float32"), ROUNDINGS, strict=True):
        path = tmp_path / rounding
        vectors = write(path, network(2, per_channel=True), Requantization(multiplier, rounding))
        assert vectors.requantization == f"{multiplier}/{rounding}"
        assert checked(path, "-std=c99 -O1")[0] == 0
        outputs.add(edge(path, "rescale_ties")["output"].tobytes())
    assert len(outputs) == len(ROUNDINGS)  # the ties, whose multipliers are exact in all forms, tell them apart


def test_narrow_codes_are_exported_with_their_limits(tmp_path: Path) -> None:
    changes = (Change("shifted", "bits", 4), Change("second", "bits", 6))
    narrow = apply(network(4, "int8"), changes)
    write(tmp_path / "golden", narrow)
    written = arrays(layer_folders(tmp_path / "golden")[2])
    assert written["output"].dtype == np.int8
    assert (int(written["output_lowest"]), int(written["output_highest"])) == (-8, 7)
    assert -8 <= written["output"].min() <= written["output"].max() <= 7
    if CC is not None:
        assert checked(tmp_path / "golden")[0] == 0


@needs_cc
def test_weights_of_few_bits_are_exported_as_bytes(tmp_path: Path) -> None:
    program = retyped(network(per_channel=True), ("int4", "uint2", "uint8"))
    write(tmp_path / "golden", program)
    assert checked(tmp_path / "golden")[0] == 0
    first, second = (arrays(folder)["weights"] for folder in layer_folders(tmp_path / "golden")[:4:3])
    np.testing.assert_array_equal(first, program.weighted[0].weights.codes.transpose(3, 0, 1, 2))
    np.testing.assert_array_equal(second, program.weighted[1].weights.codes.transpose(3, 0, 1, 2))
    assert (first.dtype, second.dtype) == (np.int8, np.uint8)


@needs_cc
def test_it_agrees_with_folders_that_hold_more(tmp_path: Path) -> None:
    asked = Intermediates(rows=7, sums=True, products=True, unclamped=True)
    export_vectors(
        tmp_path / "golden", network(7), CHOSEN, IMAGES, FIXED32, model=MODEL, intermediates=asked, broadcast=True
    )
    code, output = checked(tmp_path / "golden")
    assert code == 0, output


def spoil(path: Path, array: str) -> None:
    """Change the last number of an array in a header by one bit."""
    text = path.read_text()
    (body,) = re.findall(rf"{array}\[\d+\] = \{{(.*?)\n\}};", text, re.DOTALL)
    words = body.rsplit(", ", 1)
    spoilt = f"{words[0]}, {int(words[1]) ^ 1}"
    path.write_text(text.replace(body, spoilt))


@needs_cc
@pytest.mark.parametrize(
    ("spoilt", "also"),
    [
        (
            {
                "layers/layer_01_scaling/expected.h": "_accumulator",
                "layers/layer_03_second_conv/expected.h": "_output",
                "network/logits.h": "_logits",
                "edge/edge_00_rescale_ties/expected.h": "_output",
                "edge/products/table.h": "_rounded",
                "edge/sums/table.h": "_rounded",
            },
            "layer_04_joining",  # it reads the spoilt codes
        ),
        ({"layers/layer_00_first_conv/parameters.h": "_weights"}, None),  # that changes all that follows
    ],
    ids=["what is expected", "a weight"],
)
def test_a_wrong_number_is_found_and_named(copy: Path, spoilt: dict[str, str], also: str | None) -> None:
    for header, array in spoilt.items():
        spoil(copy / header, array)
    code, output = checked(copy, "-std=c99 -O1")
    assert code == 1
    assert re.fullmatch(r"FAIL: \d+ of the lines above", output.splitlines()[-1])
    wrong = {line.split()[0] for line in output.splitlines() if "MISMATCH" in line}
    folders = (Path(header).parent for header in spoilt)
    named = {
        "logits"
        if folder.name == "network"
        else f"edge_{folder.name}"
        if folder.name in ("products", "sums")
        else folder.name
        for folder in folders
    }
    assert named <= wrong
    assert also is None or wrong <= {*named, also}


@needs_cc
def test_make_builds_and_runs_it(copy: Path) -> None:
    make = shutil.which("make")
    if make is None:
        pytest.skip("no make on this machine")
    done = subprocess.run([make, "-C", copy / "c", "check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "PASS" in done.stdout.splitlines()
    spoil(copy / "layers/layer_00_first_conv/expected.h", "_output")
    os.utime(copy / "layers/layer_00_first_conv/expected.h", (time.time() + 5, time.time() + 5))
    again = subprocess.run([make, "-C", copy / "c", "check"], capture_output=True, text=True, check=False)
    assert again.returncode != 0


def test_the_c_sources_use_no_float_and_no_wide_integer(folder: Path) -> None:
    for path in (folder / "c").iterdir():
        code = re.sub(r"/\*.*?\*/|#.*?$", "", path.read_text(), flags=re.DOTALL | re.MULTILINE)
        assert not re.search(r"\b(float|double|u?int64_t|long)\b", code), path.name


# --- the C arithmetic against Python's ---

DRIVER = r"""
#include "resnet8_integer.h"
#include <stdio.h>
int main(void)
{
    long a, m, b, n, s;
    while (scanf("%ld %ld %ld %ld %ld", &a, &m, &b, &n, &s) == 5) {
        for (int r = 0; r < 4; r++) {
            printf("%ld %ld ", (long)resnet8_scale((int32_t)a, (int32_t)m, (int32_t)s, (resnet8_rounding)r),
                   (long)resnet8_scale_sum((int32_t)a / 2, (int32_t)m, (int32_t)b / 2, (int32_t)n, (int32_t)s,
                                           (resnet8_rounding)r));
        }
        printf("\n");
    }
    return 0;
}
"""


@needs_cc
def test_scaling_and_rounding_agree_with_python(folder: Path, tmp_path: Path) -> None:
    """Seeded factors of every size, and shifts that put the lowest set bit of the product just behind the point."""
    rng = np.random.default_rng(20)
    count = 40_000
    a, b = (
        rng.choice([-1, 1], count) * (rng.integers(0, 2**31, count) >> rng.integers(0, 31, count)) for _ in range(2)
    )
    m, n = (np.maximum(1, rng.integers(0, 2**31, count) >> rng.integers(0, 31, count)) for _ in range(2))
    b[::5], n[::5] = -a[::5], m[::5]
    m[::3] = 1 << rng.integers(0, 31, len(m[::3]))
    shift = rng.integers(0, 63, count)
    low = np.abs(a * m) & -np.abs(a * m)
    shift[::2] = np.minimum(62, np.log2(np.maximum(low, 1)).astype(np.int64) + 1)[::2]
    (tmp_path / "driver.c").write_text(DRIVER)
    assert CC is not None
    sources = ["driver.c", str(folder / "c/resnet8_integer.c")]
    command = [
        CC,
        "-std=c99",
        "-O2",
        "-fsanitize=undefined",
        "-fno-sanitize-recover",
        f"-I{folder / 'c'}",
        "-o",
        "driver",
    ]
    subprocess.run([*command, *sources], cwd=tmp_path, check=True)
    rows = "\n".join(" ".join(map(str, row)) for row in zip(*(x.tolist() for x in (a, m, b, n, shift)), strict=True))
    done = subprocess.run([tmp_path / "driver"], input=rows, capture_output=True, text=True, check=True)
    found = np.array([line.split() for line in done.stdout.splitlines()], np.int64).reshape(count, 4, 2)

    def half(x: NDArray[np.int64]) -> NDArray[np.int64]:  # as C divides
        return np.sign(x) * (np.abs(x) // 2)

    totals = (a * m, half(a) * m + half(b) * n)
    for k, rounding in enumerate(ROUNDINGS):
        for which, total in enumerate(totals):
            expected = np.clip(round_shift(total, shift, rounding), -(2**30), 2**30)
            np.testing.assert_array_equal(found[:, k, which], expected, err_msg=rounding)
    ties = (shift > 0) & ((totals[0] & ((1 << shift) - 1)) == (1 << shift) >> 1)
    assert ties.sum() > 1000


# --- what the numbers are ---


@pytest.mark.parametrize("rounding", ROUNDINGS)
def test_outputs_follow_from_the_parameters_by_the_formula(tmp_path: Path, rounding: Any) -> None:
    """By rational arithmetic, from nothing but the files."""
    write(tmp_path / "golden", network(3, "int8", per_channel=True), Requantization("fixed16", rounding))
    for path in (*layer_folders(tmp_path / "golden"), *(tmp_path / "golden/edge").glob("edge_*")):
        found = arrays(path)
        output = found["output"].astype(int)
        last = output.shape[-1]
        if "accumulator" in found:
            shifts = np.broadcast_to(found["shift"].astype(int), last)
            factors = np.broadcast_to(found["multiplier"].astype(int), last)
            totals = found["accumulator"].astype(object) * factors.astype(object)
        else:
            shifts = np.broadcast_to(found["shift"].astype(int), last)
            a = (found["a"].astype(int) - int(found["a_zero_point"])) * int(found["multiplier_a"][0])
            totals = a + (found["b"].astype(int) - int(found["b_zero_point"])) * int(found["multiplier_b"][0])
        zero, low, high = (int(found[f"output_{name}"]) for name in ("zero_point", "lowest", "highest"))
        for index in np.ndindex(output.shape):
            whole = rounded(Fraction(int(totals[index]), 2 ** int(shifts[index[-1]])), rounding) + zero
            assert output[index] == min(max(whole, low), high), (path.name, index)


def test_accumulators_follow_from_codes_and_weights(folder: Path) -> None:
    """The second convolution and the dense layer, one product at a time."""
    found = arrays(folder / "layers/layer_03_second_conv")
    x = np.pad(
        found["x"].astype(int) - int(found["x_zero_point"]), ((0, 0), (1, 1), (1, 1), (0, 0))
    )  # padding is real 0
    weights = found["weights"].astype(int) - found["weights_zero_point"].astype(int).reshape(-1, 1, 1, 1)
    count, rows, columns, channels = found["accumulator"].shape
    for n, r, c, k in every(range(count), range(rows), range(columns), range(channels)):
        total = int((x[n, r : r + 3, c : c + 3] * weights[k]).sum() + found["bias"][k])
        assert found["accumulator"][n, r, c, k] == total
    dense = arrays(folder / "layers/layer_06_dense")
    flat = dense["x"].reshape(len(dense["x"]), -1).astype(int) - int(dense["x_zero_point"])
    matrix = dense["weights"].reshape(10, -1).astype(int) - dense["weights_zero_point"].astype(int).reshape(-1, 1)
    np.testing.assert_array_equal(dense["accumulator"], flat @ matrix.T + dense["bias"])


def test_the_network_is_the_engines(folder: Path) -> None:
    program = network(per_channel=True)
    codes = engine.input_codes(program, CHOSEN.images[list(IMAGES)])
    found = arrays(folder / "network")
    np.testing.assert_array_equal(found["input"], codes, strict=True)
    np.testing.assert_array_equal(found["logits"], engine.run(program, codes, FIXED32), strict=True)
    previous = found["input"]
    for path in layer_folders(folder)[:4]:  # a chain up to the sum of two tensors
        one = arrays(path)
        np.testing.assert_array_equal(one["x" if "x" in one else "a"], previous, strict=True)
        previous = one["output"]


# --- the corners ---


def test_edges_reach_the_corners(folder: Path) -> None:
    ties = edge(folder, "rescale_ties")
    value = (ties["x"].astype(int) - int(ties["x_zero_point"])).reshape(-1)
    halves = value[value % 2 == 1]
    result = ties["output"].reshape(-1)[value % 2 == 1].astype(int) - int(ties["output_zero_point"])
    assert {(int(np.sign(v)), int(v // 2 % 2)) for v in halves} == set(every((-1, 1), (0, 1)))
    assert (result % 2 == 0).all()  # half to even
    brim = edge(folder, "int32_brim")["accumulator"]
    assert (brim.min(), brim.max()) == (-(2**31), 2**31 - 1)
    spread = edge(folder, "dense_wide_multipliers")
    assert int(spread["shift"].max()) - int(spread["shift"].min()) > 25
    powers = edge(folder, "conv_powers_of_two")
    assert set(powers["multiplier"].tolist()) == {2**30}
    assert len(set(powers["shift"].tolist())) == len(powers["shift"])
    for dtype in ("int8", "uint8"):
        found = edge(folder, f"saturation_{dtype}")["output"]
        assert (found.min(), found.max()) == limits(dtype)
    clamped = edge(folder, "saturation_int8_relu")
    assert clamped["output"].min() == clamped["output_lowest"] == clamped["output_zero_point"] == -1


def test_edges_use_odd_zero_points_types_and_padding(folder: Path) -> None:
    vectors = load(VectorSet, folder / MANIFEST)
    mixtures = [one for one in vectors.edges if re.match(r"edge_\d\d_conv_u?int8", one.folder)]
    assert {(one.inputs[0].dtype, one.weights_dtype) for one in mixtures} == set(every(("int8", "uint8"), repeat=2))
    assert {one.output.dtype for one in mixtures} == {"int8", "uint8"}
    for one in mixtures:
        zeros = (one.inputs[0].zero_point, *(one.weights_zero_point or ()), one.output.zero_point)
        assert all(zero % 2 for zero in zeros)
        assert one.coverage.padded_positions > 0


def test_edges_are_the_same_every_time(folder: Path, tmp_path: Path) -> None:
    write(tmp_path / "again", network(per_channel=True))
    found, expected = everything(tmp_path / "again"), everything(folder)
    del found[MANIFEST], expected[MANIFEST]  # it holds the time
    assert found == {name: content for name, content in expected.items() if not name.endswith("/program")}


# --- the files say the same ---


def from_hex(path: Path, like: NDArray[Any]) -> NDArray[Any]:
    lines = path.read_text("ascii").splitlines()
    assert lines[0].startswith(f"// {path.parent.parent.name}/{path.parent.name}/{path.stem}: {like.dtype}") or (
        path.parent.name == "network" and lines[0].startswith(f"// network/{path.stem}: {like.dtype}")
    )
    width = 2 * like.dtype.itemsize
    assert all(re.fullmatch(rf"[0-9a-f]{{{width}}}", line) for line in lines[1:])
    numbers = [int(line, 16) for line in lines[1:]]
    if like.dtype.kind == "i":
        numbers = [number - (1 << 4 * width) if number >> (4 * width - 1) else number for number in numbers]
    return np.array(numbers, like.dtype).reshape(like.shape)


def from_headers(path: Path) -> dict[str, NDArray[Any]]:
    """Arrays and single numbers of the headers in a folder, by their name behind the folder's."""
    found: dict[str, NDArray[Any]] = {}
    for header in path.glob("*.h"):
        text = header.read_text("ascii")
        for dtype, name, size, body in re.findall(r"static const (\w+)_t (\w+)\[(\d+)\] = \{(.*?)\};", text, re.DOTALL):
            words = [word.strip() for word in body.split(",")]
            assert len(words) == int(size)
            found[name] = np.array([-(2**31) if word == "(-2147483647 - 1)" else int(word) for word in words], dtype)
        for name, value in re.findall(r"#define (\w+) \((-?\d+)\)", text):
            found[name.lower()] = np.array(int(value))
    return found


def test_hex_and_headers_hold_what_the_npz_holds(folder: Path) -> None:
    own = {"x", "a", "b"}
    paths = [*layer_folders(folder), *(path for path in (folder / "edge").iterdir()), folder / "network"]
    for path in paths:
        found = arrays(path)
        assert {file.stem for file in path.glob("*.hex")} == set(found)
        headers = {name.lower(): values for name, values in from_headers(path).items()}
        prefix = f"edge_{path.name}" if path.name in ("products", "sums") else path.name
        for name, values in found.items():
            assert values.dtype in (np.int8, np.uint8, np.int32)
            np.testing.assert_array_equal(from_hex(path / f"{name}.hex", values), values, strict=True)
            other = headers.pop(f"{prefix}_{name}".lower(), None)
            if other is None:  # the input of a layer is the output of another
                assert name in own
                assert path.parent.name == "layers"
            else:
                np.testing.assert_array_equal(other.reshape(values.shape), values)
        assert not headers


def test_the_manifest_is_right_about_every_file(folder: Path) -> None:
    vectors = load(VectorSet, folder / MANIFEST)
    contents = {name: content for name, content in everything(folder).items() if not name.endswith("/program")}
    del contents[MANIFEST]
    assert vectors.files == {name: hashlib.sha256(content).hexdigest() for name, content in sorted(contents.items())}
    assert {"README.md", "c/main.c", "c/Makefile", "c/vectors.c", "network/logits.hex"} <= set(contents)


def test_the_manifest_says_what_the_layers_are(folder: Path) -> None:
    vectors = load(VectorSet, folder / MANIFEST)
    program = network(per_channel=True)
    assert vectors.requantization == "fixed32/half-even"
    assert (vectors.images, vectors.labels) == (IMAGES, (0, 0))
    assert vectors.logits == vectors.layers[-1].folder == "layer_06_dense"
    codes = engine.input_codes(program, CHOSEN.images[list(IMAGES)])
    logits = engine.run(program, codes, FIXED32)
    assert vectors.predictions == tuple(engine.probabilities(program, logits).argmax(axis=1).tolist())
    assert [record.kind for record in vectors.layers] == ["conv", "mul", "add", "conv", "add", "average-pool", "dense"]
    assert [tensor.source for tensor in vectors.layers[4].inputs] == ["layer_03_second_conv", "layer_02_shifting"]
    assert [tensor.source for tensor in vectors.layers[2].inputs] == ["layer_01_scaling", "constant"]
    assert vectors.layers[0].inputs[0].source == "network"
    for record, layer in zip(vectors.layers, program.layers, strict=True):
        fixed = engine.multipliers(layer, FIXED32)
        assert record.multiplier == tuple(int(m) for one in fixed for m in one.multiplier.reshape(-1))
        assert record.shift == tuple(fixed[0].shift.reshape(-1).tolist())
        assert record.output.shape == layer.output.shape
        assert record.output.zero_point == layer.output.zero_point
        assert record.differing_from_ort is None
        if isinstance(layer, Weighted):
            assert record.strides == layer.strides
            assert record.pads == layer.pads
            low, high = record.accumulator_bounds or (0, 0)
            assert low <= layer.worst_case()[0].min() < layer.worst_case()[1].max() <= high
        if record.accumulator_bounds is not None:
            assert record.accumulator_seen is not None
            assert record.accumulator_bounds[0] <= record.accumulator_seen[0]
            assert record.accumulator_seen[1] <= record.accumulator_bounds[1]
            bits = record.accumulator_bits or 0
            assert -(2 ** (bits - 1)) <= record.accumulator_bounds[0] <= record.accumulator_bounds[1] < 2 ** (bits - 1)


def test_coverage_is_counted(folder: Path) -> None:
    vectors = load(VectorSet, folder / MANIFEST)
    records = {record.folder.split("_", 2)[2]: record for record in vectors.edges}
    assert records["rescale_ties"].coverage.ties == 128
    assert records["saturation_uint8"].coverage.saturated_low > 0
    assert records["saturation_uint8"].coverage.saturated_high > 0
    # 3 x 3 windows at every position of a 32 x 32 map read 4 * 32 * 3 - 4 positions outside; 4 x 4 maps read 44.
    assert records["saturation_uint8"].coverage.padded_positions == 44
    first = vectors.layers[0]  # 3 x 3, stride 4, one column to the left: 8 windows, 3 rows each
    assert first.coverage.padded_positions == 8 * 3


def test_the_guide_names_what_is_there(folder: Path) -> None:
    text = (folder / "README.md").read_text()
    assert "$readmemh" in text
    for record in load(VectorSet, folder / MANIFEST).layers:
        assert f"| {record.folder} |" in text
    for name in re.findall(r'readmemh\("([^"]+)"', text):
        assert (folder / name).is_file()
    assert not re.search(r"\$\w+", text.replace("$readmemh", "").replace("$signed", "").replace("$display", ""))


# --- against ONNX Runtime ---


def exact_reference(program: Program) -> Reference:
    codes = engine.input_codes(program, CHOSEN.images[list(IMAGES)])
    steps: dict[str, NDArray[np.int16]] = {}

    def watch(name: str, written: NDArray[Any]) -> None:
        if name in program.writers:
            layer = program.writers[name]
            steps[layer.name] = written.astype(np.int16) - limits(layer.output.params.dtype)[0]

    logits = engine.run(program, codes, FIXED32, watch=watch)
    return Reference(steps, dict.fromkeys(steps, 0), engine.probabilities(program, logits).argmax(axis=1))


def test_differences_from_onnx_runtime_are_counted_by_layer(tmp_path: Path) -> None:
    program = network(4, "int8")
    reference = exact_reference(program)
    steps = dict(reference.steps)
    steps["second_conv"] = steps["second_conv"].copy()
    steps["second_conv"].reshape(-1)[:3] += 2
    del steps["dense"]
    predictions = (reference.predictions + 1) % 10
    other = Reference(steps, {**dict.fromkeys(steps, 0), "second_conv": 1}, predictions)
    vectors = write(tmp_path / "golden", program, reference=other)
    found = {record.name: record.differing_from_ort for record in vectors.layers}
    assert found == dict.fromkeys(steps, 0) | {"second_conv": 3, "dense": None}
    assert vectors.layers[3].arising == 1
    assert vectors.ort is not None
    assert (vectors.ort.layers, vectors.ort.differing, vectors.ort.arising) == (6, 3, 1)
    assert vectors.ort.largest_difference == 2
    assert vectors.ort.predictions == tuple(predictions.tolist())
    assert not vectors.ort.predictions_agree
    assert "3 of " in (tmp_path / "golden/README.md").read_text()


# --- whole or not at all ---


@pytest.mark.parametrize("kind", ["folder", "file", "link to nothing"])
def test_what_is_there_is_not_touched(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "golden"
    if kind == "folder":
        path.mkdir()
    elif kind == "file":
        path.write_text("mine")
    else:
        path.symlink_to("nowhere")
    with pytest.raises(StorageError, match="exists already"):
        write(path, network())
    assert [entry.name for entry in tmp_path.iterdir()] == ["golden"]
    assert kind != "folder" or not list(path.iterdir())
    assert kind != "file" or path.read_text() == "mine"


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(StorageError, match=r"cannot write .*golden"):
        write(tmp_path / "file/golden", network())
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_nothing_is_left_when_a_layer_does_not_fit(tmp_path: Path) -> None:
    program = network()
    dense = program.layers[-1]
    assert isinstance(dense, Weighted)
    heavy = refilled(dense, bias=np.full_like(dense.added, 2**31 - 1))
    with pytest.raises(
        ModelError, match=r"layer dense cannot be exported: found accumulators from .* expected .*int32"
    ):
        write(tmp_path / "new/golden", replace(program, layers=(*program.layers[:-1], heavy)))
    assert not list(tmp_path.iterdir())


def test_accumulators_as_class_scores_do_not_fit(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="layer dense cannot be exported: found codes of type int32"):
        write(tmp_path / "new/golden", network().with_float_logits())
    assert not list(tmp_path.iterdir())


def test_nothing_is_left_when_interrupted(tmp_path: Path) -> None:
    def interrupt(done: int, total: int) -> None:
        assert list(tmp_path.rglob("*.npz"))  # it had begun
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export_vectors(tmp_path / "new/golden", network(), CHOSEN, IMAGES, FIXED32, model=MODEL, progress=interrupt)
    assert not list(tmp_path.iterdir())


def test_float_multipliers_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        QuantizationError, match=r"integer multipliers: found float32, expected fixed32, .*--requantize"
    ):
        write(tmp_path / "golden", network(), Requantization())
    assert not list(tmp_path.iterdir())


def test_a_constant_of_another_type_is_refused(tmp_path: Path) -> None:
    program = network()
    shift = program.layers[2]
    assert isinstance(shift, Sum)
    wide = replace(shift.b, codes=shift.b.codes.astype(np.int32), grid=qparams(0.02, 0, "int32"))  # type: ignore[union-attr,call-arg]
    layers = (*program.layers[:2], replace(shift, b=wide), *program.layers[3:])
    with pytest.raises(ModelError, match="codes of type int32, expected int8 or uint8"):
        write(tmp_path / "golden", replace(program, layers=layers))


# --- which images ---


@pytest.mark.parametrize(
    ("text", "expected"),
    [("4", (0, 1, 2, 3)), ("1", (0,)), ("0,5,17", (0, 5, 17)), ("7,", (7,)), (" 3 , 1 ", (3, 1)), ("99,0", (99, 0))],
)
def test_images_are_chosen(text: str, expected: tuple[int, ...]) -> None:
    assert choose_images(text, 100) == expected


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "found nothing, expected indices such as 0,5,17"),
        (",", "found ,"),
        ("cat", "found cat"),
        ("1.5", "found 1.5"),
        ("1,two", "found 1,two"),
        ("--1", "found --1"),
        ("²", "found ²"),
        ("0", f"number of images is not usable: found 0, expected 1 to {MAX_IMAGES}"),
        ("-1", "number of images"),
        ("33", f"found 33, expected 1 to {MAX_IMAGES}"),
        ("0,100", "no image 100: expected indices from 0 to 99"),
        ("0,-1", "no image -1"),
        (",".join(map(str, range(33))), "too many images: found 33"),
    ],
)
def test_unusable_images_are_refused(text: str, match: str) -> None:
    with pytest.raises(DataError, match=re.escape(match)):
        choose_images(text, 100)


# --- the command ---


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small quantized model, a float one, and data."""
    folder = tmp_path_factory.mktemp("work")
    model = to_onnx(network(5, per_channel=True), "qdq")
    onnx.save(model, folder / "tiny.onnx")
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    onnx.save(model, folder / "single.onnx")
    matrix = numpy_helper.from_array(np.ones((int(np.prod(IMAGE_SHAPE)), 10), np.float32), "matrix")
    nodes = [helper.make_node("Flatten", ["in"], ["flat"]), helper.make_node("MatMul", ["flat", "matrix"], ["out"])]
    graph = helper.make_graph(
        nodes,
        "float",
        [helper.make_tensor_value_info("in", TensorProto.FLOAT, ("batch", *IMAGE_SHAPE))],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, ("batch", 10))],
        [matrix],
    )
    opsets = [helper.make_opsetid("", OPSET)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION), folder / "float.onnx")
    cifar_folder(folder / FOLDER, per_class=1)
    return folder


def command(work: Path, *arguments: object) -> list[str]:
    return [sys.executable, "-m", "resnet8", "vectors", *map(str, arguments), "--data-dir", str(work)]


def run(work: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(work, *arguments), cwd=work, capture_output=True, text=True, check=False)


def test_the_command_writes_a_folder(work: Path, tmp_path: Path) -> None:
    out = tmp_path / "deep/golden"
    inside = ("--with", "partial-sums:16", "--with", "unclamped", "--broadcast")
    how = ("--requantize", "fixed16", "--rounding", "half-up")
    done = run(work, "tiny.onnx", "-o", out, "--images", "1,9", *how, *inside)
    assert done.returncode == 0, done.stderr
    vectors = load(VectorSet, out / MANIFEST)
    assert vectors.images == (1, 9)
    assert vectors.labels == (1, 9)
    assert vectors.requantization == "fixed16/half-up"
    assert (vectors.intermediates, vectors.broadcast) == (("partial-sums:16", "unclamped"), True)
    assert vectors.model.sha256 == hashlib.sha256((work / "tiny.onnx").read_bytes()).hexdigest()
    assert vectors.ort is not None
    assert vectors.ort.layers == len(vectors.layers) == 7
    assert vectors.ort.codes == sum(record.codes for record in vectors.layers)
    assert vectors.ort.differing == sum(record.differing_from_ort or 0 for record in vectors.layers)
    text = " ".join(done.stdout.split())
    assert "7 layers" in text
    assert "2 images" in text
    assert f"{vectors.ort.differing:,} of {vectors.ort.codes:,} codes" in text
    if CC is not None:
        assert checked(out)[0] == 0


def test_32_bits_come_close_to_onnx_runtime(work: Path, tmp_path: Path) -> None:
    """ONNX Runtime is the independent witness that the exported codes are the model's.

    This network's scales make many sums that are ties but for float32's rounding.
    """
    done = run(work, "tiny.onnx", "-o", tmp_path / "golden", "--images", "10")
    assert done.returncode == 0, done.stderr
    vectors = load(VectorSet, tmp_path / "golden" / MANIFEST)
    assert vectors.ort is not None
    assert vectors.ort.arising <= vectors.ort.codes // 100
    assert vectors.ort.largest_difference == 1


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (("float.onnx",), r"float\.onnx is not quantized: found .*; quantize it"),
        (("single.onnx",), r"single\.onnx failed in ONNX Runtime on .*; convert the model with a dynamic batch"),
        (("missing.onnx",), r"missing\.onnx does not exist"),
        ((f"{FOLDER}/test_batch",), "pickle"),
        (("tiny.onnx", "--images", "0,10"), "there is no image 10: expected indices from 0 to 9"),
        (("tiny.onnx", "--images", "11"), "number of images is not usable: found 11, expected 1 to 10"),
        (("tiny.onnx", "--images", "some"), "images are not usable: found some"),
        (("tiny.onnx", "--with", "all"), "no such intermediate value: found all"),
        (("tiny.onnx", "--requantize", "float32"), "made with integer multipliers: found float32"),
    ],
)
def test_the_command_refuses_in_one_line(
    work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], match: str
) -> None:
    model, *options = arguments
    with pytest.raises(Resnet8Error, match=match) as caught:
        app([*command(work, work / model, *options)[3:], "-o", str(tmp_path / "golden")], standalone_mode=False)
    assert len(str(caught.value).splitlines()) == 1
    assert capsys.readouterr() == ("", "")
    assert not list(tmp_path.iterdir())


def test_the_command_overwrites_nothing(work: Path, tmp_path: Path) -> None:
    (tmp_path / "golden").mkdir()
    (tmp_path / "golden/mine").write_text("mine")
    done = run(work, "tiny.onnx", "-o", tmp_path / "golden")
    assert (done.returncode, done.stdout) == (1, "")
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert "exists already" in done.stderr
    assert everything(tmp_path) == {"golden/mine": b"mine"}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_command_leaves_nothing(work: Path, tmp_path: Path, number: signal.Signals) -> None:
    program = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler);"
    program += "from resnet8.__main__ import main; main()"
    arguments = [sys.executable, "-c", program, *command(work, "tiny.onnx", "-o", tmp_path / "golden")[3:]]
    with subprocess.Popen(arguments, cwd=work, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        for _ in until(60):
            if list(tmp_path.rglob("*.npz")) or process.poll() is not None:
                break
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == {signal.SIGINT: 130, signal.SIGTERM: 143}[number], errors
    assert "Traceback" not in errors
    assert not list(tmp_path.iterdir())


def until(seconds: float) -> Iterator[None]:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        yield
        time.sleep(0.002)


# --- the real models ---


@pytest.mark.real
@needs_cc
@pytest.mark.parametrize("name", ["resnet8_int8", "resnet8_uint8", "resnet8_ort-per-channel"])
def test_the_real_models(real_assets: Path, tmp_path: Path, name: str) -> None:
    model = Path(__file__).resolve().parents[2] / "models" / f"{name}.onnx"
    if not model.is_file():
        pytest.skip(f"no {model}: make it with «resnet8 reproduce»")
    done = run(real_assets, model, "-o", tmp_path / "golden", "--images", "0,5")
    assert done.returncode == 0, done.stderr
    vectors = load(VectorSet, tmp_path / "golden" / MANIFEST)
    assert vectors.ort is not None
    assert vectors.ort.layers == len(vectors.layers)
    if name == "resnet8_uint8":  # unsigned weights saturate on no CPU
        assert vectors.ort.arising <= 20
        assert vectors.ort.predictions_agree
    code, output = checked(tmp_path / "golden")
    assert code == 0, output
    assert output.splitlines()[-1] == "PASS"
