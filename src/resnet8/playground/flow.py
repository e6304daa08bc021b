"""What flows through a network: every activation of a few images, the classes of many."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from resnet8.batches import batched
from resnet8.execute import native
from resnet8.execute.walk import walk
from resnet8.numeric.grid import dequantize
from resnet8.results import Score, score
from resnet8.workers import no_progress

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from resnet8.network.layers import AnyLayer
    from resnet8.network.program import Program
    from resnet8.workers import Progress

CHANGED = "changed"
"""Name of the variant of a network in which something was changed."""


@dataclass(frozen=True, eq=False)
class Flow:
    """Every activation of some images.

    Attributes:
        network: What was computed.
        values: By name of the activation, (N, *shape), NHWC, codes or float32; the input's first.
        probabilities: float32 (N, 10).
    """

    network: Program
    values: Mapping[str, NDArray[Any]]
    probabilities: NDArray[np.float32]

    def real(self, activation: str) -> NDArray[np.float32]:
        """An activation as real numbers, float32: its codes dequantized."""
        grid = self.network.activations[activation].grid
        return self.values[activation] if grid is None else dequantize(self.values[activation], grid)


def flow(network: Program, images: NDArray[Any]) -> Flow:
    """Every activation of ``images``, (N, 32, 32, 3), pixels 0 to 255: for a few images, it is all kept."""
    values: dict[str, NDArray[Any]] = {}
    logits = native.run(network, images, values.__setitem__)
    return Flow(network, values, native.probabilities(network, logits))


def flow_of_changed(changed: Program, before: Flow, images: NDArray[Any]) -> Flow:
    """Every activation of the same ``images`` in a network that was changed; what no change reaches is kept.

    Args:
        changed: The network of ``before`` with other tensors (:func:`resnet8.network.change.apply`).
        before: What flows through the original: activations that are the same are the very arrays.
        images: Those of ``before``, (N, 32, 32, 3), pixels 0 to 255.
    """
    if changed.input is not before.network.input:
        return flow(changed, images)
    writers = before.network.writers

    def step(layer: AnyLayer, values: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
        name, read = layer.output.name, all(values[one] is before.values[one] for one in layer.inputs)
        return before.values[name] if read and _same(layer, writers[name]) else native.step(layer, values)

    values: dict[str, NDArray[Any]] = {}
    logits = walk(changed, before.values[changed.input.name], step, values.__setitem__)
    return Flow(changed, values, native.probabilities(changed, logits))


def _same(one: AnyLayer, other: AnyLayer) -> bool:
    """Whether two layers are made of the very same things: constants and grids have no equality of their own."""
    return all(getattr(one, part.name) is getattr(other, part.name) for part in fields(one))


def predictions(network: Program, images: NDArray[np.uint8], progress: Progress = no_progress) -> NDArray[np.int64]:
    """The predicted class of each of ``images``, uint8 (N, 32, 32, 3), int64 (N,); ``progress`` may raise to stop."""

    def predicted(part: slice) -> NDArray[np.int64]:
        classes: NDArray[np.int64] = native.probabilities(network, native.run(network, images[part])).argmax(axis=1)
        return classes

    return np.concatenate([np.zeros(0, np.int64), *batched(predicted, len(images), progress)])


@dataclass(frozen=True, eq=False)
class Answers:
    """The classes that a network and variants of it predict for the same images.

    Attributes:
        labels: int64 (N,).
        reference: The network's classes, int64 (N,).
        variants: Those of each variant, by its name.
    """

    labels: NDArray[np.int64]
    reference: NDArray[np.int64]
    variants: Mapping[str, NDArray[np.int64]]

    def score(self, variant: str | None = None) -> Score:
        """Top-1 of a variant; without one of the network."""
        classes = self.reference if variant is None else self.variants[variant]
        return score(int((classes == self.labels).sum()), len(self.labels))

    def changed(self, variant: str) -> NDArray[np.int64]:
        """The images for which a variant predicts another class than the network, int64 (n,)."""
        return np.flatnonzero(self.variants[variant] != self.reference)
