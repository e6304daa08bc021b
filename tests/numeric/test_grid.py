"""The arithmetic of quantization, by laws, by exact rational numbers, and by literals."""

from __future__ import annotations

import math
import operator
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from resnet8.errors import QuantizationError, Resnet8Error
from resnet8.numeric.grid import QParams, dequantize, limits, qparams, quantize, saturate, signed_bits
from resnet8.numeric.rounding import fixed_point, fixed_point_pair, round_real, round_shift
from resnet8.numeric.variants import FIXED_BITS, MULTIPLIERS, ROUNDINGS, Requantization

often = settings(max_examples=150, deadline=None, derandomize=True)

BYTES = st.sampled_from(["int8", "uint8"])
SCALES = st.floats(2.0**-30, 2.0**30, width=32)
FIXED = tuple(FIXED_BITS)
MULTIPLIER_REALS = st.floats(2.0**-24, 2.0**20)


@st.composite
def grids(draw: st.DrawFn) -> QParams:
    dtype = draw(BYTES)
    return qparams(draw(SCALES), draw(st.integers(*limits(dtype))), dtype)


def exact(value: Fraction, rounding: str) -> int:
    """A rational number rounded to a whole one: the oracle of every rounding here."""
    down = math.floor(value)
    rest = value - down
    half = Fraction(1, 2)
    if rounding == "truncate":
        return down
    if rounding == "half-up":
        return down + (rest >= half)
    if rounding == "half-away":
        return down + (rest > half or (rest == half and value > 0))
    return round(value)  # Python's: half to even, exact for fractions


@pytest.mark.parametrize(
    ("value", "even", "away", "up", "truncated"),
    [
        ("5/2", 2, 3, 3, 2),
        ("-5/2", -2, -3, -2, -3),
        ("7/2", 4, 4, 4, 3),
        ("-7/2", -4, -4, -3, -4),
        ("1/2", 0, 1, 1, 0),
        ("-1/2", 0, -1, 0, -1),
        ("9/4", 2, 2, 2, 2),
        ("-9/4", -2, -2, -2, -3),
        ("-11/4", -3, -3, -3, -3),
        ("3", 3, 3, 3, 3),
        ("-3", -3, -3, -3, -3),
    ],
)
def test_the_four_roundings(value: str, even: int, away: int, up: int, truncated: int) -> None:
    wanted = {"half-even": even, "half-away": away, "half-up": up, "truncate": truncated}
    quarters = np.array([int(Fraction(value) * 4)])
    for rounding in ROUNDINGS:
        assert exact(Fraction(value), rounding) == wanted[rounding]
        assert round_real(np.array([float(Fraction(value))]), rounding).tolist() == [wanted[rounding]]
        assert round_shift(quarters, 2, rounding).tolist() == [wanted[rounding]]


# --- quantize, dequantize ---


@given(grids())
@often
def test_codes_survive_the_way_to_reals_and_back(params: QParams) -> None:
    low, high = limits(params.dtype)
    codes = np.arange(low, high + 1).astype(params.dtype)
    real = dequantize(codes, params)
    assert real.dtype == np.float32
    np.testing.assert_array_equal(quantize(real, params), codes, strict=True)


@given(grids(), hnp.arrays(np.float64, 20, elements=st.floats(-300, 300)))
@often
def test_the_error_is_half_a_step_in_range_and_saturation_outside(params: QParams, steps: Any) -> None:
    low, high = (limit - int(params.zero_point) for limit in limits(params.dtype))
    real = (steps * params.scale).astype(np.float32)
    codes = quantize(real, params)
    assert codes.dtype == np.dtype(params.dtype)
    again = dequantize(codes, params).astype(np.float64)
    inside = (steps >= low) & (steps <= high)
    assert (np.abs(again - real)[inside] <= (0.5 + 1e-4) * float(params.scale)).all()
    assert (codes[steps < low - 1] == limits(params.dtype)[0]).all()
    assert (codes[steps > high + 1] == limits(params.dtype)[1]).all()


