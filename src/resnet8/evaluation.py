"""Predictor x images -> :class:`resnet8.results.Evaluation`, streamed in batches."""

from __future__ import annotations

import logging
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from resnet8 import environment, results
from resnet8.batches import DEFAULT_BATCH, batched
from resnet8.data.cifar10 import META, SPLIT_FILES, find, preprocess, random_images, read_split
from resnet8.errors import DataError, ModelError, ResultError
from resnet8.facts import CLASSES
from resnet8.files import read_bytes
from resnet8.results import ClassScore, Evaluation, Quantization, score
from resnet8.runtimes import identify, open_model
from resnet8.workers import no_progress

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from resnet8.data.cifar10 import Split
    from resnet8.results import ModelDescription
    from resnet8.runtimes import Predictor
    from resnet8.workers import Progress

log = logging.getLogger(__name__)

PERF_SUBSET = "mlperf-perf"

RANDOM_IMAGES = 1000
"""Images of noise that stand in where there is no data."""


def record_path(model: Path) -> Path:
    """Where the record of how ``model`` was quantized stands: beside it."""
    return model.with_name(model.name + ".json")


def evaluate(
    model: Path,
    data_dir: Path,
    *,
    subset: str | None = None,
    max_samples: int | None = None,
    batch_size: int = DEFAULT_BATCH,
    progress: Progress = no_progress,
    opener: Callable[[Path, bytes], Predictor] | None = None,
) -> Evaluation:
    """Top-1 of a model file on CIFAR-10's test images.

    Args:
        model: Any model file that is known (:mod:`resnet8.runtimes`).
        data_dir: The folder with the batch files, or the one above it.
        subset: ``mlperf-perf`` for the official 200-image subset; none for all images.
        max_samples: Only the first so many images.
        batch_size: Images fed at once.
        progress: Called after each batch.
        opener: Opens the file in another runtime than its content calls for (:func:`resnet8.runtimes.open_model`).

    Raises:
        DataError: for unusable data or an empty choice of images.
        ModelError: for an unusable model.

    Example:
        >>> result = resnet8.evaluate(Path("models/resnet8_uint8.onnx"), data, max_samples=50)
        >>> result.overall.total, result.overall.accuracy > 0.9
        (50, True)
        >>> result.model.dtype, result.quantization.recipe
        ('uint8', 'published-uint8')
    """
    content = read_bytes(model)
    asked = (model, data_dir, subset, max_samples, batch_size)
    if opener is None:
        evaluation = identify(model, content).call(model, _evaluated, *asked, content=content, progress=progress)
    else:
        evaluation = _evaluated(*asked, content=content, progress=progress, opener=opener)
    log.info(
        "%s: %d of %d correct in %s, %.1f images/s",
        evaluation.model.path,
        evaluation.overall.correct,
        evaluation.overall.total,
        evaluation.runtime,
        evaluation.images_per_second,
    )
    return evaluation


def _evaluated(
    model: Path,
    data_dir: Path,
    subset: str | None,
    max_samples: int | None,
    batch_size: int,
    *,
    content: bytes,
    progress: Progress,
    opener: Callable[[Path, bytes], Predictor] | None = None,
) -> Evaluation:
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(read_split, data_dir, "test")  # while a framework is imported
        predictor = open_model(model, opener, content)
        split = choose(reading.result(), subset, max_samples)
    return evaluate_split(predictor, split, batch_size, progress)[0]


def probe(
    model: Path, data_dir: Path | None, progress: Progress = no_progress, content: bytes | None = None
) -> tuple[Evaluation, NDArray[np.float32]]:
    """Evaluate a model where many are evaluated one after another, in a process that lives on.

    Args:
        model: Any model file that is known.
        data_dir: The folder with the batch files, or the one above it, whose test images are read once while they stay
            as they are; none for seeded random images.
        progress: Called after each batch.
        content: What the file will hold, where it is not written yet.

    Returns:
        The result, and the probabilities it rests on, float32 (N, 10).

    Raises:
        DataError: for unusable data.
        ModelError: for an unusable model.
    """
    return evaluate_split(open_model(model, content=content), _test_images(data_dir), DEFAULT_BATCH, progress)


def _test_images(data_dir: Path | None) -> Split:
    if data_dir is None:
        return random_images(RANDOM_IMAGES)
    folder = find(data_dir)
    files = [folder / name for name in (*SPLIT_FILES["test"], META)]
    state = tuple((file.stat().st_size, file.stat().st_mtime_ns) if file.is_file() else None for file in files)
    return _read_test_images(folder, state)


