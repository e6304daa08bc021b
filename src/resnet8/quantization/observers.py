"""Which range of real numbers a tensor's codes cover: observers of activations and of weights.

* ``minmax``: the least and the greatest value.
* ``percentile``: the values below and above which one in ten thousand lies.
* ``mse``: the ends, searched on a grid, with the least mean squared error of what is quantized (Choukroun et al. 2019,
  arXiv:1902.06822; Nagel et al. 2021, arXiv:2106.08295, section 3.1). Class scores get the ends with the least
  divergence of the class probabilities: how far below the others a class is does not matter, near ties do.

Every range includes zero, which pads convolutions. Activations are counted in bins whose width is a power of two and
whose middle one is zero; counts are whole numbers and errors are added up with one rounding, so a range is the same on
every CPU.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from resnet8.errors import QuantizationError
from resnet8.numeric.grid import QParams, limits, width

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

Observer = Literal["minmax", "percentile", "mse"]

BINS = 4096
"""Bins on each side of zero."""

OUTSIDE = 1e-4
"""Share of the values that ``percentile`` leaves outside, on each side."""

_SMALLEST = {8: 0.5}
_SMALLEST_OF_FEW = 0.25
"""The smallest range that ``mse`` tries, as a share of the whole; fewer codes are worth more clipping."""


@dataclass(frozen=True)
class Histogram:
    """How often values occur.

    Attributes:
        values: The bins' middles, float64, ascending.
        counts: Values in each, int64.
        low: Least value, at most 0.
        high: Greatest value, at least 0.
    """

    values: NDArray[np.float64]
    counts: NDArray[np.int64]
    low: float
    high: float


def histogram(values: NDArray[np.floating[Any]]) -> Histogram:
    """The histogram of ``values``, real numbers of any shape."""
    low, high = min(0.0, float(values.min())), max(0.0, float(values.max()))
    _, exponent = math.frexp(max(-low, high) or 1.0)
    bins = int(math.log2(BINS))
    index = np.rint(np.ldexp(values, bins - exponent)).astype(np.int32).ravel()
    first = int(index.min(initial=0))
    counts = np.bincount(index - first)
    middles = np.ldexp(np.arange(first, first + len(counts), dtype=np.float64), exponent - bins)
    return Histogram(middles, counts, low, high)


def activation_grid(name: str, values: NDArray[np.floating[Any]], dtype: str, observer: Observer) -> QParams:
    """The grid of an activation: its codes reach from one end of the range to the other.

    Args:
        name: The activation's, for errors.
        values: What it is on the calibration images, real numbers of any shape.
        dtype: Of the codes.
        observer: What chooses the range.

    Raises:
        QuantizationError: when the activation is constant.
    """
    seen = histogram(values)
    if seen.low == seen.high:
        raise QuantizationError(
            f"«{name}» is 0 on every calibration image: it has no range",
            found="one value",
            expected="an activation that depends on the image",
            remedy="check the model and the calibration images",
        )
    return _OBSERVERS[observer](seen, dtype)


_TOLD_APART = 1 - 1e-9
"""What a divergence must be of another to be less: the last bits of exp and log differ from CPU to CPU."""


def logit_grid(name: str, logits: NDArray[np.floating[Any]], dtype: str, observer: Observer) -> QParams:
    """The grid of class scores, (N, classes); as :func:`activation_grid`, but for ``mse``.

    Raises:
        QuantizationError: when they are constant.
    """
    widest = activation_grid(name, logits, dtype, "minmax")
    if observer != "mse":
        return activation_grid(name, logits, dtype, observer)
    real = logits.astype(np.float64)
    seen = histogram(real)
    wanted = _log_probabilities(real)
    best, least = widest, math.inf
    shares = np.linspace(1, 0.3, 15)
    for low, high in itertools.product(shares, shares):
        grid = _over(seen.low * float(low), seen.high * float(high), dtype)
        divergence = _divergence(wanted, _log_probabilities(_on(grid, real, dtype)))
        if divergence < least * _TOLD_APART:
            best, least = grid, divergence
    return best


def _log_probabilities(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    from_top = logits - logits.max(axis=1, keepdims=True)
    result: NDArray[np.float64] = from_top - np.log(np.exp(from_top).sum(axis=1, keepdims=True))
    return result


def _divergence(wanted: NDArray[np.float64], found: NDArray[np.float64]) -> float:
    """Kullback and Leibler's, summed over the images."""
    return math.fsum((np.exp(wanted) * (wanted - found)).ravel())


