"""Rounding and requantization, in real numbers and in fixed point.

Requantization brings an integer accumulator to the codes of the next tensor (Jacob et al. 2018, arXiv:1712.05877,
eq. 3 to 5): ``code = saturate(round(M * accumulator) + zero_point)``, ``M = scale_a * scale_b / scale_out``, a real
number. Hardware has no real numbers: it multiplies by an integer and shifts right, ``M ~ multiplier * 2**-shift``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from resnet8.errors import QuantizationError
from resnet8.numeric.grid import require_positive
from resnet8.numeric.variants import FIXED_BITS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from resnet8.numeric.variants import Multiplier, Rounding

_MAX_SHIFT = 62


def round_real(values: NDArray[np.floating[Any]], rounding: Rounding) -> NDArray[np.floating[Any]]:
    """``values`` rounded to whole numbers, in their own type.

    ``half-even`` is IEEE 754's default; ``half-away`` is C's ``round``; ``half-up`` adds a half and drops the fraction;
    ``truncate`` drops the bits behind the point of a two's complement number, which is rounding down.
    """
    if rounding == "half-even":
        even: NDArray[np.floating[Any]] = np.rint(values)
        return even
    if rounding == "half-away":
        whole: NDArray[np.floating[Any]] = np.copysign(round_real(np.abs(values), "half-up"), values)
        return whole
    down: NDArray[np.floating[Any]] = np.floor(values)
    if rounding == "truncate":
        return down
    # Adding a half would round; the fraction is exact, but just below 0, where it is more than a half anyway.
    down += values - down >= 0.5
    return down


def round_shift(values: NDArray[np.int64], shift: int | NDArray[np.int64], rounding: Rounding) -> NDArray[np.int64]:
    """``values * 2**-shift`` rounded to whole numbers, in 64-bit integers only; ``shift`` from 0 to 62, broadcast.

    The same rounding as :func:`round_real` on the exact quotient. ``|values|`` must stay below ``2**62``.
    """
    bits = np.asarray(shift, np.int64)
    half = (np.int64(1) << bits) >> 1
    if rounding == "truncate":
        return values >> bits
    if rounding == "half-up":
        return (values + half) >> bits
    if rounding == "half-away":
        return (values + half - ((values < 0) & (bits > 0))) >> bits
    # A little less than a half is added to an even quotient, a half to an odd one: only ties tell the difference.
    odd: NDArray[np.int64] = (values >> bits) & (bits > 0)
    odd += values
    odd += np.maximum(half - 1, 0)
    odd >>= bits
    return odd


@dataclass(frozen=True, eq=False)
class FixedPoint:
    """Real multipliers as integers over a power of two: ``multiplier * 2**-shift``.

    Attributes:
        multiplier: int64, 0-d or one for each channel; below ``2**31``; at least 1, but 0 for an addend that vanishes.
        shift: int64 of the same shape, 0 to 62 bits to the right.
    """

    multiplier: NDArray[np.int64]
    shift: NDArray[np.int64]

    @property
    def real(self) -> NDArray[np.float64]:
        """What they multiply by; exact in float64."""
        return np.ldexp(self.multiplier.astype(np.float64), -self.shift)


def fixed_point(real: NDArray[np.float64], kind: Multiplier) -> FixedPoint:
    """The fixed-point form of real multipliers: each normalized, so that its top bit is used.

    ``fixedB`` has a signed B-bit multiplier (``2**(B-2) <= multiplier < 2**(B-1)``), rounded half to even;
    ``power-of-two`` has one bit, the power nearest on the logarithmic scale.

    Args:
        real: float64, positive.
        kind: Any :data:`Multiplier` but ``float32``.

    Raises:
        QuantizationError: when a multiplier cannot be written so (not positive, or out of the range of the shift).
    """
    real = np.asarray(real, np.float64)
    require_positive("a multiplier", real)
    if kind == "power-of-two":
        exponent = np.rint(np.log2(real)).astype(np.int64)
        shift = np.maximum(-exponent, 0)
        multiplier = np.int64(1) << np.clip(exponent, 0, _MAX_SHIFT)
    else:
        bits = FIXED_BITS[kind] - 1
        fraction, exponent_ = np.frexp(real)
        shift = bits - exponent_.astype(np.int64)
        multiplier = np.rint(np.ldexp(fraction, bits)).astype(np.int64)
        full = multiplier == 1 << bits  # 0.111...1 rounded up to 1.0
        multiplier, shift = np.where(full, multiplier >> 1, multiplier), np.where(full, shift - 1, shift)
        # Multipliers of one and more need fewer bits behind the point than there are; then the point moves right.
        shift, multiplier = np.maximum(shift, 0), np.where(shift < 0, multiplier << np.maximum(-shift, 0), multiplier)
    return _checked(real, multiplier, shift)


def fixed_point_pair(
    real: tuple[NDArray[np.float64], NDArray[np.float64]], kind: Multiplier
) -> tuple[FixedPoint, FixedPoint]:
    """Two multipliers with one shift: for sums before one rounding.

    The larger multiplier is normalized as in :func:`fixed_point`; the smaller keeps the bits that are left, which may
    be none: then it is 0, and its addend vanishes. With powers of two each is one bit, the shift the larger of both.

    Raises:
        QuantizationError: as :func:`fixed_point`.
    """
    one, other = (fixed_point(value, kind) for value in real)
    if kind == "power-of-two":
        shift = np.maximum(one.shift, other.shift)
        return tuple(  # type: ignore[return-value]
            _checked(value, part.multiplier << np.minimum(shift - part.shift, 32), shift, least=0)  # 32: refused there
            for value, part in zip(real, (one, other), strict=True)
        )
    shift = np.minimum(one.shift, other.shift)
    return tuple(  # type: ignore[return-value]
        _checked(value, np.rint(np.ldexp(np.asarray(value, np.float64), shift)).astype(np.int64), shift, least=0)
        for value in real
    )


def _checked(
    real: NDArray[np.float64], multiplier: NDArray[np.int64], shift: NDArray[np.int64], least: int = 1
) -> FixedPoint:
    if (shift > _MAX_SHIFT).any() or (multiplier >= 2**31).any() or (multiplier < least).any():
        raise QuantizationError(
            "a multiplier does not fit fixed point",
            found=f"{np.asarray(real).min():.3g} to {np.asarray(real).max():.3g}",
            expected=f"multiplier * 2**-shift, multiplier 1 to 2**31 - 1, shift 0 to {_MAX_SHIFT}",
            remedy="use a wider multiplier, or other scales",
        )
    return FixedPoint(np.asarray(multiplier, np.int64), np.asarray(shift, np.int64))
