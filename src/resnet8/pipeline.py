"""The stages of ``reproduce``: what each reads and writes, and which of them are out of date.

A stage is up to date when the stamp it left says so: same inputs (by SHA-256), options, library versions, CPU and code
of this package; and every output still there as it was written. Nothing else is kept between runs, so an interrupted
run resumes at the stage it was in. One stage runs at a time: evaluations use every CPU, and measure speed.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import cache, cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from resnet8 import environment, results
from resnet8.conversion import convert
from resnet8.data import calibration
from resnet8.data.assets import fetch
from resnet8.data.cifar10 import META, SPLIT_FILES, read_split
from resnet8.errors import StorageError
from resnet8.evaluation import probe, record_path
from resnet8.facts import DEFAULT_PER_CLASS, DEFAULT_SEED
from resnet8.files import read_bytes, reading, sha256_file, write_text
from resnet8.quantization import RECIPES, quantize
from resnet8.report.documents import ANALYSIS, COMPARISON, PARITY, evidence_files, write_comparison
from resnet8.results import Comparison, Parity
from resnet8.workers import Progress, Workers, no_progress

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from resnet8.data.assets import Assets
    from resnet8.data.cifar10 import Split
    from resnet8.quantization import Recipe

STAMPS = Path(".resnet8")
REFERENCE = "reference-int8"

FLOAT_RESULTS = {
    "keras": "results/fp32-keras.json",
    "onnxruntime": "results/fp32-onnx.json",
    "pytorch": "results/fp32-pytorch.json",
}
"""Where the evaluations of the float models go, by runtime."""

Step: TypeAlias = Callable[[str], Progress]
"""Told that a part of the work begins; returns what is called with its progress."""

Ended: TypeAlias = Callable[[str, float | None], None]
"""Told that a stage ended, after so many seconds, or that it was up to date (none)."""


@dataclass(frozen=True)
class Stage:
    """One step of the pipeline.

    Attributes:
        name: Unique; also its stamp's file name.
        inputs: Files it reads.
        outputs: Files it writes, below the output folder.
        run: Does it.
        options: What else decides its outputs.
    """

    name: str
    inputs: tuple[Path, ...]
    outputs: tuple[Path, ...]
    run: Callable[[Step], None]
    options: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Reproduction:
    """What a run of the pipeline left: the comparison, the certificate, and the wall time of each stage that ran."""

    comparison: Comparison
    parity: Parity
    seconds: dict[str, float]
    output_dir: Path


def reproduce(
    output_dir: Path = Path(),
    *,
    assets: Assets | None = None,
    samples_per_class: int = DEFAULT_PER_CLASS,
    seed: int = DEFAULT_SEED,
    step: Step = lambda _: no_progress,
    ended: Ended = lambda _, __: None,
) -> Reproduction:
    """Run every stage that is out of date: convert and prove, quantize by every recipe, evaluate, compare, recommend.

    Args:
        output_dir: Gets ``models/``, ``results/``, ``docs/QUANTIZATION_ANALYSIS.md`` and ``logs/``.
        assets: The Keras file and the data; without them, :func:`resnet8.data.assets.fetch` finds or downloads them.
        samples_per_class: Calibration images of each class.
        seed: Of the calibration draws.
        step: Told what begins; returns what is called with its progress.
        ended: Told each stage that ended and its wall time in seconds, or none for one that is up to date.

    Raises:
        Resnet8Error: of the stage that failed; the outputs of those before it are kept.
    """
    with Workers(output_dir / "logs") as workers:
        run = _Run(output_dir, assets or fetch(), workers, samples_per_class, seed)
        seconds = execute(_stages(run), output_dir, step, ended)
    return Reproduction(
        comparison=results.load(Comparison, output_dir / COMPARISON),
        parity=results.load(Parity, output_dir / PARITY),
        seconds=seconds,
        output_dir=output_dir,
    )


def execute(stages: Iterable[Stage], output_dir: Path, step: Step, ended: Ended) -> dict[str, float]:
    """Run the stages that are out of date, in order.

    Returns:
        The wall time in seconds of each stage that ran.

    Raises:
        Resnet8Error: of the stage that failed.
    """
    context = _context()
    seconds = {}
    for stage in stages:
        facts = {"options": stage.options, "inputs": _digests(stage.inputs), "context": context}
        key = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
        stamp = output_dir / STAMPS / f"{stage.name}.json"
        started = time.perf_counter()
        if _read_stamp(stamp) == {"key": key, "outputs": _digests(stage.outputs)}:
            ended(stage.name, None)
            continue
        step(stage.name)
        stage.run(step)
        write_text(stamp, json.dumps({"key": key, "outputs": _digests(stage.outputs)}, indent=1) + "\n")
        seconds[stage.name] = time.perf_counter() - started
        ended(stage.name, seconds[stage.name])
    return seconds


def _context() -> dict[str, object]:
    """What outside a stage's inputs and options decides its outputs."""
    code = hashlib.sha256()
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        code.update(path.read_bytes())
    return {**asdict(environment.current()), "code": code.hexdigest()}


