"""Numbers, sizes, shapes and grids in words: one spelling for tables, pictures and pages."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

NONE = "–"
"""In place of what a row does not have."""


GRID = "real = s · (code − z)"
"""What the letters of :func:`grid` mean."""


def percent(fraction: float) -> str:
    """A fraction as per cent with two decimals."""
    return f"{100 * fraction:.2f} %"


def kilobytes(size: int) -> str:
    """A size in KB of 1,024 bytes, as the published sizes are."""
    return f"{size / 1024:.1f} KB"


def times(factor: float) -> str:
    """A factor with the multiplication sign before it."""
    return f"× {factor:g}"


def exact(value: ArrayLike) -> str:
    """The shortest decimal number that is read as this float32 and no other: ``0.3``, not 0.300000012."""
    return str(np.asarray(value, np.float32)[()])


def p_value(value: float) -> str:
    """A p-value to three decimals, or that it is below."""
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def shape(axes: tuple[int | str, ...]) -> str:
    """Lengths of the axes with multiplication signs between them."""
    return "×".join(map(str, axes))


def scale(value: ArrayLike) -> str:
    """A scale to four digits; the least and greatest of the channels' to three."""
    scales = np.asarray(value)
    if scales.ndim:
        return f"{scales.min():.3g} … {scales.max():.3g} per channel"
    return f"{scales.item():.4g}"


def grid(scales: ArrayLike, zero_points: ArrayLike) -> str:
    """``s 0.05, z 128``: scale and zero point, the extremes where each channel has its own."""
    return f"s {scale(scales)}, z {zeros(zero_points)}"


def zeros(zero_points: ArrayLike) -> str:
    """A zero point; the least and greatest where the channels have different ones."""
    # With a true minus sign, at which no renderer breaks a line.
    ends = (str(zero).replace("-", "−") for zero in np.unique(zero_points)[[0, -1]])
    return " … ".join(dict.fromkeys(ends))
