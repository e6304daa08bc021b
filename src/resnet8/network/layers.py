"""A quantized network as a list of integer layers; the values that everything here passes around.

Activations are codes, NHWC without the batch axis: ``(height, width, channels)`` or ``(features,)``.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from resnet8.qparams import limits

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from resnet8.qparams import QParams

Kernel = Literal["integer", "float"]
"""How ONNX Runtime computes a layer: with a quantized kernel, or by a float operator on dequantized codes."""


@dataclass(frozen=True)
class Activation:
    """A tensor of codes.

    Attributes:
        name: Of the tensor in the graph.
        shape: Without the batch axis, NHWC.
        params: Scale and zero point; always one for the whole tensor.
        nchw: Whether the graph holds it as (channels, height, width).
    """

    name: str
    shape: tuple[int, ...]
    params: QParams
    nchw: bool = False

    @property
    def scale(self) -> np.float32:
        """The scale."""
        return np.float32(self.params.scale)

    @property
    def zero_point(self) -> int:
        """The zero point."""
        return int(self.params.zero_point)

    @property
    def codes_from_zero(self) -> tuple[int, int]:
        """Least and greatest value of ``code - zero_point``."""
        low, high = limits(self.params.dtype)
        return low - self.zero_point, high - self.zero_point


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One integer operation, from codes to codes.

    Attributes:
        name: The operator's name in the graph, without what converters add to it.
        inputs: Names of the activations it reads.
        output: What it writes.
        relu: Whether codes below the zero point become the zero point.
        kernel: How ONNX Runtime computes it.
        nodes: Names of the graph's nodes that make it up.
        parameters: Where each parameter lives: role to initializer.
    """

    kind: ClassVar[str] = ""
    name: str
    inputs: tuple[str, ...]
    output: Activation
    relu: bool = False
    kernel: Kernel = "integer"
    nodes: tuple[str, ...] = ()
    parameters: dict[str, str] = field(default_factory=dict)

    @property
    def operator(self) -> str:
        """The kind, for people: a dense layer has a name of its own."""
        return self.kind

    @property
    def lowest(self) -> int:
        """The least code it writes."""
        return self.output.zero_point if self.relu else limits(self.output.params.dtype)[0]