@given(grids())
@often
def test_zero_is_exact(params: QParams) -> None:
    codes = quantize(np.zeros(1, np.float32), params)
    assert codes[0] == params.zero_point
    assert dequantize(codes, params)[0] == 0


def test_quantizing_is_monotone() -> None:
    real = np.linspace(-40, 40, 5001, dtype=np.float32)
    for params in (qparams(0.1, -3, "int8"), qparams(0.37, 200, "uint8")):
        assert (np.diff(quantize(real, params).astype(int)) >= 0).all()


def test_quantizing_in_literals() -> None:
    real = np.array([0, 2, 3, 1000, -254, -1000, 1, 5, 7], np.float32)
    found = quantize(real, qparams(2, 128, "uint8"))
    # ONNX's own example of QuantizeLinear, then ties: 0.5 -> 0, 2.5 -> 2, 3.5 -> 4
    np.testing.assert_array_equal(found, np.array([128, 129, 130, 255, 1, 0, 128, 130, 132], np.uint8), strict=True)
    codes = np.array([-128, -1, 0, 127], np.int8)
    wanted = np.array([-69, -5.5, -5, 58.5], np.float32)
    np.testing.assert_array_equal(dequantize(codes, qparams(0.5, 10, "int8")), wanted, strict=True)


def test_int32_is_dequantized_and_saturates() -> None:
    params = qparams(0.25, 0, "int32")
    np.testing.assert_array_equal(dequantize(np.array([-7, 2**24], np.int32), params), [-1.75, 2.0**22])
    top = quantize(np.array([1e12, -1e12], np.float32), params)
    np.testing.assert_array_equal(top, np.array([2**31 - 1, -(2**31)], np.int32), strict=True)


@pytest.mark.parametrize("axis", [0, 1, 2, -1, -3])
def test_channels_have_their_own_grid(axis: int) -> None:
    rng = np.random.default_rng(5)
    real = rng.normal(0, 10, (3, 3, 3)).astype(np.float32)
    params = QParams(np.array([0.1, 0.2, 0.4], np.float32), np.array([0, 5, -9], np.int32), "int8")
    assert params.per_channel
    codes = quantize(real, params, axis)
    back = dequantize(codes, params, axis)
    for channel in range(3):
        one = qparams(float(params.scale[channel]), int(params.zero_point[channel]), "int8")
        assert not one.per_channel
        of_channel = np.take(codes, channel, axis)
        np.testing.assert_array_equal(of_channel, quantize(np.take(real, channel, axis), one))
        np.testing.assert_array_equal(np.take(back, channel, axis), dequantize(of_channel, one))


def test_saturating_from_a_lowest_code() -> None:
    values = np.array([-1000, -128, 3, 4, 5, 127, 128])
    wanted = np.array([4, 4, 4, 4, 5, 127, 127], np.int8)
    np.testing.assert_array_equal(saturate(values, "int8", 4), wanted, strict=True)
    np.testing.assert_array_equal(saturate(values, "uint8", -4), [0, 0, 3, 4, 5, 127, 128])


# --- grids: compared, refused ---


def test_grids_are_compared_by_meaning() -> None:
    grid = qparams(0.5, 3, "uint8")
    assert grid.same_as(qparams(0.5, 3, "uint8"))
    assert not grid.same_as(qparams(0.5, 3, "int8"))
    assert not grid.same_as(qparams(0.5, 4, "uint8"))
    assert not grid.same_as(qparams(0.25, 3, "uint8"))
    channels = QParams(np.full(3, 0.5, np.float32), np.full(3, 3, np.int32), "uint8")
    assert not grid.same_as(channels)
    assert channels.same_as(channels)


@pytest.mark.parametrize("scale", [0.0, -0.5, math.nan, math.inf, 1e-60])
def test_a_scale_that_makes_no_sense_is_refused(scale: float) -> None:
    with pytest.raises(QuantizationError) as caught:
        qparams(scale, 0, "int8")
    found = "0.0" if scale == 1e-60 else str(np.float32(scale))
    check_message(caught.value, "a scale makes no sense", found, "finite and greater than 0")


