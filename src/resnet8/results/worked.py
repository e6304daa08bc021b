"""A network's arithmetic in numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from resnet8.environment import Environment
from resnet8.results.evaluation import DataSource, ModelDescription
from resnet8.results.storage import SCHEMA_VERSION, STRICT


@dataclass(frozen=True)
class GridRange:
    """Scale and zero point of a tensor; least and greatest where each channel has its own."""

    dtype: str
    scales: tuple[float, float]
    zero_points: tuple[int, int]
    channels: int | None


@dataclass(frozen=True)
class LayerFacts:
    """The parameters of one integer layer.

    Attributes:
        layer: Its name.
        operator: ``conv``, ``dense``, ``mul``, ``bias-add``, ``residual-add``, ``average-pool`` or ``rescale``.
        reads: Activations it reads.
        writes: The activation it writes.
        output_shape: NHWC without the batch axis.
        weight_shape: (kernel rows, kernel columns, channels in, channels out).
        inputs: GridRange of each input.
        weights: GridRange of the weights, or of the constant factor.
        bias: Whether there is one; none where there cannot be.
        output: GridRange of the output.
        multipliers: Real multipliers, least and greatest of the channels; two for a sum.
        fixed_multipliers: The same as 32-bit integers.
        shifts: And how far their products are shifted to the right.
        parameters: Where each parameter lives: role to initializer.
        strides: Of a convolution: rows, columns; else none.
        pads: Likewise: top, left, bottom, right, which may be uneven.
    """

    layer: str
    operator: str
    reads: tuple[str, ...]
    writes: str
    output_shape: tuple[int, ...]
    weight_shape: tuple[int, ...] | None
    inputs: tuple[GridRange, ...]
    weights: GridRange | None
    bias: bool | None
    output: GridRange
    multipliers: tuple[tuple[float, float], ...]
    fixed_multipliers: tuple[tuple[int, int], ...]
    shifts: tuple[tuple[int, int], ...]
    parameters: dict[str, str]
    strides: tuple[int, int] | None = None
    pads: tuple[int, int, int, int] | None = None


@dataclass(frozen=True)
class PixelExample:
    """A pixel of the input and its code."""

    row: int
    column: int
    channel: int
    real: float
    code: int


@dataclass(frozen=True)
class Term:
    """A term of a sum, less the zero points: ``a * b``, or ``a`` alone."""

    a: int
    b: int | None


@dataclass(frozen=True)
class WorkedExample:
    """One output code, step by step.

    Attributes:
        layer: Its layer.
        operator: As in :class:`LayerFacts`.
        at: Row, column, channel of the output.
        terms: What is summed up; the two addends of a sum.
        bias: What is added to it.
        accumulator: The sum; none for a sum of two tensors, which are multiplied first.
        multipliers: Real multipliers of this channel.
        fixed_multipliers: As 32-bit integers.
        shift: To the right.
        before_rounding: The exact value, in code steps.
        zero_point: Added after rounding.
        code: The result with float32 multipliers.
        code_fixed: The result with 32-bit fixed point.
    """

    layer: str
    operator: str
    at: tuple[int, ...]
    terms: tuple[Term, ...]
    bias: int | None
    accumulator: int | None
    multipliers: tuple[float, ...]
    fixed_multipliers: tuple[int, ...]
    shift: int
    before_rounding: float
    zero_point: int
    code: int
    code_fixed: int


@dataclass(frozen=True)
class ClassExample:
    """What becomes of one class behind the last integer layer.

    Attributes:
        class_name: Its name.
        code: Of its logit.
        real: The logit, dequantized.
        probability: By softmax, in float32; none where the graph has no softmax.
        probability_code: Of the probability, where the file quantizes it; else none.
    """

    class_name: str
    code: int
    real: float
    probability: float | None
    probability_code: int | None


@dataclass(frozen=True)
class WorkedArithmetic:
    """A model's arithmetic in numbers.

    Attributes:
        image: Index of the image that is worked through.
        label: Its class.
        input: Grid of the input.
        pixels: Some of its pixels.
        layers: The parameters of every layer.
        examples: One output of each kind of layer.
        logits: Grid of the logits.
        probabilities: Grid of the probabilities, where the file quantizes them; else none.
        classes: From logit to probability, in class order.
    """

    model: ModelDescription
    data: DataSource
    image: int
    label: str
    input: GridRange
    pixels: tuple[PixelExample, ...]
    layers: tuple[LayerFacts, ...]
    examples: tuple[WorkedExample, ...]
    logits: GridRange
    probabilities: GridRange | None
    classes: tuple[ClassExample, ...]
    environment: Environment
    created: str
    kind: Literal["worked"] = "worked"
    schema_version: Literal[1] = SCHEMA_VERSION
    __pydantic_config__ = STRICT
