"""How well the codes of a tensor are used."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Use:
    """How the codes of a tensor are used.

    Attributes:
        total: Elements.
        at_lowest: Elements with the least code, and
        at_highest: with the greatest: what was out of range is among them.
        used: Different codes that occur, and
        unused: that do not.
    """

    total: int
    at_lowest: int
    at_highest: int
    used: int
    unused: int

    @property
    def clipped(self) -> float:
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