@pytest.mark.parametrize(
    ("zero_point", "dtype", "expected"),
    [
        (128, "int8", "-128 to 127"),
        (-129, "int8", "-128 to 127"),
        (-1, "uint8", "0 to 255"),
        (256, "uint8", "0 to 255"),
    ],
)
def test_a_zero_point_out_of_range_is_refused(zero_point: int, dtype: Any, expected: str) -> None:
    with pytest.raises(QuantizationError) as caught:
        qparams(0.5, zero_point, dtype)
    check_message(caught.value, "a zero point is out of range", str(zero_point), expected)


@pytest.mark.parametrize("culprit", [0.0, -2.0, math.nan, math.inf])
def test_the_scale_that_makes_no_sense_is_named_among_channels(culprit: float) -> None:
    scales = np.array([0.5, culprit, 0.25], np.float32)
    with pytest.raises(QuantizationError) as caught:
        QParams(scales, np.zeros(3, np.int32), "int8")
    assert caught.value.found == str(np.float32(culprit))


def test_the_zero_point_out_of_range_is_named_among_channels() -> None:
    with pytest.raises(QuantizationError, match="found 300, expected a code of uint8"):
        QParams(np.ones(3, np.float32), np.array([1, 300, 2], np.int32), "uint8")


def test_scales_and_zero_points_of_other_numbers_are_refused() -> None:
    with pytest.raises(QuantizationError) as caught:
        QParams(np.ones(3, np.float32), np.zeros(2, np.int32), "int8")
    check_message(caught.value, "do not belong together", "(3,) and (2,)", "one zero point for each scale")


def test_every_refusal_says_what_to_do() -> None:
    refused = [
        lambda: qparams(0, 0, "int8"),
        lambda: qparams(1, 300, "int8"),
        lambda: QParams(np.ones(3, np.float32), np.zeros(2, np.int32), "int8"),
        lambda: fixed_point(np.array(0.0), "fixed8"),
        lambda: fixed_point(np.array(2.0**40), "fixed8"),
    ]
    errors = []
    for call in refused:
        with pytest.raises(QuantizationError) as caught:
            call()
        errors.append(caught.value)
    assert [error.what for error in errors if not error.remedy] == []


def check_message(error: Resnet8Error, what: str, found: str, expected: str) -> None:
    """What was wrong, what was found, what was expected; in one line."""
    assert what in error.what
    assert found in (error.found or "")
    assert expected in (error.expected or "")
    assert "\n" not in str(error)


# --- rounding ---


@given(
    hnp.arrays(np.int64, 8, elements=st.integers(-(2**62) + 1, 2**62 - 1)),
    st.integers(0, 62),
    st.sampled_from(ROUNDINGS),
)
@often
def test_shifting_right_is_exact_rational_rounding(values: Any, shift: int, rounding: Any) -> None:
    wanted = [exact(Fraction(value, 2**shift), rounding) for value in values.tolist()]
    found = round_shift(values, shift, rounding)
    assert found.dtype == np.int64
    assert found.tolist() == wanted


@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("shift", range(63))
def test_every_shift_rounds_ties_and_their_neighbours(shift: int, rounding: Any) -> None:
    bound = 2**62 - 1
    ties = [
        (2 * whole + 1) * 2**shift // 2 + near for whole in (-5, -4, -3, -2, -1, 0, 1, 2, 3, 4) for near in (-1, 0, 1)
    ]
    values = [value for value in [*ties, -bound, bound, 0, 1, -1, 2**24 + 1] if abs(value) <= bound]
    found = round_shift(np.array(values), shift, rounding)
    assert found.tolist() == [exact(Fraction(value, 2**shift), rounding) for value in values]


@pytest.mark.parametrize("rounding", ROUNDINGS)
def test_channels_may_shift_by_their_own(rounding: Any) -> None:
    values = np.random.default_rng(6).integers(-(2**40), 2**40, (50, 4))
    shifts = np.array([0, 1, 20, 62])
    wanted = [
        [exact(Fraction(value, 2**shift), rounding) for value, shift in zip(row, shifts.tolist(), strict=True)]
        for row in values.tolist()
    ]
    assert round_shift(values, shifts, rounding).tolist() == wanted


