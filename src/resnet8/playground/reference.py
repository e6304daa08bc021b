"""A float network in plain NumPy: what every layer of a quantized network should have computed."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.lib.stride_tricks import as_strided

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

Operator = Literal["conv", "dense", "mul", "add", "average-pool", "rescale"]
"""The words of :mod:`resnet8.network.layers`; ``rescale`` passes its input on."""


@dataclass(frozen=True, kw_only=True, eq=False)
class RealLayer:
    """One operation on real numbers, NHWC.

    Attributes:
        name: The operator's name in the graph, without what converters add to it.
        operator: What it does.
        inputs: Names of the tensors it reads.
        output: Name of the tensor it writes.
        shape: Of the output without the batch axis: (height, width, channels) or (features,).
        relu: Whether negative results become 0.
        weights: float32: (kernel rows, kernel columns, channels in, channels out) of a convolution, 1 x 1 for a dense
            layer; (channels,) of a product, and of a sum with a constant; none elsewhere.
        bias: float32 (channels out), of a convolution or dense layer; none is 0.
        strides: Rows, columns.
        pads: Top, left, bottom, right; zeros.
        parameters: Where each parameter lives: role to name in the file.
        nodes: Names of the graph's nodes that make it up.
    """

    name: str
    operator: Operator
    inputs: tuple[str, ...]
    output: str
    shape: tuple[int, ...]
    relu: bool = False
    weights: NDArray[np.float32] | None = None
    bias: NDArray[np.float32] | None = None
    strides: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    parameters: Mapping[str, str] = field(default_factory=dict)
    nodes: tuple[str, ...] = ()

    @property
    def macs(self) -> int:
        """Multiplications of one image by weights, padding included; 0 but for a convolution and a dense layer."""
        if self.operator not in ("conv", "dense") or self.weights is None:
            return 0
        return int(np.prod(self.shape[:-1], dtype=np.int64)) * self.weights.size

    def real(self, values: Mapping[str, NDArray[np.float32]]) -> NDArray[np.float32]:
        """What it writes, float32 (N, *shape), of its inputs by name."""
        x = values[self.inputs[0]]
        result: NDArray[np.float32]
        if self.operator in ("conv", "dense"):
            result = self._weighted(x)
        elif self.operator == "average-pool":
            result = x.mean(axis=(1, 2), keepdims=True, dtype=np.float32)
        elif self.operator == "rescale":
            result = x
        else:
            other = values[self.inputs[1]] if self.weights is None else self.weights
            result = x * other if self.operator == "mul" else x + other
        result = result.reshape(len(x), *self.shape)
        return np.maximum(result, np.float32(0)) if self.relu else result

    def _weighted(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        assert self.weights is not None  # noqa: S101 - of every such layer
        rows = _patches(x, self) if self.operator == "conv" else x.reshape(len(x), -1)
        result: NDArray[np.float32] = rows @ self.weights.reshape(-1, self.weights.shape[-1])
        return result if self.bias is None else result + self.bias


@dataclass(frozen=True, eq=False)
class RealNetwork:
    """From images to logits, and the softmax behind it.

    Attributes:
        input: Name of the images' tensor.
        layers: In the order of computation.
        logits: Name of the class scores.
        softmax: Whether a softmax follows.
    """

    input: str
    layers: tuple[RealLayer, ...]
    logits: str
    softmax: bool

    @cached_property
    def writers(self) -> Mapping[str, RealLayer]:
        """The layer that writes each tensor."""
        return {layer.output: layer for layer in self.layers}

    def run(
        self, images: NDArray[Any], watch: Callable[[str, NDArray[np.float32]], None] | None = None
    ) -> NDArray[np.float32]:
        """The logits, float32 (N, 10).

        Args:
            images: (N, 32, 32, 3), pixels 0 to 255 in any number type.
            watch: Shown the name and the values of each tensor, float32 (N, *shape), NHWC, the images first.
        """
        last = {name: layer for layer in self.layers for name in layer.inputs}
        values = {self.input: images.astype(np.float32)}
        if watch is not None:
            watch(self.input, values[self.input])
        for layer in self.layers:
            values[layer.output] = layer.real(values)
            if watch is not None:
                watch(layer.output, values[layer.output])
            for name in layer.inputs:
                if last[name] is layer and name != self.logits:
                    values.pop(name, None)
        return values[self.logits].reshape(len(images), -1)

    def resume(
        self, values: Mapping[str, NDArray[np.float32]], replaced: Mapping[str, NDArray[np.float32]]
    ) -> NDArray[np.float32]:
        """The logits when some tensors have other values; only what depends on them is computed anew.

        Args:
            values: Every tensor of an earlier run, by name.
            replaced: The others, by name.
        """
        fresh = dict(replaced)
        for layer in self.layers:
            if layer.output not in fresh and any(name in fresh for name in layer.inputs):
                fresh[layer.output] = layer.real({name: fresh.get(name, values[name]) for name in layer.inputs})
        logits = fresh.get(self.logits, values[self.logits])
        return logits.reshape(len(logits), -1)

    def probabilities(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """Class probabilities, float32 (N, 10), of logits."""
        if not self.softmax:
            return logits
        exponential = np.exp(logits - logits.max(axis=1, keepdims=True))
        result: NDArray[np.float32] = exponential / exponential.sum(axis=1, keepdims=True)
        return result


def merged(network: RealNetwork) -> RealNetwork:
    """The same with each ReLU in the layer before it, where nothing else reads that layer."""
    readers = Counter(name for layer in network.layers for name in layer.inputs)
    layers: dict[str, RealLayer] = {}
    for layer in network.layers:
        before = layers.get(layer.inputs[0])
        alone = readers[layer.inputs[0]] == 1 and layer.inputs[0] != network.logits
        if layer.operator == "rescale" and layer.relu and before is not None and alone:
            del layers[before.output]
            nodes = (*before.nodes, *layer.nodes)
            layers[layer.output] = replace(before, output=layer.output, relu=True, nodes=nodes)
        else:
            layers[layer.output] = layer
    return replace(network, layers=tuple(layers.values()))


def _patches(x: NDArray[np.float32], layer: RealLayer) -> NDArray[np.float32]:
    """The input of each output position as a row: (N * rows * columns, depth), kernel row, kernel column, channel."""
    assert layer.weights is not None  # noqa: S101 - of every convolution
    kernel_rows, kernel_columns = layer.weights.shape[:2]
    top, left, bottom, right = layer.pads
    padded = np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)))
    (rows, columns, _), (down, across), channels = layer.shape, layer.strides, x.shape[-1]
    image, line, pixel, number = padded.strides
    windows = as_strided(
        padded,
        (len(x), rows, columns, kernel_rows, kernel_columns * channels),
        (image, down * line, across * pixel, line, number),
        writeable=False,
    )
    return windows.reshape(len(x) * rows * columns, -1)
