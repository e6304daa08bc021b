"""Every numbered statement of docs/quantization/specification.md, against the code that computes."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from fractions import Fraction
from itertools import product
from math import log2
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import quantized
from roundings import rounded

from resnet8.audit.exhaustive import audit_exhaustively
from resnet8.errors import QuantizationError
from resnet8.execute import engine
from resnet8.execute.exact import exact_multipliers, partial_sums
from resnet8.network.tensors import Constant
from resnet8.numeric.grid import limits, qparams, quantize, signed_bits
from resnet8.numeric.rounding import fixed_point, fixed_point_pair, round_shift
from resnet8.numeric.variants import FIXED_BITS, MULTIPLIERS, ROUNDINGS, Requantization
from resnet8.results import ExhaustiveStudy, WorkedArithmetic, load
from resnet8.runtimes.integer import open_integer

if TYPE_CHECKING:
    from resnet8.network.layers import AnyLayer
    from resnet8.network.program import Program

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/quantization/specification.md"
DEMO = ROOT / "src/resnet8/data/demo/run/models"
TEXT = PAGE.read_text()
CODE: dict[str, Any] = {}
exec(re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)[0], CODE)  # noqa: S102 - it is the page's own

RNG = np.random.default_rng(25)
REALS = np.concatenate(
    [2.0 ** RNG.uniform(-30, 6, 400), 2.0 ** np.arange(-20, 5), [1 - 2.0**-40, 127.4, 0.5 - 2.0**-34, 2**0.5]]
)


@pytest.fixture(scope="module")
def program() -> Program:
    return quantized.network(9, "int8", "uint8", per_channel=True)


@pytest.fixture(scope="module")
def demo() -> dict[str, Program]:
    """The embedded quantized files: signed and unsigned, per tensor and per channel."""
    return {path.stem: open_integer(path).program for path in sorted(DEMO.glob("resnet8_*.onnx"))}


def values(program: Program) -> dict[str, Any]:
    codes = RNG.integers(-128, 128, (2, *program.input.shape)).astype(np.int8)
    return {program.input.name: codes} | engine.activations(program, codes)


def test_every_statement_has_a_test_and_every_test_a_statement() -> None:
    stated = [int(number) for number in re.findall(r"^- \*\*S(\d+)\.\*\*", TEXT, re.MULTILINE)]
    assert stated == list(range(1, len(stated) + 1))
    tested = {int(match[1]) for name in dir(sys.modules[__name__]) if (match := re.match(r"test_s(\d+)_", name))}
    assert tested == set(stated)


# --- from codes to the accumulator ---


def test_s1_a_code_stands_for_a_multiple_of_the_scale(program: Program) -> None:
    for scale in (0.0, -1.0, np.inf, np.nan):
        with pytest.raises(QuantizationError):
            qparams(scale, 0, "int8")
    with pytest.raises(QuantizationError):
        qparams(1.0, 128, "int8")
    constant = program.layers[1].parameter
    assert constant is not None
    expected = [float(constant.scale) * (int(code) - constant.zero_point) for code in constant.codes]
    np.testing.assert_allclose(constant.real, expected, rtol=1e-7)


def test_s2_a_pixel_becomes_a_code() -> None:
    pixels = np.arange(256)
    for zero, dtype in ((0, "uint8"), (-128, "int8")):
        assert quantize(pixels, qparams(1.0, zero, dtype)).tolist() == (pixels + zero).tolist()
    scale = np.float32(1.7)
    found = quantize(pixels, qparams(1.7, -3, "int8"))
    for pixel in pixels.tolist():
        code = round(float(np.float32(pixel) / scale)) - 3
        assert found[pixel] == min(max(code, -128), 127)


def test_s3_s4_s5_and_the_code_of_the_page_accumulate_as_the_engine_does(program: Program) -> None:
    read = values(program)
    for layer in program.weighted[:2]:
        x = read[layer.x.name]
        sums = engine.accumulate(layer, x)
        assert sums.shape[1] > 1
        for row, column, channel in product((0, 1, sums.shape[1] - 1), (0, sums.shape[2] - 1), (0, 3)):
            zero_w = int(np.broadcast_to(layer.weights.params.zero_point, sums.shape[-1:])[channel])
            total = CODE["accumulate"](
                x[1].tolist(),
                layer.weights.codes[..., channel].tolist(),
                int(layer.added[channel]),
                layer.x.zero_point,
                zero_w,
                row,
                column,
                layer.strides,
                layer.pads,
            )
            assert total == sums[1, row, column, channel]


def test_s3_the_order_is_kernel_row_column_channel_and_the_bias_last(program: Program) -> None:
    layer = program.weighted[1]
    read = values(program)
    tiles = partial_sums(layer, read, 4)  # four channels: one position of the window each
    assert tiles is not None
    x = read[layer.x.name].astype(int) - layer.x.zero_point
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    weights = layer.matrix.reshape(3, 3, 4, -1)
    for tile, (i, j) in enumerate(product(range(3), range(3))):
        part = padded[:, i : i + tiles.shape[2], j : j + tiles.shape[3]] @ weights[i, j]
        np.testing.assert_array_equal(tiles[:, tile], part)
    np.testing.assert_array_equal(tiles.sum(axis=1) + layer.added, engine.accumulate(layer, read[layer.x.name]))


def test_s4_the_strided_convolutions_are_padded_below_and_on_the_right(demo: dict[str, Program]) -> None:
    for one in demo.values():
        for layer in one.weighted:
            if layer.weights.shape[0] == 3:
                assert layer.pads == ((0, 0, 1, 1) if layer.strides == (2, 2) else (1, 1, 1, 1))
    facts = [load(WorkedArithmetic, path) for path in sorted((ROOT / "results/arithmetic").glob("worked_*.json"))]
    for study in facts:
        uneven = [one for one in study.layers if one.strides == (2, 2) and one.pads == (0, 0, 1, 1)]
        assert len(uneven) == 2


def test_s5_outside_the_map_nothing_is_added(program: Program) -> None:
    layer = program.weighted[1]
    zero = np.full((1, *layer.x.shape), layer.x.zero_point, np.int8)
    sums = engine.accumulate(layer, zero)
    np.testing.assert_array_equal(sums, np.broadcast_to(layer.added, sums.shape))


def test_s6_a_bias_counts_in_steps_of_the_accumulator(program: Program) -> None:
    layer = program.weighted[0]
    assert layer.step is not None
    np.testing.assert_allclose(layer.step, np.float64(layer.x.scale) * layer.weights.params.scale, rtol=1e-15)
    np.testing.assert_array_equal(layer.added_real, layer.added * layer.step)
    assert layer.added.dtype == np.int32
    assert replace(layer, bias=None).added.tolist() == [0] * layer.output.shape[-1]


def test_s7_factors_averages_and_other_grids(program: Program) -> None:
    read = values(program)
    _, scaling, _, _, _, pool, _ = program.layers
    x = read[scaling.inputs[0]].astype(int) - scaling.reads[0].zero_point
    constant = scaling.parameter
    assert constant is not None
    expected = x * (constant.codes.astype(int) - constant.zero_point)
    np.testing.assert_array_equal(engine.integer_accumulator(scaling, read), expected)
    x = read[pool.inputs[0]].astype(int) - pool.reads[0].zero_point
    np.testing.assert_array_equal(engine.integer_accumulator(pool, read), x.sum(axis=(1, 2), keepdims=True))
    other = quantized.rescale(program.logits, replace(program.logits, name="y"))
    x = read[program.logits.name].astype(int) - program.logits.zero_point
    np.testing.assert_array_equal(engine.integer_accumulator(other, read), x)


def test_s8_a_sum_has_two_addends(program: Program) -> None:
    read = values(program)
    for layer in (program.layers[2], program.layers[4]):
        with pytest.raises(TypeError):
            engine.integer_accumulator(layer, read)
        for found, (_, one) in zip(engine.addends(layer, read), layer.sources, strict=True):
            codes = one.codes if isinstance(one, Constant) else read[one.name]
            np.testing.assert_array_equal(found, codes.astype(int) - one.zero_point)


# --- the multiplier ---


def scales_of(layer: AnyLayer, channel: int) -> list[tuple[float, float]]:
    """Of each operand: its scale and that of the weights, as Python's float64."""
    weight = 1.0
    if layer.multiplied is not None:
        weight = float(np.broadcast_to(layer.multiplied.params.scale, layer.output.shape[-1:])[channel])
    return [(float(one.scale), weight) for _, one in layer.sources]


