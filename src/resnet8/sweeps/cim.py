"""What compute-in-memory arrays do to a quantized network: kinds of arrays, each on many images, block by block.

A cell is one kind of arrays, one run of those that variation and noise make differ, and a block of images. Its numbers
do not depend on where it is computed, nor with which other blocks: noise is drawn for each image by its number.
"""

from __future__ import annotations

import math
import time
from dataclasses import asdict, astuple, dataclass, replace
from fractions import Fraction
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from resnet8 import environment, results
from resnet8.batches import batched
from resnet8.errors import QuantizationError
from resnet8.execute import cim, engine
from resnet8.execute.fbgemm import biased
from resnet8.results import ArrayCell, ArrayLayer, ArrayRun, CimAudit, KeptArrays, MeasuredArrays, digits, score
from resnet8.sweeps.cells import kept_or_measured, versions
from resnet8.sweeps.ground import BATCH, digest
from resnet8.sweeps.places import Task, place
from resnet8.workers import no_progress

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from resnet8.data.cifar10 import Split
    from resnet8.execute.cim import Array
    from resnet8.network.layers import Weighted
    from resnet8.network.program import Program
    from resnet8.results import ModelDescription
    from resnet8.workers import Progress

BLOCK = 100
"""Images of a cell."""

DEFAULT_RUNS = 3
DEFAULT_CALIBRATION = 50
"""Images that set calibrated ranges."""

Tops = dict[str, int]
"""The sum at the end of the ADC's range, by layer."""


@dataclass(frozen=True)
class Material:
    """What the cells of a question share.

    Attributes:
        network: The quantized network.
        asked: The images that each cell is asked about.
        tops: Of calibrated ranges, by layout and percentile.
    """

    network: Program
    asked: Split
    tops: Mapping[Any, Tops]

    @property
    def large(self) -> tuple[Any, ...]:
        """The network."""
        return (self.network,)


@dataclass(frozen=True)
class Block:
    """What is computed.

    Attributes:
        array: The arrays.
        run: Which programming of them.
        first: Number of the first image.
    """

    array: Array
    run: int
    first: int

    @property
    def shared(self) -> tuple[Any, ...]:
        """In the order of what is asked."""
        return *astuple(self.array), self.run, self.first

    def images(self, split: Split) -> NDArray[np.uint8]:
        """The images, at most :data:`BLOCK`."""
        return split.images[self.first : self.first + BLOCK]

    def task(self, material: Material) -> Task:
        """:func:`measure`, of what the cells share."""
        tops = _tops(material.network, self.array, material.tops)
        images = self.images(material.asked)
        asked = {"run": self.run, "first": self.first}
        return Task(measure, (material.network, self.array, tops, images), asked)


def measure(
    network: Program, array: Array, tops: Tops, images: NDArray[np.uint8], *, run: int = 0, first: int = 0
) -> MeasuredArrays:
    """Compute a network in arrays, on one thread.

    Args:
        network: The quantized network; what is no convolution or dense layer is computed as the engine does.
        array: The arrays.
        tops: Of their ADCs.
        images: uint8 (N, 32, 32, 3).
        run: Which programming of them.
        first: Number of the first one.
    """
    started = time.perf_counter()
    made = {
        layer.name: cim.program(layer, array, tops[layer.name], run, number)
        for number, layer in enumerate(network.weighted)
    }
    clipped = dict.fromkeys(made, 0)

    def predicted(part: slice) -> NDArray[np.int64]:
        def accumulators(layer: Weighted, codes: NDArray[Any]) -> NDArray[Any]:
            sums, lost = cim.accumulate(layer, codes, made[layer.name], first + part.start)
            clipped[layer.name] += lost
            return sums

        return _classes(network, images[part], accumulators)

    found = np.concatenate(list(batched(predicted, len(images), size=BATCH, threads=1)))
    return MeasuredArrays(digits(found), clipped, round(time.perf_counter() - started, 3))


