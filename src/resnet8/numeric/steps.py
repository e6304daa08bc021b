"""Requantization as a staircase: at which accumulators the code changes, exactly.

``clamp(round(M * n) + zero)`` with ``M > 0`` never decreases in ``n``. So it is known for every whole ``n``, however
many there are, by the least ``n`` that reaches each code.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable
    from fractions import Fraction

    from numpy.typing import NDArray

    from resnet8.numeric.variants import Rounding


def exact_stairs(multiplier: Fraction, zero_point: int, codes: range, rounding: Rounding) -> list[int]:
    """The least whole ``n`` with ``round(multiplier * n) + zero_point >= code``, for each of ``codes``; exact.

    Let ``q = code - zero_point``. Rounding to nearest gives ``q`` or more from ``multiplier * n = q - 1/2`` on, that
    point included only if the tie goes up: always (``half-up``), to an even ``q`` (``half-even``), away from 0
    (``half-away``: ``q - 1/2 > 0``). Rounding down gives ``q`` or more from ``multiplier * n = q`` on.

    Args:
        multiplier: Above 0.
        zero_point: Of the codes.
        codes: Without the least, which every ``n`` reaches.
        rounding: How products become whole.
    """
    found = []
    over, under = multiplier.numerator, multiplier.denominator
    for code in codes:
        q = code - zero_point
        if rounding == "truncate":
            found.append(-(-q * under // over))
            continue
        up = rounding == "half-up" or (q % 2 == 0 if rounding == "half-even" else q > 0)
        border, whole = (2 * q - 1) * under, 2 * over
        found.append(-(-border // whole) if up else border // whole + 1)
    return found


def searched_stairs(
    rule: Callable[[NDArray[np.int64]], NDArray[np.integer]],
    low: NDArray[np.int64],
    high: NDArray[np.int64],
    codes: range,
) -> NDArray[np.int64]:
    """The least whole ``n`` in ``low … high`` with ``rule(n) >= code``, int64 (codes, channels); ``high + 1`` for none.

    By bisection: ``rule`` is asked where it matters, and must not decrease.

    Args:
        rule: From ``n``, (codes, channels), to codes of the same shape.
        low: (channels,).
        high: (channels,).
        codes: As in :func:`exact_stairs`.
    """
    wanted = np.array(codes, np.int64).reshape(-1, 1)
    first = np.broadcast_to(low, (len(codes), len(low))).copy()
    last = np.broadcast_to(high + 1, first.shape).copy()
    while (open_ := first < last).any():
        middle = (first + last) >> 1
        reached = rule(middle) >= wanted
        last = np.where(open_ & reached, middle, last)
        first = np.where(open_ & ~reached, middle + 1, first)
    return first
