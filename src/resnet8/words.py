"""Numbers, sizes, shapes and grids in words: one spelling for tables, pictures and pages."""

from __future__ import annotations

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


def p_value(value: float) -> str:
    """A p-value to three decimals, or that it is below."""
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def shape(axes: tuple[int | str, ...]) -> str:
    """Lengths of the axes with multiplication signs between them."""
    return "×".join(map(str, axes))


def scale(value: float | tuple[float, ...]) -> str:
    """A scale to four digits; the least and greatest of the channels' to three."""
    if isinstance(value, tuple):
        return f"{min(value):.3g} … {max(value):.3g} per channel"
    return f"{value:.4g}"


def grid(scales: float | tuple[float, ...], zero_points: int | tuple[int, ...]) -> str:
    """``s 0.05, z 128``: scale and zero point, the extremes where each channel has its own."""
    zeros = zero_points if isinstance(zero_points, tuple) else (zero_points,)
    ends = (_signed(zero) for zero in sorted({min(zeros), max(zeros)}))
    return f"s {scale(scales)}, z {' … '.join(ends)}"


def _signed(number: int) -> str:
    """With a true minus sign, at which no renderer breaks a line."""
    return str(number).replace("-", "−")