def _classes(
    network: Program, images: NDArray[np.uint8], accumulators: engine.Accumulate = engine.accumulate
) -> NDArray[np.int64]:
    """The class of each image; a bias that a file gives as real numbers is added so."""
    codes = engine.input_codes(network, images)
    logits = engine.run(network, codes, accumulators=partial(biased, accumulators=accumulators))
    classes: NDArray[np.int64] = engine.probabilities(network, logits).argmax(axis=1)
    return classes


def ranges(
    network: Program, layout: cim.Layout, images: NDArray[np.uint8], percentiles: Sequence[float]
) -> dict[float, Tops]:
    """The sums that a percentage of each layer's column sums do not exceed, at least 1, by percentile.

    All sums of ideal cells count: of every step, slice and array, fed what the exact engine feeds.

    Args:
        network: The quantized network.
        layout: Of the arrays: rows, bits of a cell and of a DAC step, how signs are held.
        images: uint8 (N, 32, 32, 3).
        percentiles: Above 0, up to 100.
    """
    ideal = cim.ideal(layout)
    made = {layer.name: cim.program(layer, ideal) for layer in network.weighted}

    def counted(part: slice) -> dict[str, NDArray[np.int64]]:
        found: dict[str, NDArray[np.int64]] = {}

        def accumulators(layer: Weighted, codes: NDArray[Any]) -> NDArray[Any]:
            found[layer.name] = cim.tally(layer, codes, made[layer.name])
            return engine.accumulate(layer, codes)

        _classes(network, images[part], accumulators)
        return found

    tallies = dict.fromkeys(made, np.zeros(1, np.int64))
    for counts in batched(counted, len(images), size=BATCH):
        tallies = {name: tallies[name] + counts[name] for name in tallies}
    return {
        percentile: {name: _percentile(counts, percentile) for name, counts in tallies.items()}
        for percentile in percentiles
    }


def _percentile(counts: NDArray[np.int64], percentile: float) -> int:
    below = np.cumsum(counts)
    needed = math.ceil(Fraction(str(percentile)) * int(below[-1]) / 100)
    return max(1, int(np.searchsorted(below, needed)))


def _tops(network: Program, array: Array, calibrated: Mapping[Any, Tops]) -> Tops:
    if array.adc_range == "full":
        return dict.fromkeys((layer.name for layer in network.weighted), array.full)
    return calibrated[array.layout, array.percentile]


