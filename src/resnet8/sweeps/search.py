"""A mixed precision: how many bits the weights of each layer get.

Chosen on held-out training images, which calibrate nothing; the test images stay unseen. The rule:

1. *Costs.* Each layer alone gets each number of bits, all others the most bits that there are. Its cost
   is what that adds to the mean divergence of the class probabilities from the float network's (a mean over all images
   and classes, so far less noisy than a count of top-1), or nothing.
2. *The front.* Costs of layers are taken to add up (as Dong et al. 2020, HAWQ-V2, arXiv:1911.03852, section 3.1, take
   theirs to), sizes do. Dynamic programming gives every assignment that no other beats in both.
3. *Measuring.* Of the front, points evenly along it are measured for real; then points between the smallest whose drop
   is within the limit and the next smaller one measured, again and again, until there is none between, or
   :data:`ROUNDS` are over.
4. *The choice.* The smallest measured point whose drop in top-1, in percentage points on the held-out images, is within
   the limit.

The count of a few thousand images is itself uncertain by some tenths of a point: with few held-out images the limit is
a coarse one.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from resnet8 import environment, results
from resnet8.data.calibration import held_out
from resnet8.errors import QuantizationError
from resnet8.facts import DEFAULT_PER_CLASS, DEFAULT_SEED
from resnet8.quantization.native import quantized
from resnet8.quantization.scheme import Scheme
from resnet8.results import FrontPoint, LayerCost, Search
from resnet8.results.sweeps import drop
from resnet8.sweeps.cells import Cell, measure_all
from resnet8.sweeps.front import front, spread
from resnet8.sweeps.ground import prepare
from resnet8.sweeps.places import place
from resnet8.workers import no_progress, within

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from resnet8.data.cifar10 import Split
    from resnet8.network.program import Program
    from resnet8.quantization.recipes import Form
    from resnet8.results import Measured
    from resnet8.sweeps.front import Point
    from resnet8.sweeps.ground import Material
    from resnet8.sweeps.places import Place
    from resnet8.workers import Progress

HELD_OUT = 5000
ROUNDS = 3
PER_ROUND = 8


def search(
    model: Path,
    data_dir: Path,
    cells: Path,
    *,
    max_drop: float = 0.2,
    bits: Sequence[int] = (2, 4, 8),
    scheme: Scheme = Scheme(),  # noqa: B008 - frozen
    seed: int = DEFAULT_SEED,
    samples_per_class: int = DEFAULT_PER_CLASS,
    held_out_images: int | None = None,
    held_out_seed: int = DEFAULT_SEED,
    jobs: int | None = None,
    scheduler: str | None = None,
    progress: Progress = no_progress,
) -> Search:
    """Choose the bits of each layer's weights: the smallest assignment found that drops at most ``max_drop`` points.

    On held-out training images, never on test images, by the rule of :mod:`resnet8.sweeps.search`.

    Args:
        model: The float ONNX file.
        data_dir: Folder of CIFAR-10.
        cells: Folder where finished cells are kept; what is there already is not computed anew.
        max_drop: Of top-1 against the float network, in percentage points, 0 or more.
        bits: That a layer's weights may have, two or more numbers from 2 to 8.
        scheme: All other settings.
        seed: Of the calibration draw.
        samples_per_class: Calibration images of each class.
        held_out_images: How many; 5,000 when left out, or all that are left where these are fewer.
        held_out_seed: Of their draw from the training images that do not calibrate.
        jobs: Cells at once on this machine; one for each CPU when left out.
        scheduler: Address of a Dask scheduler, to compute on its workers instead.
        progress: Called with the cells that are finished, of as many as there may be.

    Returns:
        The front, what was measured of it, and the choice (:attr:`Search.layer_bits`).

    Raises:
        QuantizationError: also when no assignment stays within ``max_drop``.
        Resnet8Error: as :func:`resnet8.sweep`.

    Example:
        >>> model, cells, few = Path("models/resnet8.onnx"), Path("cells"), {"samples_per_class": 20, "jobs": 1}
        >>> found = resnet8.search(model, data, cells, max_drop=5, bits=[4, 8], held_out_images=20, **few)
        >>> found.layer_bits[0][0], found.choice.size_bytes < 60_000
        ('conv2d_1/BiasAdd', True)
    """
    bits = tuple(sorted(set(bits)))
    _require(max_drop, bits)

    def ask(train: Split, drawn: tuple[NDArray[np.int64], ...]) -> Split:
        return held_out(train, np.concatenate(drawn), held_out_images, HELD_OUT, held_out_seed)

    plain = replace(scheme, edge_bits=None, layer_bits=(), float_layers=())
    for width in bits:
        replace(plain, weight_bits=width)  # out of range, it is refused before the images are read
    with place(jobs, scheduler) as where:
        material = prepare(model, data_dir, [seed], samples_per_class, ask)
        asking = _Asking(material, plain, (where, cells), progress)
        costs = asking.costs(bits)
        points = _front(material, costs)
        baseline = material.ground(plain).baseline
        measured = asking.along(points, lambda one: drop(baseline, one.overall) <= max_drop)
    within_limit = [i for i, one in measured.items() if drop(baseline, one.overall) <= max_drop]
    if not within_limit:
        least = min(drop(baseline, one.overall) for one in measured.values())
        raise QuantizationError(
            "no assignment of bits stays within the drop",
            found=f"{least:.2f} points at the least, on {len(material.asked):,} held-out images",
            expected=f"at most {max_drop:g}",
            remedy="allow more with --max-drop, or more bits with --bits",
        )
    return Search(
        ground=material.ground(plain, "weight_bits", "edge_bits", "layer_bits", "rounding"),
        seed=seed,
        held_out_seed=held_out_seed,
        max_drop=max_drop,
        bits=bits,
        rounding=scheme.rounding,
        layers=material.layers,
        costs=costs,
        front=tuple(replace(point, measured=measured.get(i)) for i, point in enumerate(points)),
        chosen=min(within_limit),
        environment=environment.current(),
        created=results.now(),
    )


def _require(max_drop: float, bits: tuple[int, ...]) -> None:
    if len(bits) < 2:
        raise QuantizationError(
            "there is nothing to choose from", found=f"bits {', '.join(map(str, bits))}", expected="two numbers or more"
        )
    if not (np.isfinite(max_drop) and 0 <= max_drop <= 100):
        raise QuantizationError(
            "the allowed drop makes no sense", found=f"{max_drop:g}", expected="0 to 100 percentage points"
        )


class _Asking:
    """The cells of a search, in the order in which it needs them."""

    def __init__(self, material: Material, scheme: Scheme, place: tuple[Place, Path], progress: Progress) -> None:
        self._material, self._scheme, self._progress = material, scheme, progress
        self._where, self._folder = place
        (self._seed,) = material.calibrations
        self._done, self._total = 0, 0

    def _measured(self, schemes: list[Scheme]) -> list[Measured]:
        cells = [Cell(one, self._seed) for one in schemes]
        told = within(self._progress, self._done, self._total)
        self._done += len(cells)
        return measure_all(self._material, cells, self._where, self._folder, told)

    def costs(self, bits: tuple[int, ...]) -> tuple[LayerCost, ...]:
        """Of each layer at each number of bits."""
        most = bits[-1]
        plain = replace(self._scheme, weight_bits=most)
        layers = self._material.layers
        self._total = len(layers) * (len(bits) - 1) + 1 + ROUNDS * PER_ROUND
        pairs = [(name, width) for name in layers for width in bits[:-1]]
        whole, *others = self._measured(
            [plain, *(replace(plain, layer_bits=((name, width),)) for name, width in pairs)]
        )
        found = dict(zip(pairs, others, strict=True)) | {(name, most): whole for name in layers}
        weights = {layer.name: layer.weights.codes.size for layer in self._material.network.weighted}
        return tuple(
            LayerCost(name, weights[name], width, max(0.0, one.divergence - whole.divergence), one)
            for name in layers
            for width in bits
            for one in [found[name, width]]
        )

    def along(self, points: Sequence[FrontPoint], good: Callable[[Measured], bool]) -> dict[int, Measured]:
        """What was measured of the front, by index: around the smallest point that is good."""
        found: dict[int, Measured] = {}
        wanted = spread(0, len(points) - 1, PER_ROUND)
        for _ in range(ROUNDS):
            fresh = [index for index in wanted if index not in found]
            if not fresh:
                break
            schemes = [
                replace(self._scheme, layer_bits=tuple(zip(self._material.layers, points[index].bits, strict=True)))
                for index in fresh
            ]
            found |= dict(zip(fresh, self._measured(schemes), strict=True))
            smallest = min((index for index, one in found.items() if good(one)), default=None)
            if smallest is None:
                break
            below = max((index for index in found if index < smallest), default=smallest)
            wanted = spread(below + 1, smallest - 1, PER_ROUND)
        return found


def _front(material: Material, costs: tuple[LayerCost, ...]) -> list[FrontPoint]:
    """The predicted front, by size; costs and bytes are what each layer adds to those of the network at most bits."""
    by_layer = [[one for one in costs if one.layer == name] for name in material.layers]
    whole = by_layer[0][-1].measured.size_bytes
    points: tuple[Point, ...] = front([[(o.measured.size_bytes - whole, o.cost) for o in of] for of in by_layer])
    return [
        FrontPoint(
            tuple(of[choice].bits for of, choice in zip(by_layer, point.choices, strict=True)),
            whole + point.size,
            round(point.cost, 9),
            None,
        )
        for point in points
    ]


def chosen_scheme(found: Search) -> Scheme:
    """The scheme of a search's choice."""
    same = {name: value for name, value in found.ground.settings.items() if name != "float_layers"}
    widest = max(found.bits)
    return Scheme(**same, weight_bits=widest, edge_bits=None, layer_bits=found.layer_bits, rounding=found.rounding)  # type: ignore[arg-type]


