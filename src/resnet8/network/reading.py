"""What reading a network has in common, whatever file it is in.

A reader goes through a graph's nodes in their order. A table names a handler for each operator, which looks up what the
node reads and returns what it writes: the images, an activation, a constant, the class scores. Layers are made of such
operands here, so that both readers check them alike; a handler that meets something else raises :class:`Unfit`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

import numpy as np

from resnet8.errors import ModelError, QuantizationError
from resnet8.facts import IMAGE_SHAPE
from resnet8.network.layers import AveragePool, Product, Rescale, Sum, Weighted
from resnet8.network.program import Program
from resnet8.network.tensors import Activation, Constant

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from resnet8.network.layers import AnyLayer
    from resnet8.numeric.grid import QParams

Node = TypeVar("Node")

Pads = tuple[int, int, int, int]
"""Top, left, bottom, right."""

NO_PADS: Pads = (0, 0, 0, 0)
NCHW, NHWC = [0, 3, 1, 2], [0, 2, 3, 1]
"""The order of axes that turns NHWC into NCHW, and back."""


class Unfit(Exception):  # noqa: N818 - no error that anybody sees: a reader says it of a node
    """Why a node is outside the rules."""


@dataclass(frozen=True)
class Images:
    """The pixels of a quantized network, before they are quantized."""

    name: str
    nchw: bool = False

    def turned(self, *, nchw: bool) -> Images:
        """The same in the other layout."""
        return replace(self, nchw=_other(self.nchw, nchw))


@dataclass(frozen=True)
class Tensor:
    """An activation.

    Attributes:
        activation: What it is, or was before what follows.
        real: Whether the graph has its codes dequantized here.
        relu: Whether a ReLU followed that is in no layer yet.
        pads: Zeros around it that are in no layer yet.
    """

    activation: Activation
    real: bool = False
    relu: bool = False
    pads: Pads = NO_PADS

    def turned(self, *, nchw: bool) -> Tensor:
        """The same in the other layout."""
        x = self.activation
        return replace(self, activation=replace(x, nchw=_other(x.nchw, nchw)))

    def flat(self) -> Tensor:
        """A 1 x 1 map as a vector."""
        x = self.activation
        if len(x.shape) != 3 or x.shape[:2] != (1, 1):
            raise Unfit(f"a map of shape {x.shape}; 1 x 1 is supported")
        return replace(self, activation=replace(x, shape=x.shape[2:], nchw=False))


@dataclass(frozen=True)
class Scores:
    """The end: class scores, or what comes of their softmax; ``grid`` where that is quantized."""

    logits: Activation
    grid: QParams | None
    softmax: bool = True


class Reader(Generic[Node]):
    """Makes layers of a graph's nodes.

    Attributes:
        handlers: What reads each operator.
        supported: These operators, for people.
        source: The file's path, for errors.
        quantized: Whether the graph has codes.
        values: What was read so far, by name.
        layers: The layers so far.
        input: The program's, as soon as it is known.
    """

    handlers: ClassVar[Mapping[str, Callable[[Any, Any], Any]]]
    supported: ClassVar[str]

    def __init__(self, source: str, *, quantized: bool) -> None:
        self.source = source
        self.quantized = quantized
        self.values: dict[str, Any] = {}
        self.layers: list[AnyLayer] = []
        self.input: Activation | None = None

    def operator(self, node: Node) -> str:
        """The node's operator."""
        raise NotImplementedError

    def outputs(self, node: Node) -> list[str]:
        """What the node writes that a handler returns."""
        raise NotImplementedError

    def place(self, node: Node) -> str:
        """The node, for people."""
        raise NotImplementedError

    def run(self, nodes: Iterable[Node]) -> None:
        """Read ``nodes``.

        Raises:
            ModelError: at the first that is outside the rules.
        """
        for node in nodes:
            handler = self.handlers.get(self.operator(node), _unknown)
            try:
                result, names = handler(self, node), self.outputs(node)
            except (Unfit, QuantizationError) as error:
                raise self.refused(f"{self.place(node)}: {error}", "a quantized network") from error
            self.values |= zip(names, [result] if len(names) == 1 else result, strict=True)

    def refused(self, found: str, expected: str) -> ModelError:
        """The error for a graph that has ``found``; ``expected`` of a quantized one."""
        if not self.quantized:
            return ModelError(
                f"{self.source} cannot be looked into",
                found=found,
                expected="a ResNet8 as «resnet8 convert» writes it",
            )
        return ModelError(
            f"{self.source} cannot be run in integers",
            found=found,
            expected=expected,
            remedy=f"supported: {self.supported}",
        )

    def images(self, name: str) -> Images | Tensor:
        """The images, called ``name``: of a float network they are its input."""
        if self.quantized:
            return Images(name)
        self.input = Activation(name, IMAGE_SHAPE, None)
        return Tensor(self.input)

    def begin(self, images: Images, output: str, grid: QParams) -> Tensor:
        """The images' codes, called ``output``: the program's input."""
        if self.input is not None:
            raise Unfit("the images are quantized twice")
        self.input = _on_one_grid(Activation(output, IMAGE_SHAPE, grid, images.nchw))
        return Tensor(self.input)

    def add(self, layer: AnyLayer, output: str, grid: QParams | None) -> Tensor:
        """What ``layer`` writes, now that it is known what that is called, and on which grid it is."""
        if grid is None and any(x.grid is not None for x in layer.reads):
            raise Unfit("codes that are computed with as if they were real numbers")
        activation = _on_one_grid(replace(layer.output, name=output, grid=grid))
        self.layers.append(replace(layer, output=activation))
        return Tensor(activation)

    def rescale(self, source: Tensor, output: str, grid: QParams, **facts: Any) -> Tensor:
        """Dequantized codes, quantized again: a layer, or, where both grids agree, nothing."""
        x = source.activation
        if source.relu or not grid.same_as(x.params):
            layer = Rescale(output=x, x=x, **facts | {"relu": source.relu, "kernel": "float"})
            x = self.add(layer, output, grid).activation
        return Tensor(x, pads=source.pads)

    def program(self, end: Scores) -> Program:
        """What was read, up to ``end``."""
        if self.input is None:
            raise self.refused("an output that does not depend on the images", "class scores, or their softmax")
        return Program(self.input, tuple(self.layers), end.logits, end.softmax, end.grid)


