"""A network is a list of layers over tensors; a tensor has a grid, then it holds codes, or none, then real numbers.

A float network is one whose tensors have no grid. Tensors are NHWC without the batch axis: ``(height, width,
channels)`` or ``(features,)``. A layer knows its operands, constants and bounds; what runs it is in
:mod:`resnet8.execute`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np

from resnet8.network import spans
from resnet8.network.tensors import Activation, Constant, accumulator_step
from resnet8.numeric.grid import limits

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from resnet8.network.spans import Spans
    from resnet8.numeric.variants import Rounding

Kernel = Literal["integer", "float"]
"""How ONNX Runtime computes a layer: with a quantized kernel, or by a float operator on dequantized codes."""


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One operation.

    Attributes:
        name: The operator's name in the graph, without what converters add to it.
        output: What it writes.
        relu: Whether what is below real 0 becomes real 0.
        rounding: How codes are rounded, where the layer has a way of its own.
        kernel: How ONNX Runtime computes it.
        nodes: Names of the graph's nodes that make it up.
        bias: Of a convolution or dense layer, (channels out), where the file gives one: int32 in units of ``scale_x *
            scale_w``, or float32.
        real_bias: float32 (channels out), where a file gives the bias of a quantized layer as real numbers: ``bias`` is
            it, rounded to accumulator steps.
    """

    kind: ClassVar[str] = ""
    operands: ClassVar[tuple[str, ...]] = ("x",)
    fixed: ClassVar[str] = ""
    """The attribute that holds its weights or its constant."""
    name: str
    output: Activation
    relu: bool = False
    rounding: Rounding | None = None
    kernel: Kernel = "integer"
    nodes: tuple[str, ...] = ()
    bias: Constant | None = None
    real_bias: NDArray[np.float32] | None = None

    @property
    def operator(self) -> str:
        """The kind, for people: a dense layer has a name of its own."""
        return self.kind

    @property
    def reads(self) -> tuple[Activation, ...]:
        """The activations it reads, in order."""
        return tuple(one for name in self.operands if isinstance(one := getattr(self, name), Activation))

    @property
    def inputs(self) -> tuple[str, ...]:
        """Their names."""
        return tuple(one.name for one in self.reads)

    @property
    def sources(self) -> tuple[tuple[str, Activation | Constant], ...]:
        """What is added up or multiplied by weights, by its name in formulas: ``x``, or the addends ``a`` and ``b``."""
        return tuple((name, getattr(self, name)) for name in self.operands)

    @property
    def residual(self) -> bool:
        """Whether it joins two activations."""
        return len(self.reads) == 2

    @property
    def parameter(self) -> Constant | None:
        """Its weights, or its constant; none where it has neither."""
        one = getattr(self, self.fixed, None)
        return one if isinstance(one, Constant) else None

    @property
    def parameters(self) -> dict[str, str]:
        """Where each parameter lives: role to initializer."""
        found = {"constant" if self.added is None else "weights": self.parameter, "bias": self.bias}
        return {role: one.name for role, one in found.items() if one is not None}

    @property
    def multiplied(self) -> Constant | None:
        """What the input is multiplied by: weights or a factor; none where it is not."""
        return None if self.fixed in self.operands else self.parameter

    @property
    def added(self) -> NDArray[Any] | None:
        """What is added to the products of each output channel: the bias; none where a layer of this kind has none."""
        return None

    @property
    def added_real(self) -> NDArray[np.float64] | None:
        """The same as real numbers."""
        return None

    @property
    def step(self) -> NDArray[np.float64] | None:
        """What a step of the bias stands for; none of real numbers, and where a layer of this kind has no bias."""
        return None

    @property
    def role(self) -> str:
        """The operator, told from others of its kind by what it does in a network."""
        return self.operator

    @property
    def window(self) -> Weighted | None:
        """The layer itself, if it moves a window over a map: a convolution."""
        return None

    @property
    def macs(self) -> int:
        """Multiplications of one image by weights, padding included."""
        return 0

    @property
    def count(self) -> int:
        """Positions that are averaged."""
        return 1

    @property
    def real_multiplier(self) -> NDArray[np.float64]:
        """What the accumulator is multiplied by, as of :attr:`real_multipliers`.

        Raises:
            TypeError: for a sum.
        """
        if len(self.operands) > 1:
            raise TypeError(f"{self.name} has no accumulator but two addends")
        return self.real_multipliers[0]

    @property
    def real_multipliers(self) -> tuple[NDArray[np.float64], ...]:
        """What the accumulator, or each addend, is multiplied by: ``scale_x * scale_w / (count * scale_out)``.

        Without the factors that the layer lacks; float64 from the float32 scales, 0-d or (channels out).
        """
        factor = 1.0 if self.multiplied is None else self.multiplied.params.scale.astype(np.float64)
        out = self.count * np.float64(self.output.scale)
        return tuple(np.asarray(np.float64(one.scale) * factor / out) for _, one in self.sources)

    def accumulators(self) -> tuple[int, int] | None:
        """Least and greatest accumulator that any input codes can give; none of a sum, which has two addends."""
        return None

    def partial_sums(self) -> tuple[int, int] | None:
        """Least and greatest sum on the way to an accumulator, in any order; the bias is added last."""
        return self.accumulators()

    def spans(self) -> Spans | None:
        """The accumulators that any input codes can give, for each output channel; none of a sum."""
        return None

    def on(self, change: Callable[[Activation], Activation]) -> Self:
        """The same layer between other activations: ``change`` of those it reads, and of the one it writes."""
        read: dict[str, Any] = {
            name: change(one) for name in self.operands if isinstance(one := getattr(self, name), Activation)
        }
        return replace(self, output=change(self.output), **read)

    def with_parameter(self, parameter: Constant) -> Self:
        """The same layer with other weights, or another constant.

        Raises:
            TypeError: when it has none.
        """
        if self.parameter is None:
            raise TypeError(f"{self.name} has neither weights nor a constant: {parameter.name}")
        changed: dict[str, Any] = {self.fixed: parameter}
        return replace(self, **changed)

    @property
    def lowest(self) -> int:
        """The least code it writes."""
        return self.output.zero_point if self.relu else limits(self.output.params.dtype)[0]

    @property
    def highest(self) -> int:
        """The greatest code it writes."""
        return limits(self.output.params.dtype)[1]


