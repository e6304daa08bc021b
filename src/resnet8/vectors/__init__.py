"""Golden vectors: what every layer of a quantized network reads and must write, for hardware and C.

A folder of plain files (:mod:`resnet8.vectors.formats`), a C program that checks itself against them, and a
manifest (:class:`VectorSet`) that says what they are. All numbers come from :mod:`resnet8.execute.engine`; the C
program is a second implementation of the same arithmetic, in 8-bit codes and 32-bit integers alone.
"""

from __future__ import annotations

import re
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from resnet8 import environment, results
from resnet8.errors import DataError, QuantizationError
from resnet8.execute import engine
from resnet8.files import whole_folder
from resnet8.numeric.variants import MULTIPLIERS
from resnet8.vectors import csource, edges, readme
from resnet8.vectors.formats import Field, Writer
from resnet8.vectors.golden import codes_record, golden, network_layers
from resnet8.vectors.intermediates import NOTHING, WORDS, Intermediates, choose_intermediates
from resnet8.vectors.manifest import NETWORK, VectorSet
from resnet8.vectors.reference import Reference, differences, traced
from resnet8.workers import no_progress

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from resnet8.data.cifar10 import Split
    from resnet8.network.program import Program
    from resnet8.numeric.variants import Requantization
    from resnet8.results import ModelDescription
    from resnet8.vectors.golden import Golden
    from resnet8.vectors.manifest import CodesRecord
    from resnet8.workers import Progress

__all__ = [
    "MANIFEST",
    "MAX_IMAGES",
    "WORDS",
    "Intermediates",
    "Reference",
    "VectorSet",
    "choose_images",
    "choose_intermediates",
    "export_vectors",
    "require_integers",
    "traced",
]

_NUMBER = re.compile("-?[0-9]{1,9}")

MANIFEST = "manifest.json"
MAX_IMAGES = 32
"""As many take 200 MB, and the compiler a minute; four show every layer at work."""


def require_integers(how: Requantization, what: str = "golden vectors are made") -> None:
    """Refuse floating point.

    Args:
        how: The requantization that was asked for.
        what: What would use it, with its verb.

    Raises:
        QuantizationError: when multipliers are float32.
    """
    if how.multiplier == "float32":
        raise QuantizationError(
            f"{what} with integer multipliers",
            found=how.multiplier,
            expected=", ".join(kind for kind in MULTIPLIERS if kind != "float32"),
            remedy="choose one of them with --requantize",
        )


def choose_images(text: str, available: int) -> tuple[int, ...]:
    """The indices that ``text`` names: ``0,5,17``, or a count, ``4``, for the first ones.

    Raises:
        DataError: when it is neither, an index is out of range, or there are too many.
    """
    words = [word.strip() for word in text.split(",") if word.strip()]
    if not words or not all(_NUMBER.fullmatch(word) for word in words):
        raise DataError(
            "the images are not usable",
            found=text or "nothing",
            expected="indices such as 0,5,17, or a number of images such as 4",
        )
    counted = "," not in text
    if counted and not 1 <= int(words[0]) <= min(available, MAX_IMAGES):
        raise DataError("the number of images is not usable", found=text, expected=f"1 to {min(available, MAX_IMAGES)}")
    indices = tuple(range(int(words[0]))) if counted else tuple(map(int, words))
    outside = [index for index in indices if not 0 <= index < available]
    if outside:
        raise DataError(f"there is no image {outside[0]}", expected=f"indices from 0 to {available - 1}")
    if len(indices) > MAX_IMAGES:
        raise DataError("too many images", found=str(len(indices)), expected=f"up to {MAX_IMAGES}")
    return indices


