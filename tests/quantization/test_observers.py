"""Ranges: each observer against exact fractions, sorting, or every range of the grid it searches."""

from __future__ import annotations

import math
from collections import Counter
from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from scipy.special import rel_entr, softmax

from resnet8.errors import QuantizationError
from resnet8.numeric.grid import QParams, dequantize, limits, quantize, width
from resnet8.quantization.observers import BINS, activation_grid, histogram, logit_grid, weight_scales

OBSERVERS = ("minmax", "percentile", "mse")


def covering(low: float, high: float, dtype: str) -> QParams:
    """The grid whose codes reach from ``low`` to ``high``, in fractions up to the float32 of its scale."""
    least, greatest = limits(dtype)
    scale = np.float32(float(Fraction(high) - Fraction(low)) / (greatest - least))
    zero = min(max(round(least - Fraction(low) / Fraction(float(scale))), least), greatest)
    return QParams(np.asarray(scale), np.asarray(zero, np.int32), dtype)


def exact_error(values: list[float], grid: QParams) -> Fraction:
    """The squared error of ``values`` on a grid, in fractions."""
    least, greatest = limits(grid.dtype)
    scale, zero, total = Fraction(float(grid.scale)), int(grid.zero_point), Fraction(0)
    for value, count in Counter(values).items():
        code = min(max(round(Fraction(value) / scale) + zero, least), greatest)
        total += count * ((code - zero) * scale - Fraction(value)) ** 2
    return total


def heavy_tailed(count: int, seed: int, *, positive: bool = False) -> list[float]:
    """Multiples of 1/64, all in bins of their own: few far out."""
    rng = np.random.default_rng(seed)
    values = (rng.integers(-64, 65, count) * rng.integers(1, 9, count) ** 2 / 64).tolist()
    values[0] = 63.0
    return [abs(one) for one in values] if positive else values


# --- histograms ---


def test_bins_are_powers_of_two_wide_and_one_is_around_zero() -> None:
    values = np.float32([-3, -0.0004, 0.0004, 0.0005, 1.5, 1.5, 3.9999])  # below 4: bins of 2**-10
    seen = histogram(values)
    assert (seen.low, seen.high) == (-3, float(np.float32(3.9999)))
    expected = Counter(round(Fraction(one) * BINS / 4) for one in values.tolist())
    occupied = np.flatnonzero(seen.counts)
    found = dict(zip(seen.values[occupied].tolist(), seen.counts[occupied].tolist(), strict=True))
    assert found == {one * 4 / BINS: count for one, count in expected.items()}
    assert found[0.0] == 2
    np.testing.assert_array_equal(np.diff(seen.values), 4 / BINS)


@pytest.mark.parametrize(
    ("values", "ends"), [([1, 2], (0, 2)), ([-2, -1], (-2, 0)), ([0], (0, 0)), ([[4], [-8]], (-8, 4))]
)
def test_a_range_includes_zero(values: list[float], ends: tuple[float, float]) -> None:
    seen = histogram(np.float32(values))
    assert (seen.low, seen.high) == ends
    assert seen.counts.sum() == np.size(values)


# --- activations ---


@pytest.mark.parametrize(("dtype", "zero"), [("uint8", 51), ("int8", -77), ("uint4", 3), ("int2", -1)])
def test_minmax_reaches_from_end_to_end(dtype: str, zero: int) -> None:
    grid = activation_grid("a", np.float32([[-1, 0.3], [4, 2]]), dtype, "minmax")
    assert grid.scale == np.float32(5 / (2 ** width(dtype) - 1))
    assert grid.scale.dtype == np.float32
    assert (int(grid.zero_point), grid.dtype) == (zero, dtype)


@pytest.mark.parametrize("observer", OBSERVERS)
@pytest.mark.parametrize("sign", [-1, 1])
def test_an_end_at_zero_stays_there(observer: str, sign: int) -> None:
    values = sign * np.random.default_rng(1).exponential(1, 5000).astype(np.float32)
    grid = activation_grid("a", values, "uint8", observer)  # type: ignore[arg-type]
    assert int(grid.zero_point) == (0 if sign > 0 else 255)