@given(st.floats(-(2.0**40), 2.0**40), st.sampled_from(ROUNDINGS))
@example(0.49999999999999994, "half-up")
@example(0.49999999999999994, "half-away")
@example(-0.49999999999999994, "half-up")
@example(-0.49999999999999994, "half-away")
@example(-0.5000000000000001, "half-away")
@example(-1e-300, "half-away")
@example(-1e-300, "truncate")
@often
def test_rounding_reals_is_exact(value: float, rounding: Any) -> None:
    assert round_real(np.array([value]), rounding).tolist() == [exact(Fraction(value), rounding)]


@given(st.floats(-(2.0**20), 2.0**20, width=32), st.sampled_from(ROUNDINGS))
@example(float(np.nextafter(np.float32(0.5), np.float32(0))), "half-up")
@example(float(np.nextafter(np.float32(-0.5), np.float32(0))), "half-away")
@example(float(np.nextafter(np.float32(-0.5), np.float32(0))), "half-up")
@often
def test_rounding_float32_is_exact_and_stays_float32(value: float, rounding: Any) -> None:
    found = round_real(np.array([value], np.float32), rounding)
    assert found.dtype == np.float32
    assert found.tolist() == [exact(Fraction(value), rounding)]


@pytest.mark.parametrize("rounding", ROUNDINGS)
def test_both_roundings_agree_on_every_tie_of_small_numbers(rounding: Any) -> None:
    eighths = np.arange(-4096, 4097)
    for dtype in (np.float32, np.float64):
        np.testing.assert_array_equal(
            round_real((eighths / 8).astype(dtype), rounding), round_shift(eighths, 3, rounding)
        )


# --- fixed-point multipliers ---


@pytest.mark.parametrize("kind", FIXED)
@given(MULTIPLIER_REALS)
@often
def test_a_fixed_point_multiplier_is_normalized_and_near(kind: Any, real: float) -> None:
    bits = FIXED_BITS[kind] - 1
    found = fixed_point(np.array(real), kind)
    multiplier, shift = int(found.multiplier), int(found.shift)
    assert 0 <= shift <= 62
    assert multiplier < 2**31
    if shift:
        assert 2 ** (bits - 1) <= multiplier < 2**bits
    value = Fraction(multiplier, 2**shift)
    assert abs(value / Fraction(real) - 1) <= Fraction(1, 2**bits)
    assert Fraction(float(found.real)) == value


@pytest.mark.parametrize("kind", FIXED)
@given(MULTIPLIER_REALS)
@often
def test_a_fixed_point_multiplier_is_the_nearest(kind: Any, real: float) -> None:
    found = fixed_point(np.array(real), kind)
    if int(found.shift):
        scaled = Fraction(real) * 2 ** int(found.shift)
        assert abs(int(found.multiplier) - scaled) <= Fraction(1, 2)


@given(MULTIPLIER_REALS)
@often
def test_a_power_of_two_is_the_nearest_on_the_logarithmic_scale(real: float) -> None:
    found = fixed_point(np.array(real), "power-of-two")
    value = Fraction(int(found.multiplier), 2 ** int(found.shift))
    assert value.numerator.bit_count() == value.denominator.bit_count() == 1
    # 1/sqrt(2) <= value/real <= sqrt(2), squared so as to stay rational; log2 in float64 is off by an ulp at the border
    square = (value / Fraction(real)) ** 2
    assert Fraction(1, 2) * (1 - Fraction(1, 10**12)) <= square <= 2 * (1 + Fraction(1, 10**12))


