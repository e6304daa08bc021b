"""Compute-in-memory: exact where the ADC is, and otherwise what one cell and one sum after the other give."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import product as every
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from quantized import activation, network, random_codes, refilled, retyped, weighted

from resnet8.errors import QuantizationError
from resnet8.execute import cim, engine
from resnet8.execute.cim import Adc, Array
from resnet8.numeric.grid import limits, width

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from resnet8.network.layers import Weighted
    from resnet8.network.program import Program


def run(program: Program, codes: NDArray[Any], array: Array) -> NDArray[Any]:
    """The codes of the logits of a network whose every weighted layer is computed in arrays."""
    made = {layer.name: cim.program(layer, array, number=i) for i, layer in enumerate(program.weighted)}

    def accumulators(layer: Weighted, read: NDArray[Any]) -> NDArray[Any]:
        return cim.accumulate(layer, read, made[layer.name])[0]

    return engine.run(program, codes, accumulators=accumulators)


# --- the oracle: cell by cell, step by step, in Python's own numbers ---


def rounded(value: Fraction) -> int:
    return round(value)  # half to even


def literally(layer: Weighted, codes: NDArray[Any], array: Array, top: int) -> tuple[list[int], int]:
    """Accumulators in C order, and how many sums were clipped."""
    step = max(Fraction(1), Fraction(top, 2**array.adc_bits))
    most = 2**array.adc_bits - 1
    of_x, of_w = layer.x.params.dtype, layer.weights.params.dtype
    channels = layer.weights.shape[-1]
    zeros = np.broadcast_to(layer.weights.params.zero_point, (channels,)).tolist()
    weights = layer.weights.codes.reshape(-1, channels).T.tolist()
    differences = [[w - zero for w in column] for column, zero in zip(weights, zeros, strict=True)]
    largest = max(abs(one) for column in differences for one in column)
    clipped = 0

    def column_sum(applied: list[int], held: list[int]) -> int:
        nonlocal clipped
        code = rounded(sum(x * g for x, g in zip(applied, held, strict=True)) / step)
        clipped += code > most
        return min(code, most)

    def array_sum(row: list[int], values: list[int], bits: int) -> int:
        total = 0
        for start in range(0, len(row), array.rows):
            for j in range(0, width(of_x), array.dac_bits):
                applied = [x // 2**j % 2**array.dac_bits for x in row[start : start + array.rows]]
                for s in range(0, bits, array.cell_bits):
                    held = [v // 2**s % 2**array.cell_bits for v in values[start : start + array.rows]]
                    total += 2 ** (j + s) * column_sum(applied, held)
        return total

    found = []
    for row in im2col(layer, codes):
        for channel in range(channels):
            column, difference = weights[channel], differences[channel]
            if array.signed == "offset":
                total = array_sum(row, [w - limits(of_w)[0] for w in column], width(of_w))
                digital = (limits(of_w)[0] - zeros[channel]) * sum(row)
            else:
                bits = max(1, math.ceil(math.log2(largest + 1)))
                total = array_sum(row, [max(w, 0) for w in difference], bits)
                total -= array_sum(row, [max(-w, 0) for w in difference], bits)
                digital = 0
            zero = layer.x.zero_point - limits(of_x)[0]
            found.append(rounded(step * total) + digital - zero * sum(difference) + int(layer.added[channel]))
    return found, clipped


def im2col(layer: Weighted, codes: NDArray[Any]) -> list[list[int]]:
    """What is applied: codes from the least on, kernel row, kernel column, channel; outside is the zero point."""
    height, across, channels = layer.x.shape if len(layer.x.shape) == 3 else (1, 1, layer.x.shape[0])
    rows, columns = layer.output.shape[:2] if len(layer.output.shape) == 3 else (1, 1)
    low, (top, left, *_) = limits(layer.x.params.dtype)[0], layer.pads
    result = []
    for image in codes.reshape(-1, height, across, channels).tolist():
        for row, column in every(range(rows), range(columns)):
            depth: list[int] = []
            for i, j in every(*map(range, layer.weights.shape[:2])):
                y, x = row * layer.strides[0] + i - top, column * layer.strides[1] + j - left
                inside = 0 <= y < height and 0 <= x < across
                depth += image[y][x] if inside else [layer.x.zero_point] * channels
            result.append([code - low for code in depth])
    return result


@st.composite
def layers(draw: st.DrawFn) -> Weighted:
    """Small convolutions and dense layers: any zero point, uneven padding, any sign, per tensor and per channel."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    of_x = draw(st.sampled_from(["uint8", "int8", "uint4", "int3"]))
    low, high = limits(of_x)
    zero = draw(st.integers(low, high))
    options: dict[str, Any] = {"dtype": draw(st.sampled_from(["uint8", "int8"])), "per_channel": draw(st.booleans())}
    if draw(st.booleans()):
        x = activation("x", (draw(st.integers(1, 12)),), zero_point=zero, dtype=of_x)
        layer = weighted(rng, x, activation("y", (3,)), dense=True, bias=draw(st.sampled_from([0, 900])), **options)
    else:
        x = activation("x", (4, 3, draw(st.integers(1, 3))), zero_point=zero, dtype=of_x)
        pads = draw(st.tuples(*[st.integers(0, 2)] * 4))
        kernel = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
        strides = draw(st.tuples(st.integers(1, 2), st.integers(1, 2)))
        layer = weighted(
            rng, x, activation("y", (0, 0, 2)), kernel=kernel, strides=strides, pads=pads, bias=500, **options
        )
    return layer