@lru_cache(maxsize=1)
def _read_test_images(folder: Path, state: object) -> Split:  # noqa: ARG001 - it decides what is remembered
    return read_split(folder, "test")


def choose(split: Split, subset: str | None, max_samples: int | None) -> Split:
    """The images of ``split`` that the options name.

    Raises:
        DataError: when both are given, or one is unknown or out of range.
    """
    if subset is not None and max_samples is not None:
        raise DataError("a subset and a number of images exclude each other", remedy="give one of them")
    if subset is not None:
        if subset != PERF_SUBSET:
            raise DataError("the subset is not known", found=subset, expected=PERF_SUBSET)
        return split.perf_subset()
    return split if max_samples is None else split.first(max_samples)


def evaluate_split(
    predictor: Predictor, split: Split, batch_size: int = DEFAULT_BATCH, progress: Progress = no_progress
) -> tuple[Evaluation, NDArray[np.float32]]:
    """Evaluate an open model on ``split``.

    Returns:
        The result, and the probabilities it rests on, float32 (N, 10).

    Raises:
        DataError: for a batch size below one.
        ModelError: when the runtime fails, or gives anything but one finite probability per class.
    """
    if batch_size < 1:
        raise DataError("the batch size is not usable", found=str(batch_size), expected="1 or more")
    started = time.perf_counter()
    probabilities = _probabilities(predictor, split, batch_size, progress)
    seconds = time.perf_counter() - started
    predictions = probabilities.argmax(axis=1)
    record, notice = record_of(predictor.model)
    confusion = np.zeros((CLASSES, CLASSES), np.int64)
    np.add.at(confusion, (split.labels, predictions), 1)
    of_classes = map(score, confusion.diagonal().tolist(), confusion.sum(axis=1).tolist())
    evaluation = Evaluation(
        runtime=predictor.runtime,
        model_path=predictor.model.path,
        model_sha256=predictor.model.sha256,
        data_dir=split.source.directory,
        data_fingerprint=split.source.fingerprint,
        model=predictor.model,
        data=split.source,
        overall=score(int(np.trace(confusion)), len(split)),
        per_class=tuple(
            ClassScore(name, **asdict(one)) for name, one in zip(split.class_names, of_classes, strict=True)
        ),
        confusion_matrix=tuple(tuple(row) for row in confusion.tolist()),
        labels=results.digits(split.labels),
        predictions=results.digits(predictions),
        batch_size=batch_size,
        run_seconds=round(seconds, 3),
        images_per_second=round(len(split) / seconds, 1),
        quantization=record,
        environment=environment.current(),
        created=results.now(),
        requantization=predictor.requantization,
        session_options=dict(predictor.session_options),
        notice=notice,
    )
    return evaluation, probabilities


def _probabilities(predictor: Predictor, split: Split, batch_size: int, progress: Progress) -> NDArray[np.float32]:
    def run(part: slice) -> NDArray[np.float32]:
        images = split.images[part]
        output = predictor.probabilities(preprocess(images))
        if output.shape != (len(images), CLASSES):  # NumPy would spread one row over the batch
            raise ValueError(f"an output of shape {output.shape} for {len(images)} images")
        return output

    try:
        outputs = np.concatenate(list(batched(run, len(split), progress, batch_size, predictor.threads)))
    except Exception as error:
        raise ModelError(
            f"{predictor.model.path} failed on images of {split.source.directory}",
            found=f"{error!s:.200}",
            expected=f"{CLASSES} probabilities for each image, any batch size",
            remedy="convert the model with a dynamic batch («resnet8 convert»)",
        ) from error
    if not np.isfinite(outputs).all():
        raise ModelError(
            f"{predictor.model.path} gives numbers that are not finite",
            found=f"{int((~np.isfinite(outputs)).any(axis=1).sum())} images with NaN or infinity",
            expected="finite probabilities",
        )
    return outputs


def record_of(model: ModelDescription) -> tuple[Quantization | None, str | None]:
    """The record beside the model, when it is of this very file; else what is wrong with it, if there is one."""
    path = record_path(Path(model.path))
    if not model.quantized or not path.is_file():
        return None, None
    try:
        record = results.load(Quantization, path)
    except ResultError:
        return None, f"{path.name} is damaged, or no record: how this file was made is not known"
    if record.model_sha256 != model.sha256:
        return None, f"the file is not what {path.name} names: it was altered or exchanged since it was quantized"
    return record, None
