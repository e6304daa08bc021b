"""A cell: one scheme on one set of calibration images, computed in exact integers; and how finished cells are kept.

A cell's numbers are the same wherever it is computed. It is kept in a file named after all that decides them: the
model, the images, the scheme, the code and the libraries that compute. So a run that was interrupted goes on, and
another question that has a cell in common does not compute it anew.
"""

from __future__ import annotations

import hashlib
import json
import time
from contextlib import closing
from dataclasses import dataclass, field
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import log_softmax

from resnet8 import results
from resnet8.batches import batched
from resnet8.environment import library_versions
from resnet8.errors import Resnet8Error
from resnet8.execute import engine
from resnet8.numeric.grid import dequantize
from resnet8.quantization.native import carried_out, observe
from resnet8.results import KeptCell, Measured, score
from resnet8.sweeps.ground import BATCH, digest, images_digest, settings
from resnet8.sweeps.places import Task
from resnet8.workers import no_progress

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from resnet8.network.layers import Weighted
    from resnet8.network.program import Program
    from resnet8.quantization.equalization import Equalization
    from resnet8.quantization.observation import Observation
    from resnet8.quantization.scheme import Scheme
    from resnet8.results import KeptArrays
    from resnet8.sweeps.ground import Material
    from resnet8.sweeps.places import Computable, Place, Shared
    from resnet8.workers import Progress

_COMPUTES = ("numeric", "network", "execute", "quantization", "data/calibration.py", "sweeps/cells.py", "sweeps/cim.py")
"""The parts of this package that decide a cell's numbers."""

FINE_BITS = 16


@dataclass(frozen=True)
class Cell:
    """What is computed.

    Attributes:
        scheme: How the network is quantized.
        seed: Of the draw of its calibration images.
    """

    scheme: Scheme
    seed: int

    @property
    def shared(self) -> tuple[int, str, bool]:
        """Cells with the same here observe the same of the float network: they are computed one after the other."""
        return self.seed, *self.scheme.observed

    def task(self, material: Material) -> Task:
        """:func:`measure`, of what the cells share."""
        asked = material.asked
        return Task(
            measure,
            (material.model.sha256, material.network, self.scheme, material.calibrations[self.seed]),
            {"images": asked.images, "labels": asked.labels, "reference": material.reference},
        )


def measure(
    model: str,
    network: Program,
    scheme: Scheme,
    calibration: NDArray[np.uint8],
    *,
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
    reference: NDArray[np.float32],
) -> Measured:
    """Quantize ``network`` and ask it about images, on one thread.

    Args:
        model: The digest of its file, by which it is known again.
        network: The float network.
        scheme: How it is quantized.
        calibration: uint8 (M, 32, 32, 3).
        images: uint8 (N, 32, 32, 3).
        labels: int64 (N,).
        reference: The float network's logits on the images, float32 (N, 10).

    Raises:
        QuantizationError: when the scheme does not fit the network.
    """
    started = time.perf_counter()
    shown = _observed(_Asked(model, digest(calibration), scheme.observed, network, calibration, scheme))
    program = carried_out(shown, scheme).as_integer()

    def logits(part: slice) -> NDArray[Any]:
        return engine.run(program, engine.input_codes(program, images[part]))

    codes = np.concatenate(list(batched(logits, len(images), size=BATCH, threads=1)))
    predicted = codes.argmax(axis=1)
    return Measured(
        overall=score(int((predicted == labels).sum()), len(labels)),
        agreement=int((predicted == reference.argmax(axis=1)).sum()),
        divergence=divergence(reference, dequantize(codes, program.logits.params)),
        size_bytes=size_bytes(program, weight_bits(scheme, [layer.name for layer in program.weighted])),
        codes_sha256=hashlib.sha256(np.ascontiguousarray(codes).data).hexdigest(),
        seconds=round(time.perf_counter() - started, 3),
    )


@dataclass(frozen=True)
class _Asked:
    model: str
    images: str
    observed: tuple[Equalization, bool]
    network: Program = field(compare=False)
    calibration: NDArray[np.uint8] = field(compare=False)
    scheme: Scheme = field(compare=False)


@lru_cache(maxsize=1)
def _observed(asked: _Asked) -> Observation:
    """Of the float network beside one draw of images, for the next cell that asks about them."""
    return observe(asked.network, asked.calibration, asked.scheme)


def forget() -> None:
    """Drop what was observed last: all activations of all calibration images."""
    _observed.cache_clear()


def divergence(reference: NDArray[np.float32], logits: NDArray[np.float32]) -> float:
    """Mean Kullback-Leibler divergence ``sum(p * log(p / q))`` of class probabilities, in nats, to nine decimals.

    Args:
        reference: Logits of ``p``, (N, 10).
        logits: Logits of ``q``, (N, 10).
    """
    p, q = (log_softmax(one.astype(np.float64), axis=1) for one in (reference, logits))
    return round(float((np.exp(p) * (p - q)).sum(axis=1).mean()), 9)