arrays = st.fixed_dictionaries(
    {
        "rows": st.integers(1, 30),
        "cell_bits": st.integers(1, 8),
        "dac_bits": st.integers(1, 8),
        "signed": st.sampled_from(["offset", "differential"]),
    }
)


@settings(deadline=None, max_examples=150, derandomize=True)
@given(layers(), arrays, st.integers(0, 2**32 - 1))
def test_with_enough_bits_of_the_adc_a_layer_is_exact(layer: Weighted, options: dict[str, Any], seed: int) -> None:
    codes = random_codes(np.random.default_rng(seed), (2, *layer.x.shape), "uint8")
    codes = np.clip(codes.astype(int) + limits(layer.x.params.dtype)[0], *limits(layer.x.params.dtype)).astype(
        layer.x.dtype
    )
    enough = Array(**options, adc_bits=Array(**options).full.bit_length())
    found, clipped = cim.accumulate(layer, codes, cim.program(layer, enough))
    np.testing.assert_array_equal(found, engine.accumulate(layer, codes))
    assert found.shape == (2, *layer.output.shape)
    assert clipped == 0


@settings(deadline=None, max_examples=60, derandomize=True)
@given(layers(), arrays, st.integers(1, 8), st.one_of(st.none(), st.integers(1, 40)), st.integers(0, 2**32 - 1))
def test_every_sum_is_read_as_the_definition_says(
    layer: Weighted, options: dict[str, Any], adc_bits: int, top: int | None, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    low, high = limits(layer.x.params.dtype)
    codes = rng.integers(low, high + 1, (1, *layer.x.shape)).astype(layer.x.dtype)
    array = Array(**options, adc_bits=adc_bits)
    found, clipped = cim.accumulate(layer, codes, cim.program(layer, array, top))
    wanted, lost = literally(layer, codes, array, top or array.full)
    assert found.ravel().tolist() == wanted
    assert clipped == lost


def test_a_worked_layer() -> None:
    """Four products in arrays of three rows: inputs 5, 3, 7, 1 of 3 bits, weights 3, -2, 1, 2; their sum is 18."""
    rng = np.random.default_rng(0)
    x = activation("x", (4,), dtype="uint3")
    weights = np.array([3, -2, 1, 2], np.int8).reshape(1, 1, 4, 1)
    layer = refilled(weighted(rng, x, activation("y", (1,)), dense=True), weights, bias=np.array([100], np.int32))
    codes = np.array([[5, 3, 7, 1]], np.uint8)

    def of(**options: Any) -> tuple[float, int]:
        array = Array(rows=3, **options)
        found, clipped = cim.accumulate(layer, codes, cim.program(layer, array))
        return float(found[0, 0]), clipped

    assert of(adc_bits=2) == (118, 0)
    # Cells of the positive column: slice 0: 1, 0, 1 | 0; slice 1: 1, 0, 0 | 1; of the negative: slice 1: 0, 1, 0 | 0.
    # Inputs, lowest bit first: 1 1 1 | 1, 0 1 1 | 0, 1 0 1 | 0. With one bit an ADC has steps of 3 / 2: 1 is read as 1,
    # which counts 3 / 2, and 2 as 1, too. Codes: step 0: 1 + 2 (1 + 1 - 1) = 3; step 1: 1 + 2 (0 - 1) = -1;
    # step 2: 1 + 2 (1 - 0) = 3; 3 / 2 (3 - 2 + 12) = 19.5, to the even 20.
    assert of(adc_bits=1) == (120, 0)


def test_layers_and_logits_of_a_network_are_those_of_the_engine() -> None:
    program = network(3, per_channel=True, largest=127)
    codes = engine.input_codes(program, np.random.default_rng(4).integers(0, 256, (3, 32, 32, 3), np.uint8))
    values = engine.activations(program, codes)
    for signed in ("offset", "differential"):
        array = Array(rows=16, adc_bits=5, signed=signed)  # type: ignore[arg-type]
        for layer in program.weighted:
            found, _ = cim.accumulate(layer, values[layer.x.name], cim.program(layer, array))
            np.testing.assert_array_equal(found, engine.accumulate(layer, values[layer.x.name]))
        np.testing.assert_array_equal(run(program, codes, array), engine.run(program, codes))


@pytest.mark.parametrize("types", [("int4", "uint4", "int4"), ("uint8", "int2", "uint3")])
def test_narrow_weights_have_fewer_columns(types: tuple[str, ...]) -> None:
    program = retyped(network(5), types)
    codes = engine.input_codes(program, np.random.default_rng(6).integers(0, 256, (2, 32, 32, 3), np.uint8))
    array = Array(rows=32, adc_bits=6, signed="offset")
    for layer, dtype in zip(program.weighted, types, strict=True):
        made = cim.program(layer, array)
        assert made.columns == width(dtype) * layer.weights.shape[-1]
        assert made.conversions(layer) == math.prod(layer.output.shape[:-1]) * 8 * len(made.tiles) * made.columns
    np.testing.assert_array_equal(run(program, codes, array), engine.run(program, codes))


def test_differential_columns_are_as_many_as_the_largest_weight_needs() -> None:
    x = activation("x", (4,))
    layer = weighted(np.random.default_rng(7), x, activation("y", (1,)), dense=True)
    for largest, bits in ((-128, 8), (127, 7), (64, 7), (63, 6), (1, 1), (0, 1)):
        made = cim.program(refilled(layer, np.full((1, 1, 4, 1), largest, np.int8)), Array(cell_bits=1))
        assert made.columns == 2 * bits


@pytest.mark.parametrize(
    ("bits", "top", "step", "ratio"),
    [(6, 64, 1, (1, 1)), (7, 64, 1, (1, 1)), (5, 64, 2, (1, 2)), (4, 36, 2.25, (4, 9)), (1, 3, 1.5, (2, 3))],
)
def test_steps_of_an_adc(bits: int, top: int, step: float, ratio: tuple[int, int]) -> None:
    assert (Adc(bits, top).step, Adc(bits, top).ratio, Adc(bits, top).most) == (step, ratio, 2**bits - 1)


def test_large_sums_are_computed_in_float64() -> None:
    x = activation("x", (2000,), zero_point=9)
    layer = weighted(np.random.default_rng(8), x, activation("y", (2,)), dense=True)
    codes = random_codes(np.random.default_rng(9), (2, 2000), "uint8")
    array = Array(rows=1024, cell_bits=8, dac_bits=8, adc_bits=27)
    made = cim.program(layer, array)
    assert made.digital.dtype == np.float64
    np.testing.assert_array_equal(cim.accumulate(layer, codes, made)[0], engine.accumulate(layer, codes))


# --- variation and noise ---


@pytest.fixture(name="layer")
def _layer() -> Weighted:
    x = activation("x", (6, 6, 4), zero_point=20)
    return weighted(np.random.default_rng(10), x, activation("y", (0, 0, 5)), kernel=(3, 3), pads=(1, 0, 1, 2))


@pytest.fixture(name="codes")
def _codes(layer: Weighted) -> NDArray[Any]:
    return random_codes(np.random.default_rng(11), (3, *layer.x.shape), "uint8")


def test_multiplicative_variation_spreads_what_cells_hold(layer: Weighted) -> None:
    array = Array(rows=36, cell_bits=7, variation=0.1, adc_bits=20)
    held, _ = cim.levels(layer, array)
    (found,) = cim.program(layer, array).tiles
    assert (found[held == 0] == 0).all()
    off = found[held > 0] / held[held > 0] - 1
    assert abs(off.mean()) < 0.02
    assert 0.09 < off.std() < 0.11


def test_additive_variation_is_the_same_for_all_cells_and_never_negative(layer: Weighted) -> None:
    array = Array(rows=36, cell_bits=7, variation=0.5, spread="additive", adc_bits=20)
    held, _ = cim.levels(layer, array)
    (found,) = cim.program(layer, array).tiles
    assert (found >= 0).all()
    assert (found[held == 0] == 0).mean() == pytest.approx(0.5, abs=0.1)
    assert 0.4 < (found - held)[held > 5].std() < 0.6


def test_runs_seeds_and_layers_differ_and_come_back(layer: Weighted) -> None:
    array = Array(rows=36, variation=0.1)

    def cells(seed: int, run: int, number: int) -> bytes:
        made = cim.program(layer, Array(rows=36, variation=0.1, seed=seed), run=run, number=number)
        return b"".join(tile.tobytes() for tile in made.tiles)

    assert cells(0, 0, 0) == b"".join(tile.tobytes() for tile in cim.program(layer, array).tiles)
    assert len({cells(*key) for key in every((0, 1), (0, 1), (0, 1))}) == 8


def test_varied_sums_do_not_depend_on_their_order(layer: Weighted) -> None:
    """Conductances are multiples of 2^-16, so the sums that an ADC with many bits reads are exact."""
    made = cim.program(layer, Array(rows=36, variation=0.3, adc_bits=20))
    rows = np.random.default_rng(12).integers(0, 2, (50, 36)).astype(np.float64)
    (tile,) = made.tiles
    exact = [[sum(Fraction(x * g) for x, g in zip(row, column, strict=True)) for column in tile.T] for row in rows[:5]]
    assert [[Fraction(one) for one in row] for row in (rows[:5] @ tile).tolist()] == exact


def test_noise_belongs_to_the_image_whatever_it_is_computed_with(layer: Weighted, codes: NDArray[Any]) -> None:
    made = cim.program(layer, Array(rows=9, read_noise=1.0))
    together, _ = cim.accumulate(layer, codes, made)
    for i in range(3):
        np.testing.assert_array_equal(cim.accumulate(layer, codes[i : i + 1], made, i)[0][0], together[i])
    assert (cim.accumulate(layer, codes[:1], made, 1)[0] != together[0]).any()
    assert (together != engine.accumulate(layer, codes)).any()
    assert (cim.accumulate(layer, codes, cim.program(layer, made.array, run=1))[0] != together).any()


def test_noise_far_below_a_step_is_rounded_away(layer: Weighted, codes: NDArray[Any]) -> None:
    found, clipped = cim.accumulate(layer, codes, cim.program(layer, Array(rows=9, adc_bits=4, read_noise=0.01)))
    np.testing.assert_array_equal(found, engine.accumulate(layer, codes))
    assert clipped == 0


def test_noise_is_clipped_at_both_ends(layer: Weighted, codes: NDArray[Any]) -> None:
    made = cim.program(layer, Array(rows=9, adc_bits=3, read_noise=1000.0))
    _, clipped = cim.accumulate(layer, codes, made)
    assert clipped / (len(codes) * made.conversions(layer)) > 0.95


# --- calibration ---


@pytest.mark.parametrize("signed", ["offset", "differential"])
def test_the_tally_counts_every_sum(layer: Weighted, codes: NDArray[Any], signed: Any) -> None:
    array = Array(rows=10, signed=signed, adc_bits=4)
    counts = cim.tally(layer, codes, cim.program(layer, array))
    assert counts.sum() == len(codes) * cim.program(layer, array).conversions(layer)
    greatest = int(np.flatnonzero(counts).max())
    # The sums above a range are those that an ADC with unit steps up to it clips.
    for bits in (1, 2, 3):
        made = cim.program(layer, array if bits == 4 else Array(rows=10, signed=signed, adc_bits=bits), 2**bits)
        assert cim.accumulate(layer, codes, made)[1] == counts[2**bits :].sum()
    assert greatest <= 10


# --- what makes no sense ---


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"rows": 0}, "the rows of an array are out of range: found 0, expected 1 to 1,024"),
        ({"rows": 1025}, "the rows of an array"),
        ({"cell_bits": 0}, "the bits of a cell"),
        ({"dac_bits": 9}, "the bits of a DAC step"),
        ({"adc_bits": 0}, "the bits of the ADC"),
        ({"seed": -1}, "the seed is out of range"),
        (
            {"percentile": 0.0},
            "the percentile of the ADC's range .*: found 0.0, expected above 0, up to 100",
        ),
        ({"percentile": 101.0}, "the percentile"),
        ({"variation": -0.1}, "the variation of cells"),
        ({"variation": math.nan}, "the variation of cells is out of range: found nan"),
        ({"read_noise": math.inf}, "the read noise"),
        ({"signed": "two's complement"}, "signed of an array is not known.*offset or differential"),
        ({"adc_range": "max"}, "adc_range of an array is not known.*full or calibrated"),
        ({"spread": "uniform"}, "spread of an array is not known"),
        ({"adc_range": "calibrated", "rows": 1024, "cell_bits": 8, "dac_bits": 8}, "too many to calibrate"),
    ],
)
def test_what_makes_no_sense_is_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(QuantizationError, match=words) as caught:
        Array(**options)
    assert caught.value.found
    assert caught.value.expected