def export_vectors(
    folder: Path,
    program: Program,
    split: Split,
    images: Sequence[int],
    how: Requantization,
    *,
    model: ModelDescription,
    reference: Reference | None = None,
    intermediates: Intermediates = NOTHING,
    broadcast: bool = False,
    progress: Progress = no_progress,
) -> VectorSet:
    """Write a folder of golden vectors, whole or not at all.

    Args:
        folder: To make; it must not exist.
        program: The network.
        split: The images' split.
        images: Indices in it.
        how: A requantization by integers.
        model: The file that the program is from.
        reference: ONNX Runtime's codes of the same images, to count differences.
        intermediates: What of each layer's inside is written, besides the accumulator.
        broadcast: Whether multiplier, shift and zero point of weights are written once for each output channel also
            where a layer has one: then files of all models have the same form.
        progress: Called after each layer.

    Returns:
        The manifest, as written.

    Raises:
        StorageError: when the folder exists or cannot be written.
        ModelError: when a layer does not fit 8-bit codes and 32-bit accumulators.
        QuantizationError: when multipliers are float32, or one cannot be written in this fixed-point form.
    """
    require_integers(how)
    chosen = split.select(np.asarray(images, np.int64), "exported")
    codes = engine.input_codes(program, chosen.images)
    run = partial(golden, requantization=how, asked=intermediates, broadcast=broadcast)
    with whole_folder(folder) as part:
        writer = Writer(part)
        layers, scores, logits = _layers(writer, program, codes, run, progress)
        corners, tables = _edges(writer, run)
        pixels = codes_record(program.input, NETWORK)
        _network(writer, pixels, codes, scores)
        for name, text in csource.program(layers, corners, pixels, logits, how.rounding).items():
            writer.write(f"c/{name}", text.encode())
        predictions = tuple(engine.probabilities(program, scores).argmax(axis=1).tolist())
        records, ort = tuple(one.record for one in layers), None
        if reference is not None:
            records, ort = differences(layers, reference, predictions)
        vectors = VectorSet(
            model=model,
            data=chosen.source,
            requantization=how.name,
            images=tuple(images),
            labels=tuple(chosen.labels.tolist()),
            predictions=predictions,
            input=pixels,
            logits=logits,
            layers=records,
            edges=tuple(one.record for one in corners),
            ort=ort,
            files={},
            environment=environment.current(),
            created=results.now(),
            arrays=dict(sorted(writer.records.items())),
            broadcast=broadcast,
            intermediates=intermediates.words,
        )
        writer.write("README.md", readme.readme(vectors, tables).encode(errors="backslashreplace"))
        vectors = replace(vectors, files=dict(sorted(writer.digests.items())))
        writer.write(MANIFEST, results.to_json(vectors).encode())
    return vectors


def _layers(
    writer: Writer, program: Program, codes: NDArray[Any], run: Callable[..., Golden], progress: Progress
) -> tuple[list[Golden], NDArray[Any], str]:
    """As :func:`resnet8.vectors.golden.network_layers`, each layer written at once."""

    def each(one: Golden, done: int) -> None:
        headers = {"parameters": one.parameters.values(), "expected": one.expected}
        # A header holds the input where it is written; the C program computes no more than accumulators and codes.
        writer.arrays(f"layers/{one.folder}", one.folder, headers, (*one.inputs, *one.inside))
        progress(done, len(program.layers))

    return network_layers(program, codes, run, each)


def _edges(writer: Writer, run: Callable[..., Golden]) -> tuple[list[Golden], dict[str, tuple[Field, ...]]]:
    found = []
    for number, case in enumerate(edges.edges()):
        one = run(f"edge_{number:02}_{case.name}", case.layer, case.values, name=case.purpose)
        headers = {"input": one.inputs, "parameters": one.parameters.values(), "expected": one.expected}
        writer.arrays(f"edge/{one.folder}", one.folder, headers, one.inside)
        found.append(one)
    tables = {"products": edges.products(), "sums": edges.sums()}
    for name, fields in tables.items():
        writer.arrays(f"edge/{name}", f"edge_{name}", {"table": fields})
    return found, tables


def _network(writer: Writer, pixels: CodesRecord, codes: NDArray[Any], scores: NDArray[Any]) -> None:
    zero_point = Field("input_zero_point", np.asarray(pixels.zero_point, codes.dtype))
    headers = {
        "input": (Field("input", codes, "image, row, column, channel"), zero_point),
        "logits": (Field("logits", scores, "image, class"),),
    }
    writer.arrays("network", "network", headers)