def test_s9_m_is_float64_from_the_float32_scales(program: Program, demo: dict[str, Program]) -> None:
    for one in (program, *demo.values()):
        for layer in one.layers:
            for channel in range(layer.output.shape[-1]):
                expected = [s * w / (layer.count * float(layer.output.scale)) for s, w in scales_of(layer, channel)]
                found = [np.broadcast_to(real, layer.output.shape[-1:])[channel] for real in layer.real_multipliers]
                assert found == expected


def test_s10_float32_gives_mostly_other_integers(demo: dict[str, Program]) -> None:
    same = counted = 0
    for one in demo.values():
        for layer in one.layers:
            if len(layer.sources) > 1:
                continue
            (ours,) = engine.multipliers(layer, Requantization("fixed32"))
            theirs = fixed_point(engine.float_multiplier(layer).astype(np.float64), "fixed32")  # type: ignore[arg-type]
            same += int((ours.multiplier == theirs.multiplier).sum())
            counted += ours.multiplier.size
    assert same < counted / 2


@pytest.mark.parametrize(("kind", "bits"), FIXED_BITS.items())
def test_s11_fixed_point(kind: Any, bits: int) -> None:
    found = fixed_point(REALS, kind)
    for real, multiplier, shift in zip(REALS, found.multiplier, found.shift, strict=True):
        exact = Fraction(float(real))
        s = next(s for s in range(-60, 90) if 2 ** (bits - 2) <= exact * Fraction(2) ** s < 2 ** (bits - 1))
        m = round(exact * Fraction(2) ** s)
        if m == 2 ** (bits - 1):
            m, s = m // 2, s - 1
        expected = (m, s) if s >= 0 else (m << -s, 0)
        assert (multiplier, shift) == expected == CODE["fixed_point"](float(real), bits)


