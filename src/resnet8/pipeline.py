"""The stages of ``reproduce``: what each reads and writes, and which of them are out of date.

A stage is up to date when the stamp it left says so: same inputs (by SHA-256), options, library versions, CPU and code
of this package; and every output still there as it was written. Nothing else is kept between runs, so an interrupted
run resumes at the stage it was in.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from resnet8 import environment, results
from resnet8.conversion import convert
from resnet8.data import calibration
from resnet8.data.assets import fetch
from resnet8.data.cifar10 import META, SPLIT_FILES, read_split
from resnet8.evaluation import probe, record_path
from resnet8.facts import DEFAULT_PER_CLASS, DEFAULT_SEED
from resnet8.files import sha256_file, write_text
from resnet8.quantization import RECIPES, quantize
from resnet8.report.documents import ANALYSIS, COMPARISON, PARITY, noise_files, write_comparison
from resnet8.results import Comparison, Parity
from resnet8.workers import Progress, Workers, no_progress

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping, Sequence

    from resnet8.data.assets import Assets
    from resnet8.data.cifar10 import Split
    from resnet8.results import Calibration

STAMPS = Path(".resnet8")
REFERENCE = "reference-int8"

FLOAT_RESULTS = {
    "keras": "results/fp32-keras.json",
    "onnxruntime": "results/fp32-onnx.json",
    "pytorch": "results/fp32-pytorch.json",
}
"""Where the evaluations of the float models go, by runtime."""


class Reporter(Protocol):
    """Hears what the pipeline does."""

    def begin(self, stage: str) -> None:
        """A stage begins."""

    def step(self, text: str) -> Progress:
        """A part of the stage begins; returns what is called with its progress."""

    def end(self, stage: str, seconds: float, *, up_to_date: bool) -> None:
        """A stage ended, or needed nothing."""


class Silent:
    """A :class:`Reporter` that says nothing."""

    def begin(self, stage: str) -> None:
        """Say nothing."""

    def step(self, text: str) -> Progress:  # noqa: ARG002
        """Say nothing."""
        return no_progress

    def end(self, stage: str, seconds: float, *, up_to_date: bool) -> None:
        """Say nothing."""


@dataclass(frozen=True)
class Stage:
    """One step of the pipeline.

    Attributes:
        name: Unique; also its stamp's file name.
        inputs: Files it reads.
        outputs: Files it writes, below the output folder.
        options: What else decides its outputs.
        run: Does it; told how to report a step.
    """

    name: str
    inputs: tuple[Path, ...]
    outputs: tuple[Path, ...]
    options: Mapping[str, str | int | bool]
    run: Callable[[Callable[[str], Progress]], None]


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
    reporter: Reporter | None = None,
) -> Reproduction:
    """Run every stage that is out of date: convert and prove, quantize by every recipe, evaluate, compare, recommend.

    Args:
        output_dir: Gets ``models/``, ``results/``, ``docs/QUANTIZATION_ANALYSIS.md`` and ``logs/``.
        assets: The Keras file and the data; without them, :func:`resnet8.data.assets.fetch` finds or downloads them.
        samples_per_class: Calibration images of each class.
        seed: Of the calibration draws.
        reporter: Hears of the progress.

    Raises:
        Resnet8Error: of the stage that failed; the outputs of those before it are kept.
    """
    reporter = reporter or Silent()
    assets = assets or fetch()
    with Workers(output_dir / "logs") as workers:
        run = _Run(output_dir, assets, workers, samples_per_class, seed)
        seconds = execute(run.stages(), output_dir, reporter)
    return Reproduction(
        comparison=results.load(Comparison, output_dir / COMPARISON),
        parity=results.load(Parity, output_dir / PARITY),
        seconds=seconds,
        output_dir=output_dir,
    )


def execute(stages: Sequence[Stage], output_dir: Path, reporter: Reporter) -> dict[str, float]:
    """Run the stages that are out of date, in order.

    Returns:
        The wall time in seconds of each stage that ran.

    Raises:
        Resnet8Error: of the stage that failed.
    """
    context = _context()
    seconds = {}
    for stage in stages:
        key = _key(stage, context)
        stamp = output_dir / STAMPS / f"{stage.name}.json"
        started = time.perf_counter()
        if _read_stamp(stamp) == {"key": key, "outputs": _digests(stage.outputs)}:
            reporter.end(stage.name, 0.0, up_to_date=True)
            continue
        reporter.begin(stage.name)
        stage.run(reporter.step)
        write_text(stamp, json.dumps({"key": key, "outputs": _digests(stage.outputs)}, indent=1) + "\n")
        seconds[stage.name] = time.perf_counter() - started
        reporter.end(stage.name, seconds[stage.name], up_to_date=False)
    return seconds


def _context() -> dict[str, object]:
    """What outside a stage's inputs and options decides its outputs."""
    code = hashlib.sha256()
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        code.update(path.read_bytes())
    return {**asdict(environment.current()), "code": code.hexdigest()}


def _key(stage: Stage, context: Mapping[str, object]) -> str:
    facts = {"options": dict(stage.options), "inputs": _digests(stage.inputs), "context": context}
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _digests(paths: Sequence[Path]) -> dict[str, str | None]:
    """SHA-256 of each file, none for one that is missing; two at a time, for hashing leaves the interpreter free."""
    with ThreadPoolExecutor(2) as pool:
        digests = pool.map(lambda path: _digest(path, path.stat()) if path.is_file() else None, paths)
        return {str(path): digest for path, digest in zip(paths, digests, strict=True)}


