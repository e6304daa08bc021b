"""What the exported numbers reach, how they are described, and that all that is said of them holds."""

from __future__ import annotations

import math
import re
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from quantized import network

from resnet8.data.cifar10 import random_images
from resnet8.errors import DataError
from resnet8.numeric.grid import limits
from resnet8.numeric.variants import MULTIPLIERS, Requantization
from resnet8.results import ModelDescription, load
from resnet8.vectors import MANIFEST, Intermediates, VectorSet, choose_intermediates, export_vectors

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from resnet8.vectors.manifest import LayerRecord

MODEL = ModelDescription("models/tiny.onnx", "0" * 64, 1, "onnx", "uint8", "int8")
CHOSEN = random_images(4, seed=3)
FIXED32 = Requantization("fixed32")
EVERYTHING = Intermediates(rows=10, sums=True, products=True, unclamped=True)
KINDS = tuple(kind for kind in MULTIPLIERS if kind != "float32")


def write(folder: Path, how: Requantization = FIXED32, **options: Any) -> VectorSet:
    per_channel = options.pop("per_channel", True)
    program = network(6, "int8", "uint8", per_channel=per_channel)
    return export_vectors(folder, program, CHOSEN, (0, 2), how, model=MODEL, **options)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export with everything, for reading only."""
    path = tmp_path_factory.mktemp("contents") / "golden"
    write(path, intermediates=EVERYTHING)
    return path


def arrays(path: Path) -> dict[str, NDArray[Any]]:
    with np.load(path / "vectors.npz", allow_pickle=False) as found:
        return dict(found)


def records(folder: Path) -> list[tuple[LayerRecord, dict[str, NDArray[Any]]]]:
    vectors = load(VectorSet, folder / MANIFEST)
    return [
        (record, arrays(folder / part / record.folder))
        for part, of in (("layers", vectors.layers), ("edge", vectors.edges))
        for record in of
    ]


def columns(record: LayerRecord, found: dict[str, NDArray[Any]]) -> NDArray[np.int64]:
    """``x - zero_x`` under each window, (images, rows, columns, kernel row, kernel column, channel): by sliding."""
    x = found["x"].astype(np.int64) - int(found["x_zero_point"])
    x = x if x.ndim == 4 else x[:, None, None]
    top, left, bottom, right = found["pads"].tolist()
    padded = np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, tuple(found["kernel"].tolist()), axis=(1, 2))
    down, across = found["strides"].tolist()
    return windows[:, ::down, ::across].transpose(0, 1, 2, 4, 5, 3)


def weights(found: dict[str, NDArray[Any]]) -> NDArray[np.int64]:
    return found["weights"].astype(np.int64) - found["weights_zero_point"].astype(np.int64).reshape(-1, 1, 1, 1)


# --- what the numbers reach ---


def test_the_largest_products_are_reached_and_a_narrow_multiplier_is_noticed(folder: Path) -> None:
    """A product is within 255 * 255; one that is cut to 16 bits gives other sums in a convolution and a dense layer."""
    reached: dict[str, set[int]] = {"conv": set(), "dense": set()}
    noticed: dict[str, bool] = {}
    for record, found in records(folder):
        if record.kind not in reached:
            continue
        x = columns(record, found)[..., None, :, :, :]
        products = x * weights(found)
        reached[record.kind] |= {int(products.min()), int(products.max())}
        cut = ((products + 2**15) % 2**16 - 2**15).sum(axis=(-3, -2, -1)) + found["bias"]
        differs = (cut.reshape(found["accumulator"].shape) != found["accumulator"]).any()
        noticed[record.kind] = noticed.get(record.kind, False) or bool(differs)
    for kind, ends in reached.items():
        assert (min(ends), max(ends)) == (-255 * 255, 255 * 255), kind
    assert noticed == {"conv": True, "dense": True}


def test_addends_of_the_table_of_sums_fit_nine_bits_and_saturated_rows_are_counted(folder: Path) -> None:
    sums, products = (arrays(folder / "edge" / name) for name in ("sums", "products"))
    for name in "ab":
        assert (sums[name].min(), sums[name].max()) == (-255, 255)
    readme = (folder / "README.md").read_text()
    totals = {
        "sums": [
            int(a) * int(m) + int(b) * int(n)
            for a, m, b, n in zip(*(sums[name] for name in ("a", "multiplier_a", "b", "multiplier_b")), strict=True)
        ],
        "products": [int(a) * int(m) for a, m in zip(products["accumulator"], products["multiplier"], strict=True)],
    }
    for name, found in (("sums", sums), ("products", products)):
        beyond = [
            abs(Fraction(total, 2 ** int(shift))) > 2**30
            for total, shift in zip(totals[name], found["shift"], strict=True)
        ]
        # Rounding brings none of them back, nor a row below the limit beyond it, in these tables.
        assert ((np.abs(found["rounded"]) == 2**30).any(axis=0) >= np.array(beyond)).all()
        words = f"saturated at -2^30 and 2^30, far outside every code: {sum(beyond):,} rows"
        assert f"`{name}/rounded` is {words}" in readme
        assert words in (folder / f"edge/{name}/rounded.hex").read_text("ascii").splitlines()[0]
    assert sum(totals["products"][i] == -(2**31) * (2**31 - 1) for i in range(len(totals["products"]))) > 0


def test_a_purpose_says_which_multipliers_there_are(folder: Path) -> None:
    (record,) = [one for one in load(VectorSet, folder / MANIFEST).edges if one.folder.endswith("wide_multipliers")]
    real = [m / 2**s for m, s in zip(record.multiplier, record.shift, strict=True)]
    assert f"from {max(real):.1f} down to {min(real):.2g}" in record.name


# --- how they are described ---


@pytest.mark.parametrize("kind", KINDS)
def test_multipliers_follow_from_the_scales_in_the_manifest(tmp_path: Path, kind: Any) -> None:
    """By the rule in the guide, in Python's float64 and integers, from the manifest alone."""
    vectors = write(tmp_path / "golden", Requantization(kind))
    for record in (*vectors.layers, *vectors.edges):
        scales = record.weights_scale or (1.0,)
        real = [one.scale * w / (record.count * record.output.scale) for one in record.inputs for w in scales]
        if len(record.inputs) == 2:
            assert list(zip(record.multiplier, record.shift * 2, strict=True)) == pair(real, kind), record.folder
        else:
            assert list(zip(record.multiplier, record.shift, strict=True)) == [held(m, kind) for m in real]


