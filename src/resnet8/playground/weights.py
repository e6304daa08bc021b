"""The parameters of a layer, as real numbers and as codes, and how well the codes are used."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from resnet8.network.program import Program
    from resnet8.playground.network import Network, Tensor


@dataclass(frozen=True, eq=False)
class Weights:
    """The weights or the constant of a layer.

    Attributes:
        tensor: Its name, shape, grid; the channels lie along the last axis.
        real: float32, what the layer computes with: the file's own numbers, or the dequantized codes.
        codes: The codes; none in a float model.
        reference: float32, what the codes were made from; none where that is not known.
    """

    tensor: Tensor
    real: NDArray[np.float32]
    codes: NDArray[Any] | None = None
    reference: NDArray[np.float32] | None = None


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


def weights(network: Network, layer: str, reference: Program | None = None) -> Weights | None:
    """The weights or the constant of a layer; none where it has neither.

    Args:
        network: The model.
        layer: The layer's name.
        reference: The float network behind it (:func:`resnet8.playground.network.reference`).

    Raises:
        ModelError: when there is no such layer.
    """
    view = network.layer(layer)
    if view.weights is None:
        return None
    parameter = network.network.writers[view.output.name].parameter
    assert parameter is not None  # noqa: S101 - the view has it
    if parameter.grid is None:
        return Weights(view.weights, parameter.real)
    behind = None if reference is None else reference.writers[view.output.name].parameter
    return Weights(view.weights, parameter.real, parameter.codes, None if behind is None else behind.codes)


def across(networks: Sequence[Network], layer: str) -> tuple[Weights | None, ...]:
    """The same layer's weights in several models; none where one has no such layer, or the layer no weights.

    In files with folded BatchNorm the factors are part of the weights: other numbers, the same network.
    """
    names = [{one.name for one in network.layers} for network in networks]
    return tuple(
        weights(network, layer) if layer in known else None for network, known in zip(networks, names, strict=True)
    )


def use(codes: NDArray[Any], limits: tuple[int, int]) -> Use:
    """How ``codes``, any shape, use the codes from the least to the greatest of ``limits``."""
    counts = code_counts(codes, limits)
    used = int((counts > 0).sum())
    return Use(int(codes.size), int(counts[0]), int(counts[-1]), used, len(counts) - used)


def code_counts(codes: NDArray[Any], limits: tuple[int, int]) -> NDArray[np.int64]:
    """How often each code occurs, int64 (greatest - least + 1), from the least of ``limits`` on."""
    low, high = limits
    counts: NDArray[np.int64] = np.bincount(codes.reshape(-1).astype(np.int64) - low, minlength=high - low + 1)
    return counts


def histogram(
    values: NDArray[np.floating[Any]], bins: int = 64, span: tuple[float, float] | None = None
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Counts, int64 (bins), and the edges between them, float64 (bins + 1), of ``values``, any shape.

    ``span`` is what the bins cover, so that several histograms can lie on each other; without it, all values.
    """
    counts, edges = np.histogram(values, bins, span)
    return counts.astype(np.int64), edges.astype(np.float64)
