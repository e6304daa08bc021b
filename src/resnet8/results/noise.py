"""What the last bit of the float constants moves."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from resnet8.environment import Environment
from resnet8.results.comparison import NoiseSpread
from resnet8.results.evaluation import Calibration, DataSource, Score
from resnet8.results.storage import SCHEMA_VERSION, STRICT, from_digits


@dataclass(frozen=True)
class NoiseRun:
    """One quantization and evaluation of a noise study.

    Attributes:
        seed: Of the perturbation; none for the float constants as they are.
        model_sha256: Of the quantized file.
        overall: Top-1.
        predictions: Predicted class of each image, one decimal digit each.
    """

    seed: int | None
    model_sha256: str
    overall: Score
    predictions: str


@dataclass(frozen=True)
class NoiseStudy:
    """How far a recipe's count moves when nothing but the last bit of the float constants does.

    Attributes:
        recipe: Name of the recipe.
        settings: Its fields.
        source_sha256: Of the float model whose constants are perturbed.
        runtime: The one of the evaluations.
        data: The images.
        labels: True class of each image, one decimal digit each.
        calibration: The images that set the ranges.
        runs: The unperturbed one first, then one for each seed.
        perturbed: How many float constants may move, each by one ulp up, one down, or not at all.
    """

    recipe: str
    settings: dict[str, str | bool | int]
    source_sha256: str
    runtime: Annotated[str, Field(alias="backend")]
    data: DataSource
    labels: str
    calibration: Calibration
    runs: tuple[NoiseRun, ...]
    perturbed: int
    environment: Environment
    created: str
    kind: Literal["noise"] = "noise"
    schema_version: Literal[1] = SCHEMA_VERSION
    __pydantic_config__ = STRICT

    @property
    def counts(self) -> tuple[int, ...]:
        """Correct images of each perturbed run."""
        return tuple(run.overall.correct for run in self.runs if run.seed is not None)

    @property
    def spread(self) -> NoiseSpread:
        """Of the perturbed runs' counts."""
        return NoiseSpread.of(self.counts)

    @property
    def agreements(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Images that two runs predict alike: each perturbed run and the unperturbed one; each two perturbed runs."""
        unperturbed, *others = (from_digits(run.predictions) for run in self.runs)
        return (
            tuple(int((one == unperturbed).sum()) for one in others),
            tuple(int((one == other).sum()) for one, other in itertools.combinations(others, 2)),
        )
