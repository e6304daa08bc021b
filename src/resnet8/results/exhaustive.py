"""What a way to requantize changes on everything that any input can give: a proof, not a sample."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from resnet8.environment import Environment
from resnet8.results.evaluation import ModelDescription
from resnet8.results.storage import SCHEMA_VERSION, STRICT


@dataclass(frozen=True)
class CoveredLayer:
    """All that one layer can requantize.

    Attributes:
        layer: Its name.
        operator: ``conv``, ``dense``, ``mul``, ``bias-add``, ``residual-add``, ``average-pool`` or ``rescale``.
        channels: Output channels that are told apart; 1 of a residual add, whose channels are all alike.
        cases: Accumulators, of all channels: every whole number from the least to the greatest that input codes give
            (of a factor, every product). Of a sum all pairs of codes.
        filled: Channels in which input codes are known to give every one of them: weights of small magnitude suffice.
    """

    layer: str
    operator: str
    channels: int
    cases: int
    filled: int


@dataclass(frozen=True)
class DifferingCase:
    """Where two rules give different codes.

    Attributes:
        channel: The output channel; none of a residual add.
        at: The accumulator; of a sum the two codes, less their zero points.
        exact: The code by the exact rule.
        code: The other.
    """

    channel: int | None
    at: tuple[int, ...]
    exact: int
    code: int


@dataclass(frozen=True)
class LayerDifferences:
    """Where a way to requantize differs from the exact rule in one layer.

    Attributes:
        layer: Its name.
        differing: Cases with another code.
        channels: The same by output channel.
        largest: Largest difference, in code steps.
        smallest: The differing case of the smallest magnitude.
    """

    layer: str
    differing: int
    channels: tuple[int, ...]
    largest: int
    smallest: DifferingCase


@dataclass(frozen=True)
class ExhaustiveRow:
    """One way to requantize, against rational arithmetic.

    Attributes:
        multiplier: How multipliers are held (:data:`resnet8.numeric.variants.Multiplier`).
        rounding: How products are rounded (:data:`resnet8.numeric.variants.Rounding`).
        differing: Cases in which the exact multiplier, rounded the same way, gives another code.
        from_half_even: Cases in which the exact multiplier, rounded half to even, does.
        layers: The layers with a case of the first kind.
    """

    multiplier: str
    rounding: str
    differing: int
    from_half_even: int
    layers: tuple[LayerDifferences, ...]


@dataclass(frozen=True)
class ExhaustiveStudy:
    """What each way to requantize changes, on everything that any input can give.

    Attributes:
        model: The file.
        layers: What was covered.
        without: Layers whose accumulators stay what they are: class scores that are not quantized.
        rows: Each way to requantize.
    """

    model: ModelDescription
    layers: tuple[CoveredLayer, ...]
    without: tuple[str, ...]
    rows: tuple[ExhaustiveRow, ...]
    environment: Environment
    created: str
    kind: Literal["exhaustive"] = "exhaustive"
    schema_version: Literal[1] = SCHEMA_VERSION
    __pydantic_config__ = STRICT

    @property
    def cases(self) -> int:
        """Of all layers."""
        return sum(one.cases for one in self.layers)
