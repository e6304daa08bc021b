"""What many quantizations of one network come to: a map of settings, layers by their sensitivity, a mixed precision."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from resnet8.environment import Environment
from resnet8.results.evaluation import DataSource, ModelDescription, Score
from resnet8.results.storage import SCHEMA_VERSION, STRICT


@dataclass(frozen=True)
class Measured:
    """What one quantization of a network answers on some images, computed in integers: the same on every CPU.

    Attributes:
        overall: Top-1.
        agreement: Images on which it predicts what the float network predicts.
        divergence: Mean Kullback-Leibler divergence of its class probabilities from the float network's, in nats,
            rounded to nine decimals.
        size_bytes: Of all its numbers: weights at their bits, biases in 4 bytes, scales of weights in 4, scale and zero
            point of each activation in 5.
        codes_sha256: Of the codes of the logits of all images, in order.
        seconds: How long quantizing and computing took, on one thread.
    """

    overall: Score
    agreement: int
    divergence: float
    size_bytes: int
    codes_sha256: str
    seconds: float


@dataclass(frozen=True)
class KeptCell:
    """A measured cell as it is kept, so that an interrupted run goes on.

    Attributes:
        facts: All that decides the numbers.
        measured: The numbers.
    """

    facts: dict[str, Any]
    measured: Measured
    kind: Literal["cell"] = "cell"
    schema_version: Literal[1] = SCHEMA_VERSION
    __pydantic_config__ = STRICT


@dataclass(frozen=True)
class Ground:
    """What all cells of a question share.

    Attributes:
        model: The float file.
        data: The images that were evaluated.
        images_sha256: Of their pixels and labels.
        baseline: Top-1 of the float network on them.
        samples_per_class: Calibration images of each class.
        calibrations: SHA-256 of the calibration images' pixels, by the seed of their draw.
        settings: The scheme's fields that no cell changes.
    """

    model: ModelDescription
    data: DataSource
    images_sha256: str
    baseline: Score
    samples_per_class: int
    calibrations: dict[int, str]
    settings: dict[str, Any]

    @property
    def seeds(self) -> tuple[int, ...]:
        """Of the calibration draws."""
        return tuple(self.calibrations)


@dataclass(frozen=True)
class SweepCell:
    """One cell of a sweep.

    Attributes:
        weight_bits: Of the weights; 16 where those of all layers stay fine.
        activation_bits: Of the activations.
        per_channel: Whether weights have a scale for each output channel.
        signed: Whether codes of activations are signed.
        bias_correction: Whether biases make up for the mean error.
        rounding: How weights become codes.
        seed: Of the calibration draw.
        measured: What it comes to.
    """

    weight_bits: int
    activation_bits: int
    per_channel: bool
    signed: bool
    bias_correction: bool
    rounding: str
    seed: int
    measured: Measured

    @property
    def variant(self) -> tuple[bool, bool, bool, str]:
        """All but the bits and the seed: the cells of one variant make a map."""
        return self.per_channel, self.signed, self.bias_correction, self.rounding


@dataclass(frozen=True)
class Sweep:
    """The accuracy map of a network's quantizations."""

    ground: Ground
    cells: tuple[SweepCell, ...]
    environment: Environment
    created: str
    kind: Literal["sweep"] = "sweep"
    schema_version: Literal[1] = SCHEMA_VERSION
    __pydantic_config__ = STRICT

    def maps(self) -> dict[tuple[bool, bool, bool, str], dict[tuple[int, int], tuple[Measured, ...]]]:
        """The cells of all seeds by weight bits and activation bits, by variant."""
        found: dict[tuple[bool, bool, bool, str], dict[tuple[int, int], tuple[Measured, ...]]] = {}
        for cell in self.cells:
            of = found.setdefault(cell.variant, {})
            key = cell.weight_bits, cell.activation_bits
            of[key] = (*of.get(key, ()), cell.measured)
        return found


@dataclass(frozen=True)
class LayerSensitivity:
    """What few bits cost in one layer.

    Attributes:
        layer: Its name.
        weights: How many it has.
        bits: Of its weights in ``alone``, of all others' in ``spared``.
        alone: It alone has few bits; the weights of the others are fine.
        spared: All others have few bits; its weights are fine.
    """

    layer: str
    weights: int
    bits: int
    alone: Measured
    spared: Measured


@dataclass(frozen=True)
class Sensitivity:
    """What few bits of weights cost in each layer.

    Attributes:
        fine: The weights of no layer have few bits.
        coarse: Those of all have, by the bits.
        layers: Each layer at each number of bits.
    """

    ground: Ground
    seed: int
    fine: Measured
    coarse: dict[int, Measured]
    layers: tuple[LayerSensitivity, ...]
    environment: Environment
    created: str
    kind: Literal["sensitivity"] = "sensitivity"
    schema_version: Literal[1] = SCHEMA_VERSION
    __pydantic_config__ = STRICT


@dataclass(frozen=True)
class LayerCost:
    """What a number of bits costs in one layer, all others at the most bits.

    Attributes:
        layer: Its name.
        weights: How many it has.
        bits: Of them.
        cost: Added to the divergence; nothing where the measured divergence is not larger.
        measured: With these bits.
    """

    layer: str
    weights: int
    bits: int
    cost: float
    measured: Measured


@dataclass(frozen=True)
class FrontPoint:
    """An assignment of bits to layers that no other beats in both size and predicted cost.

    Attributes:
        bits: Of each layer's weights, in the order of the layers.
        size_bytes: As :attr:`Measured.size_bytes`.
        cost: Predicted: the layers' costs added up.
        measured: On the held-out images, where it was measured.
    """

    bits: tuple[int, ...]
    size_bytes: int
    cost: float
    measured: Measured | None


@dataclass(frozen=True)
class Search:
    """A mixed precision, and the front that it was chosen from.

    Attributes:
        ground: Its images are training images that calibrate nothing.
        seed: Of the calibration draw.
        held_out_seed: Of the draw of the held-out images.
        max_drop: Allowed, in percentage points.
        bits: That a layer may have.
        rounding: Of the weights of what was measured on the front; the layers' costs are those of nearest codes.
        costs: Of each layer at each number of bits.
        front: By size.
        chosen: The index in ``front``.
    """

    ground: Ground
    seed: int
    held_out_seed: int
    max_drop: float
    bits: tuple[int, ...]
    rounding: str
    layers: tuple[str, ...]
    costs: tuple[LayerCost, ...]
    front: tuple[FrontPoint, ...]
    chosen: int
    environment: Environment
    created: str
    kind: Literal["search"] = "search"
    schema_version: Literal[1] = SCHEMA_VERSION
    __pydantic_config__ = STRICT

    @property
    def choice(self) -> FrontPoint:
        """The chosen point."""
        return self.front[self.chosen]

    @property
    def layer_bits(self) -> tuple[tuple[str, int], ...]:
        """The chosen bits by the name of the layer, as a scheme takes them."""
        return tuple(zip(self.layers, self.choice.bits, strict=True))

    def drop(self, point: FrontPoint) -> float | None:
        """What a point lost on the held-out images, in percentage points, where it was measured."""
        return None if point.measured is None else drop(self.ground.baseline, point.measured.overall)


def drop(baseline: Score, found: Score) -> float:
    """What is lost against the baseline, in percentage points; negative where something was gained."""
    return 100 * (baseline.correct - found.correct) / baseline.total