@dataclass(frozen=True, kw_only=True)
class Weighted(Layer):
    """Convolution or dense layer: ``accumulator = sum((x - zero_x) * (w - zero_w)) + bias``, then requantization.

    Attributes:
        x: The activation it reads.
        weights: Codes, int8 or uint8: (kernel rows, kernel columns, channels in, channels out); 1 x 1 for a dense
        layer.
        weight_params: Of the weights, for the tensor or for each output channel.
        bias: int32 (channels out), in units of ``scale_x * scale_w``; zeros where the graph has none.
        strides: Rows, columns.
        pads: Top, left, bottom, right; filled with the zero point of ``x``, which is real 0.
        dense: Whether the graph calls it MatMul or Gemm.
    """

    kind: ClassVar[str] = "conv"
    x: Activation
    weights: NDArray[Any]
    weight_params: QParams
    bias: NDArray[np.int32]
    has_bias: bool
    strides: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    dense: bool = False

    @property
    def operator(self) -> str:
        """``conv`` or ``dense``."""
        return "dense" if self.dense else self.kind

    @property
    def map_shape(self) -> tuple[int, ...]:
        """Shape of the input as a map: (height, width, channels); 1 x 1 for a dense layer."""
        return self.x.shape if len(self.x.shape) == 3 else (1, 1, *self.x.shape)

    @cached_property
    def matrix(self) -> NDArray[np.int64]:
        """``w - zero_w`` as (depth, channels out); depth in the order kernel row, kernel column, channel."""
        codes = self.weights.reshape(-1, self.weights.shape[-1]).astype(np.int64)
        return codes - self.weight_params.zero_point

    @property
    def real_multiplier(self) -> NDArray[np.float64]:
        """``scale_x * scale_w / scale_out``, 0-d or (channels out), float64 from the float32 scales."""
        scales = self.weight_params.scale.astype(np.float64)
        product: NDArray[np.float64] = np.asarray(np.float64(self.x.scale) * scales / np.float64(self.output.scale))
        return product

    def worst_case(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Least and greatest accumulator that any input codes can give, for each output channel, bias included.

        Each product is taken at the code that makes it least (greatest): no input can exceed it, and partial sums in
        any order stay between the two bounds without the bias extended by 0 and by the bias.
        """
        low, high = self.x.codes_from_zero
        products = np.stack([self.matrix * low, self.matrix * high])
        return products.min(axis=0).sum(axis=0) + self.bias, products.max(axis=0).sum(axis=0) + self.bias

    @property
    def macs(self) -> int:
        """Multiplications of one image, padding included."""
        height, width = self.output.shape[:2] if len(self.output.shape) == 3 else (1, 1)
        return height * width * self.matrix.size


@dataclass(frozen=True, kw_only=True)
class Product(Layer):
    """Multiplication by a constant of each channel: ``accumulator = (x - zero_x) * (c - zero_c)``."""

    kind: ClassVar[str] = "mul"
    x: Activation
    constant: NDArray[Any]
    constant_params: QParams

    @property
    def factor(self) -> NDArray[np.int64]:
        """``c - zero_c``, broadcast to the last axes."""
        return self.constant.astype(np.int64) - self.constant_params.zero_point

    @property
    def real_multiplier(self) -> NDArray[np.float64]:
        """``scale_x * scale_c / scale_out``."""
        return np.asarray(
            np.float64(self.x.scale) * np.float64(self.constant_params.scale) / np.float64(self.output.scale)
        )


@dataclass(frozen=True, kw_only=True)
class Sum(Layer):
    """Addition of a tensor, or of a constant of each channel: ``M_a * (a - zero_a) + M_b * (b - zero_b)``.

    Attributes:
        a: An activation.
        b: The other activation, or the :class:`Constant`.
    """

    kind: ClassVar[str] = "add"
    a: Activation
    b: Activation | Constant

    @property
    def real_multipliers(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """``scale_a / scale_out`` and ``scale_b / scale_out``."""
        out = np.float64(self.output.scale)
        return np.asarray(np.float64(self.a.scale) / out), np.asarray(np.float64(self.b.scale) / out)


@dataclass(frozen=True)
class Constant:
    """Codes that stand in the file, broadcast to the last axes of an activation."""

    name: str
    codes: NDArray[Any]
    params: QParams

    @property
    def scale(self) -> np.float32:
        """The scale."""
        return np.float32(self.params.scale)

    @property
    def zero_point(self) -> int:
        """The zero point."""
        return int(self.params.zero_point)


@dataclass(frozen=True, kw_only=True)
class AveragePool(Layer):
    """Mean over the whole map: ``accumulator = sum(x - zero_x)``, multiplier ``scale_x / (count * scale_out)``."""

    kind: ClassVar[str] = "average-pool"
    x: Activation

    @property
    def count(self) -> int:
        """Positions that are averaged."""
        return self.x.shape[0] * self.x.shape[1]

    @property
    def real_multiplier(self) -> NDArray[np.float64]:
        """``scale_x / (count * scale_out)``."""
        return np.asarray(np.float64(self.x.scale) / (self.count * np.float64(self.output.scale)))


@dataclass(frozen=True, kw_only=True)
class Rescale(Layer):
    """The same reals on another grid: ``accumulator = x - zero_x``, multiplier ``scale_x / scale_out``."""

    kind: ClassVar[str] = "rescale"
    x: Activation

    @property
    def real_multiplier(self) -> NDArray[np.float64]:
        """``scale_x / scale_out``."""
        return np.asarray(np.float64(self.x.scale) / np.float64(self.output.scale))


AnyLayer = Weighted | Product | Sum | AveragePool | Rescale


@dataclass(frozen=True)
class Program:
    """A network from quantized input to logits, and the float softmax behind it.

    Attributes:
        input: The codes of the images: ``quantize(pixels)``.
        layers: In the order of computation.
        logits: Name of the activation that holds the class scores.
        softmax: Whether a softmax follows (in float, on the dequantized logits).
        probabilities: Grid onto which the softmax is quantized, if it is.
    """

    input: Activation
    layers: tuple[AnyLayer, ...]
    logits: Activation
    softmax: bool
    probabilities: QParams | None

    @cached_property
    def activations(self) -> dict[str, Activation]:
        """Every activation by name."""
        return {self.input.name: self.input} | {layer.output.name: layer.output for layer in self.layers}

    def as_integer(self) -> Program:
        """The same with every layer computed in integers."""
        return replace(self, layers=tuple(replace(layer, kernel="integer") for layer in self.layers))
