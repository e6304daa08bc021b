"""Where codes change, against the rounding of every single product in rational arithmetic."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from roundings import rounded

from resnet8.numeric.steps import exact_stairs, searched_stairs
from resnet8.numeric.variants import ROUNDINGS, Rounding

MULTIPLIERS = (Fraction(1, 2), Fraction(1, 4), Fraction(3, 8), Fraction(7, 5), Fraction(1), Fraction(10_000_019, 2**27))


@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("multiplier", MULTIPLIERS, ids=str)
@pytest.mark.parametrize("zero", [-7, 0, 5])
def test_every_number_is_on_the_side_of_each_step_that_its_product_is_on(
    multiplier: Fraction, rounding: Rounding, zero: int
) -> None:
    codes = range(-20, 21)
    stairs = exact_stairs(multiplier, zero, codes, rounding)
    for n in range(-400, 401):
        code = rounded(multiplier * n, rounding) + zero
        assert [n >= step for step in stairs] == [code >= one for one in codes]


def test_steps_are_found_in_whatever_never_decreases() -> None:
    rng = np.random.default_rng(4)
    table = np.sort(rng.integers(0, 9, (3, 50)), axis=1)
    low = np.array([-10, 0, 20])
    codes = range(1, 9)

    def rule(n: np.ndarray) -> np.ndarray:
        return table[np.arange(3), np.clip(n - low, 0, 49)]

    found = searched_stairs(rule, low, low + 49, codes)
    for channel in range(3):
        for row, code in enumerate(codes):
            reached = np.flatnonzero(table[channel] >= code)
            assert found[row, channel] == low[channel] + (reached[0] if len(reached) else 50)


def test_a_rule_is_asked_within_its_range_only() -> None:
    asked: list[int] = []

    def rule(n: np.ndarray) -> np.ndarray:
        asked.extend(n.ravel().tolist())
        return np.zeros_like(n)

    assert searched_stairs(rule, np.array([5]), np.array([9]), range(1, 3)).tolist() == [[10], [10]]
    assert (min(asked), max(asked)) == (7, 9)
