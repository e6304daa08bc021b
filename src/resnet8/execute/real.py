"""Runs a network on real numbers, in float32: what every layer of a quantized network should have computed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, assert_never

import numpy as np

from resnet8.execute.patches import patches
from resnet8.execute.walk import resume as resume_walk
from resnet8.execute.walk import softmax, walk
from resnet8.network.layers import AveragePool, Product, Rescale, Sum, Weighted

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from resnet8.network.layers import AnyLayer
    from resnet8.network.program import Program


def run(
    network: Program, images: NDArray[Any], watch: Callable[[str, NDArray[np.float32]], None] | None = None
) -> NDArray[np.float32]:
    """The logits, float32 (N, 10).

    Args:
        network: Of real numbers.
        images: (N, 32, 32, 3), pixels 0 to 255 in any number type.
        watch: Shown the name and the values of each tensor, float32 (N, *shape), NHWC, the images first.
    """
    return walk(network, images.astype(np.float32), step, watch)


def resume(
    network: Program, values: Mapping[str, NDArray[np.float32]], replaced: Mapping[str, NDArray[np.float32]]
) -> NDArray[np.float32]:
    """The logits when some tensors have other values (:func:`resnet8.execute.walk.resume`)."""
    return resume_walk(network, values, replaced, step)


def probabilities(network: Program, logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Class probabilities, float32 (N, 10), of logits."""
    return softmax(logits) if network.softmax else logits


def step(layer: AnyLayer, values: Mapping[str, NDArray[np.float32]]) -> NDArray[np.float32]:
    """What a layer of real numbers writes, float32 (N, *output shape), of what it reads, by name."""
    x = values[layer.inputs[0]]
    result = _result(layer, x, values).reshape(len(x), *layer.output.shape)
    return np.maximum(result, np.float32(0)) if layer.relu else result


def _result(layer: AnyLayer, x: NDArray[np.float32], values: Mapping[str, NDArray[np.float32]]) -> NDArray[np.float32]:
    result: NDArray[np.float32]
    if isinstance(layer, Weighted):
        rows = x.reshape(len(x), -1) if layer.dense else patches(x, layer, np.float32)
        result = rows @ layer.weights.columns
        if layer.bias is not None:
            result += layer.bias.codes
        return result
    if isinstance(layer, AveragePool):
        result = x.mean(axis=(1, 2), keepdims=True, dtype=np.float32)
        return result
    if isinstance(layer, Product):
        result = x * layer.constant.codes
        return result
    if isinstance(layer, Sum):
        other = layer.parameter
        result = x + (values[layer.inputs[1]] if other is None else other.codes)
        return result
    if isinstance(layer, Rescale):
        return x
    assert_never(layer)