def test_s12_powers_of_two() -> None:
    found = fixed_point(REALS, "power-of-two")
    for real, multiplier, shift in zip(REALS, found.multiplier, found.shift, strict=True):
        e = round(log2(real))
        assert (multiplier, shift) == (2 ** max(e, 0), max(-e, 0)) == CODE["power_of_two"](float(real))


@pytest.mark.parametrize("kind", [kind for kind in MULTIPLIERS if kind != "float32"])
def test_s13_both_multipliers_of_a_sum_have_one_shift(kind: Any) -> None:
    a, b = RNG.permuted(2.0 ** RNG.uniform(-12, 3, 300)), 2.0 ** RNG.uniform(-12, 3, 300)
    one, other = fixed_point_pair((a, b), kind)
    assert (one.shift == other.shift).all()
    vanished = 0
    for m_a, m_b, x, y, shift in zip(a, b, one.multiplier, other.multiplier, one.shift, strict=True):
        if kind == "power-of-two":
            each = [CODE["power_of_two"](float(m)) for m in (m_a, m_b)]
            assert shift == max(own for _, own in each)
            assert [x, y] == [m << (shift - own) for m, own in each]
        else:
            assert (x, y, shift) == CODE["fixed_point_pair"](float(m_a), float(m_b), FIXED_BITS[kind])
            assert shift == fixed_point(np.float64(max(m_a, m_b)), kind).shift
            vanished += 0 in (x, y)
    assert (vanished > 0) == (kind == "fixed8")


def test_s14_other_multipliers_are_refused() -> None:
    for real in (2.0**31, 2.0**-40, 0.0, -1.0, np.inf):
        with pytest.raises(QuantizationError):
            fixed_point(np.float64(real), "fixed32")
    assert fixed_point(np.float64(2.0**-32), "fixed32").shift == 62
    with pytest.raises(QuantizationError):
        fixed_point(np.float64(2.0**-33), "fixed32")


# --- from the accumulator to the code ---


