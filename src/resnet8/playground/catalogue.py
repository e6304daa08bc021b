"""The models there are: what each file is, how large, how accurate. Nothing is opened in a framework for it."""

from __future__ import annotations

import os
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from resnet8.errors import ModelError, Resnet8Error, StorageError, opening
from resnet8.evaluation import record_of, record_path
from resnet8.facts import ONNX_FILES
from resnet8.files import read_bytes, reading
from resnet8.playground.saving import ChangeRecord
from resnet8.playground.sources import require_folder
from resnet8.quantization.recipes import RECIPES
from resnet8.results import Evaluation, ModelDescription, Parity, Quantization, Score, fields_of, from_digits, load
from resnet8.runtimes import onnx_file, torchscript_file
from resnet8.runtimes.base import FORMATS, identify
from resnet8.words import percent

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from resnet8.data.cifar10 import Split

SUFFIXES = (".onnx", ".pt")
_OWN = {runtime.name for runtime in FORMATS.values()}
"""The runtimes that files are for: an evaluation there counts before one in the integer engine."""


@dataclass(frozen=True)
class Entry:
    """A file in the list.

    Attributes:
        path: The file.
        label: A line that tells it from the others: name and accuracy; or what is wrong.
        kind: Runtime and data type in words; empty when it is no model.
        description: What it is; none when it is no model.
        score: Top-1 on all test images; none where no result says so.
        error: Why it is no model; empty when it is one.
        notice: What is wrong with the record beside it; empty when nothing is.
        sentence: What it is and how it was made, as far as a record says so; empty when it is no model.
        same_as: The names of other files in the list with the very same bytes.
    """

    path: Path
    label: str
    kind: str = ""
    description: ModelDescription | None = None
    score: Score | None = None
    error: str = ""
    notice: str = ""
    sentence: str = ""
    same_as: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Of the file, for people: what is no text in it is replaced."""
        return os.fsencode(self.path.name).decode(errors="replace")

    @property
    def quantized(self) -> bool:
        """Whether the weights are integers."""
        return self.description is not None and self.description.quantized


def models(folder: Path, known: tuple[Evaluation, ...]) -> tuple[Entry, ...]:
    """The model files in ``folder``/models, or in ``folder`` itself where there is no such folder; by name.

    Files that are no models are listed with what is wrong.

    Args:
        folder: Where.
        known: What was measured (:func:`evaluations`); accuracy is that of the very same file, by its digest.

    Raises:
        StorageError: when there is no such folder, or it cannot be read.
    """
    require_folder(folder)
    with reading(folder):
        paths = sorted(path for path in _place(folder).iterdir() if path.suffix in SUFFIXES)
    converted = _converted(folder)
    # Path.is_dir raises at some links that lead nowhere; they are told of where they are read.
    found = [_entry(path, known, converted) for path in paths if not os.path.isdir(path)]  # noqa: PTH112
    twins: dict[str, list[str]] = defaultdict(list)
    for one in found:
        twins[_digest(one)].append(one.name)
    return tuple(replace(one, same_as=_others(one.name, twins[_digest(one)])) for one in found)


def _digest(entry: Entry) -> str:
    """Of the file; of what is no model its own path, which no other has."""
    return str(entry.path) if entry.description is None else entry.description.sha256


def _others(name: str, names: list[str]) -> tuple[str, ...]:
    return tuple(one for one in names if one != name)


def first(entries: tuple[Entry, ...]) -> Entry:
    """The one to open first: a quantized model, else a model, else any."""
    return max(entries, key=lambda one: (one.description is not None, one.quantized))


def _place(folder: Path) -> Path:
    return folder / "models" if (folder / "models").is_dir() else folder


def evaluations(folder: Path) -> tuple[Evaluation, ...]:
    """The evaluations in ``results`` in the folder of the models or beside it; other files there are passed over.

    Args:
        folder: As for :func:`models`.

    Raises:
        StorageError: when the folder cannot be read.
    """
    found = []
    for path in _results(folder):
        try:
            found.append(load(Evaluation, path))
        except Resnet8Error:
            continue
    return tuple(found)


def _results(folder: Path) -> list[Path]:
    """The files of results of the models in ``folder``, by name."""
    with reading(folder):
        place = _place(folder)
        places = [one for one in (place / "results", place.parent / "results") if one.is_dir()]
        return sorted(places[0].glob("*.json")) if places else []


def _converted(folder: Path) -> frozenset[str]:
    """The digests of files that are known to be converted from Keras: by the certificate in the results, or at all."""
    models = {}
    for path in _results(folder):
        if path.name == "parity.json":
            with suppress(Resnet8Error):
                models = load(Parity, path).models
    return frozenset(ONNX_FILES.values()) | {one.sha256 for one in models.values()}


def of_model(known: tuple[Evaluation, ...], digest: str) -> Evaluation | None:
    """The evaluation of the file with this SHA-256 on all test images; in its own runtime, where there is one."""
    mine = [one for one in known if one.model_sha256 == digest and one.data.subset == "all"]
    return max(mine, key=lambda one: (one.runtime in _OWN, one.overall.total), default=None)


def stored_predictions(known: tuple[Evaluation, ...], digest: str, split: Split) -> NDArray[np.int64] | None:
    """The predicted classes of all images of ``split`` by the model with this SHA-256, int64 (N,).

    Args:
        known: What was measured (:func:`evaluations`).
        digest: Of the model file.
        split: The whole test split; its fingerprint must be that of the evaluation.

    Returns:
        None where nothing was stored for this file and these images: compute them then, over a sample.
    """
    evaluation = of_model(tuple(one for one in known if one.data_fingerprint == split.source.fingerprint), digest)
    if evaluation is None or len(evaluation.predictions) != len(split):
        return None
    return from_digits(evaluation.predictions)


def float_behind(entry: Entry, entries: tuple[Entry, ...]) -> Entry | None:
    """The float model that a quantized one was made from, among ``entries``; none where there is no float model.

    By the record beside the quantized file, of its making or of its changes; without one, the first float model.
    """
    floats = [one for one in entries if one.description is not None and not one.quantized]
    if (source := _float_source(record_path(entry.path))) is not None:
        floats.sort(key=lambda one: one.description is None or one.description.sha256 != source)
    return next(iter(floats), None)


def _float_source(record: Path) -> str | None:
    """The digest of the float model that a record names; none where it names none."""
    with suppress(Resnet8Error):
        return load(Quantization, record).source_sha256
    with suppress(Resnet8Error):
        reference = load(ChangeRecord, record).reference
        return None if reference is None else reference.sha256
    return None


def describe(path: Path, content: bytes) -> ModelDescription:
    """What the file with this ``content`` is, without opening it in its runtime.

    Raises:
        ModelError: when it is no model, or for another runtime than ONNX Runtime and PyTorch.
    """
    runtime = identify(path, content)
    with opening(path, runtime.label):
        if runtime.format == "onnx":
            return onnx_file.describe(path, content, onnx_file.read(path, content))
        if runtime.format == "torchscript":
            return torchscript_file.describe(path, content)
    raise ModelError(
        f"{path} cannot be looked into", found=f"a file for {runtime.label}", expected="ONNX or TorchScript"
    )


def _entry(path: Path, known: tuple[Evaluation, ...], converted: frozenset[str]) -> Entry:
    try:
        if (name := Entry(path, "").name) != path.name:
            raise StorageError(f"{name} cannot be shown", found="a name that is not UTF-8", remedy="rename the file")
        content = read_bytes(path)
        description = describe(path, content)
        record, notice = _record(path, description)
        sentence = (
            _made(record, description) if description.quantized else _float(path, description, content, converted)
        )
    except Resnet8Error as error:
        return Entry(path, f"{name} · {error.what}", error=str(error))
    evaluation = of_model(known, description.sha256)
    score = None if evaluation is None else evaluation.overall
    kind = f"{FORMATS[description.format].label} {description.dtype}"
    accuracy = "not measured" if score is None else percent(score.accuracy)
    label = f"{path.name} · {accuracy}"
    return Entry(path, label, kind, description, score, notice=notice, sentence=sentence)


def _record(path: Path, model: ModelDescription) -> tuple[Quantization | ChangeRecord | None, str]:
    """The record beside the model and nothing, or none and what is wrong with it, if there is one.

    As of :func:`resnet8.evaluation.record_of`; and the record may be one of changes.
    """
    beside = record_path(path)
    try:
        if model.quantized and beside.is_file() and fields_of(read_bytes(beside)).get("kind") == "change":
            record = load(ChangeRecord, beside)
            if record.model_sha256 == model.sha256:
                return record, ""
            return None, f"the file is not what {beside.name} names: it was altered or exchanged since it was saved"
        made, notice = record_of(model)
    except Resnet8Error as error:
        return None, str(error)
    return made, notice or ""


def _made(record: Quantization | ChangeRecord | None, model: ModelDescription) -> str:
    """How a quantized file was made."""
    types = f"weights {model.weights}, activations {model.activations}"
    if record is None:
        return f"{types.capitalize()}; no record says how it was made"
    if isinstance(record, ChangeRecord):
        return record.sentence
    if record.recipe in RECIPES:
        return f"Recipe {record.recipe} ({RECIPES[record.recipe].summary})"
    scales = "a scale for each channel" if record.settings.get("per_channel") else "one scale for a tensor"
    return f"Recipe {record.recipe} ({types}, {scales})"


def _float(path: Path, model: ModelDescription, content: bytes, converted: frozenset[str]) -> str:
    """Where a float file comes from."""
    if model.format == "torchscript":
        with opening(path, FORMATS[model.format].label):
            known, what, origin = torchscript_file.source_sha256(content) is not None, "TorchScript", "ONNX"
    else:
        known, what, origin = model.sha256 in converted, "ONNX", "Keras"
    come = f", as converted from {origin}" if known else "; no record says where it comes from"
    return f"The float network: {what}{come}"