@pytest.mark.parametrize(
    ("real", "kind", "multiplier", "shift"),
    [
        (0.5, "fixed32", 2**30, 31),
        (1.0, "fixed32", 2**30, 30),
        (1.5, "fixed32", 3 * 2**29, 30),
        (0.75, "fixed16", 3 * 2**13, 15),
        (0.75, "fixed8", 96, 7),
        (0.1, "fixed8", 102, 10),
        (1 / 3, "fixed8", 85, 8),
        (1 / 3, "fixed16", 21845, 16),
        (1 / 3, "fixed32", 1431655765, 32),
        (127.75 / 128, "fixed8", 64, 6),  # rounds up to 1.0, which needs a bit less behind the point
        (127.5 / 128, "fixed8", 64, 6),  # a tie, to even
        (126.5 / 128, "fixed8", 126, 7),  # a tie, to even
        (200.0, "fixed8", 200, 0),  # more than 7 bits before the point
        (1000.0, "fixed8", 1000, 0),
        (1001.0, "fixed8", 1000, 0),
        (2.0**30, "fixed32", 2**30, 0),
        (2.0**30, "fixed8", 2**30, 0),
        (0.25, "power-of-two", 1, 2),
        (1.4, "power-of-two", 1, 0),
        (1.42, "power-of-two", 2, 0),
        (0.0884, "power-of-two", 1, 3),
        (0.0883, "power-of-two", 1, 4),
        (6.0, "power-of-two", 8, 0),
    ],
)
def test_fixed_point_in_literals(real: float, kind: Any, multiplier: int, shift: int) -> None:
    found = fixed_point(np.array(real), kind)
    assert (int(found.multiplier), int(found.shift)) == (multiplier, shift)


@pytest.mark.parametrize("kind", [*FIXED, "power-of-two"])
def test_channels_get_what_each_alone_gets(kind: Any) -> None:
    reals = np.exp(np.random.default_rng(7).uniform(-12, 4, 30))
    together = fixed_point(reals, kind)
    alone = [fixed_point(np.array(real), kind) for real in reals]
    assert together.multiplier.dtype == together.shift.dtype == np.int64
    assert together.multiplier.tolist() == [int(one.multiplier) for one in alone]
    assert together.shift.tolist() == [int(one.shift) for one in alone]


@pytest.mark.parametrize("kind", [*FIXED, "power-of-two"])
@pytest.mark.parametrize("real", [0.0, -0.5, math.nan, math.inf])
def test_a_multiplier_that_makes_no_sense_is_refused(kind: Any, real: float) -> None:
    with pytest.raises(QuantizationError, match=r"a multiplier makes no sense.*expected finite and greater than 0"):
        fixed_point(np.array([1.0, real]), kind)


@pytest.mark.parametrize(
    ("kind", "real"),
    [
        ("fixed32", 2.0**-33),
        ("fixed16", 2.0**-49),
        ("power-of-two", 2.0**-63),
        ("fixed32", 2.0**31),
        ("fixed8", 2.0**31),
        ("power-of-two", 2.0**31),
        ("power-of-two", 2.0**500),
        ("fixed32", 2.0**-500),
    ],
)
def test_a_multiplier_out_of_reach_is_refused(kind: Any, real: float) -> None:
    with pytest.raises(QuantizationError, match=r"does not fit fixed point: found .*, expected .*; use a wider"):
        fixed_point(np.array(real), kind)


@pytest.mark.parametrize(
    ("kind", "real"), [("fixed32", 2.0**-32), ("fixed16", 2.0**-48), ("fixed8", 2.0**-56), ("power-of-two", 2.0**-62)]
)
def test_the_least_multiplier_in_reach(kind: Any, real: float) -> None:
    found = fixed_point(np.array(real), kind)
    assert Fraction(int(found.multiplier), 2 ** int(found.shift)) == Fraction(real)


# --- pairs ---


@pytest.mark.parametrize("kind", FIXED)
@given(st.floats(2.0**-6, 2.0**4), st.floats(2.0**-6, 2.0**4))
@often
def test_a_pair_has_one_shift_and_the_larger_is_normalized(kind: Any, one: float, other: float) -> None:
    pair = fixed_point_pair((np.array(one), np.array(other)), kind)
    assert int(pair[0].shift) == int(pair[1].shift)
    larger = int(one < other)
    alone = fixed_point(np.array(max(one, other)), kind)
    assert (int(pair[larger].multiplier), int(pair[larger].shift)) == (int(alone.multiplier), int(alone.shift))
    for part, real in zip(pair, (one, other), strict=True):
        wanted = Fraction(real) * 2 ** int(part.shift)
        assert int(part.multiplier) == exact(wanted, "half-even")


