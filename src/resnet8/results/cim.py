"""What compute-in-memory arrays make of a quantized network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from resnet8.environment import Environment
from resnet8.results.evaluation import DataSource, ModelDescription, Score
from resnet8.results.storage import SCHEMA_VERSION, STRICT, from_digits


@dataclass(frozen=True)
class MeasuredArrays:
    """What arrays answer on a block of images.

    Attributes:
        predictions: Predicted class of each image, one decimal digit each.
        clipped: Sums that left the ADC's range, by layer.
        seconds: How long that took, on one thread.
    """

    predictions: str
    clipped: dict[str, int]
    seconds: float


@dataclass(frozen=True)
class KeptArrays:
    """A measured block as it is kept, so that an interrupted run goes on.

    Attributes:
        facts: All that decides the numbers.
        measured: The numbers.
    """

    facts: dict[str, Any]
    measured: MeasuredArrays
    kind: Literal["cim-block"] = "cim-block"
    schema_version: Literal[1] = SCHEMA_VERSION
    __pydantic_config__ = STRICT


@dataclass(frozen=True)
class ArrayLayer:
    """A layer in arrays.

    Attributes:
        layer: Its name.
        operator: ``conv`` or ``dense``.
        depth: Products in each accumulator.
        arrays: How many arrays that depth fills, the last one perhaps in part.
        columns: Columns of each array: slices of the weights, twice for differential cells, times output channels.
        conversions: Sums that ADCs read for one image.
        top: The sum at the end of the ADC's range.
        step: What a code of the ADC stands for, in units of the sum.
        clipped: Sums that left the range, of all images and runs.
    """

    layer: str
    operator: str
    depth: int
    arrays: int
    columns: int
    conversions: int
    top: int
    step: float
    clipped: int


@dataclass(frozen=True)
class ArrayRun:
    """One programming of the arrays.

    Attributes:
        run: Its number; runs differ by variation and noise.
        overall: Top-1.
        predictions: Predicted class of each image, one decimal digit each.
    """

    run: int
    overall: Score
    predictions: str


@dataclass(frozen=True)
class ArrayCell:
    """One kind of arrays: the fields of :class:`resnet8.execute.cim.Array`, the layers in them, what they answer."""

    rows: int
    cell_bits: int
    dac_bits: int
    adc_bits: int
    signed: str
    adc_range: str
    percentile: float
    variation: float
    spread: str
    read_noise: float
    seed: int
    layers: tuple[ArrayLayer, ...]
    runs: tuple[ArrayRun, ...]

    @property
    def variant(self) -> tuple[Any, ...]:
        """All but rows and bits of the ADC: the cells of one variant make a map."""
        return (
            *(self.cell_bits, self.dac_bits, self.signed, self.adc_range, self.percentile),
            *(self.variation, self.spread, self.read_noise, self.seed),
        )

    @property
    def clipped(self) -> float:
        """The share of sums that left the ADC's range, of all layers."""
        read = len(self.runs[0].predictions) * len(self.runs) * sum(one.conversions for one in self.layers)
        return sum(one.clipped for one in self.layers) / read


@dataclass(frozen=True)
class CimAudit:
    """What compute-in-memory arrays make of a quantized network.

    Attributes:
        model: The file.
        data: The images.
        labels: True class of each image, one decimal digit each.
        exact: Top-1 of the exact integer engine.
        predictions: Its predicted class of each image.
        calibration: What the images are that set calibrated ranges; none where all ranges are full.
        calibration_images: How many.
        cells: One for each kind of arrays.
    """

    model: ModelDescription
    data: DataSource
    labels: str
    exact: Score
    predictions: str
    calibration: DataSource | None
    calibration_images: int
    cells: tuple[ArrayCell, ...]
    environment: Environment
    created: str
    kind: Literal["cim"] = "cim"
    schema_version: Literal[1] = SCHEMA_VERSION
    __pydantic_config__ = STRICT

    def agreement(self, run: ArrayRun) -> int:
        """Images on which a run predicts what the exact engine does."""
        return int((from_digits(run.predictions) == from_digits(self.predictions)).sum())

    def discordant(self, run: ArrayRun) -> tuple[int, int]:
        """Images that only the exact engine has right, and those that only the run has."""
        labels = from_digits(self.labels)
        exact, found = (from_digits(one) == labels for one in (self.predictions, run.predictions))
        return int((exact & ~found).sum()), int((found & ~exact).sum())

    def maps(self) -> dict[tuple[Any, ...], dict[tuple[int, int], ArrayCell]]:
        """The cells by rows and bits of the ADC, by variant."""
        found: dict[tuple[Any, ...], dict[tuple[int, int], ArrayCell]] = {}
        for cell in self.cells:
            found.setdefault(cell.variant, {})[cell.rows, cell.adc_bits] = cell
        return found
