"""What simulators and synthesis say about an exported network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from resnet8.environment import Environment
from resnet8.results.evaluation import DataSource, ModelDescription
from resnet8.results.storage import SCHEMA_VERSION, STRICT


@dataclass(frozen=True)
class RtlRun:
    """A run of the testbench over everything; none is wrong, or there were no result.

    Attributes:
        simulator: As it names itself, with its version.
        values: Compared: accumulators, codes, words, flags.
    """

    simulator: str
    values: int


@dataclass(frozen=True)
class RtlUnit:
    """A unit, synthesized to generic cells with the widths of a layer.

    Attributes:
        layer: The layer's folder.
        unit: The module.
        cells: Their number, flip-flops included.
        accumulator_width: Bits; none of a sum of two tensors.
        multiplier_width: Bits.
        numerator_width: Bits of accumulator times multiplier.
    """

    layer: str
    unit: str
    cells: int
    accumulator_width: int | None
    multiplier_width: int
    numerator_width: int


@dataclass(frozen=True)
class RtlCheck:
    """A network exported by «export rtl», checked and synthesized (``tools/rtl_evidence``).

    Attributes:
        model: The quantized file.
        data: The images' source.
        requantization: Multiplier and rounding, as ``fixed32/half-even``.
        word: Bytes of a word, and lanes of a unit.
        images: How many.
        layers: How many.
        runs: By each simulator.
        synthesizer: As it names itself, with its version.
        units: The widest of each kind.
    """

    model: ModelDescription
    data: DataSource
    requantization: str
    word: int
    images: int
    layers: int
    runs: tuple[RtlRun, ...]
    synthesizer: str
    units: tuple[RtlUnit, ...]
    environment: Environment
    created: str
    kind: Literal["rtl"] = "rtl"
    schema_version: Literal[1] = SCHEMA_VERSION
    __pydantic_config__ = STRICT