@pytest.mark.parametrize(("count", "outside"), [(9_999, 0), (10_001, 1), (30_000, 3)])
def test_percentile_leaves_one_in_ten_thousand_outside_on_each_side(count: int, outside: int) -> None:
    rng = np.random.default_rng(count)
    values = rng.integers(-1000, 1001, count) / 1024
    values[:4], values[4:8] = [1.5, 1.6875, 1.75, 1.875], [-1.5, -1.625, -1.75, -1.9375]
    ordered = np.sort(values)
    low, high = ordered[outside], ordered[-1 - outside]
    expected = covering(low, high, "uint8")
    assert activation_grid("a", rng.permutation(values), "uint8", "percentile").same_as(expected)


def test_percentile_of_what_is_almost_always_zero_is_the_whole_range() -> None:
    values = np.zeros(100_000, np.float32)
    values[7] = 3
    assert activation_grid("a", values, "uint8", "percentile").same_as(covering(0, 3, "uint8"))


@pytest.mark.parametrize(("dtype", "smallest"), [("uint8", 0.5), ("int8", 0.5), ("uint4", 0.25), ("uint2", 0.25)])
@pytest.mark.parametrize("positive", [True, False])
def test_mse_is_the_best_of_all_ranges_on_its_grid(dtype: str, smallest: float, positive: bool) -> None:
    values = heavy_tailed(80, width(dtype), positive=positive)
    found = activation_grid("a", np.float32(values), dtype, "mse")
    shares = np.linspace(1, smallest, 26).tolist()
    low, high = min(0.0, *values), max(values)
    tried = [covering(low * a, high * b, dtype) for a, b in product([1.0] if positive else shares[::2], shares)]
    best = min(exact_error(values, grid) for grid in tried)
    assert any(found.same_as(grid) for grid in tried)
    assert exact_error(values, found) <= best * (1 + Fraction(1, 10**12))
    if dtype == "uint2":
        assert best < exact_error(values, covering(low, high, dtype))  # clipping pays


def test_mse_tries_the_whole_range_too() -> None:
    """Each of 256 values that are codes already costs more to clip than all others gain."""
    values = np.arange(256, dtype=np.float32)
    assert activation_grid("a", values, "uint8", "mse").same_as(covering(0, 255, "uint8"))


@pytest.mark.parametrize("observer", OBSERVERS)
def test_order_and_type_of_values_decide_nothing(observer: str) -> None:
    values = np.float32(heavy_tailed(3000, 5))
    one = activation_grid("a", values, "uint4", observer)  # type: ignore[arg-type]
    assert one.same_as(activation_grid("a", values[::-1].reshape(30, 100), "uint4", observer))  # type: ignore[arg-type]
    assert one.same_as(activation_grid("a", values.astype(np.float64), "uint4", observer))  # type: ignore[arg-type]


@pytest.mark.parametrize("observer", OBSERVERS)
def test_a_constant_activation_is_refused(observer: str) -> None:
    for observed in (activation_grid, logit_grid):
        with pytest.raises(QuantizationError, match="«a» is 0 on every calibration image: it has no range"):
            observed("a", np.zeros((4, 10), np.float32), "uint8", observer)  # type: ignore[arg-type]


# --- class scores ---


def divergence(logits: np.ndarray, grid: QParams) -> float:
    """SciPy's, of the probabilities."""
    on = dequantize(quantize(logits, grid), grid)
    wanted, found = (softmax(one.astype(np.float64), axis=1) for one in (logits, on))
    return float(rel_entr(wanted, found).sum())


@pytest.mark.parametrize("dtype", ["uint8", "int8"])
def test_class_scores_get_the_range_of_least_divergence(dtype: str) -> None:
    rng = np.random.default_rng(3)
    logits = (rng.integers(-2000, 2000, (60, 10)) / 128).astype(np.float32)
    logits[:, 0] -= 20  # how far this class is behind does not matter
    found = logit_grid("logits", logits, dtype, "mse")
    shares = np.linspace(1, 0.3, 15).tolist()
    tried = [covering(float(logits.min()) * a, float(logits.max()) * b, dtype) for a, b in product(shares, shares)]
    divergences = [divergence(logits, grid) for grid in tried]
    assert any(found.same_as(grid) for grid in tried)
    assert divergence(logits, found) == pytest.approx(min(divergences), rel=1e-5)
    assert divergence(logits, found) < 0.8 * divergences[0]


