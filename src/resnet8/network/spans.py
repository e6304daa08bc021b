"""The accumulators that input codes can give, channel by channel."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Spans(NamedTuple):
    """Accumulators of each output channel: ``step * d`` for whole ``d`` from ``low`` to ``high``.

    Attributes:
        step: At least 1; int64 (channels,), as the following two.
        low: The least ``d`` that input codes give.
        high: The greatest.
        filled: bool (channels,): whether input codes are known to give every ``d`` between.
    """

    step: NDArray[np.int64]
    low: NDArray[np.int64]
    high: NDArray[np.int64]
    filled: NDArray[np.bool_]


def by_ones(ends: tuple[int, int], channels: int) -> Spans:
    """Every whole number between ``ends``, in each of ``channels``."""
    ones = np.ones(channels, np.int64)
    return Spans(ones, ends[0] * ones, ends[1] * ones, ones.astype(np.bool_))


def of_factors(factors: NDArray[np.int64], ends: tuple[int, int]) -> Spans:
    """``factor * d`` for whole ``d`` between ``ends``, in each channel."""
    turned = np.multiply.outer(np.array(ends), np.sign(factors))
    filled = np.ones(factors.shape, np.bool_)
    return Spans(np.maximum(np.abs(factors), 1), turned.min(axis=0), turned.max(axis=0), filled)


def of_sums(weights: NDArray[np.int64], bias: NDArray[np.int64], ends: tuple[int, int]) -> Spans:
    """``sum(weight * d) + bias`` for whole ``d`` between ``ends``, each term its own: from the least to the greatest.

    All whole numbers between are sums where, with weights by growing magnitude, each is at most 1 more than the sums of
    those before it spread over: then its multiples put runs of whole numbers end to end.

    Args:
        weights: (depth, channels).
        bias: (channels,).
        ends: Least and greatest ``d``, around 0.
    """
    terms = np.multiply.outer(np.array(ends), weights)
    low, high = terms.min(axis=0).sum(axis=0) + bias, terms.max(axis=0).sum(axis=0) + bias
    sizes = np.sort(np.abs(weights), axis=0)
    before = (ends[1] - ends[0]) * (sizes.cumsum(axis=0) - sizes)
    return Spans(np.ones_like(low), low, high, (sizes <= before + 1).all(axis=0))
