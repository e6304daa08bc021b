"""What a runtime is, which there are, and how a file finds its own: by its content."""

from __future__ import annotations

import importlib
import os
import threading
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from resnet8.errors import ModelError, WorkerError, missing_extra, opening
from resnet8.facts import CLASSES, IMAGE_SHAPE
from resnet8.files import read_bytes
from resnet8.runtimes.torchscript import archive
from resnet8.runtimes.torchscript.refusal import refuse
from resnet8.workers import Worker, is_worker

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path
    from types import ModuleType

    import numpy as np
    from numpy.typing import NDArray

    from resnet8.results import ModelDescription

P = ParamSpec("P")
R = TypeVar("R")


@dataclass
class Predictor:
    """A model, open in a runtime.

    Attributes:
        runtime: Name of the runtime.
        model: What the file is.
        probabilities: Class probabilities, float32 (N, 10), of images, float32 (N, 32, 32, 3), raw pixels 0 to 255.
        threads: How many threads may call ``probabilities`` at once.
        requantization: How the integer engine requantizes (:class:`resnet8.numeric.variants.Requantization`); none
            elsewhere.
        session_options: Configuration entries of ONNX Runtime's session by name; empty elsewhere.
    """

    runtime: str
    model: ModelDescription
    probabilities: Callable[[NDArray[np.float32]], NDArray[np.float32]]
    threads: int = 1
    requantization: str | None = None
    session_options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Runtime:
    """One way to compute a model file.

    Attributes:
        name: In results; also of the process that its framework has to itself.
        label: Its name for people.
        format: The file format that it is for, as in :class:`resnet8.results.ModelDescription`; empty for one that
            computes other runtimes' files when asked to.
        module: Its module here, with ``open_content(path, content)``, which gives a :class:`Predictor`; and where the
            codes of a quantized file can be seen, ``traces(path, content)``, which gives what shows them by graph.
        package: What must be importable.
        extra: The extra of this project that brings ``package``.
        quantizes: Whether its results are those of a framework's own quantized kernels.
        apart: Whether commands and page open its files in a process of its own, which may crash.
    """

    name: str
    label: str
    format: str
    module: str
    package: str = "numpy"
    extra: str = ""
    quantizes: bool = False
    apart: bool = False

    def load(self) -> ModuleType:
        """Its module, with its framework.

        Raises:
            MissingExtraError: when that is not installed.
        """
        try:  # the module imports the package, and may have to set what that reads
            return importlib.import_module(f"resnet8.runtimes.{self.module}")
        except ImportError as error:
            raise missing_extra(self.package, self.extra) from error

    def call(self, path: Path, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """``function(*args, **kwargs)``, which opens the file at ``path``; in a process of a runtime that is ``apart``.

        The process stays for the next call; see :meth:`resnet8.workers.Worker.call`.

        Raises:
            Resnet8Error: the function's own.
            ModelError: when the process ended, or anything else was raised there.
        """
        if not self.apart or is_worker():
            return function(*args, **kwargs)
        try:
            with _ONE_CALL:
                return _process(self.name, os.getpid()).call(function, *args, **kwargs)
        except WorkerError as error:
            raise ModelError(
                f"{path} failed in {self.label}",
                found=f"{error.what}: {error.found}",
                expected="a model that computes, with moderate memory and time",
                remedy="fetch or make the file again",
            ) from error


_ONE_CALL = threading.Lock()
"""A worker answers one call after another; the page's sessions are threads of one process."""


@cache
def _process(name: str, owner: int) -> Worker:  # noqa: ARG001 - a fork of this process needs its own
    return Worker(name)


RUNTIMES = {
    runtime.name: runtime
    for runtime in (
        Runtime("keras", "Keras", "keras-h5", "keras", "keras", "keras", apart=True),
        Runtime("onnxruntime", "ONNX Runtime", "onnx", "ort", "onnxruntime", quantizes=True),
        Runtime("pytorch", "PyTorch", "torchscript", "pytorch", "torch", "torch", quantizes=True, apart=True),
        Runtime("litert", "LiteRT", "tflite", "litert", "ai_edge_litert", "litert", quantizes=True, apart=True),
        Runtime("integer", "integer engine", "", "integer"),
        Runtime("emulated-avx2", "ONNX Runtime (emulated, no VNNI)", "", "integer"),
    )
}
"""All runtimes by name."""

FORMATS = {runtime.format: runtime for runtime in RUNTIMES.values() if runtime.format}
"""The runtime that a file format is for, by the format's name."""

_ONNX_FIRST_BYTE = 0x08  # field 1 (ir_version), a varint: the first field that every writer of ONNX files writes

_PICKLE = ("a Python pickle, which can run any code", "TorchScript (.pt written by this project)")


def identify(path: Path, content: bytes) -> Runtime:
    """The runtime that opens a file with this ``content``; ``path`` only names it in errors.

    Raises:
        ModelError: for a file that is no model, or a pickle (which could run any code when loaded).
    """
    if content.startswith(b"\x89HDF\r\n\x1a\n"):
        return FORMATS["keras-h5"]
    if content[4:8] == b"TFL3":
        return FORMATS["tflite"]
    if content.startswith(b"PK"):
        return _identify_zip(path, content)
    if content.startswith(b"\x80"):
        refuse(path, *_PICKLE)
    if content.startswith(bytes([_ONNX_FIRST_BYTE])):
        return FORMATS["onnx"]
    raise _unknown(path, f"{len(content):,} bytes beginning with {content[:8]!r}" if content else "an empty file")


def open_model(
    path: Path, opener: Callable[[Path, bytes], Predictor] | None = None, content: bytes | None = None
) -> Predictor:
    """Open a model file.

    Args:
        path: The file.
        opener: What makes a predictor of the file's name and content; without one, the runtime that the content calls
            for.
        content: What the file will hold, where it is not written yet.

    Raises:
        StorageError: when the file cannot be read.
        ModelError: when it is damaged, unsafe, or does not map (N, 32, 32, 3) to (N, 10).
        MissingExtraError: when the runtime is not installed.

    Example:
        >>> model = resnet8.open_model(Path("models/resnet8.onnx"))
        >>> model.runtime, model.model.format, model.model.size_bytes
        ('onnxruntime', 'onnx', 322043)
        >>> model.probabilities(np.zeros((3, 32, 32, 3), np.float32)).shape
        (3, 10)
    """
    content = read_bytes(path) if content is None else content
    runtime = identify(path, content)
    opener = opener or runtime.load().open_content
    with opening(path, runtime.label):
        return opener(path, content)


def require_format(
    path: Path, content: bytes, wanted: str, what: str, *, expected: str, remedy: str | None = None
) -> None:
    """Check that a file is of the format ``wanted``; ``what`` says what else it is not good for.

    Raises:
        ModelError: when it is of another, or no model file.
    """
    found = identify(path, content)
    if found.format != wanted:
        raise ModelError(f"{path} {what}", found=f"a file for {found.label}", expected=expected, remedy=remedy)


def require_shapes(path: Path, inputs: tuple[object, ...], outputs: tuple[object, ...]) -> None:
    """Check a model's shapes without their batch axis.

    Raises:
        ModelError: when they are not (32, 32, 3) to (10,).
    """
    for what, found, expected in (("input", inputs, IMAGE_SHAPE), ("output", outputs, (CLASSES,))):
        if tuple(found) != tuple(expected):
            raise ModelError(
                f"{path} has another {what} shape",
                found=f"(batch, {', '.join(map(str, found))})",
                expected=f"(batch, {', '.join(map(str, expected))})",
                remedy="use a ResNet8 for CIFAR-10 with NHWC input",
            )


def _unknown(path: Path, found: str) -> ModelError:
    return ModelError(
        f"{path} is no model file that is known here",
        found=found,
        expected="Keras .h5, ONNX, TorchScript .pt or .tflite",
        remedy="check the path; «resnet8 convert» and «resnet8 quantize» write such files",
    )


def _identify_zip(path: Path, content: bytes) -> Runtime:
    members = archive.names(path, content)
    names = {name.partition("/")[2] for name in members}
    if any(name.startswith("code/") for name in names) and "constants.pkl" in names:
        return FORMATS["torchscript"]
    if any(name.endswith(".pkl") for name in members):
        refuse(path, *_PICKLE)
    raise _unknown(path, f"a zip archive with {', '.join(members[:3]) or 'nothing'}")
