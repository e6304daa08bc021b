"""Codes of weights by what a layer computes, not weight by weight.

A layer should write what it writes in the float network, from inputs that are quantized already. Over all calibration
images and positions its squared error is a quadratic form of its codes ``q``, for each output channel::

    error(q) = a**2 * q' C q - 2 * a * q' d + constant        a = scale_x * scale_w

with ``C`` the covariance of its inputs and ``d`` their covariance with what it should write; the bias takes the means.
This is AdaRound's objective, with asymmetric reconstruction (Nagel et al. 2020, arXiv:2004.10568, eq. 20 to 25). There
it is relaxed and descended by gradients, whose last bits would decide codes; here it is solved over whole numbers:

1. codes one after the other, each making up for the error of those before it (Frantar et al. 2022, OPTQ,
   arXiv:2210.17323; Babai's nearest plane on the lattice of ``C``), for several scales;
2. coordinate descent: each code to its best value while all others stay, until none changes (Chee et al. 2023,
   arXiv:2307.13304, algorithm 2; any code, not only the two next to the real weight);
3. the scale of least error for these codes, ``a = q'd / q'Cq``, and 2 again; the best of all scales stays.

``C`` and ``d`` are sums of whole numbers, and what follows works element by element in float64, in one order: the same
codes on every CPU.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from resnet8.errors import QuantizationError
from resnet8.execute.real import VALUE_BITS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

_SHARES = {
    2: (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.33, 0.27, 0.2),
    3: (1.0, 0.85, 0.7, 0.6, 0.5, 0.4),
    8: (1.0, 0.95),
}
_OTHER_SHARES = (1.0, 0.91, 0.82, 0.73, 0.64, 0.55)
"""Scales to begin with, as shares of the one that covers the largest weight, by the width of the codes."""

_ROUNDS = 3
_SWEEPS = 12
_DAMPING = 1e-6


@dataclass
class Moments:
    """Sums over positions of a layer's inputs ``x`` (codes from zero) and of what it should write, ``y``.

    Attributes:
        count: Positions.
        x: Sums of the inputs, (depth,).
        y: Sums of the targets, (channels,).
        xx: Sums of products of two inputs, (depth, depth).
        xy: Sums of products of an input and a target, (depth, channels).
    """

    count: int
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    xx: NDArray[np.float64]
    xy: NDArray[np.float64]

    @classmethod
    def of(cls, x: NDArray[np.float64], y: NDArray[np.float64], *, products: bool) -> Moments:
        """Of rows ``x``, whole numbers (positions, depth), and ``y``, multiples of ``2**-12`` (positions, channels).

        Exact, in whatever order they are added up, where :func:`require_exact` finds nothing.

        Args:
            x: Inputs.
            y: Targets.
            products: Whether ``xx`` and ``xy`` are wanted; else they are empty.
        """
        none = np.zeros((0, 0))
        return cls(len(x), x.sum(axis=0), y.sum(axis=0), x.T @ x if products else none, x.T @ y if products else none)

    def __add__(self, other: Moments) -> Moments:
        """Those of both."""
        return Moments(
            self.count + other.count, self.x + other.x, self.y + other.y, self.xx + other.xx, self.xy + other.xy
        )

    def bias(self, codes: NDArray[np.float64], steps: NDArray[np.float64]) -> NDArray[np.float64]:
        """The bias, float64 (channels,), that gives each channel the mean it should have.

        Empirical bias correction (Nagel et al. 2019, arXiv:1906.04721, section 4.2).

        Args:
            codes: From zero, (depth, channels).
            steps: ``scale_x * scale_w``, (channels,) or 0-d.
        """
        exact: NDArray[np.float64] = self.x @ codes  # whole numbers
        return self.y / self.count - steps * (exact / self.count)


def require_exact(name: str, count: int, x: float, y: float) -> None:
    """Check that sums of products over so many positions are exact in float64.

    Args:
        name: Of the layer, for the error.
        count: Positions.
        x: The greatest magnitude of an input, a whole number.
        y: That of a target, a multiple of ``2**-12``.

    Raises:
        QuantizationError: when they could exceed ``2**53`` of their units.
    """
    largest = count * max(x, 1) * max(x, y * 2**VALUE_BITS)
    if largest > 2**53:
        raise QuantizationError(
            f"sums over all calibration images are too large to be exact at «{name}»",
            found=f"up to {largest:.3g} units",
            expected=f"at most 2**53 = {2**53:.3g}",
            remedy="calibrate with fewer images",
        )


def reconstructed(
    moments: Moments, largest: NDArray[np.float64], bits: int, *, per_channel: bool, zeros: Sequence[int] = (0,)
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int32]]:
    """The codes of a layer's weights, ``a = scale_x * scale_w`` and the zero points.

    Args:
        moments: Of the layer, with products.
        largest: For each channel, the ``a`` that gives the largest weight the largest code; for all channels the same
            one where they share a scale.
        bits: Of the codes, which are signed.
        per_channel: Whether each channel has an ``a`` and a zero point of its own; else all share them.
        zeros: The zero points to choose from; the first where they are as good.

    Returns:
        Codes from zero, float64 (depth, channels), ``a``, float64 (channels,), and zero points, int32 (channels,).
    """
    c, d = _covariances(moments)
    shares, channels = _SHARES.get(bits, _OTHER_SHARES), d.shape[1]
    begun = len(shares) * len(zeros)
    a = np.tile(np.concatenate([share * largest for share in shares]), len(zeros))
    targets = np.tile(d, (1, begun))
    zero = np.repeat(np.array(zeros, np.int32), len(shares) * channels)
    ends = -(2 ** (bits - 1)) - zero, 2 ** (bits - 1) - 1 - zero
    codes = _one_after_the_other(c, targets, a, *ends)
    for round_ in range(_ROUNDS):
        codes = _descended(c, targets, codes, a, *ends, 4 if round_ < _ROUNDS - 1 else _SWEEPS)
        along, square = _products(c, targets, codes)
        if not per_channel:
            along, square = (_shared(one, begun, channels) for one in (along, square))
        positive = (along > 0) & (square > 0)
        a = np.where(positive, along / np.where(square > 0, square, 1), a)
    along, square = _products(c, targets, codes)
    errors = (a * a * square - 2 * a * along).reshape(begun, channels)
    if not per_channel:
        errors = np.repeat(errors.cumsum(axis=1)[:, -1:], channels, axis=1)
    chosen = errors.argmin(axis=0) * channels + np.arange(channels)
    return codes[:, chosen], a[chosen], zero[chosen]


def _covariances(moments: Moments) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """``C``, rounded to whole numbers of such a size that products with codes stay exact; ``d`` on the same scale."""
    count = np.float64(moments.count)
    c = moments.xx - moments.x[:, None] * (moments.x / count)
    d = moments.xy - moments.x[:, None] * (moments.y / count)
    _, exponent = np.frexp(np.abs(c).max(initial=1.0))
    shift = 35 - int(exponent)
    return np.rint(np.ldexp(c, shift)), np.ldexp(d, shift)


def _one_after_the_other(
    c: NDArray[np.float64],
    d: NDArray[np.float64],
    a: NDArray[np.float64],
    low: NDArray[np.int32],
    high: NDArray[np.int32],
) -> NDArray[np.float64]:
    """Step 1: from the last row to the first, in order of how much each input varies.

    With ``C = L D L'`` the error is ``sum(D_i * (e_i + sum(L_ji * e_j, j > i))**2)``, ``e`` the codes less the real
    optimum: each code makes its own term as small as it can.
    """
    order = np.argsort(np.diag(c), kind="stable")
    c = c[np.ix_(order, order)].copy()
    depth = len(c)
    diagonal = np.arange(depth)
    c[diagonal, diagonal] += np.rint(_DAMPING * np.diag(c).max()) + 1
    # L below the diagonal, D on it; then the real optimum, which solves C t = d / a. Element by element throughout.
    lower = c
    real = d[order] / a
    for i in range(depth):
        column = lower[i + 1 :, i] / lower[i, i]
        lower[i + 1 :, i + 1 :] -= column[:, None] * lower[i + 1 :, i]
        lower[i + 1 :, i] = column
        real[i + 1 :] -= column[:, None] * real[i]
    real /= np.diag(lower)[:, None]
    for i in range(depth - 1, 0, -1):
        real[:i] -= lower[i, :i, None] * real[i]
    codes, wanted = np.empty_like(real), real.copy()
    for i in range(depth - 1, -1, -1):
        codes[i] = np.clip(np.rint(wanted[i]), low, high)
        wanted[:i] -= lower[i, :i, None] * (codes[i] - real[i])
    result = np.empty_like(codes)
    result[order] = codes
    return result


def _descended(  # noqa: PLR0917 - a formula's symbols
    c: NDArray[np.float64],
    d: NDArray[np.float64],
    codes: NDArray[np.float64],
    a: NDArray[np.float64],
    low: NDArray[np.int32],
    high: NDArray[np.int32],
    sweeps: int,
) -> NDArray[np.float64]:
    """Step 2."""
    codes = codes.copy()
    residual = d / a - c @ codes  # whole numbers below 2**53: exact
    curvature = np.maximum(np.diag(c), 1)
    for _ in range(sweeps):
        changed = False
        for i in range(len(c)):
            better = np.clip(np.rint(codes[i] + residual[i] / curvature[i]), low, high)
            change = better - codes[i]
            moved = np.flatnonzero(change)
            if moved.size:
                residual[:, moved] -= c[:, i, None] * change[moved]
                codes[i] = better
                changed = True
        if not changed:
            break
    return codes


def _products(
    c: NDArray[np.float64], d: NDArray[np.float64], codes: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """``q'd`` and ``q'Cq`` of each column, row after row."""
    both = [np.zeros(codes.shape[1]), np.zeros(codes.shape[1])]
    for row, target, product in zip(codes, d, c @ codes, strict=True):
        both[0] += row * target
        both[1] += row * product
    return both[0], both[1]


def _shared(values: NDArray[np.float64], shares: int, channels: int) -> NDArray[np.float64]:
    """The sum over all channels, for each of the scales that were begun with."""
    summed: NDArray[Any] = values.reshape(shares, channels).cumsum(axis=1)[:, -1:]
    return np.repeat(summed, channels, axis=1).ravel()
