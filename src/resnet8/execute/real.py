"""Runs a network on real numbers: what every layer of a quantized network should have computed.

In the type of its constants: float32, as files hold them; float64 for a network that :func:`on_a_grid` made, whose
sums are all exact, so that it gives the same numbers on every CPU.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, assert_never

import numpy as np

from resnet8.errors import QuantizationError
from resnet8.execute.patches import patches
from resnet8.execute.walk import resume as resume_walk
from resnet8.execute.walk import softmax, walk
from resnet8.network.layers import AveragePool, Product, Rescale, Sum, Weighted

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from resnet8.network.layers import AnyLayer
    from resnet8.network.program import Program
    from resnet8.network.tensors import Constant


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
    return np.maximum(result, result.dtype.type(0)) if layer.relu else result


CONSTANT_BITS, VALUE_BITS = 22, 12
"""Bits behind the point of constants and of values in :func:`on_a_grid`: products have 34, so sums below 2**19 are
exact in float64, in whatever order they are added up. ResNet8's stay below 2**12."""


def on_a_grid(network: Program) -> Program:
    """The same network with constants in float64, rounded to ``2**-22``, to be run by :func:`exact_step`."""
    return replace(network, layers=tuple(_on_a_grid(layer) for layer in network.layers))


def _on_a_grid(layer: AnyLayer) -> AnyLayer:
    if layer.parameter is not None:
        layer = layer.with_parameter(_rounded(layer.parameter))
    return layer if layer.bias is None else replace(layer, bias=_rounded(layer.bias))


def _rounded(one: Constant) -> Constant:
    return replace(one, codes=to_bits(one.codes.astype(np.float64), CONSTANT_BITS))


def to_bits(values: NDArray[np.float64], bits: int) -> NDArray[np.float64]:
    """``values`` rounded half to even to multiples of ``2**-bits``."""
    rounded: NDArray[np.float64] = np.ldexp(np.rint(np.ldexp(values, bits)), -bits)
    return rounded


def exact_step(layer: AnyLayer, values: Mapping[str, NDArray[np.float64]]) -> NDArray[np.float64]:
    """What a layer of :func:`on_a_grid` writes, float64 (N, *output shape): the exact sums, rounded to ``2**-12``.

    Raises:
        QuantizationError: when sums could be too large to be exact.
    """
    result = to_bits(step(layer, values), VALUE_BITS)  # type: ignore[arg-type]  # the type is that of the constants
    if not np.abs(result).max(initial=0) < 2 ** (VALUE_BITS - 1):
        raise QuantizationError(
            f"the values of «{layer.name}» are too large to be observed",
            found=f"{np.abs(result).max():.3g}",
            expected=f"magnitudes below {2 ** (VALUE_BITS - 1)}",
            remedy="check that the network was trained on pixels from 0 to 255",
        )
    return result


def _result(layer: AnyLayer, x: NDArray[np.float32], values: Mapping[str, NDArray[np.float32]]) -> NDArray[np.float32]:
    result: NDArray[np.float32]
    if isinstance(layer, Weighted):
        rows = x.reshape(len(x), -1) if layer.dense else patches(x, layer, layer.weights.codes.dtype)
        result = rows @ layer.weights.columns
        if layer.bias is not None:
            result += layer.bias.codes
        return result
    if isinstance(layer, AveragePool):
        result = x.mean(axis=(1, 2), keepdims=True, dtype=x.dtype)
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
