"""What other ways to requantize and to accumulate change."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from resnet8.environment import Environment
from resnet8.results.evaluation import DataSource, ModelDescription, Score
from resnet8.results.storage import SCHEMA_VERSION, STRICT


@dataclass(frozen=True)
class RequantizationRow:
    """One way to requantize, against float32 multipliers rounded half to even.

    Attributes:
        multiplier: How multipliers are held (:data:`resnet8.numeric.variants.Multiplier`).
        rounding: How products are rounded (:data:`resnet8.numeric.variants.Rounding`).
        codes: Codes compared with every layer fed the same codes in both, on the first ``isolated_images``.
        changed: How many of them differ.
        largest_difference: In code steps (LSB).
        changed_logits: Logits that differ, each variant fed with its own codes from the input on, on all images.
        changed_predictions: Images whose predicted class differs.
        overall: Top-1.
    """

    multiplier: str
    rounding: str
    codes: int
    changed: int
    largest_difference: int
    changed_logits: int
    changed_predictions: int
    overall: Score


@dataclass(frozen=True)
class RequantizationStudy:
    """What each way to requantize changes."""

    model: ModelDescription
    data: DataSource
    images: int
    isolated_images: int
    rows: tuple[RequantizationRow, ...]
    environment: Environment
    created: str
    kind: Literal["requantization"] = "requantization"
    schema_version: Literal[1] = SCHEMA_VERSION
    __pydantic_config__ = STRICT


@dataclass(frozen=True)
class AccumulatorRow:
    """The accumulator of one layer: ``sum((x - zero_x) * (w - zero_w)) + bias``.

    Attributes:
        layer: Its name.
        operator: ``conv`` or ``dense``.
        depth: Products in each sum.
        observed: Least and greatest, over the images and all channels.
        worst_case: Least and greatest that any codes of the input's type can give with these weights, partial sums in
            any order among them; the bias is added last.
        observed_bits: Width of the two's complement number that holds ``observed``.
        safe_bits: Likewise ``worst_case``: the least width that is safe for every input.
    """

    layer: str
    operator: str
    depth: int
    observed: tuple[int, int]
    worst_case: tuple[int, int]
    observed_bits: int
    safe_bits: int


@dataclass(frozen=True)
class WidthRow:
    """What a narrower accumulator does.

    Attributes:
        bits: Its width, in every layer.
        overflow: ``wrap`` (the low bits are kept) or ``saturate`` (of the whole sum, at its end).
        layers: Layers whose sums leave that width on these images.
        overall: Top-1.
    """

    bits: int
    overflow: str
    layers: tuple[str, ...]
    overall: Score


@dataclass(frozen=True)
class AccumulatorAudit:
    """How wide accumulators are, and how wide they must be.

    Attributes:
        requantization: Multiplier and rounding that all runs have in common.
    """

    model: ModelDescription
    data: DataSource
    images: int
    layers: tuple[AccumulatorRow, ...]
    exact: Score
    widths: tuple[WidthRow, ...]
    environment: Environment
    created: str
    requantization: str = "float32/half-even"
    kind: Literal["accumulators"] = "accumulators"
    schema_version: Literal[1] = SCHEMA_VERSION
    __pydantic_config__ = STRICT