def chosen_network(found: Search, model: Path, data_dir: Path, progress: Progress = no_progress) -> Program:
    """The quantized network of a search's choice, for a writer of files.

    Args:
        found: The search.
        model: The float file that it was about.
        data_dir: Folder of CIFAR-10, for the calibration images.
        progress: Of the quantization.

    Raises:
        QuantizationError: when the model is another one.
    """
    material = prepare(model, data_dir, [found.seed], found.ground.samples_per_class, lambda train, _: train.first(1))
    if (material.model.sha256, material.ground(Scheme()).calibrations) != (
        found.ground.model.sha256,
        found.ground.calibrations,
    ):
        raise QuantizationError(
            "the search was about another model or other calibration images",
            found=material.model.sha256[:12],
            expected=found.ground.model.sha256[:12],
            remedy="name the model and the data that were searched",
        )
    return quantized(material.network, material.calibrations[found.seed], chosen_scheme(found), progress)


def recipe_text(scheme: Scheme, comment: str, form: Form = "qoperator") -> str:
    """A scheme as TOML: the fields that are not as they are by themselves, ``layer_bits`` as a table.

    Args:
        scheme: The scheme.
        comment: A line about it.
        form: Of the file.
    """
    plain = Scheme()
    lines = [f"# {' '.join(comment.split())}", 'mode = "native"']
    lines += [] if form == "qoperator" else [f"form = {json.dumps(form)}"]
    for name in Scheme.__dataclass_fields__:
        value = getattr(scheme, name)
        if name not in ("layer_bits", "edge_bits") and value != getattr(plain, name):
            lines.append(f"{name} = {json.dumps(value)}")
    if scheme.layer_bits:
        lines += ["", "[layer_bits]", *(f"{json.dumps(name)} = {bits}" for name, bits in scheme.layer_bits)]
    elif scheme.edge_bits is not None and scheme.edge_bits != plain.edge_bits:
        lines.append(f"edge_bits = {scheme.edge_bits}")
    return "\n".join(lines) + "\n"
