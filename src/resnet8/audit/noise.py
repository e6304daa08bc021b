"""The noise floor of a recipe: how far its count moves when only the last bit of the float constants does.

A converter, a compiler or another CPU may round a folded constant the other way. Everything calibrated afterwards
inherits it, so a count is one of many that the same network and the same settings can give. Here each float32 constant
is moved by one ulp up, one down, or not at all, and the recipe carried out again on the same images.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from resnet8 import environment, results
from resnet8.conversion.folding import perturbed
from resnet8.data import calibration
from resnet8.data.cifar10 import read_split
from resnet8.errors import QuantizationError
from resnet8.evaluation import choose, evaluate_split
from resnet8.facts import DEFAULT_PER_CLASS, DEFAULT_SEED
from resnet8.files import read_bytes, scratch_folder, write_bytes
from resnet8.quantization import quantize
from resnet8.quantization.recipes import recipe
from resnet8.results import NoiseRun, NoiseStudy
from resnet8.runtimes import onnx_file, open_model
from resnet8.runtimes.base import require_format
from resnet8.workers import no_progress, within

if TYPE_CHECKING:
    from pathlib import Path

    from resnet8.data.cifar10 import Split
    from resnet8.results import Evaluation
    from resnet8.workers import Progress, Workers

DEFAULT_SEEDS = 20
MINIMUM_SEEDS = 2
"""One run has no spread."""


def audit_noise(
    model: Path,
    recipe_name: str,
    data_dir: Path,
    workers: Workers,
    *,
    seeds: int = DEFAULT_SEEDS,
    samples_per_class: int = DEFAULT_PER_CLASS,
    calibration_seed: int = DEFAULT_SEED,
    max_samples: int | None = None,
    progress: Progress = no_progress,
) -> NoiseStudy:
    """Quantize and evaluate a float model as it is, then with its constants moved, once for each seed from 1 on.

    Args:
        model: The float ONNX file.
        recipe_name: One of :data:`resnet8.quantization.recipes.RECIPES`.
        data_dir: Folder of CIFAR-10.
        workers: The processes to work in: ``onnxruntime`` or ``pytorch``.
        seeds: How many perturbed runs.
        samples_per_class: Calibration images of each class.
        calibration_seed: Of their draw; the images are the same in every run.
        max_samples: Evaluate only the first so many test images.
        progress: Called with the images evaluated, of all runs.

    Raises:
        QuantizationError: for fewer than two seeds, an unknown recipe, one that makes no model, or a calibration set
            that is not the recipe's.
        ModelError: when the model is no float ONNX ResNet8.
        DataError: for unusable images.
    """
    chosen = recipe(recipe_name)
    if seeds < MINIMUM_SEEDS:
        raise QuantizationError(
            "too few seeds to see a spread",
            found=str(seeds),
            expected=f"{MINIMUM_SEEDS} or more",
            remedy="ask for more",
        )
    if chosen.refused:
        raise QuantizationError(
            f"the recipe {chosen.name} has no count that could move",
            found="the backend refuses it: no model comes of it",
            expected="a recipe that makes a model",
            remedy="«resnet8 quantize --list» explains each",
        )
    chosen.require_calibration(samples_per_class, calibration_seed)
    content = read_bytes(model)
    require_format(
        model,
        content,
        "onnx",
        "has no constants that can be moved here",
        expected="the float ONNX file",
        remedy="name the file that «resnet8 convert» wrote",
    )
    onnx_file.read(model, content)
    test = choose(read_split(data_dir, "test"), None, max_samples)
    images, drawn = calibration.calibrate(data_dir, samples_per_class, calibration_seed, chosen.draw)
    runs: list[NoiseRun] = []
    with scratch_folder() as folder:
        source, made = model, folder / chosen.output
        for seed in (None, *range(1, seeds + 1)):
            if seed is not None:
                source = folder / "moved.onnx"
                moved, constants = perturbed(content, seed)
                write_bytes(source, moved)
            quantized = quantize(source, chosen, (images, drawn), workers)
            record = quantized.record
            if record.model_sha256 is None:
                raise QuantizationError(
                    f"the recipe {chosen.name} made no model",
                    found=record.refusal,
                    expected="a backend that takes its data types",
                )
            quantized.save(made)
            done = within(progress, len(runs) * len(test), (seeds + 1) * len(test))
            found = workers[chosen.framework].call(_evaluate, made, test, progress=done)
            runs.append(NoiseRun(seed, record.model_sha256, found.overall, found.predictions))
    return NoiseStudy(
        recipe=chosen.name,
        settings=chosen.settings(),
        source_sha256=results.sha256(content),
        runtime=found.runtime,
        data=test.source,
        labels=found.labels,
        calibration=drawn,
        runs=tuple(runs),
        perturbed=constants,
        environment=environment.current(),
        created=results.now(),
    )


def _evaluate(model: Path, test: Split, progress: Progress = no_progress) -> Evaluation:
    """In the process of the model's framework."""
    evaluation, _ = evaluate_split(open_model(model), test, progress=progress)
    return evaluation
