"""What each rounding means, case by case: an oracle in rational arithmetic."""

from __future__ import annotations

from fractions import Fraction
from math import floor


def rounded(value: Fraction, rounding: str) -> int:
    down, half = floor(value), Fraction(1, 2)
    if rounding == "truncate" or value - down < half:
        return down
    if value - down > half:
        return down + 1
    return {"half-up": down + 1, "half-away": down + (value > 0), "half-even": down + down % 2}[rounding]