def audit_cim(
    model: ModelDescription,
    program: Program,
    split: Split,
    cells: Path,
    *,
    arrays: Sequence[Array],
    calibration: Split | None = None,
    runs: int = DEFAULT_RUNS,
    jobs: int | None = None,
    scheduler: str | None = None,
    progress: Progress = no_progress,
) -> CimAudit:
    """Compute a quantized network in compute-in-memory arrays, and compare it with the exact engine.

    Args:
        model: The file.
        program: What it computes.
        split: The images.
        cells: Folder where finished blocks of images are kept; what is there already is not computed anew.
        arrays: The kinds of arrays (:class:`resnet8.execute.cim.Array`).
        calibration: Images that set calibrated ranges, never those of ``split``.
        runs: How often arrays with variation or noise are programmed; others are once.
        jobs: Blocks at once on this machine; one for each CPU when left out.
        scheduler: Address of a Dask scheduler, to compute on its workers instead.
        progress: Called with the blocks that are finished.

    Raises:
        QuantizationError: when there are no arrays, no runs, or no images for ranges that need them.
        WorkerError: when no scheduler is there or it goes away, workers have other versions, or end again and again.
        StorageError: when a finished block cannot be kept.

    Example:
        >>> opened = resnet8.open_integer(Path("models/resnet8_uint8.onnx"))
        >>> few = resnet8.read_split(data, "test").first(10)
        >>> arrays = [resnet8.Array(rows=64, adc_bits=bits) for bits in (4, 7)]
        >>> found = resnet8.audit_cim(opened.model, opened.program, few, Path("cells"), arrays=arrays, jobs=1)
        >>> [found.agreement(cell.runs[0]) for cell in found.cells][-1]
        10
    """
    arrays = tuple(dict.fromkeys(arrays))
    if not arrays or runs < 1:
        raise QuantizationError(
            "there is nothing to compute in memory",
            found=f"{len(arrays)} kinds of arrays, {runs} runs",
            expected="at least one of both",
        )
    network = program.as_integer()
    with place(jobs, scheduler) as where:
        material = Material(network, split, _calibrated(network, arrays, calibration))
        asked = [
            Block(array, run, first)
            for array in arrays
            for run in range(runs if array.random else 1)
            for first in range(0, len(split), BLOCK)
        ]
        facts = [_facts(model, material, block) for block in asked]
        found = kept_or_measured(material, asked, facts, KeptArrays, place=where, folder=cells, progress=progress)
    blocks: dict[Array, dict[int, list[MeasuredArrays]]] = {}
    for block, measured in zip(asked, found, strict=True):
        blocks.setdefault(block.array, {}).setdefault(block.run, []).append(measured)
    exact = np.concatenate(list(batched(lambda part: _classes(network, split.images[part]), len(split), size=BATCH)))
    return CimAudit(
        model=model,
        data=split.source,
        labels=digits(split.labels),
        exact=score(int((exact == split.labels).sum()), len(split)),
        predictions=digits(exact),
        calibration=calibration.source if calibration is not None and material.tops else None,
        calibration_images=len(calibration) if calibration is not None and material.tops else 0,
        cells=tuple(_cell(material, array, of) for array, of in blocks.items()),
        environment=environment.current(),
        created=results.now(),
    )


def _calibrated(network: Program, arrays: Sequence[Array], images: Split | None) -> dict[Any, Tops]:
    """The ranges by layout and percentile, where there are such.

    Raises:
        QuantizationError: when there are no images for them.
    """
    percentiles: dict[Any, list[float]] = {}
    for array in arrays:
        if array.adc_range == "calibrated":
            percentiles.setdefault(array.layout, []).append(array.percentile)
    if not percentiles:
        return {}
    if images is None:
        raise QuantizationError(
            "there is nothing to calibrate the ADC's range on", found="no images", expected="some training images"
        )
    found = {layout: ranges(network, layout, images.images, of) for layout, of in percentiles.items()}
    return {(layout, percentile): tops for layout, of in found.items() for percentile, tops in of.items()}


def _facts(model: ModelDescription, material: Material, block: Block) -> dict[str, Any]:
    return {
        "model": model.sha256,
        "images": digest(block.images(material.asked)),
        "first": block.first,
        "array": asdict(block.array),
        "tops": _tops(material.network, block.array, material.tops),
        "run": block.run,
        "versions": versions(),
    }


def _cell(material: Material, array: Array, runs: Mapping[int, Sequence[MeasuredArrays]]) -> ArrayCell:
    labels, layers = digits(material.asked.labels), []
    tops = _tops(material.network, array, material.tops)
    for layer in material.network.weighted:
        made = cim.program(layer, replace(array, variation=0.0), tops[layer.name])
        layers.append(
            ArrayLayer(
                layer=layer.name,
                operator=layer.operator,
                depth=len(layer.matrix),
                arrays=len(made.tiles),
                columns=made.columns,
                conversions=made.conversions(layer),
                top=made.adc.top,
                step=made.adc.step,
                clipped=sum(one.clipped[layer.name] for blocks in runs.values() for one in blocks),
            )
        )
    predicted = {run: "".join(one.predictions for one in blocks) for run, blocks in runs.items()}
    return ArrayCell(
        **asdict(array),
        layers=tuple(layers),
        runs=tuple(
            ArrayRun(run, score(sum(a == b for a, b in zip(one, labels, strict=True)), len(labels)), one)
            for run, one in predicted.items()
        ),
    )