@pytest.mark.parametrize("observer", ["minmax", "percentile"])
def test_other_observers_look_at_class_scores_as_at_all_others(observer: str) -> None:
    logits = np.random.default_rng(4).normal(0, 5, (50, 10)).astype(np.float32)
    expected = activation_grid("logits", logits, "uint8", observer)  # type: ignore[arg-type]
    assert logit_grid("logits", logits, "uint8", observer).same_as(expected)  # type: ignore[arg-type]


# --- weights ---

MATRIX = np.array([[0.5, -6], [-1, 2], [0.25, 3], [0.75, -1]])


@pytest.mark.parametrize(("dtype", "greatest"), [("int8", 127), ("int4", 7), ("int2", 1), ("int16", 32767)])
def test_the_largest_weight_has_the_largest_code(dtype: str, greatest: int) -> None:
    scales = weight_scales(MATRIX, dtype, per_channel=True, searched=False)
    np.testing.assert_array_equal(scales, np.float32([1 / greatest, 6 / greatest]), strict=True)
    one = weight_scales(MATRIX, dtype, per_channel=False, searched=False)
    assert (one.shape, one.dtype, one) == ((), np.float32, np.float32(6 / greatest))


@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize(("dtype", "smallest"), [("int8", 0.5), ("int4", 0.25), ("int3", 0.25), ("int2", 0.25)])
def test_searched_scales_are_the_best_of_all_shares(dtype: str, smallest: float, per_channel: bool) -> None:
    matrix = np.random.default_rng(6).integers(-300, 301, (20, 3)) / 256 * [1, 0.1, 5]
    found = weight_scales(matrix, dtype, per_channel=per_channel, searched=True)
    assert (found.shape, found.dtype) == ((3,) if per_channel else (), np.float32)
    low, high = limits(dtype)

    def error(column: list[float], scale: np.float32) -> Fraction:
        step = Fraction(float(scale))
        codes = [min(max(round(Fraction(one) / step), low), high) for one in column]
        return sum(((code * step - Fraction(one)) ** 2 for code, one in zip(codes, column, strict=True)), Fraction(0))

    for column, scale in zip(matrix.T if per_channel else [matrix.ravel()], np.atleast_1d(found), strict=True):
        whole = np.float32(np.abs(column).max() / high)
        tried = [whole * np.float32(share) for share in np.linspace(1, smallest, 61)]
        errors = [error(column.tolist(), one) for one in tried]
        assert error(column.tolist(), scale) <= min(errors) * (1 + Fraction(1, 10**12))
        assert scale in tried
        if dtype == "int2":
            assert min(errors) < errors[0]  # clipping pays


def test_a_channel_of_zeros_is_refused_where_it_has_a_scale_of_its_own() -> None:
    matrix = MATRIX * [1, 0]
    with pytest.raises(QuantizationError, match=r"an output channel are all zero: .* found channel 1, .*check the mod"):
        weight_scales(matrix, "int8", per_channel=True, searched=True)
    assert weight_scales(matrix, "int8", per_channel=False, searched=False) == np.float32(1 / 127)
    with pytest.raises(QuantizationError, match="all zero"):
        weight_scales(matrix * 0, "int8", per_channel=False, searched=True)


def test_ranges_of_many_numbers_are_finite() -> None:
    """The bins of numbers near the least and the greatest float32 are still multiples of one width."""
    for size in (1e-30, 1e30):
        values = (np.random.default_rng(8).normal(0, 1, 1000) * size).astype(np.float32)
        grid = activation_grid("a", values, "uint8", "mse")
        assert math.isclose(float(grid.scale), size * 6 / 255, rel_tol=0.5)
