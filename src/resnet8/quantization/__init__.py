"""Float model + recipe + calibration images -> quantized model, with a record of how."""

from __future__ import annotations

import importlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from resnet8 import environment, results
from resnet8.errors import BackendRefusal, missing_extra
from resnet8.evaluation import record_path
from resnet8.files import sha256_file, write_bytes
from resnet8.quantization import recipes
from resnet8.quantization.recipes import RECIPES, Recipe, recipe
from resnet8.results import Calibration, Quantization
from resnet8.runtimes.base import RUNTIMES
from resnet8.workers import no_progress

if TYPE_CHECKING:
    from pathlib import Path

    from resnet8.data.cifar10 import Split
    from resnet8.workers import Progress, Workers

__all__ = ["RECIPES", "Quantized", "Recipe", "quantize", "recipe"]


@dataclass(frozen=True)
class Quantized:
    """What became of a float model by a recipe.

    Attributes:
        content: The quantized file's; none where the backend refused the recipe's data types.
        record: How it was made; or, in ``refusal``, the backend's words.
    """

    content: bytes | None
    record: Quantization

    def save(self, output: Path) -> None:
        """Write the file, where there is one, and the record beside it (``output`` + ``.json``).

        Raises:
            StorageError: when one cannot be written.
        """
        if self.content is not None:
            write_bytes(output, self.content)
        results.save(self.record, record_path(output))


def apply(
    chosen: Recipe, model: Path, images: Split, record: Calibration, *, progress: Progress = no_progress
) -> Quantized:
    """:func:`quantize` in this process; the recipe's framework is imported only here.

    Raises:
        ModelError: when ``model`` is unusable.
        MissingExtraError: when the framework is not installed.
    """
    started = time.perf_counter()
    content, refusal = None, None
    try:
        backend = importlib.import_module(chosen.backend.module)
    except ModuleNotFoundError as error:
        raise missing_extra(error.name or chosen.framework, RUNTIMES[chosen.framework].extra) from error
    source = backend.source(model)
    try:
        content = backend.quantize(source, chosen, images.images, progress)
    except BackendRefusal as error:
        refusal = error.found
    made = Quantization(
        recipe=chosen.name,
        settings=chosen.settings(),
        source_sha256=sha256_file(source),
        model_sha256=results.sha256(content) if content is not None else None,
        calibration=record,
        refusal=refusal,
        seconds=round(time.perf_counter() - started, 3),
        environment=environment.current(),
        created=results.now(),
    )
    return Quantized(content, made)


def quantize(
    model: Path,
    recipe: str | Recipe,
    calibration: tuple[Split, Calibration],
    workers: Workers,
    *,
    progress: Progress = no_progress,
) -> Quantized:
    """Quantize a float model by a recipe.

    Args:
        model: The float ONNX file; for PyTorch recipes also the .pt beside the ONNX file it was converted from.
        recipe: A recipe, or the name of one: of :data:`RECIPES`, or a .toml file's
            (:func:`resnet8.quantization.own.read`).
        calibration: The images that set the ranges (:func:`resnet8.data.calibration.calibrate`, by the recipe's draw).
        workers: The processes to work in: ``onnxruntime`` or ``pytorch``.
        progress: Called with the layers done, of how many, by recipes of this package's own; the others tell none.

    Returns:
        The quantized file's content and its record, for the caller to save. Where the backend refuses the recipe's
        data types, there is only a record, with the backend's words.

    Raises:
        QuantizationError: for an unknown recipe, weights of a width that its backend does not make, or a calibration
            set that is not the recipe's.
        ModelError: for an unusable model.
    """
    chosen = recipes.recipe(recipe) if isinstance(recipe, str) else recipe
    chosen.require_weights()
    _, drawn = calibration
    chosen.require_calibration(drawn.samples_per_class, drawn.seed, drawn.method)
    return workers[chosen.framework].call(apply, chosen, model, *calibration, progress=progress)