@given(st.floats(2.0**-10, 2.0**10), st.floats(2.0**-10, 2.0**10))
@often
def test_a_pair_of_powers_of_two_keeps_both_values(one: float, other: float) -> None:
    pair = fixed_point_pair((np.array(one), np.array(other)), "power-of-two")
    assert int(pair[0].shift) == int(pair[1].shift)
    for part, real in zip(pair, (one, other), strict=True):
        alone = fixed_point(np.array(real), "power-of-two")
        assert float(part.real) == float(alone.real)
        assert int(part.multiplier).bit_count() == 1


def test_pairs_in_literals() -> None:
    def facts(one: float, other: float, kind: Any) -> tuple[int, ...]:
        pair = fixed_point_pair((np.array(one), np.array(other)), kind)
        return tuple(int(number) for part in pair for number in (part.multiplier, part.shift))

    assert facts(0.75, 0.1, "fixed8") == (96, 7, 13, 7)
    assert facts(0.1, 0.75, "fixed8") == (13, 7, 96, 7)
    assert facts(0.75, 0.75, "fixed16") == (24576, 15, 24576, 15)
    assert facts(1.5, 0.5, "fixed32") == (3 * 2**29, 30, 2**29, 30)
    assert facts(0.25, 0.5, "power-of-two") == (1, 2, 2, 2)
    assert facts(4.0, 0.5, "power-of-two") == (8, 1, 1, 1)


def test_the_smaller_of_a_pair_may_vanish_but_never_the_larger() -> None:
    larger, smaller = fixed_point_pair((np.array(1.0), np.array(2.0**-8)), "fixed8")
    assert (int(larger.multiplier), int(smaller.multiplier), int(smaller.shift)) == (64, 0, 6)
    larger, smaller = fixed_point_pair((np.array(1.0), np.array(2.0**-8)), "fixed16")
    assert (int(larger.multiplier), int(smaller.multiplier), int(smaller.shift)) == (2**14, 2**6, 14)


@pytest.mark.parametrize(("one", "other"), [(2.0**10, 2.0**-60), (4.0, 2.0**-62), (2.0**-25, 2.0**7), (1.0, 2.0**-31)])
def test_powers_of_two_too_far_apart_for_one_shift_are_refused(one: float, other: float) -> None:
    with pytest.raises(QuantizationError, match="does not fit fixed point"):
        fixed_point_pair((np.array(one), np.array(other)), "power-of-two")


# --- words ---


def test_the_ways_of_requantizing_have_names() -> None:
    assert Requantization().name == "float32/half-even"
    names = {Requantization(multiplier, rounding).name for multiplier in MULTIPLIERS for rounding in ROUNDINGS}
    assert len(names) == 20
    assert "fixed32/half-up" in names


def test_the_oracle_agrees_with_integer_division() -> None:
    for value in range(-40, 41):
        for shift in range(5):
            assert exact(Fraction(value, 2**shift), "truncate") == value >> shift
            assert exact(Fraction(value, 2**shift), "half-up") == operator.floordiv(
                2 * value + 2**shift, 2 ** (shift + 1)
            )


@given(st.integers(-(2**40), 2**40), st.integers(-(2**40), 2**40))
def test_the_needed_width_is_the_least_that_holds_both(a: int, b: int) -> None:
    low, high = min(a, b), max(a, b)
    bits = signed_bits(low, high)
    assert -(2 ** (bits - 1)) <= low
    assert high < 2 ** (bits - 1)
    assert bits == 1 or not (-(2 ** (bits - 2)) <= low and high < 2 ** (bits - 2))


@pytest.mark.parametrize(
    ("low", "high", "bits"), [(0, 0, 1), (-1, 0, 1), (0, 1, 2), (-128, 127, 8), (0, 128, 9), (-32769, 0, 17)]
)
def test_needed_width_golden(low: int, high: int, bits: int) -> None:
    assert signed_bits(low, high) == bits
