"""What the choice of the calibration images moves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from resnet8.environment import Environment
from resnet8.results.comparison import NoiseSpread
from resnet8.results.storage import SCHEMA_VERSION, STRICT
from resnet8.results.sweeps import Ground, Measured


@dataclass(frozen=True)
class SeedRun:
    """A recipe carried out with the images of one calibration draw.

    Attributes:
        seed: Of the draw.
        measured: What it comes to, in exact integers.
    """

    seed: int
    measured: Measured


@dataclass(frozen=True)
class SeedStudy:
    """How far a recipe's numbers move when nothing but the calibration images does.

    Attributes:
        recipe: Name of the recipe.
        settings: Its fields.
        ground: The float model and the images, and the calibration images by the seed of their draw.
        runs: One for each seed.
    """

    recipe: str
    settings: dict[str, str | bool | int]
    ground: Ground
    runs: tuple[SeedRun, ...]
    environment: Environment
    created: str
    kind: Literal["seeds"] = "seeds"
    schema_version: Literal[1] = SCHEMA_VERSION
    __pydantic_config__ = STRICT

    @property
    def correct(self) -> NoiseSpread:
        """Of the runs' counts of correct images."""
        return NoiseSpread.of([run.measured.overall.correct for run in self.runs])

    @property
    def agreement(self) -> NoiseSpread:
        """Of the runs' counts of images with the float network's prediction."""
        return NoiseSpread.of([run.measured.agreement for run in self.runs])

    @property
    def floor_bytes(self) -> int:
        """Of all the quantized network's own numbers, in no file format: the same with every draw.

        Without scale and zero point of the images (5 bytes), which are 1 and 0 in every network.
        """
        return self.runs[0].measured.size_bytes - 5
