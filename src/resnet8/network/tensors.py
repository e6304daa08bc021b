"""Tensors: with a grid they hold codes, without one real numbers. NHWC without the batch axis."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from resnet8.errors import QuantizationError
from resnet8.numeric.grid import QParams, dequantize, limits, storage

if TYPE_CHECKING:
    from numpy.typing import NDArray


ACCUMULATORS = "int32"
"""The data type of class scores that are not quantized: the accumulators themselves are the codes."""


class _OnGrid:
    """What has a grid, or none.

    Attributes:
        name: In the file.
        grid: Scale and zero point; none of real numbers.
    """

    name: str
    grid: QParams | None

    @property
    def params(self) -> QParams:
        """The grid.

        Raises:
            TypeError: when there is none.
        """
        if self.grid is None:
            raise TypeError(f"{self.name} holds real numbers: it has no grid")
        return self.grid

    @property
    def dtype(self) -> str:
        """What it lies in memory as: ``float32``, or the type that holds the codes (int4 lies as ``int8``)."""
        return "float32" if self.grid is None else storage(self.grid.dtype).name

    @property
    def scale(self) -> np.float32:
        """The scale."""
        return np.float32(self.params.scale)

    @property
    def zero_point(self) -> int:
        """The zero point."""
        return int(self.params.zero_point)

    @property
    def facts(self) -> dict[str, Any]:
        """What records say of codes on one grid: ``dtype``, ``scale`` and ``zero_point``, Python's own values."""
        return {"dtype": self.params.dtype, "scale": float(self.scale), "zero_point": self.zero_point}


@dataclass(frozen=True)
class Activation(_OnGrid):
    """A tensor that is computed.

    Attributes:
        name: Of the tensor in the graph.
        shape: Without the batch axis, NHWC.
        grid: Scale and zero point, always one for the whole tensor; none of real numbers.
        nchw: Whether the graph holds it as (channels, height, width).
    """

    name: str
    shape: tuple[int, ...]
    grid: QParams | None
    nchw: bool = False

    @property
    def accumulated(self) -> bool:
        """Whether its codes are accumulators: a file holds them as real numbers, and quantizes them nowhere."""
        return self.grid is not None and self.grid.dtype == ACCUMULATORS

    @property
    def codes_from_zero(self) -> tuple[int, int]:
        """Least and greatest value of ``code - zero_point``."""
        low, high = limits(self.params.dtype)
        return low - self.zero_point, high - self.zero_point


@dataclass(frozen=True)
class Constant(_OnGrid):
    """What stands in the file: codes, or, without a grid, float32 numbers.

    One that is added to or multiplied by an activation is broadcast to its last axes.
    """

    name: str
    codes: NDArray[Any]
    grid: QParams | None

    @property
    def shape(self) -> tuple[int, ...]:
        """Weights (kernel rows, kernel columns, channels in, channels out); what is added or multiplied (channels,)."""
        return self.codes.shape

    @property
    def columns(self) -> NDArray[Any]:
        """The codes as a matrix of one column for each channel out; rows in order of kernel row, column, channel in."""
        return self.codes.reshape(-1, self.shape[-1])

    @property
    def real(self) -> NDArray[np.float32]:
        """The numbers, float32."""
        return self.codes if self.grid is None else dequantize(self.codes, self.grid)


def accumulator_step(x: Activation, weights: QParams) -> NDArray[np.float64]:
    """What a step of an accumulator stands for: ``scale_x * scale_w`` in float64, 0-d or (channels out)."""
    return np.asarray(np.float64(x.scale) * weights.scale.astype(np.float64))


def accumulator_grid(x: Activation, weights: QParams) -> QParams:
    """The grid that accumulators are codes of: int32, in steps of ``scale_x * scale_w``, one for the whole tensor.

    Raises:
        QuantizationError: when the weights have a scale for each channel.
    """
    if weights.per_channel:
        raise QuantizationError(
            "accumulators are on no one grid",
            found="weights with a scale for each channel",
            expected="one scale for all",
            remedy="quantize the last layer's weights per tensor, or its output too",
        )
    return QParams(np.asarray(x.scale * weights.scale, np.float32), np.zeros((), np.int32), ACCUMULATORS)


def accumulator_bias(real: NDArray[np.floating[Any]], x: Activation, weights: QParams) -> NDArray[np.float64]:
    """A float bias, (channels out), in accumulator steps: the nearest whole numbers to ``bias / (scale_x * scale_w)``.

    In float64, which holds them all; whether they fit int32 is for the caller to see.
    """
    return np.asarray(np.rint(real.astype(np.float64) / accumulator_step(x, weights)), np.float64)