@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("kind", [kind for kind in MULTIPLIERS if kind != "float32"])
def test_s15_one_rounding_then_the_zero_point_then_the_clamp(program: Program, kind: Any, rounding: Any) -> None:
    read, how = values(program), Requantization(kind, rounding)
    for layer in program.layers:
        factors = engine.multipliers(layer, how)
        parts = engine.addends(layer, read)
        found = engine.step(layer, read, how)
        parts = tuple(np.broadcast_to(one, found.shape) for one in parts)
        for index in RNG.permutation(found.size)[:60].tolist():
            at = np.unravel_index(index, found.shape)
            each = [np.broadcast_to(one.multiplier, found.shape[-1:])[at[-1]] for one in factors]
            p = sum(int(one[at]) * int(m) for one, m in zip(parts, each, strict=True))
            shift = int(np.broadcast_to(factors[0].shift, found.shape[-1:])[at[-1]])
            ends = (layer.output.zero_point, layer.lowest, layer.highest)
            assert found[at] == CODE["requantize"](p, shift, *ends, rounding)


def test_s16_with_shift_0_nothing_is_rounded() -> None:
    numbers = np.array([-3, -2, -1, 0, 1, 2, 3, 2**40 + 1])
    for rounding in ROUNDINGS:
        assert round_shift(numbers, 0, rounding).tolist() == numbers.tolist()
        assert [CODE["round_shift"](n, 0, rounding) for n in numbers.tolist()] == numbers.tolist()


def test_s16_sums_under_power_of_two_have_it() -> None:
    a, b = fixed_point_pair((np.float64(1.2), np.float64(2.3)), "power-of-two")
    assert (int(a.shift), int(a.multiplier), int(b.multiplier)) == (0, 1, 2)


@pytest.mark.parametrize("rounding", ROUNDINGS)
def test_s17_roundings(rounding: Any) -> None:
    for shift, p in product((1, 2, 3, 7), range(-300, 301)):
        expected = rounded(Fraction(p, 2**shift), rounding)
        assert CODE["round_shift"](p, shift, rounding) == expected
        assert round_shift(np.array([p]), shift, rounding).tolist() == [expected]
    (row,) = re.findall(rf"^  \| `{rounding}` \|(.*)\|.*\|$", TEXT, re.MULTILINE)
    shown = [int(cell.replace("−", "-")) for cell in row.split("|")]
    assert shown == [rounded(Fraction(half, 2), rounding) for half in (-5, -3, -1, 1, 3, 5)]


def test_s18_the_clamp(program: Program) -> None:
    for layer in program.layers:
        low, high = limits(layer.output.params.dtype)
        assert (layer.lowest, layer.highest) == (low, high)
        assert replace(layer, relu=True).lowest == layer.output.zero_point


# --- widths ---


def test_s19_differences(demo: dict[str, Program]) -> None:
    ends = [code - zero for dtype in ("int8", "uint8") for code, zero in product(limits(dtype), repeat=2)]
    assert (min(ends), max(ends), signed_bits(min(ends), max(ends))) == (-255, 255, 9)
    seen = [one.weights for network in demo.values() for one in network.weighted if one.weights.dtype == "int8"]
    assert seen
    for weights in seen:
        assert not weights.params.zero_point.any()
        assert weights.codes.min() >= -127


def test_s20_products() -> None:
    ends = [a * b for a, b in product((-255, 255), repeat=2)]
    assert (min(ends), max(ends), signed_bits(min(ends), max(ends))) == (-65_025, 65_025, 17)


def test_s21_the_worst_case_holds_and_is_reached(program: Program) -> None:
    for layer in program.weighted:
        least, most = layer.x.codes_from_zero
        terms = [[sorted((int(w) * least, int(w) * most)) for w in column] for column in layer.matrix.T]
        low, high = ([sum(pair[which] for pair in column) for column in terms] for which in (0, 1))
        bias = [int(b) for b in layer.added]
        expected = (
            min(0, *low, *(a + b for a, b in zip(low, bias, strict=True))),
            max(0, *high, *(a + b for a, b in zip(high, bias, strict=True))),
        )
        assert layer.partial_sums() == expected
        # No order of the worst codes' products leaves it, and their sum reaches it.
        for column, end, b in zip(terms, low, bias, strict=True):
            order = RNG.permutation(len(column)).tolist()
            running = np.cumsum([column[i][0] for i in order])
            assert expected[0] <= running.min()
            assert running[-1] == end
            assert expected[0] <= end + b
        bound = max(abs(least), abs(most)) * np.abs(layer.matrix).sum(axis=0).max()
        assert -bound <= min(low)
        assert max(high) <= bound


