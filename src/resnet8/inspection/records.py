"""What «inspect operations» says: every quantized operation as a node of the graph, and the layers they make up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from resnet8.environment import Environment
from resnet8.results import SCHEMA_VERSION, STRICT, ModelDescription


@dataclass(frozen=True)
class GraphTensor:
    """A tensor of the graph, empty name for an input that is left out.

    Attributes:
        name: In the graph.
        dtype: Of its elements, where it is known.
        shape: As it lies in the graph, named axes as their names, where it is known.
    """

    name: str
    dtype: str | None
    shape: tuple[int | str, ...] | None


@dataclass(frozen=True)
class Parameter:
    """Where a constant lives in the file.

    Attributes:
        initializer: Its name.
        dtype: Of its elements.
        shape: As it lies in the file.
        size_bytes: Of its elements.
    """

    initializer: str
    dtype: str
    shape: tuple[int, ...]
    size_bytes: int


@dataclass(frozen=True)
class Grid:
    """What codes mean: ``real = scale * (code - zero_point)``.

    Attributes:
        scale: One, or one for each channel; the float32 of the file, exactly.
        zero_point: One, or one for each channel.
        dtype: Of the codes.
        axis: The tensor's axis that the channels lie along; none for one scale.
    """

    scale: float | tuple[float, ...]
    zero_point: int | tuple[int, ...]
    dtype: str
    axis: int | None


@dataclass(frozen=True)
class Node:
    """A node with a quantized operator.

    Attributes:
        index: Its place in the graph, from 0.
        domain: Of its operator; ``ai.onnx`` for ONNX's own.
        attributes: As the file gives them.
        grids: Scale and zero point of each tensor it takes or makes, by role (:data:`ROLES`).
        parameters: The inputs that are constants in the file, by role.
    """

    index: int
    name: str
    op_type: str
    domain: str
    inputs: tuple[GraphTensor, ...]
    outputs: tuple[GraphTensor, ...]
    attributes: dict[str, int | float | str | tuple[int | float | str, ...]]
    grids: dict[str, Grid]
    parameters: dict[str, Parameter]


@dataclass(frozen=True)
class Codes:
    """An activation.

    Attributes:
        name: Of the tensor in the graph.
        shape: Without the batch axis, NHWC.
        dtype: Of the codes.
        nchw: Whether the graph holds it as (channels, height, width).
    """

    name: str
    shape: tuple[int, ...]
    scale: float
    zero_point: int
    dtype: str
    nchw: bool


@dataclass(frozen=True)
class Weights:
    """The constant operand of a layer.

    Attributes:
        shape: (kernel rows, kernel columns, channels in, channels out), 1 x 1 for a dense layer; (channels,) for the
            constant of a product or sum.
        grid: Of its codes; ``axis`` counts the axes of ``shape``.
        codes_used: How many of the data type's values occur.
        codes_unused: How many do not.
    """

    shape: tuple[int, ...]
    grid: Grid
    codes_used: int
    codes_unused: int


@dataclass(frozen=True)
class Accumulator:
    """What the integer sum can come to, over any input codes and all output channels, bias included.

    Attributes:
        low: At least.
        high: At most.
        bits: Of the narrowest signed integer that holds both.
    """

    low: int
    high: int
    bits: int


@dataclass(frozen=True)
class Member:
    """A node of a layer."""

    index: int
    name: str
    op_type: str


@dataclass(frozen=True)
class Layer:
    """One integer operation, from codes to codes (:mod:`resnet8.network.layers`).

    Attributes:
        name: The operator's, without what converters add to it.
        kind: ``conv``, ``dense``, ``mul``, ``add``, ``average-pool`` or ``rescale``.
        residual: Whether it adds two activations.
        form: How the file writes it: ``qlinear``, one operator on codes, or ``qdq``, a float operator between
            DequantizeLinear and QuantizeLinear.
        relu: Whether a Relu stands in it. An output whose zero point is its least code has the effect without one.
        inputs: What it reads, with the grids it reads them on.
        output: What it writes.
        weights: Its constant operand, if it has one.
        bias: Whether it has an int32 bias.
        strides: Rows, columns; of a convolution only.
        pads: Top, left, bottom, right; of a convolution only.
        multipliers: What takes the accumulator to the output's steps, float64; in place of a number, one for each
            output channel. Two for a sum, one for each operand; else one.
        scale_ratio: Scale of the first input over that of the second; of a residual sum only.
        accumulator: Its worst case; none for a sum, whose operands are rescaled before they meet.
        macs: Multiply-accumulate operations for one image, padding included; of convolutions and dense layers.
        nodes: Of the graph, those that make it up; a DequantizeLinear that two layers read stands in both.
        parameters: Where weights, bias and constants live.
    """

    name: str
    kind: str
    residual: bool
    form: Literal["qlinear", "qdq"]
    relu: bool
    inputs: tuple[Codes, ...]
    output: Codes
    weights: Weights | None
    bias: bool
    strides: tuple[int, int] | None
    pads: tuple[int, int, int, int] | None
    multipliers: tuple[float | tuple[float, ...], ...]
    scale_ratio: float | None
    accumulator: Accumulator | None
    macs: int
    nodes: tuple[Member, ...]
    parameters: dict[str, Parameter]


@dataclass(frozen=True)
class Operations:
    """The quantized operations of a file.

    Attributes:
        model: The file.
        nodes: Those with a quantized operator, in the order of the graph.
        layers: In the order of computation.
        input: The quantized images.
        logits: Name of the activation that holds the class scores.
        softmax: Whether a softmax follows; in float, whatever the file says, for its input is dequantized.
        probabilities: Onto which the softmax is quantized, if it is.
    """

    model: ModelDescription
    nodes: tuple[Node, ...]
    layers: tuple[Layer, ...]
    input: Codes
    logits: str
    softmax: bool
    probabilities: Grid | None
    environment: Environment
    created: str
    kind: Literal["operations"] = "operations"
    schema_version: Literal[1] = SCHEMA_VERSION
    __pydantic_config__ = STRICT
