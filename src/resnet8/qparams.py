"""The arithmetic of quantization: scales, zero points, rounding, saturation, requantization.

Affine quantization (Jacob et al. 2018, arXiv:1712.05877, eq. 1; ONNX operators QuantizeLinear and DequantizeLinear):
``real = scale * (code - zero_point)``, and back ``code = saturate(round_half_even(real / scale) + zero_point)``.

Requantization brings an integer accumulator to the codes of the next tensor (eq. 3 to 5 there):
``code = saturate(round(M * accumulator) + zero_point)`` where ``M = scale_a * scale_b / scale_out`` is a real number.
Hardware has no real numbers: it multiplies by an integer and shifts right, ``M ~ multiplier * 2**-shift``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from resnet8.errors import QuantizationError
from resnet8.variants import FIXED_BITS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from resnet8.variants import Multiplier, Rounding

Dtype = str
"""An integer type of any width: ``int8``, ``uint8``, ``int32``, ``int4``, ``uint3`` and so on, 1 to 32 bits."""

_INTEGER = re.compile(r"(u?)int(\d+)")
_MAX_BITS = 32
_MAX_SHIFT = 62


def limits(dtype: str) -> tuple[int, int]:
    """``(qmin, qmax)``, the least and greatest code of ``dtype``.

    Raises:
        ValueError: when it is no integer type.
    """
    return _limits(dtype)


@cache
def _limits(dtype: str) -> tuple[int, int]:
    bits = width(dtype)
    return (0, 2**bits - 1) if dtype.startswith("u") else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


def width(dtype: str) -> int:
    """The bits of a code of ``dtype``.

    Raises:
        ValueError: when it is no integer type.
    """
    if (match := _INTEGER.fullmatch(dtype)) is None or not 1 <= (bits := int(match[2])) <= _MAX_BITS:
        raise ValueError(f"{dtype} is no integer type of 1 to {_MAX_BITS} bits")
    return bits


def of_width(dtype: str, bits: int) -> str:
    """The type of ``bits`` bits that has a sign if ``dtype`` has one: ``of_width("uint8", 4)`` is ``uint4``."""
    return f"{'u' if dtype.startswith('u') else ''}int{bits}"


@dataclass(frozen=True, eq=False)
class QParams:
    """Scale and zero point of one tensor.

    Attributes:
        scale: float32, 0-d for the whole tensor or (C,) for its channels; finite and above 0.
        zero_point: int32 of the same shape, codes of ``dtype``: the code of real 0.
        dtype: Data type of the codes.

    Raises:
        QuantizationError: when scale or zero point make no sense.
    """

    scale: NDArray[np.float32]
    zero_point: NDArray[np.int32]
    dtype: Dtype

    def __post_init__(self) -> None:
        qmin, qmax = limits(self.dtype)
        _require_positive("a scale", self.scale)
        if not ((self.zero_point >= qmin) & (self.zero_point <= qmax)).all():
            outside = self.zero_point[(self.zero_point < qmin) | (self.zero_point > qmax)]
            raise QuantizationError(
                "a zero point is out of range",
                found=str(outside.flat[0]),
                expected=f"a code of {self.dtype}: {qmin} to {qmax}",
                remedy="give a zero point that is a code",
            )
        if self.scale.shape != self.zero_point.shape:
            raise QuantizationError(
                "scale and zero point do not belong together",
                found=f"shapes {self.scale.shape} and {self.zero_point.shape}",
                expected="one zero point for each scale",
                remedy="give both for the tensor, or both for each channel",
            )

    @property
    def per_channel(self) -> bool:
        """Whether each channel has a scale of its own."""
        return self.scale.ndim > 0

    def same_as(self, other: QParams) -> bool:
        """Whether codes of both mean the same."""
        return (
            self.dtype == other.dtype
            and np.array_equal(self.scale, other.scale)
            and np.array_equal(self.zero_point, other.zero_point)
        )


def qparams(scale: float, zero_point: int, dtype: Dtype) -> QParams:
    """The :class:`QParams` of a whole tensor; ``scale`` is rounded to float32."""
    return QParams(np.asarray(scale, np.float32), np.asarray(zero_point, np.int32), dtype)


def choose(low: float, high: float, dtype: Dtype, *, symmetric: bool = False) -> QParams:
    """Scale and zero point that cover the reals from ``low`` to ``high``, and always 0 (so that padding is exact).

    Asymmetric: ``scale = (high - low) / (qmax - qmin)``. Symmetric: zero point 0 for int8 and 128 for uint8, the larger
    magnitude at 127 steps. A range without width gets scale 1.

    Raises:
        QuantizationError: when the range is not finite or upside down.
    """
    if not (np.isfinite(low) and np.isfinite(high) and low <= high):
        raise QuantizationError(
            "a range makes no sense",
            found=f"{low} to {high}",
            expected="low <= high, finite",
            remedy="calibrate with data that has no NaN or infinity",
        )
    qmin, qmax = limits(dtype)
    low, high = min(low, 0.0), max(high, 0.0)
    if symmetric:
        scale = np.float32(max(-low, high) / 127)
        return qparams(float(scale) if scale > 0 else 1.0, (qmin + qmax + 1) // 2, dtype)
    scale = np.float32((high - low) / (qmax - qmin))
    if scale == 0:
        return qparams(1.0, qmin, dtype)
    return qparams(float(scale), int(np.clip(round(qmin - low / float(scale)), qmin, qmax)), dtype)


def storage(dtype: str) -> np.dtype[Any]:
    """The NumPy type that holds codes of ``dtype``: int8 or uint8 for up to eight bits."""
    return np.dtype(of_width(dtype, next(bits for bits in (8, 16, 32) if bits >= width(dtype))))


def quantize(real: NDArray[np.floating[Any]], params: QParams, axis: int = -1) -> NDArray[Any]:
    """Codes of ``real`` as QuantizeLinear defines them: divide in float32, round half to even, add the zero, saturate.

    Args:
        real: float32, any shape.
        params: Of the result; per-channel parameters run along ``axis``.
        axis: The channel axis.
    """
    scale, zero_point = _along(params.scale, real.ndim, axis), _along(params.zero_point, real.ndim, axis)
    return saturate(np.rint(np.asarray(real, np.float32) / scale) + zero_point, params.dtype)


def dequantize(codes: NDArray[Any], params: QParams, axis: int = -1) -> NDArray[np.float32]:
    """Reals of ``codes`` as DequantizeLinear defines them: ``(code - zero_point) * scale`` in float32."""
    scale, zero_point = _along(params.scale, codes.ndim, axis), _along(params.zero_point, codes.ndim, axis)
    real: NDArray[np.float32] = (codes.astype(np.int32) - zero_point).astype(np.float32) * scale
    return real


def saturate(values: NDArray[Any], dtype: str, low: int | None = None) -> NDArray[Any]:
    """``values``, whole numbers in any type, clipped to ``dtype`` (from ``low`` upwards, for a fused ReLU)."""
    qmin, qmax = limits(dtype)
    clipped: NDArray[Any] = np.clip(values, qmin if low is None else max(low, qmin), qmax)
    return clipped.astype(storage(dtype))


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
    _require_positive("a multiplier", real)
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


def _require_positive(what: str, values: NDArray[Any]) -> None:
    wrong = values[~(np.isfinite(values) & (values > 0))]
    if wrong.size:
        raise QuantizationError(
            f"{what} makes no sense",
            found=str(wrong.flat[0]),
            expected="finite and greater than 0",
            remedy="quantize with scales that are positive numbers",
        )


def _along(values: NDArray[Any], ndim: int, axis: int) -> NDArray[Any]:
    if values.ndim == 0:
        return values
    shape = [1] * ndim
    shape[axis] = -1
    return values.reshape(shape)