def held(real: float, kind: str) -> tuple[int, int]:
    """Multiplier and shift as the guide says."""
    if kind == "power-of-two":
        power = round(math.log2(real))
        return (2 ** max(power, 0), max(-power, 0))
    bits = int(kind.removeprefix("fixed")) - 1
    shift = next(s for s in range(-40, 80) if 2 ** (bits - 1) <= Fraction(real) * Fraction(2) ** s < 2**bits)
    multiplier = round(Fraction(real) * Fraction(2) ** shift)  # Python rounds half to even
    if multiplier == 2**bits:
        multiplier, shift = multiplier // 2, shift - 1
    return (multiplier, shift) if shift >= 0 else (multiplier * 2**-shift, 0)


def pair(real: list[float], kind: str) -> list[tuple[int, int]]:
    each = [held(one, kind) for one in real]
    if kind == "power-of-two":
        shift = max(one for _, one in each)
        return [(multiplier << (shift - own), shift) for multiplier, own in each]
    shift = min(one for _, one in each)
    return [(round(Fraction(one) * 2**shift), shift) for one in real]


@pytest.mark.parametrize("kind", KINDS)
def test_widths_are_those_of_this_folders_multipliers(tmp_path: Path, kind: Any) -> None:
    vectors = write(tmp_path / "golden", Requantization(kind), intermediates=Intermediates(products=True))
    text = (tmp_path / "golden/README.md").read_text()
    for record, found in records(tmp_path / "golden"):
        assert max(record.multiplier) < 2**record.multiplier_bits <= 2 * max(record.multiplier)
        assert -(2 ** (record.product_bits - 1)) <= found["products"].min()
        assert found["products"].max() < 2 ** (record.product_bits - 1)
        if record.accumulator_bounds is not None:
            ends = [end * max(record.multiplier) for end in record.accumulator_bounds]
            assert any(not -(2 ** (record.product_bits - 2)) <= end < 2 ** (record.product_bits - 2) for end in ends)
    for record in vectors.layers:
        assert f"| {record.multiplier_bits} | {record.product_bits} |" in text
    bits = max(one.multiplier_bits for one in vectors.layers)
    assert f"In the layers of this folder a multiplier has up to {bits} bits" in text
    assert (bits == 31) == (kind == "fixed32")
    assert "2^31 - 1" not in text
    assert "their product is from -65,025 to 65,025,\n17 bits" in text