def weight_bits(scheme: Scheme, layers: Sequence[str]) -> dict[str, int]:
    """The bits of each layer's weights; 16 where they stay fine."""
    bits = dict.fromkeys(layers, scheme.weight_bits)
    if scheme.edge_bits is not None:
        bits[layers[0]] = bits[layers[-1]] = scheme.edge_bits
    return bits | dict(scheme.layer_bits) | dict.fromkeys(scheme.float_layers, FINE_BITS)


def size_bytes(program: Program, bits: Mapping[str, int]) -> int:
    """The bytes of all numbers of a quantized network, in no file format (:attr:`Measured.size_bytes`)."""
    return 5 * len(program.activations) + sum(
        layer_bytes(layer.weights.codes.size + zero_points(layer), bits[layer.name])
        + 4 * layer.added.size
        + 4 * layer.weights.params.scale.size
        for layer in program.weighted
    )


def zero_points(layer: Weighted) -> int:
    """How many numbers a layer's zero points are: none where all are 0, or the middle code of unsigned weights."""
    found = layer.weights.params.zero_point
    return found.size if found.any() and layer.weights.params.dtype != "uint8" else 0


def layer_bytes(weights: int, bits: int) -> int:
    """The bytes of so many weights, packed."""
    return -(-weights * bits // 8)


# Keeping


@cache
def code_digest() -> str:
    """Hex SHA-256 of the code that decides a cell's numbers."""
    root, code = Path(__file__).parents[1], hashlib.sha256()
    for part in _COMPUTES:
        path = root / part
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            code.update(file.relative_to(root).as_posix().encode() + b"\0" + file.read_bytes())
    return code.hexdigest()


def versions() -> dict[str, str]:
    """What computes cells, by version or digest."""
    return {**library_versions(("numpy",)), "resnet8's code": code_digest()}


def measure_all(
    material: Material, cells: Sequence[Cell], place: Place, folder: Path, progress: Progress = no_progress
) -> list[Measured]:
    """The numbers of ``cells``, in their order; those that are kept in ``folder`` are not computed anew.

    Args:
        material: What they share.
        cells: What is computed.
        place: Where.
        folder: Where finished cells are kept, each as soon as it is finished.
        progress: Called with the cells that are there, the kept ones first.

    Raises:
        QuantizationError: when a scheme does not fit the network.
        WorkerError: when the place gives out; what was finished is kept.
        StorageError: when a cell cannot be kept.
    """
    facts = _facts(material, cells)
    return kept_or_measured(material, cells, facts, KeptCell, place=place, folder=folder, progress=progress)


def kept_or_measured(
    material: Shared,
    cells: Sequence[Computable],
    facts: Sequence[dict[str, Any]],
    kind: type[KeptCell] | type[KeptArrays],
    *,
    place: Place,
    folder: Path,
    progress: Progress = no_progress,
) -> list[Any]:
    """What is measured in ``cells``, in their order; what is kept in ``folder`` is not computed anew.

    Args:
        material: What they share.
        cells: What is computed.
        facts: Of each cell, all that decides its numbers.
        kind: How they are kept.
        place: Where they are computed.
        folder: Where finished cells are kept, each as soon as it is finished.
        progress: Called with the cells that are there, the kept ones first.

    Raises:
        WorkerError: when the place gives out; what was finished is kept.
        StorageError: when a cell cannot be kept.
    """
    files = [folder / f"{_key(one)}.json" for one in facts]
    found = {index: kept for index, file in enumerate(files) if (kept := _kept(file, facts[index], kind)) is not None}
    progress(len(found), len(cells))
    missing = {index: cell for index, cell in enumerate(cells) if index not in found}
    with closing(place.measured(material, missing)) as finished:
        for index, measured in finished:
            results.save(kind(facts[index], measured), files[index])
            found[index] = measured
            progress(len(found), len(cells))
    return [found[index] for index in range(len(cells))]


def _facts(material: Material, cells: Sequence[Cell]) -> list[dict[str, Any]]:
    images = images_digest(material.asked)
    calibrations = {seed: digest(drawn) for seed, drawn in material.calibrations.items()}
    return [
        {
            "model": material.model.sha256,
            "images": images,
            "calibration": calibrations[cell.seed],
            "scheme": settings(cell.scheme),
            "versions": versions(),
        }
        for cell in cells
    ]


def _key(facts: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _kept(file: Path, facts: dict[str, Any], kind: type[KeptCell] | type[KeptArrays]) -> Any:
    """The numbers in a file; none where there is no file, or one that is not what its name says: it is made anew."""
    if not file.is_file():
        return None
    try:
        kept: KeptCell | KeptArrays = results.load(kind, file)
    except Resnet8Error:
        return None
    return kept.measured if kept.facts == facts else None
