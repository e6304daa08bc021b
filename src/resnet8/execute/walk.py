"""The one way through a network: layer after layer, whatever a layer computes with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from resnet8.network.layers import AnyLayer
    from resnet8.network.program import Program


class Step(Protocol):
    """What one layer computes."""

    def __call__(self, layer: AnyLayer, values: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
        """What it writes, (N, *output shape), of what it reads, by name."""


def walk(
    network: Program,
    images: NDArray[Any],
    step: Step,
    watch: Callable[[str, NDArray[Any]], None] | None = None,
) -> NDArray[Any]:
    """What the last layer writes, (N, classes).

    Args:
        network: The layers.
        images: What the first one reads: (N, 32, 32, 3), codes or reals.
        step: Computes a layer.
        watch: Shown the name and the values of each activation, (N, *shape), NHWC, the images first. What is shown and
            read no more is dropped.
    """
    last = {name: layer for layer in network.layers for name in layer.inputs}
    values = {network.input.name: images}
    if watch is not None:
        watch(network.input.name, images)
    for layer in network.layers:
        values[layer.output.name] = step(layer, values)
        if watch is not None:
            watch(layer.output.name, values[layer.output.name])
        for name in layer.inputs:
            if last[name] is layer and name != network.logits.name:
                values.pop(name, None)
    return values[network.logits.name].reshape(len(images), -1)


def resume(
    network: Program, values: Mapping[str, NDArray[Any]], replaced: Mapping[str, NDArray[Any]], step: Step
) -> NDArray[Any]:
    """What the last layer writes when some activations have other values; only what depends on them is computed anew.

    Args:
        network: The layers.
        values: Every activation of an earlier walk, by name.
        replaced: The others, by name.
        step: Computes a layer.
    """
    fresh = dict(replaced)
    for layer in network.layers:
        if layer.output.name not in fresh and any(name in fresh for name in layer.inputs):
            fresh[layer.output.name] = step(layer, {name: fresh.get(name, values[name]) for name in layer.inputs})
    logits = fresh.get(network.logits.name, values[network.logits.name])
    return logits.reshape(len(logits), -1)


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Class probabilities, float32 (N, classes), of class scores, float32 (N, classes)."""
    exponential = np.exp(logits - logits.max(axis=1, keepdims=True))
    result: NDArray[np.float32] = exponential / exponential.sum(axis=1, keepdims=True)
    return result