def test_windows_stand_in_every_form_uneven_padding_too(folder: Path) -> None:
    first = folder / "layers/layer_00_first_conv"
    found = arrays(first)
    assert [found[name].tolist() for name in ("kernel", "strides", "pads")] == [[3, 3], [4, 4], [0, 1, 1, 1]]
    assert (first / "pads.hex").read_text().splitlines()[1:] == ["00000000", "00000001", "00000001", "00000001"]
    assert "(top, left, bottom, right)" in (first / "pads.hex").read_text().splitlines()[0]
    header = (first / "parameters.h").read_text()
    assert re.search(r"layer_00_first_conv_pads\[4\] = \{\s*0, 1, 1, 1\s*\}", header)
    assert "| 3x3 / 4x4, 0 1 1 1 |" in (folder / "README.md").read_text()


def test_a_single_zero_point_has_no_axis_and_any_that_may_be_several_says_so(tmp_path: Path) -> None:
    for per_channel in (False, True):
        path = tmp_path / str(per_channel)
        write(path, per_channel=per_channel)
        for record, found in records(path):
            for name, values in found.items():
                if name.endswith("zero_point"):
                    several = name == "weights_zero_point" and len(record.weights_scale or ()) > 1
                    assert values.shape == ((record.output.shape[-1],) if several else ()), (record.folder, name)


@pytest.mark.parametrize("per_channel", [False, True])
def test_broadcast_files_have_the_same_form_for_every_model(tmp_path: Path, per_channel: bool) -> None:
    plain = write(tmp_path / "plain", per_channel=per_channel)
    vectors = write(tmp_path / "golden", per_channel=per_channel, broadcast=True)
    assert (plain.broadcast, vectors.broadcast) == (False, True)
    assert [one.multiplier for one in vectors.layers] == [one.multiplier for one in plain.layers]
    for record, found in records(tmp_path / "golden"):
        for name in ("multiplier", "multiplier_a", "multiplier_b", "shift", "weights_zero_point", "factor_zero_point"):
            if name in found:
                assert found[name].shape == record.output.shape[-1:], (record.folder, name)
    for part in ("output", "accumulator"):
        for record, found in records(tmp_path / "plain")[:6]:
            again = arrays(tmp_path / "golden/layers" / record.folder)
            np.testing.assert_array_equal(found.get(part, 0), again.get(part, 0))


def test_the_manifest_is_enough_to_read_every_file_of_hex(folder: Path) -> None:
    vectors = load(VectorSet, folder / MANIFEST)
    assert set(vectors.arrays) == {str(path.relative_to(folder)) for path in folder.rglob("*.hex")}
    for path, one in vectors.arrays.items():
        numbers = [int(line, 16) for line in (folder / path).read_text("ascii").splitlines()[1:]]
        if one.signed:
            numbers = [number - (number >> (one.bits - 1) << one.bits) for number in numbers]
        expected = arrays((folder / path).parent)[(folder / path).stem]
        np.testing.assert_array_equal(np.array(numbers, one.dtype).reshape(one.shape), expected, strict=True)


# --- what is inside a layer ---