_known_digests: dict[tuple[Path, int, int], str] = {}


def _digest(path: Path, status: os.stat_result) -> str:
    """SHA-256 of a file, computed once while its size and time of change stay: 16 stages read the same data."""
    key = (path, status.st_size, status.st_mtime_ns)
    if key not in _known_digests:
        _known_digests[key] = sha256_file(path)
    return _known_digests[key]


def _read_stamp(path: Path) -> object:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None


class _Run:
    """The stages of one run, and what they share."""

    def __init__(self, output_dir: Path, assets: Assets, workers: Workers, samples_per_class: int, seed: int) -> None:
        self.root = output_dir
        self.assets = assets
        self.workers = workers
        self.samples_per_class = samples_per_class
        self.seed = seed
        self.onnx = output_dir / "models/resnet8.onnx"
        self.pytorch = output_dir / "models/resnet8.pt"
        self.test_files = tuple(assets.data_dir / name for name in (*SPLIT_FILES["test"], META))
        self.train_files = tuple(assets.data_dir / name for name in (*SPLIT_FILES["train"], META))
        self._train: Split | None = None  # read when first asked for: a run may need no calibration

    def stages(self) -> list[Stage]:
        stages = [self._convert()]
        for recipe in RECIPES:
            stages.append(self._quantize(recipe))
            if not RECIPES[recipe].refused:
                stages.append(self._evaluate(recipe, self._model(recipe)))
        tflite = self.assets.reference_tflite
        if tflite is not None and importlib.util.find_spec("ai_edge_litert"):
            stages.append(self._evaluate(REFERENCE, tflite))
        return [
            *stages,
            self._compare([stage.name.partition(" ")[2] for stage in stages if stage.name.startswith("evaluate")]),
        ]

    def _result(self, name: str) -> Path:
        return self.root / f"results/{name}.json"

    def _model(self, recipe: str) -> Path:
        return self.root / "models" / RECIPES[recipe].output

    def _convert(self) -> Stage:
        float_results = {runtime: self.root / path for runtime, path in FLOAT_RESULTS.items()}

        def run(step: Callable[[str], Progress]) -> None:
            conversion = convert(
                self.assets.keras_model,
                self.onnx,
                self.pytorch,
                self.root / PARITY,
                self.workers,
                data_dir=self.assets.data_dir,
                step=step,
            )
            for runtime, evaluation in conversion.evaluations.items():
                results.save(evaluation, float_results[runtime])

        return Stage(
            name="convert",
            inputs=(self.assets.keras_model, *self.test_files),
            outputs=(self.onnx, self.pytorch, self.root / PARITY, *float_results.values()),
            options={},
            run=run,
        )

    def _quantize(self, name: str) -> Stage:
        model, refused = self._model(name), RECIPES[name].refused
        samples_per_class, seed = self.samples_per_class, self.seed
        if RECIPES[name].published:
            samples_per_class, seed = DEFAULT_PER_CLASS, DEFAULT_SEED

        def run(step: Callable[[str], Progress]) -> None:
            # Its turn comes: it can import while ONNX Runtime works.
            later = RECIPES["torch-int8"]
            self.workers[later.framework].warm(later.backend.module)
            step("calibrate")
            images = self._calibration(RECIPES[name].draw, samples_per_class, seed)
            step(f"quantize: {name}")
            record = quantize(self.onnx, name, model, images, self.workers)
            if refused:
                results.save(record, self._result(name))

        return Stage(
            name=f"quantize {name}",
            inputs=(self.onnx, *self.train_files),
            outputs=(record_path(model), self._result(name) if refused else model),
            options={"recipe": name, "samples_per_class": samples_per_class, "seed": seed},
            run=run,
        )

    def _calibration(self, draw: str, samples_per_class: int, seed: int) -> tuple[Split, Calibration]:
        if self._train is None:
            self._train = read_split(self.assets.data_dir, "train")
        return calibration.sample(self._train, samples_per_class, seed, draw)

    def _evaluate(self, name: str, model: Path) -> Stage:
        framework = RECIPES[name].framework if name in RECIPES else "litert"

        def run(step: Callable[[str], Progress]) -> None:
            evaluation, _ = self.workers[framework].call(
                probe, model, self.assets.data_dir, progress=step(f"evaluate {model.name}")
            )
            results.save(evaluation, self._result(name))

        records = (record_path(model),) if name in RECIPES else ()
        return Stage(
            name=f"evaluate {name}",
            inputs=(model, *records, *self.test_files),
            outputs=(self._result(name),),
            options={},
            run=run,
        )

    def _compare(self, names: Sequence[str]) -> Stage:
        files = [self.root / path for path in FLOAT_RESULTS.values()] + [self._result(name) for name in names]
        refusals = [self._result(name) for name, recipe in RECIPES.items() if recipe.refused]

        def run(step: Callable[[str], Progress]) -> None:
            step("compare")
            write_comparison(self.root, files, refusals)

        return Stage(
            name="compare",
            inputs=(*files, *refusals, *noise_files(self.root), self.root / PARITY),
            outputs=(self.root / COMPARISON, self.root / ANALYSIS),
            options={},
            run=run,
        )
