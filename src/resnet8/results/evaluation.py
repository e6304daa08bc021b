"""What was evaluated, on which images, and with what result."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from resnet8.environment import Environment
from resnet8.results.storage import SCHEMA_VERSION, STRICT, sha256


@dataclass(frozen=True)
class Score:
    """Top-1 on a set of images: ``accuracy`` is ``correct / total``, a fraction from 0 to 1."""

    correct: int
    total: int
    accuracy: float


@dataclass(frozen=True)
class ClassScore:
    """Top-1 on the images of one class (recall of that class)."""

    class_name: str
    correct: int
    total: int
    accuracy: float


def score(correct: int, total: int) -> Score:
    """The :class:`Score` of ``correct`` among ``total`` images; accuracy 0 where there are none."""
    return Score(correct, total, correct / total if total else 0.0)


@dataclass(frozen=True)
class DataSource:
    """Which images were used.

    Attributes:
        directory: The folder they were read from.
        dataset: ``CIFAR-10`` or ``demo digits`` when every byte is that of the known set, else ``unofficial``.
        split: ``test`` or ``train``.
        subset: ``all``, ``first-N``, ``A-to-B`` (numbers of the first and the last) or ``mlperf-perf``.
        fingerprint: SHA-256 of the whole split's decoded pixels (uint8, NHWC, in file order), then its labels (uint8).
    """

    directory: str
    dataset: str
    split: str
    subset: str
    fingerprint: str


@dataclass(frozen=True)
class ModelDescription:
    """What a model file is.

    Attributes:
        path: Where it was read from.
        sha256: Of the file.
        size_bytes: Of the file.
        format: ``keras-h5``, ``onnx``, ``torchscript`` or ``tflite``.
        activations: Data type of the activations: ``float32``, ``int8`` or ``uint8``.
        weights: Data type of the weights.
    """

    path: str
    sha256: str
    size_bytes: int
    format: str
    activations: str
    weights: str

    @classmethod
    def of(cls, path: Path, content: bytes, file_format: str, activations: str, weights: str) -> ModelDescription:
        """Of the file at ``path`` with this ``content``."""
        return cls(str(path), sha256(content), len(content), file_format, activations, weights)

    @property
    def quantized(self) -> bool:
        """Whether the weights are integers."""
        return self.weights != "float32"

    @property
    def dtype(self) -> str:
        """One name for both types: ``int8`` where they agree, else ``uint8/int8`` (activations/weights)."""
        return self.weights if self.activations == self.weights else f"{self.activations}/{self.weights}"


@dataclass(frozen=True)
class Calibration:
    """Which training images set the ranges.

    Attributes:
        data: The images' source.
        method: Name of the draw (:mod:`resnet8.data.calibration`).
        seed: Its seed.
        samples_per_class: Images of each class.
        per_class: How many of each class were drawn, counted from the labels of the drawn images.
        indices: Of the images in the training split, in the order they were fed.
    """

    data: DataSource
    method: str
    seed: int
    samples_per_class: int
    per_class: dict[str, int]
    indices: tuple[int, ...]


@dataclass(frozen=True)
class Quantization:
    """How a quantized model was made, or why it could not be.

    Attributes:
        recipe: Name of the recipe.
        settings: The recipe's fields, as used.
        source_sha256: Of the float model.
        model_sha256: Of the quantized model; none when refused.
        calibration: The images that set the ranges; none when the backend refused before it needed them.
        refusal: The backend's own words when it refused, else none.
        seconds: Wall time of quantizing.
    """

    recipe: str
    settings: dict[str, str | bool | int]
    source_sha256: str
    model_sha256: str | None
    calibration: Calibration | None
    refusal: str | None
    seconds: float
    environment: Environment
    created: str
    kind: Literal["quantization"] = "quantization"
    schema_version: Literal[1] = SCHEMA_VERSION
    __pydantic_config__ = STRICT


@dataclass(frozen=True)
class Evaluation:
    """Top-1 of one model in one runtime on one set of images.

    Attributes:
        runtime: Its name: ``keras``, ``onnxruntime``, ``pytorch``, ``litert``, ``integer`` (this package's engine), or
            ``emulated-avx2`` (what ONNX Runtime computes on an x86 CPU without VNNI, emulated).
        model: The file.
        data: The images.
        overall: Top-1 on all of them.
        per_class: Top-1 by true class, in class order.
        confusion_matrix: ``[true][predicted]`` counts.
        labels: True class of each image, one decimal digit each, in order.
        predictions: Predicted class of each image, likewise: two results on the same images can be compared in pairs.
        batch_size: Images fed at once.
        run_seconds: Wall time inside the runtime.
        images_per_second: Images over ``run_seconds``.
        quantization: How the model was quantized, where a record beside the file says so; else none.
        notice: What is wrong with the chain from the model's inputs to this number, in words; none where nothing is.
        requantization: How the integer engine brought accumulators to codes; none in other runtimes.
        session_options: Configuration entries of ONNX Runtime's session by name; empty in other runtimes.
    """

    runtime: Annotated[str, Field(alias="backend")]
    model_path: str
    model_sha256: str
    data_dir: str
    data_fingerprint: str
    model: ModelDescription
    data: DataSource
    overall: Score
    per_class: tuple[ClassScore, ...]
    confusion_matrix: tuple[tuple[int, ...], ...]
    labels: str
    predictions: str
    batch_size: int
    run_seconds: float
    images_per_second: float
    quantization: Quantization | None
    environment: Environment
    created: str
    requantization: str | None = None
    session_options: dict[str, str] = field(default_factory=dict)
    notice: str | None = None
    kind: Literal["evaluation"] = "evaluation"
    schema_version: Literal[1] = SCHEMA_VERSION
    __pydantic_config__ = STRICT