@dataclass(frozen=True, kw_only=True)
class Weighted(Layer):
    """Convolution or dense layer: ``accumulator = sum((x - zero_x) * (w - zero_w)) + bias``, then requantization.

    Attributes:
        x: The activation it reads.
        weights: (kernel rows, kernel columns, channels in, channels out), 1 x 1 for a dense layer; on one grid, or one
            for each output channel.
        strides: Rows, columns.
        pads: Top, left, bottom, right; filled with the zero point of ``x``, which is real 0.
        dense: Whether the graph calls it MatMul or Gemm.
    """

    kind: ClassVar[str] = "conv"
    fixed: ClassVar[str] = "weights"
    x: Activation
    weights: Constant
    strides: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    dense: bool = False

    @property
    def operator(self) -> str:
        """``conv`` or ``dense``."""
        return "dense" if self.dense else self.kind

    @property
    def window(self) -> Weighted | None:
        """The layer itself; none of a dense layer."""
        return None if self.dense else self

    @property
    def added(self) -> NDArray[Any]:
        """The bias; zeros where the file gives none."""
        if self.bias is not None:
            return self.bias.codes
        return np.zeros(self.weights.shape[-1], np.float32 if self.weights.grid is None else np.int32)

    def accumulators(self) -> tuple[int, int]:
        """Least and greatest accumulator that any input codes can give, bias included."""
        low, high = self.worst_case()
        return int(low.min()), int(high.max())

    def partial_sums(self) -> tuple[int, int]:
        """Least and greatest sum on the way to an accumulator: without the bias they lie between its bounds and 0."""
        least, greatest = self.worst_case()
        sums = np.stack([least, greatest, least - self.added, greatest - self.added])
        return min(0, int(sums.min())), max(0, int(sums.max()))

    @property
    def step(self) -> NDArray[np.float64] | None:
        """What a step of the accumulator, and of the bias, stands for: ``scale_x * scale_w``, 0-d or (channels out)."""
        grid = self.weights.grid
        return None if grid is None else accumulator_step(self.x, grid)

    @property
    def added_real(self) -> NDArray[np.float64]:
        """The bias as real numbers, (channels out); zeros where the file gives none."""
        if self.real_bias is not None:
            return self.real_bias.astype(np.float64)
        return self.added * (1.0 if self.step is None else self.step)

    @property
    def map_shape(self) -> tuple[int, ...]:
        """Shape of the input as a map: (height, width, channels); 1 x 1 for a dense layer."""
        return self.x.shape if len(self.x.shape) == 3 else (1, 1, *self.x.shape)

    @cached_property
    def matrix(self) -> NDArray[np.int64]:
        """``w - zero_w`` as (depth, channels out); depth in the order kernel row, kernel column, channel."""
        return self.weights.columns.astype(np.int64) - self.weights.params.zero_point

    def worst_case(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Least and greatest accumulator that any input codes can give, for each output channel, bias included.

        Each product is taken at the code that makes it least (greatest): no input can exceed it, and partial sums in
        any order stay between the two bounds without the bias extended by 0 and by the bias.
        """
        found = self.spans()
        return found.low, found.high

    def spans(self) -> Spans:
        """Sums of products, bias included."""
        return spans.of_sums(self.matrix, self.added.astype(np.int64), self.x.codes_from_zero)

    @property
    def macs(self) -> int:
        """Multiplications of one image by weights, padding included."""
        height, width = self.output.shape[:2] if len(self.output.shape) == 3 else (1, 1)
        return height * width * self.weights.codes.size


@dataclass(frozen=True, kw_only=True)
class Product(Layer):
    """Multiplication by a constant of each channel: ``accumulator = (x - zero_x) * (c - zero_c)``."""

    kind: ClassVar[str] = "mul"
    fixed: ClassVar[str] = "constant"
    x: Activation
    constant: Constant

    def accumulators(self) -> tuple[int, int]:
        """Least and greatest product that any input codes can give."""
        products = np.multiply.outer(self.factor, np.array(self.x.codes_from_zero))
        return int(products.min()), int(products.max())

    def spans(self) -> Spans:
        """A product for each code, by the factor's magnitude."""
        return spans.of_factors(np.broadcast_to(self.factor, self.output.shape[-1:]), self.x.codes_from_zero)

    @property
    def factor(self) -> NDArray[np.int64]:
        """``c - zero_c``, broadcast to the last axes."""
        return self.constant.codes.astype(np.int64) - self.constant.zero_point


@dataclass(frozen=True, kw_only=True)
class Sum(Layer):
    """Addition of a tensor, or of a constant of each channel: ``M_a * (a - zero_a) + M_b * (b - zero_b)``.

    Attributes:
        a: An activation.
        b: The other activation, or the :class:`Constant`.
    """

    kind: ClassVar[str] = "add"
    operands: ClassVar[tuple[str, ...]] = ("a", "b")
    fixed: ClassVar[str] = "b"
    a: Activation
    b: Activation | Constant

    @property
    def role(self) -> str:
        """``bias-add`` of a constant, ``residual-add`` of two activations."""
        return "bias-add" if self.parameter is not None else "residual-add"


@dataclass(frozen=True, kw_only=True)
class AveragePool(Layer):
    """Mean over the whole map: ``accumulator = sum(x - zero_x)``, multiplier ``scale_x / (count * scale_out)``."""

    kind: ClassVar[str] = "average-pool"
    x: Activation

    @property
    def count(self) -> int:
        """Positions that are averaged."""
        return self.x.shape[0] * self.x.shape[1]

    def accumulators(self) -> tuple[int, int]:
        """Least and greatest sum that any input codes can give."""
        low, high = self.x.codes_from_zero
        return low * self.count, high * self.count

    def spans(self) -> Spans:
        """Every sum, by ones."""
        return spans.by_ones(self.accumulators(), self.output.shape[-1])


@dataclass(frozen=True, kw_only=True)
class Rescale(Layer):
    """The same reals on another grid: ``accumulator = x - zero_x``, multiplier ``scale_x / scale_out``."""

    kind: ClassVar[str] = "rescale"
    x: Activation

    def accumulators(self) -> tuple[int, int]:
        """Least and greatest difference from the zero point."""
        return self.x.codes_from_zero

    def spans(self) -> Spans:
        """Every difference, by ones."""
        return spans.by_ones(self.accumulators(), self.output.shape[-1])


AnyLayer = Weighted | Product | Sum | AveragePool | Rescale
