"""Small real inputs that several tests build on: folders of CIFAR-10's form, and evaluations with chosen answers."""

from __future__ import annotations

import hashlib
import pickle
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from resnet8.environment import Cpu, Environment
from resnet8.results import (
    Calibration,
    ClassScore,
    DataSource,
    Evaluation,
    FoldedConstant,
    Ground,
    Measured,
    ModelDescription,
    NoiseRun,
    NoiseStudy,
    PairParity,
    Parity,
    Quantization,
    Score,
    SeedRun,
    SeedStudy,
    Structure,
    score,
)

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

CLASS_NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
BATCHES = (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch")

ENVIRONMENT = Environment(
    resnet8="0.1.0",
    python="3.11.7",
    platform="linux x86_64",
    libraries={"numpy": "2.4.6", "onnxruntime": "1.31.1"},
    cpu=Cpu(model="Example CPU", flags=("avx2", "avx512f", "avx512_vnni"), logical_cpus=2),
)
CIFAR10 = DataSource(directory="data", dataset="CIFAR-10", split="test", subset="all", fingerprint="f" * 64)


# --- folders of CIFAR-10's form ---


def batch(images: NDArray[np.uint8], labels: list[Any]) -> dict[bytes, Any]:
    """What a batch file holds: the NHWC ``images`` as planes."""
    return {b"data": images.transpose(0, 3, 1, 2).reshape(len(images), -1), b"labels": labels}


def noise(count: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, 32, 32, 3), np.uint8)


def cifar_folder(folder: Path, per_class: int = 2) -> Path:
    """A complete small data set: ``per_class`` noise images of each class in each batch, classes in turn."""
    folder.mkdir(parents=True)
    for seed, name in enumerate(BATCHES):
        labels = list(range(10)) * per_class
        (folder / name).write_bytes(pickle.dumps(batch(noise(len(labels), seed), labels), protocol=4))
    meta = {b"label_names": [name.encode() for name in CLASS_NAMES]}
    (folder / "batches.meta").write_bytes(pickle.dumps(meta, protocol=4))
    return folder


# --- results ---


def model(
    path: str = "models/resnet8.onnx",
    activations: str = "float32",
    weights: str = "float32",
    size_bytes: int = 320_000,
    format: str = "onnx",  # noqa: A002 - the field's name
) -> ModelDescription:
    return ModelDescription(path, hashlib.sha256(path.encode()).hexdigest(), size_bytes, format, activations, weights)


def quantization(recipe: str, method: str = "first") -> Quantization:
    return Quantization(
        recipe=recipe,
        settings={"activations": "int8", "per_channel": False, "bits": 8},
        source_sha256="a" * 64,
        model_sha256="b" * 64,
        calibration=Calibration(
            data=replace(CIFAR10, split="train", subset="calibration"),
            method=method,
            seed=42,
            samples_per_class=2,
            per_class=dict.fromkeys(CLASS_NAMES, 2),
            indices=tuple(range(20)),
        ),
        refusal=None,
        seconds=1.25,
        environment=ENVIRONMENT,
        created="2026-01-02T03:04:05+00:00",
    )


def evaluation(
    labels: str,
    predictions: str,
    *,
    runtime: str = "onnxruntime",
    described: ModelDescription | None = None,
    recipe: str | None = None,
    method: str = "first",
    data: DataSource = CIFAR10,
    environment: Environment = ENVIRONMENT,
    speed: float = 1000.0,
) -> Evaluation:
    """An evaluation whose counts are counted from its digits, one by one."""
    described = described or model()
    confusion = [[0] * 10 for _ in range(10)]
    for true, predicted in zip(labels, predictions, strict=True):
        confusion[int(true)][int(predicted)] += 1
    correct = sum(true == predicted for true, predicted in zip(labels, predictions, strict=True))
    return Evaluation(
        runtime=runtime,
        model_path=described.path,
        model_sha256=described.sha256,
        data_dir=data.directory,
        data_fingerprint=data.fingerprint,
        model=described,
        data=data,
        overall=Score(correct, len(labels), correct / len(labels)),
        per_class=tuple(
            ClassScore(name, row[i], sum(row), row[i] / sum(row) if sum(row) else 0.0)
            for i, (name, row) in enumerate(zip(CLASS_NAMES, confusion, strict=True))
        ),
        confusion_matrix=tuple(tuple(row) for row in confusion),
        labels=labels,
        predictions=predictions,
        batch_size=50,
        run_seconds=0.125,
        images_per_second=speed,
        quantization=None if recipe is None else quantization(recipe, method),
        environment=environment,
        created="2026-01-02T03:04:05+00:00",
    )


