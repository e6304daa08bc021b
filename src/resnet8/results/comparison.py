"""Models side by side."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from resnet8.results.evaluation import DataSource, Score
from resnet8.results.storage import SCHEMA_VERSION, STRICT

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class NoiseSpread:
    """The counts of a recipe in several runs.

    In each the last bit of its float constants moves (:class:`NoiseStudy`), or other images calibrate it
    (:class:`SeedStudy`).

    Attributes:
        mean: Of the counts.
        deviation: Their standard deviation (of a sample: divided by the number of runs less one).
        least: The smallest count.
        greatest: The largest.
        runs: How many there are.
    """

    mean: float
    deviation: float
    least: int
    greatest: int
    runs: int

    @classmethod
    def of(cls, counts: Sequence[int]) -> NoiseSpread:
        """Of two counts or more."""
        return cls(statistics.fmean(counts), statistics.stdev(counts), min(counts), max(counts), len(counts))


@dataclass(frozen=True)
class ComparisonRow:
    """One model of a comparison.

    Attributes:
        file: Name of the evaluation's file in ``results/``; empty where it is not known.
        name: Recipe name, or ``fp32``.
        framework: The runtime's name for people.
        dtype: Activations and weights (:attr:`ModelDescription.dtype`).
        overall: Top-1.
        accuracy_interval: 95 % Wilson score interval of the accuracy (Wilson 1927).
        delta_points: Accuracy minus the baseline's, in percentage points.
        delta_interval: 95 % interval of ``delta_points`` for paired proportions (Wald, from the discordant pairs).
        lost: Images that the baseline has right and this model wrong.
        gained: Images that the baseline has wrong and this model right.
        p_value: Two-sided exact McNemar test of ``lost`` against ``gained`` (McNemar 1947, binomial form).
        flagged: Drop of more than the allowed points.
        size_bytes: Of the model file.
        reduction: ``1 - size / baseline size``, by the same framework's float file where there is one.
        images_per_second: Measured with this model, on the CPU of the results.
        published_correct: The published count, where the images are those of the publication.
        vnni: Whether it was measured on a CPU with VNNI.
        portable: Whether the count holds on all x86 CPUs, with VNNI or without; none where that is not known.
        candidate: Whether it may be recommended (quantized, and made by a recipe of this project).
        noise: The counts that the recipe gives when the last bit of the float constants moves; none where no study of
            the same model, images and kind of CPU is known.
        notice: What is wrong with the chain from the model's inputs to its number (:attr:`Evaluation.notice`).
        agreement: Images on which it predicts what the baseline predicts; none in older files.
        seeds: The counts that the recipe gives with other calibration draws; none where no study of the same model and
            images is known.
    """

    file: str
    name: str
    framework: str
    dtype: str
    overall: Score
    accuracy_interval: tuple[float, float]
    delta_points: float
    delta_interval: tuple[float, float]
    lost: int
    gained: int
    p_value: float
    flagged: bool
    size_bytes: int
    reduction: float
    images_per_second: float
    published_correct: int | None
    vnni: bool
    portable: bool | None
    candidate: bool
    noise: NoiseSpread | None = None
    notice: str | None = None
    agreement: int | None = None
    seeds: NoiseSpread | None = None


@dataclass(frozen=True)
class Recommendation:
    """The choice for one kind of target, and why; no choice when no candidate qualifies."""

    target: str
    choice: str | None
    reason: str


@dataclass(frozen=True)
class Comparison:
    """Models on the same images, against one baseline."""

    data: DataSource
    baseline: str
    rows: Annotated[tuple[ComparisonRow, ...], Field(min_length=1)]
    refused: dict[str, str]
    rule: str
    recommendations: tuple[Recommendation, ...]
    kind: Literal["comparison"] = "comparison"
    schema_version: Literal[1] = SCHEMA_VERSION
    __pydantic_config__ = STRICT