# Layers, but for the name and the grid of what they write; ``facts`` are their other attributes


def convolution(
    x: Activation,
    weights: Constant,
    bias: Constant | None,
    *,
    strides: Sequence[int],
    pads: Sequence[int],
    nchw: bool = True,
    **facts: Any,
) -> Weighted:
    """A convolution with ``weights`` as files have them: (channels out, channels in, rows, columns)."""
    shape = weights.codes.shape
    if len(x.shape) != 3 or x.nchw != nchw or len(shape) != 4 or shape[1] != x.shape[2]:
        raise Unfit(f"weights {shape} for an input {x.shape}")
    (down, across), (top, left, bottom, right) = map(int, strides), map(int, pads)
    height = (x.shape[0] + top + bottom - shape[2]) // down + 1
    width = (x.shape[1] + left + right - shape[3]) // across + 1
    output = Activation("", (height, width, shape[0]), None, nchw)
    facts |= {"strides": (down, across), "pads": (top, left, bottom, right)}
    return _weighted(x, replace(weights, codes=weights.codes.transpose(2, 3, 1, 0)), bias, output, **facts)


def dense(x: Activation, weights: Constant, bias: Constant | None, **facts: Any) -> Weighted:
    """A dense layer with ``weights`` (features in, features out)."""
    shape = weights.codes.shape
    if len(shape) != 2 or x.shape != shape[:1]:
        raise Unfit(f"weights {shape} for an input {x.shape}")
    output = Activation("", shape[1:], None)
    return _weighted(x, replace(weights, codes=weights.codes[None, None]), bias, output, dense=True, **facts)


def _weighted(x: Activation, weights: Constant, bias: Constant | None, output: Activation, **facts: Any) -> Weighted:
    weights = replace(weights, codes=np.ascontiguousarray(weights.codes))
    return Weighted(output=output, x=x, weights=weights, bias=bias, **facts)


def joined(a: Activation | Constant, b: Activation | Constant, *, multiplies: bool, **facts: Any) -> Sum | Product:
    """The product or the sum of two operands; both commute."""
    if isinstance(a, Constant):
        a, b = b, a
    if isinstance(a, Constant):
        raise Unfit("two constants")
    facts["output"] = a
    if isinstance(b, Constant):
        b = _channelwise(a, b)
        if multiplies:
            return Product(x=a, constant=b, **facts)
    elif a.shape != b.shape or a.nchw != b.nchw:
        raise Unfit(f"shapes {a.shape} and {b.shape}")
    elif multiplies:
        raise Unfit("a product of two activations")
    return Sum(a=a, b=b, **facts)


def _channelwise(x: Activation, constant: Constant) -> Constant:
    """``constant`` as one number for each channel of ``x``."""
    if constant.grid is not None and constant.grid.per_channel:
        raise Unfit("a constant with a scale for each channel")
    channels, shape = x.shape[-1], constant.codes.shape
    behind = len(x.shape) - 1 if x.nchw else 0  # axes after the channels, as the graph has them
    along = shape[len(shape) - 1 - behind] if len(shape) > behind else 0
    if constant.codes.size != 1 and (constant.codes.size, along) != (channels, channels):
        raise Unfit(f"a constant of shape {shape} for an input {x.shape}")
    return Constant(constant.name, np.broadcast_to(constant.codes.reshape(-1), (channels,)).copy(), constant.grid)


def pooled(
    x: Activation, window: Sequence[int] | None, *, nchw: bool = True, plain: bool = True, **facts: Any
) -> AveragePool:
    """The mean over the whole map: of a ``plain`` window of its size, or one that is given by none."""
    if len(x.shape) != 3 or x.nchw != nchw:
        raise Unfit(f"an input of shape {x.shape}")
    if window is not None and (tuple(window) != x.shape[:2] or not plain):
        raise Unfit(f"a window {window} on a map {x.shape[:2]}; the whole map is supported")
    return AveragePool(output=Activation("", (1, 1, x.shape[2]), None, nchw), x=x, **facts)


def clean(name: str) -> str:
    """A node's name without what converters and optimizers put before and behind it."""
    name = re.sub(r"^model(_\d+)?/", "", name)
    return re.sub(r"(_token_\d+|_quant|_nchwc|/MatMulAddFusion)+$", "", name)


def _unknown(*_: Any) -> Any:
    raise Unfit("an operator that is not supported")


def _other(before: bool, after: bool) -> bool:
    if before is after:
        raise Unfit("a tensor that has this layout already")
    return after


def _on_one_grid(activation: Activation) -> Activation:
    if activation.grid is not None and activation.grid.per_channel:
        raise Unfit("an activation with a scale for each channel")
    return activation
