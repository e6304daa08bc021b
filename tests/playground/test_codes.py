"""How codes are counted, and what no code stands for."""

from __future__ import annotations

import math
import statistics
from typing import Any

import numpy as np
import pytest

from resnet8.numeric.grid import QParams, limits, qparams
from resnet8.playground.codes import Statistics, clipped, code_counts, use


def test_use_of_codes_counts_ends_and_gaps() -> None:
    codes = np.array([[-8, -8, 7], [0, 1, 0]], np.int8)
    found = use(codes, (-8, 7))
    assert (found.total, found.at_lowest, found.at_highest, found.used, found.unused) == (6, 2, 1, 4, 12)
    assert found.at_ends == 0.5
    counts = code_counts(codes, (-8, 7))
    assert counts.tolist() == [2, 0, 0, 0, 0, 0, 0, 0, 2, 1, 0, 0, 0, 0, 0, 1]
    assert use(codes[:0], (-8, 7)).at_ends == 0
    assert code_counts(np.array([0, 255, 255], np.uint8), (0, 255))[[0, 255]].tolist() == [1, 2]


def test_accumulators_are_counted_among_billions() -> None:
    found = use(np.array([-(2**31), -5, 7, 7], np.int32), (-(2**31), 2**31 - 1))
    assert (found.at_lowest, found.at_highest, found.used, found.unused) == (1, 0, 3, 2**32 - 3)


# --- clipped ---


def reals(*values: Any) -> Any:
    return np.array(values, np.float32)


def neighbours(value: float) -> Any:
    """The float32 numbers just below, at and just above ``value``."""
    at = np.float32(value)
    return reals(np.nextafter(at, np.float32(-np.inf)), at, np.nextafter(at, np.float32(np.inf)))


@pytest.mark.parametrize(
    ("grid", "tie", "beyond"),
    [
        # 127 is odd: the tie above it is rounded to 128. -128 is even: so is the tie below it, which stays.
        (qparams(0.5, 0, "int8"), 63.75, [False, True, True]),
        (qparams(0.5, 0, "int8"), -64.25, [True, False, False]),
        # 255 - 3 and 0 - 3 steps from the zero point: the first is even, the second odd.
        (qparams(0.5, 3, "uint8"), 126.25, [False, False, True]),
        (qparams(0.5, 3, "uint8"), -1.75, [True, True, False]),
        (qparams(2, -8, "int4"), 31, [False, True, True]),
        (qparams(2, -8, "int4"), -1, [True, False, False]),
    ],
)
def test_a_tie_at_the_end_of_a_grid_is_clipped_as_it_is_rounded(grid: QParams, tie: float, beyond: list[bool]) -> None:
    assert [clipped(one, grid) == 1 for one in neighbours(tie)] == beyond


def test_the_extreme_codes_themselves_are_not_clipped() -> None:
    grid = qparams(0.5, 0, "int8")
    assert clipped(reals(63.5, 63.7, -64, -64.2, 0), grid) == 0
    assert clipped(reals(63.5, 64, -64.5, -70, np.inf), grid) == 4
    assert clipped(reals(), grid) == 0


def counted(values: Any, grid: QParams) -> int:
    """By the definition: divided in float32, rounded half to even, not saturated."""
    low, high = limits(grid.dtype)
    with np.errstate(over="ignore", under="ignore"):
        codes = np.rint(values / grid.scale).astype(np.float64) + grid.zero_point
    return int(((codes < low) | (codes > high)).sum())


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int2", "uint5", "int16", "int32"])
def test_what_is_clipped_is_what_rounding_puts_beyond_the_grid(dtype: str) -> None:
    rng = np.random.default_rng(3)
    low, high = limits(dtype)
    found = set()
    for _ in range(200):
        grid = qparams(float(np.exp(rng.uniform(-12, 6))), int(rng.integers(low, high + 1)), dtype)
        ends = [(end - int(grid.zero_point)) * float(grid.scale) for end in (low - 0.5, high + 0.5)]
        steps = np.arange(-300, 300)
        near = np.concatenate([np.float32(end) + steps * np.spacing(np.float32(end)) for end in ends])
        values = np.concatenate([near, rng.normal(0, 2 * ends[1], 50)]).astype(np.float32)
        assert clipped(values, grid) == counted(values, grid)
        found |= {clipped(one, grid) for one in values[:, None]}
    assert found == {0, 1}


def test_scales_at_the_limits_of_float32() -> None:
    largest, least = np.finfo(np.float32).max, np.finfo(np.float32).smallest_subnormal
    assert clipped(reals(largest, -largest, np.inf, -np.inf), qparams(float(largest) / 100, 0, "int8")) == 2
    assert clipped(np.arange(-200, 200).astype(np.float32) * least, qparams(float(least), 0, "int8")) == 72 + 72
    assert clipped(reals(largest, 1), qparams(float(least), 0, "int8")) == 2


def test_each_channel_is_clipped_by_its_own_grid() -> None:
    scales, zeros = np.array([1, 0.5, 2], np.float32), np.array([0, 1, -1], np.int32)
    values = np.array([[7.5, 3.2, 17], [-8.5, -4.7, -15.1], [8, 8, 18], [-8, -8, -8]], np.float32)
    beyond = [[True, False, False], [False, False, True], [True, True, True], [False, True, False]]
    grids = [qparams(float(scale), int(zero), "int4") for scale, zero in zip(scales, zeros, strict=True)]
    alone = [[clipped(one[at : at + 1], grid) == 1 for at, grid in enumerate(grids)] for one in values]
    assert alone == beyond
    assert clipped(values, QParams(scales, zeros, "int4")) == 6
    assert clipped(values.reshape(2, 1, 2, 3), QParams(scales, zeros, "int4")) == 6


# --- statistics ---


@pytest.mark.parametrize(
    "values",
    [
        np.random.default_rng(1).normal(3, 0.01, (3, 3, 4, 5)).astype(np.float32),
        np.array([-128, -128, 127, 5], np.int8),
        np.array([2**31 - 1, -(2**31), 7], np.int32),
        np.array([0.25], np.float32),
    ],
)
def test_statistics_are_those_of_all_numbers_there_are(values: Any) -> None:
    found, plain = Statistics.of(values), [float(one) for one in values.reshape(-1)]
    assert (found.count, found.least, found.greatest) == (len(plain), min(plain), max(plain))
    assert found.mean == pytest.approx(statistics.fmean(plain), rel=1e-12)
    assert found.deviation == pytest.approx(statistics.pstdev(plain), rel=1e-12)


def test_no_numbers_have_no_statistics() -> None:
    found = Statistics.of(np.zeros((0, 3), np.float32))
    assert found.count == 0
    assert all(math.isnan(one) for one in (found.least, found.greatest, found.mean, found.deviation))
