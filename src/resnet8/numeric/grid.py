"""Grids: which integers stand for which real numbers. Scales, zero points, saturation.

Affine quantization (Jacob et al. 2018, arXiv:1712.05877, eq. 1; ONNX operators QuantizeLinear and DequantizeLinear):
``real = scale * (code - zero_point)``, and back ``code = saturate(round_half_even(real / scale) + zero_point)``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from resnet8.errors import QuantizationError

if TYPE_CHECKING:
    from numpy.typing import NDArray


Dtype = str
"""An integer type of any width: ``int8``, ``uint8``, ``int32``, ``int4``, ``uint3`` and so on, 1 to 32 bits."""

_INTEGER = re.compile(r"(u?)int(\d+)")
_MAX_BITS = 32


@cache
def limits(dtype: str) -> tuple[int, int]:
    """``(qmin, qmax)``, the least and greatest code of ``dtype``.

    Raises:
        ValueError: when it is no integer type.
    """
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


def signed_bits(low: int, high: int) -> int:
    """The width of the narrowest two's complement number that holds ``low`` and ``high``."""
    return 1 + max(high.bit_length() if high >= 0 else 0, (~low).bit_length() if low < 0 else 0)


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
        require_positive("a scale", self.scale)
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


def require_positive(what: str, values: NDArray[Any]) -> None:
    """Refuse ``values`` of ``what`` (a noun with its article, for the message) unless all are finite and above 0.

    Raises:
        QuantizationError: when one is not.
    """
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