def _digests(paths: tuple[Path, ...]) -> list[list[str | None]]:
    """Each file's name and SHA-256, none for one that is missing; folders may be moved, or named in another way."""
    with ThreadPoolExecutor(2) as pool:  # hashing leaves the interpreter free
        return [[path.name, digest] for path, digest in zip(paths, pool.map(_digest, paths), strict=True)]


def _digest(path: Path) -> str | None:
    with reading(path):
        status = path.stat() if path.is_file() else None
    return status and _digest_since(path, status.st_size, status.st_mtime_ns)


@cache
def _digest_since(path: Path, size: int, changed: int) -> str:  # noqa: ARG001 - they are what it is known by
    """SHA-256 of a file, computed once while its size and time of change stay: 16 stages read the same data."""
    return sha256_file(path)


def _read_stamp(path: Path) -> object:
    try:
        return json.loads(read_bytes(path))
    except (StorageError, ValueError, RecursionError):
        return None


@dataclass(frozen=True)
class _Run:
    """What the stages of one run share."""

    root: Path
    assets: Assets
    workers: Workers
    samples_per_class: int
    seed: int

    @cached_property
    def train(self) -> Split:
        """The training images, read when first asked for: a run may need no calibration."""
        return read_split(self.assets.data_dir, "train")

    @property
    def onnx(self) -> Path:
        """The float model that every recipe starts from."""
        return self.root / "models/resnet8.onnx"

    def result(self, name: str) -> Path:
        """Where the result of that name goes."""
        return self.root / f"results/{name}.json"


def _stages(run: _Run) -> Iterator[Stage]:
    """Every stage, after those whose outputs it reads."""
    test, train = (
        tuple(run.assets.data_dir / name for name in (*SPLIT_FILES[split], META)) for split in ("test", "train")
    )
    pytorch, parity = run.root / "models/resnet8.pt", run.root / PARITY
    measured = [run.root / path for path in FLOAT_RESULTS.values()]
    refused: list[Path] = []
    outputs = (run.onnx, pytorch, parity, *measured)
    yield Stage("convert", (run.assets.keras_model, *test), outputs, partial(_convert, run, pytorch))

    for name, recipe in RECIPES.items():
        if not recipe.reproduced:
            continue
        model, result = run.root / "models" / recipe.output, run.result(name)
        record = record_path(model)
        drawn = (DEFAULT_PER_CLASS, DEFAULT_SEED) if recipe.published else (run.samples_per_class, run.seed)
        options = {"recipe": name, "samples_per_class": drawn[0], "seed": drawn[1]}
        outputs = (record, result if recipe.refused else model)
        work = partial(_quantize, run, recipe, model, drawn)
        yield Stage(f"quantize {name}", (run.onnx, *train), outputs, work, options)
        if recipe.refused:
            refused.append(result)
            continue
        measured.append(result)
        work = partial(_evaluate, run, recipe.framework, model, result)
        yield Stage(f"evaluate {name}", (model, record, *test), (result,), work)

    tflite = run.assets.reference_tflite
    if tflite is not None and importlib.util.find_spec("ai_edge_litert"):
        measured.append(result := run.result(REFERENCE))
        work = partial(_evaluate, run, "litert", tflite, result)
        yield Stage(f"evaluate {REFERENCE}", (tflite, *test), (result,), work)

    inputs = (*measured, *refused, *evidence_files(run.root), parity)
    outputs = (run.root / COMPARISON, run.root / ANALYSIS)
    yield Stage("compare", inputs, outputs, partial(_compare, run, measured, refused))


def _convert(run: _Run, pytorch: Path, step: Step) -> None:
    conversion = convert(
        run.assets.keras_model,
        run.workers,
        onnx_model=run.onnx,
        pytorch_model=pytorch,
        data_dir=run.assets.data_dir,
        step=step,
    )
    conversion.save(run.root / PARITY)
    conversion.require()
    for runtime, evaluation in conversion.evaluations.items():
        results.save(evaluation, run.root / FLOAT_RESULTS[runtime])


def _quantize(run: _Run, recipe: Recipe, model: Path, drawn: tuple[int, int], step: Step) -> None:
    later = RECIPES["torch-int8"]  # its turn comes: it can import while ONNX Runtime works
    run.workers[later.framework].warm(later.backend.module)
    step("calibrate")
    images = calibration.sample(run.train, *drawn, recipe.draw)
    progress = step(f"quantize: {recipe.name}")
    quantized = quantize(run.onnx, recipe, images, run.workers, progress=progress)
    quantized.save(model)
    if recipe.refused:
        results.save(quantized.record, run.result(recipe.name))


def _evaluate(run: _Run, framework: str, model: Path, result: Path, step: Step) -> None:
    progress = step(f"evaluate {model.name}")
    evaluation, _ = run.workers[framework].call(probe, model, run.assets.data_dir, progress=progress)
    results.save(evaluation, result)


def _compare(run: _Run, measured: list[Path], refused: list[Path], step: Step) -> None:
    step("compare")
    write_comparison(run.root, measured, refused)