def _on(grid: QParams, values: NDArray[np.float64], dtype: str) -> NDArray[np.float64]:
    """``values`` as they are on ``grid``, in float64."""
    scale, zero = float(grid.scale), int(grid.zero_point)
    on: NDArray[np.float64] = (np.clip(np.rint(values / scale) + zero, *limits(dtype)) - zero) * scale
    return on


def _over(low: float, high: float, dtype: str) -> QParams:
    least, greatest = limits(dtype)
    scale = np.float32((high - low) / (greatest - least))
    zero = min(max(round(least - low / float(scale)), least), greatest)
    return QParams(np.asarray(scale), np.asarray(zero, np.int32), dtype)


def _minmax(seen: Histogram, dtype: str) -> QParams:
    return _over(seen.low, seen.high, dtype)


def _percentile(seen: Histogram, dtype: str) -> QParams:
    total = np.cumsum(seen.counts)
    outside = OUTSIDE * total[-1]
    low = seen.values[np.searchsorted(total, outside, side="right")]
    high = seen.values[np.searchsorted(total, total[-1] - outside)]
    low, high = min(0.0, float(low)), max(0.0, float(high))
    return _over(low, high, dtype) if low < high else _minmax(seen, dtype)


def _mse(seen: Histogram, dtype: str) -> QParams:
    occupied = seen.counts > 0
    values, counts = seen.values[occupied], seen.counts[occupied]
    shares = np.linspace(1, _SMALLEST.get(width(dtype), _SMALLEST_OF_FEW), 26)
    ends = [(low, high) for low in (shares[::2] if seen.low < 0 else (1.0,)) for high in shares]
    best, least = _minmax(seen, dtype), math.inf
    for low, high in ends:
        grid = _over(seen.low * float(low), seen.high * float(high), dtype)
        error = math.fsum(counts * (_on(grid, values, dtype) - values) ** 2)
        if error < least:
            best, least = grid, error
    return best


_OBSERVERS: dict[str, Callable[[Histogram, str], QParams]] = {
    "minmax": _minmax,
    "percentile": _percentile,
    "mse": _mse,
}


def weight_scales(matrix: NDArray[np.float64], dtype: str, *, per_channel: bool, searched: bool) -> NDArray[np.float32]:
    """Scales of weights around zero: the largest weight has the largest code, or, ``searched``, the least error.

    Args:
        matrix: Weights, one column for each output channel.
        dtype: A signed type.
        per_channel: A scale for each column, (channels,); else one, 0-d.
        searched: Whether smaller ranges are tried, by mean squared error.

    Raises:
        QuantizationError: when a channel's weights are all zero.
    """
    columns = matrix if per_channel else matrix.reshape(-1, 1)
    largest = np.abs(columns).max(axis=0)
    if not largest.all():
        raise QuantizationError(
            "the weights of an output channel are all zero: they have no range",
            found=f"channel {int(np.flatnonzero(largest == 0)[0])}",
            expected="weights that are not zero",
            remedy="check the model",
        )
    low, high = limits(dtype)
    scales = (largest / max(high, 1)).astype(np.float32)
    if searched:
        smallest = _SMALLEST.get(width(dtype), _SMALLEST_OF_FEW)
        best = np.full(len(scales), math.inf)
        whole = scales
        for share in np.linspace(1, smallest, 61):
            tried = (whole * np.float32(share)).astype(np.float32)
            codes = np.clip(np.rint(columns / tried), low, high)
            error = np.array([math.fsum(one) for one in ((codes * tried - columns) ** 2).T])
            scales, best = np.where(error < best, tried, scales), np.minimum(error, best)
    return scales if per_channel else np.asarray(scales[0])