def test_s22_widths_of_multipliers() -> None:
    for kind, bits in FIXED_BITS.items():
        top = 2.0 ** (bits - 1) - 1
        reals = np.append(2.0 ** RNG.uniform(-20, bits - 1, 500), top).clip(max=top)
        assert int(fixed_point(reals, kind).multiplier.max()).bit_length() == bits - 1  # type: ignore[arg-type]
    below = np.append(2.0 ** RNG.uniform(-30, 0.5, 500), np.nextafter(2**0.5, 0)).clip(max=np.nextafter(2**0.5, 0))
    assert set(fixed_point(below, "power-of-two").multiplier.tolist()) == {1}


def test_s23_widths_of_products() -> None:
    for kind, width in (("fixed32", 41), ("fixed16", 25), ("fixed8", 17)):
        largest = 2 ** (FIXED_BITS[kind] - 1) - 1
        assert signed_bits(-2 * 255 * largest, 2 * 255 * largest) == width
    for bits, unsigned in product(range(2, 33), range(1, 32)):
        low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
        top = 2**unsigned - 1
        assert signed_bits(low * top, high * top) <= bits + unsigned


def test_s24_after_rounding() -> None:
    for bits in range(9, 32):
        ends = np.array([-(2 ** (bits - 1)), 2 ** (bits - 1) - 1])
        for real in (1.0, 0.999, 0.37):
            one = fixed_point(np.float64(real), "fixed32")
            for rounding in ROUNDINGS:
                whole = round_shift(ends * one.multiplier, one.shift, rounding).tolist()
                assert signed_bits(*whole) <= bits
                assert signed_bits(whole[0] - 128, whole[1] + 255) <= bits + 1


# --- how exact it is ---


def test_s25_the_table_is_what_the_proofs_say(program: Program) -> None:
    paths = sorted((ROOT / "results/exhaustive").glob("*.json"))
    assert len(paths) >= 8
    table = TEXT.partition("<!-- exhaustive:begin -->")[2].partition("<!-- exhaustive:end -->")[0]
    for path in paths:
        study = load(ExhaustiveStudy, path)
        worst = max(row.differing for row in study.rows if row.multiplier == "fixed32")
        (line,) = [one for one in table.splitlines() if one.startswith(f"| {path.stem} |")]
        assert [cell.strip() for cell in line.split("|")][3:6:2] == [
            f"{study.cases:,}",
            f"{worst:,}" if worst else "equal everywhere",
        ]
    # The exact rule of the proof is the one of the page.
    layer = program.weighted[0]
    (multiplier,) = exact_multipliers(layer, 2)
    scales = (layer.x.scale, layer.weights.params.scale[2], layer.output.scale)
    s_x, s_w, s_y = (Fraction(float(one)) for one in scales)
    assert multiplier == s_x * s_w / s_y


@pytest.mark.real
def test_the_proofs_come_out_again(real_models: dict[str, Path]) -> None:
    for name in ("int8", "ort-per-channel", "published-int8"):
        path = ROOT / f"results/exhaustive/{name}.json"
        if name not in real_models:
            continue
        opened, kept = open_integer(real_models[name]), load(ExhaustiveStudy, path)
        if opened.model.sha256 != kept.model.sha256:
            pytest.skip(f"{name} is another file on this CPU")
        study = audit_exhaustively(opened.model, opened.program)
        assert (study.layers, study.rows) == (kept.layers, kept.rows)


def test_the_page_is_named_where_its_statements_were() -> None:
    for name in ("hardware-guide", "qlinearconv", "qdq", "agreement", "README"):
        assert "specification.md" in (ROOT / f"docs/quantization/{name}.md").read_text()
