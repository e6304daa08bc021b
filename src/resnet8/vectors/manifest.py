"""What an exported folder holds, as a value: ``manifest.json``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from pydantic import ConfigDict

from resnet8.environment import Environment  # noqa: TC001 - pydantic reads the annotations when it runs
from resnet8.numeric.grid import limits, signed_bits
from resnet8.results import DataSource, ModelDescription  # noqa: TC001

SCHEMA_VERSION: Literal[1] = 1


NETWORK, CONSTANT, EDGE = "network", "constant", "edge"
"""Sources of what a layer reads, besides the folders of other layers: the images, the model, the edge case itself."""


@dataclass(frozen=True)
class Coverage:
    """What the numbers of a layer exercise.

    Attributes:
        saturated_low: Codes that were raised to the lowest code (by a ReLU, or the least of the type).
        saturated_high: Codes that were cut to the highest.
        ties: Quotients that end in exactly one half, before rounding.
        padded_positions: Positions outside the map that the kernel reads for one image, each counted for each window.
    """

    saturated_low: int
    saturated_high: int
    ties: int
    padded_positions: int


@dataclass(frozen=True)
class CodesRecord:
    """Codes that a layer reads or writes.

    Attributes:
        source: The folder of the layer that writes them, :data:`NETWORK`, :data:`CONSTANT` or :data:`EDGE`.
        shape: Of one image, NHWC without the batch axis.
        dtype: ``int8`` or ``uint8``.
        zero_point: The code of real 0.
        scale: Real value of a step; no arithmetic here needs it.
    """

    source: str
    shape: tuple[int, ...]
    dtype: str
    zero_point: int
    scale: float


@dataclass(frozen=True)
class ArrayRecord:
    """How to read one file of hex.

    Attributes:
        dtype: ``int8``, ``uint8``, ``int32`` or ``int64``.
        bits: Of a line.
        signed: Whether a line is in two's complement.
        shape: Lines are its elements, the last axis varying fastest; empty for a single number.
        axes: Its axes, outermost first, separated by commas.
    """

    dtype: str
    bits: int
    signed: bool
    shape: tuple[int, ...]
    axes: str


@dataclass(frozen=True)
class LayerRecord:
    """One layer, of the network or an edge case.

    Attributes:
        folder: Where its files are.
        name: Of the operator in the model; of an edge case its purpose.
        kind: ``conv``, ``dense``, ``mul``, ``add``, ``average-pool`` or ``rescale``.
        inputs: What it reads: codes of one or two tensors.
        output: What it writes.
        lowest: The least code it writes: above the type's where a ReLU is fused.
        weights_shape: (out, kernel rows, kernel columns, in); none but for conv and dense.
        weights_dtype: Likewise.
        weights_zero_point: One, or one for each output channel; likewise.
        strides: Rows, columns.
        pads: Top, left, bottom, right.
        multiplier: One, or one for each output channel; of a sum, the two addends'.
        shift: Likewise; the two addends of a sum share theirs.
        accumulator_bounds: Least and greatest accumulator (partial sums included) of any input; none for a sum.
        accumulator_bits: Width of a signed register for them.
        accumulator_seen: Least and greatest accumulator in the exported vectors.
        coverage: What the exported vectors exercise.
        codes: Output codes in the exported vectors.
        differing_from_ort: How many of them differ from ONNX Runtime's; none where it has no such layer.
        arising: How many differ when the layer reads ONNX Runtime's codes: how many differences begin here; likewise.
        weights_scale: float32 scale of the weights or of a factor: one, or one for each output channel. With those of
            the inputs and the output it gives the multiplier.
        count: Positions that an average pool divides by; else 1.
        tiles: Rows of each partial sum, where these were asked for; only of conv and dense.
    """

    folder: str
    name: str
    kind: str
    inputs: tuple[CodesRecord, ...]
    output: CodesRecord
    lowest: int
    weights_shape: tuple[int, ...] | None
    weights_dtype: str | None
    weights_zero_point: tuple[int, ...] | None
    strides: tuple[int, int] | None
    pads: tuple[int, int, int, int] | None
    multiplier: tuple[int, ...]
    shift: tuple[int, ...]
    accumulator_bounds: tuple[int, int] | None
    accumulator_bits: int | None
    accumulator_seen: tuple[int, int] | None
    coverage: Coverage
    codes: int
    differing_from_ort: int | None = None
    arising: int | None = None
    weights_scale: tuple[float, ...] | None = None
    count: int = 1
    tiles: tuple[int, ...] | None = None

    @property
    def multiplier_bits(self) -> int:
        """Width of an unsigned register for every multiplier."""
        return max(number.bit_length() for number in self.multiplier)

    @property
    def product_bits(self) -> int:
        """Width of a signed register for what is shifted, whatever the input: a product, or of a sum both, added."""
        if self.accumulator_bounds is not None:
            low, high = (end * max(self.multiplier) for end in self.accumulator_bounds)
        else:
            ends = [[end - one.zero_point for end in limits(one.dtype)] for one in self.inputs]
            low, high = (
                sum(one[which] * number for one, number in zip(ends, self.multiplier, strict=True)) for which in (0, 1)
            )
        return signed_bits(low, high)

    @property
    def operands(self) -> dict[str, CodesRecord]:
        """What it reads, by its name in formulas and files: ``x``, or the addends ``a`` and ``b``."""
        return dict(zip("ab" if len(self.inputs) == 2 else "x", self.inputs, strict=True))


@dataclass(frozen=True)
class OrtDifferences:
    """The exported codes against ONNX Runtime, which computes with float multipliers.

    Attributes:
        layers: Layers that both have.
        codes: Output codes compared.
        differing: How many differ.
        arising: How many differ when each layer reads ONNX Runtime's codes.
        largest_difference: In code steps.
        predictions: ONNX Runtime's class of each image.
        predictions_agree: Whether all are the exported ones.
    """

    layers: int
    codes: int
    differing: int
    arising: int
    largest_difference: int
    predictions: tuple[int, ...]
    predictions_agree: bool


@dataclass(frozen=True)
class VectorSet:
    """An exported folder of golden vectors.

    Attributes:
        model: The quantized file.
        data: The images' source.
        requantization: Multiplier and rounding, as ``fixed32/half-even``.
        images: Indices in the split.
        labels: True class of each image.
        predictions: Class of each image by the exported logits.
        input: The images' codes.
        logits: Folder of the layer that writes the class scores.
        layers: In the order of computation.
        edges: The edge cases.
        ort: Differences from ONNX Runtime; none where it was not asked.
        files: SHA-256 of every file but this one, by its path in the folder.
        arrays: How to read each file of hex, by its path in the folder.
        broadcast: Whether multiplier, shift and zero point of weights are one for each output channel in every layer.
        intermediates: What of a layer's inside was asked for, besides the accumulator: as options name it.
    """

    model: ModelDescription
    data: DataSource
    requantization: str
    images: tuple[int, ...]
    labels: tuple[int, ...]
    predictions: tuple[int, ...]
    input: CodesRecord
    logits: str
    layers: tuple[LayerRecord, ...]
    edges: tuple[LayerRecord, ...]
    ort: OrtDifferences | None
    files: dict[str, str]
    environment: Environment
    created: str
    arrays: dict[str, ArrayRecord] = field(default_factory=dict)
    broadcast: bool = False
    intermediates: tuple[str, ...] = ()
    kind: Literal["vectorset"] = "vectorset"
    schema_version: Literal[1] = SCHEMA_VERSION
    __pydantic_config__ = ConfigDict(extra="forbid")
