"""How well the codes of a tensor are used, what its grid cannot hold, and what its numbers are like."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from resnet8.numeric.grid import limits as code_limits

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from resnet8.numeric.grid import QParams


@dataclass(frozen=True)
class Use:
    """How the codes of a tensor are used.

    Attributes:
        total: Elements.
        at_lowest: Elements with the least code, and
        at_highest: with the greatest. What was out of range is among them; :func:`clipped` counts that, of the reals.
        used: Different codes that occur, and
        unused: that do not.
    """

    total: int
    at_lowest: int
    at_highest: int
    used: int
    unused: int

    @property
    def at_ends(self) -> float:
        """Share of the elements at either end, 0 to 1."""
        return (self.at_lowest + self.at_highest) / self.total if self.total else 0.0

    def __str__(self) -> str:
        """``4,096 numbers · 200 of 256 codes occur``."""
        return f"{self.total:,} numbers · {self.used} of {self.used + self.unused} codes occur"


def use(codes: NDArray[Any], limits: tuple[int, int]) -> Use:
    """How ``codes``, any shape, use the codes from the least to the greatest of ``limits``."""
    (low, high), used = limits, len(np.unique(codes))
    return Use(int(codes.size), int((codes == low).sum()), int((codes == high).sum()), used, high - low + 1 - used)


def code_counts(codes: NDArray[Any], limits: tuple[int, int]) -> NDArray[np.int64]:
    """How often each code occurs, int64 (greatest - least + 1), from the least of ``limits`` on."""
    low, high = limits
    counts: NDArray[np.int64] = np.bincount(codes.reshape(-1).astype(np.int64) - low, minlength=high - low + 1)
    return counts


# What a grid cannot hold


def clipped(reals: NDArray[np.float32], grid: QParams) -> int:
    """How many of ``reals`` a grid cannot hold: rounded half to even, their codes lie beyond its least or greatest one.

    Args:
        reals: float32, any shape; (..., channels) for a grid with a scale for each channel.
        grid: What they are quantized on.
    """
    low, high = _beyond(grid)
    return int(np.count_nonzero(reals <= low)) + int(np.count_nonzero(reals >= high))


@lru_cache(maxsize=256)
def _beyond(grid: QParams) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The greatest real below, and the least above, what ``grid`` holds; float32, of the shape of its scale."""
    (least, greatest), zero = code_limits(grid.dtype), grid.zero_point.astype(np.int64)
    return -_first_beyond(grid.scale, zero - least), _first_beyond(grid.scale, greatest - zero)


def _first_beyond(scale: NDArray[np.float32], codes: NDArray[np.int64]) -> NDArray[np.float32]:
    """The least positive float32 that is rounded to more than ``codes`` steps of ``scale``; infinity if none is.

    As :func:`resnet8.numeric.grid.quantize` does it: divided in float32, rounded half to even. Neither makes a greater
    number of a lesser one, so there is one border; it is a few float32 numbers from ``(codes + 1/2) * scale``.
    """

    def beyond(real: NDArray[np.float32]) -> NDArray[np.bool_]:
        return np.asarray(np.rint(real / scale) > codes)

    nothing, infinity = np.float32(0), np.float32(np.inf)
    with np.errstate(over="ignore", under="ignore"):  # too large for float32 is beyond
        first = np.asarray((codes.astype(np.float64) + 0.5) * scale, np.float32)
        while not (found := beyond(first)).all():
            first = np.where(found, first, np.nextafter(first, infinity))
        while (found := beyond(less := np.nextafter(first, nothing))).any():
            first = np.where(found, less, first)
    return first


# What numbers are like


@dataclass(frozen=True)
class Statistics:
    """What the numbers of a tensor are like: weights or biases, reals or codes; nan where there are none.

    Attributes:
        count: How many there are.
        least: The least one.
        greatest: The greatest one.
        mean: Their mean.
        deviation: Their standard deviation, of all that there are (of a population: divided by ``count``).
    """

    count: int
    least: float
    greatest: float
    mean: float
    deviation: float

    @classmethod
    def of(cls, values: NDArray[Any]) -> Self:
        """Of ``values``, any shape and number type; computed in float64."""
        if not values.size:
            return cls(0, *[float("nan")] * 4)
        whole = values.astype(np.float64)
        return cls(whole.size, float(whole.min()), float(whole.max()), float(whole.mean()), float(whole.std()))