def noise_study(of: Evaluation, wrong: list[range]) -> NoiseStudy:
    """A study of the recipe of an evaluation; the perturbed runs are wrong on these images."""
    made = of.quantization
    assert made is not None
    assert made.calibration is not None
    predicted = [of.predictions, *(wrong_on(of.labels, images) for images in wrong)]
    total = len(of.labels)
    counts = [sum(a == b for a, b in zip(of.labels, one, strict=True)) for one in predicted]
    return NoiseStudy(
        recipe=made.recipe,
        settings=made.settings,
        source_sha256=made.source_sha256,
        runtime=of.runtime,
        data=of.data,
        labels=of.labels,
        calibration=made.calibration,
        runs=tuple(
            NoiseRun(seed or None, f"{seed:064x}", Score(count, total, count / total), one)
            for seed, (count, one) in enumerate(zip(counts, predicted, strict=True))
        ),
        perturbed=78_186,
        environment=of.environment,
        created="2026-01-02T03:04:05+00:00",
    )


def seed_study(of: Evaluation, counts: dict[int, tuple[int, int]], size_bytes: int = 80_203) -> SeedStudy:
    """A study of the recipe of an evaluation: correct images and agreement by the seed of the draw."""
    made = of.quantization
    assert made is not None
    assert made.calibration is not None
    total = of.overall.total
    return SeedStudy(
        recipe=made.recipe,
        settings=made.settings,
        ground=Ground(
            model=replace(model(), sha256=made.source_sha256),
            data=of.data,
            images_sha256="i" * 64,
            baseline=score(total, total),
            samples_per_class=made.calibration.samples_per_class,
            calibrations={seed: f"{seed:064x}" for seed in counts},
            settings={},
        ),
        runs=tuple(
            SeedRun(seed, Measured(score(correct, total), agreement, 0.25, size_bytes, "c" * 64, 1.5))
            for seed, (correct, agreement) in counts.items()
        ),
        environment=of.environment,
        created="2026-01-02T03:04:05+00:00",
    )


def wrong_on(labels: str, images: range | list[int]) -> str:
    """Predictions that are right but on ``images``, where they are the next class."""
    digits = list(labels)
    for image in images:
        digits[image] = str((int(labels[image]) + 1) % 10)
    return "".join(digits)


STRUCTURE = Structure(
    input_shape=("unk__1", 32, 32, 3),
    output_shape=("unk__1", 10),
    opset=13,
    ir_version=7,
    nodes=39,
    operators={"Conv": 9, "Add": 10},
    convolutions=9,
    dense_layers=1,
    residual_adds=3,
    parameters=78_666,
    graph_parameters=78_186,
)


def parity(*pairs: PairParity, passed: bool = True) -> Parity:
    return Parity(
        models={"keras": model("resnet8.h5", format="keras-h5"), "onnxruntime": model()},
        data=CIFAR10,
        images=200,
        structure=STRUCTURE,
        known_file=True,
        folding=(FoldedConstant("bn/mul", (0, 2, -3)), FoldedConstant("bn/add", (0, 0, 0))),
        pairs=pairs or (PairParity("keras", "onnxruntime", 1.5e-6, 17, 1, 1),),
        tolerance=1e-4,
        passed=passed,
        environment=ENVIRONMENT,
        created="2026-01-02T03:04:05+00:00",
    )