def test_tiles_are_sums_of_rows_and_add_up_to_the_accumulator(folder: Path) -> None:
    tiled = 0
    for record, found in records(folder):
        if record.kind not in ("conv", "dense"):
            assert record.tiles is None
            assert not {"partial_sums", "sums"} & set(found)
            continue
        window, matrix = columns(record, found), weights(found)
        depth = math.prod(found["kernel"].tolist()) * window.shape[-1]
        assert record.tiles == (10,) * (depth // 10) + ((depth % 10,) if depth % 10 else ())
        flat, rows = window.reshape(*window.shape[:3], depth), matrix.reshape(len(matrix), depth)
        shape = (len(flat), len(record.tiles), *found["accumulator"].shape[1:])
        assert found["partial_sums"].shape == shape
        for tile in range(len(record.tiles)):
            part = slice(10 * tile, 10 * tile + 10)
            expected = np.einsum("nrck,ok->nrco", flat[..., part], rows[:, part])
            np.testing.assert_array_equal(found["partial_sums"][:, tile], expected.reshape(found["accumulator"].shape))
        total = found["partial_sums"].astype(np.int64).sum(axis=1)
        np.testing.assert_array_equal(found["sums"], total)
        np.testing.assert_array_equal(total + found["bias"], found["accumulator"])
        tiled += len(record.tiles) > 1
    assert tiled > 5


def test_products_and_unclamped_codes_lead_to_the_output(folder: Path) -> None:
    beyond = 0
    for record, found in records(folder):
        if "accumulator" in found:
            products = found["accumulator"].astype(object) * found["multiplier"].astype(object)
        else:
            a, b = (found[name].astype(object) - int(found[f"{name}_zero_point"]) for name in "ab")
            products = a * int(found["multiplier_a"][0]) + b * int(found["multiplier_b"][0])
        assert found["products"].dtype == np.int64
        assert (found["products"] == products).all()
        shift = np.broadcast_to(found["shift"].astype(int), products.shape)
        rounded = [round(Fraction(int(p), 2 ** int(s))) for p, s in zip(products.flat, shift.flat, strict=True)]
        unclamped = np.array(rounded, object).reshape(products.shape) + int(found["output_zero_point"])
        assert (found["unclamped"] == unclamped).all(), record.folder
        clamped = np.clip(found["unclamped"], int(found["output_lowest"]), int(found["output_highest"]))
        np.testing.assert_array_equal(clamped, found["output"])
        low, high = limits(record.output.dtype)
        beyond += int(((found["unclamped"] < low) | (found["unclamped"] > high)).sum())
    assert beyond > 100


def test_what_is_inside_is_described_and_in_no_header(folder: Path, tmp_path: Path) -> None:
    assert load(VectorSet, folder / MANIFEST).intermediates == ("partial-sums:10", "sums", "products", "unclamped")
    text = (folder / "README.md").read_text()
    for name in ("partial_sums", "sums", "products", "unclamped"):
        assert f"| `{name}` |" in text
    assert "sums of 10 products each" in text
    assert "_unclamped" not in (folder / "layers/layer_00_first_conv/expected.h").read_text()
    write(tmp_path / "plain")
    assert "`unclamped`" not in (tmp_path / "plain/README.md").read_text()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ((), Intermediates()),
        (("sums", "unclamped", "sums"), Intermediates(sums=True, unclamped=True)),
        (("products", "partial-sums:64"), Intermediates(rows=64, products=True)),
        (("partial-sums:3", "partial-sums:3"), Intermediates(rows=3)),
    ],
)
def test_what_is_asked_for(words: tuple[str, ...], expected: Intermediates) -> None:
    assert choose_intermediates(words) == expected


@pytest.mark.parametrize(
    ("words", "match"),
    [
        (("sum",), "no such intermediate value: found sum, expected partial-sums:R, sums, products, unclamped"),
        (("",), "found nothing"),
        (("partial-sums",), "found partial-sums,"),
        (("partial-sums:0",), "found partial-sums:0"),
        (("partial-sums:-4",), "found partial-sums:-4"),
        (("partial-sums:4", "partial-sums:8"), "partial sums have one number of rows: found 4, 8, expected one"),
    ],
)
def test_what_cannot_be_asked_for(words: tuple[str, ...], match: str) -> None:
    with pytest.raises(DataError, match=match) as caught:
        choose_intermediates(words)
    assert len(str(caught.value).splitlines()) == 1
