"""What the choice of the calibration images moves: one recipe, carried out with several draws."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resnet8 import environment, results
from resnet8.errors import QuantizationError
from resnet8.facts import DEFAULT_PER_CLASS, DEFAULT_SEED
from resnet8.quantization.recipes import recipe
from resnet8.results import SeedRun, SeedStudy
from resnet8.sweeps.cells import Cell, measure_all
from resnet8.sweeps.ground import prepare, test_images
from resnet8.sweeps.places import place
from resnet8.workers import no_progress

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from resnet8.workers import Progress

MINIMUM_SEEDS = 2
"""One draw has no spread."""

DEFAULT_SEEDS = tuple(range(DEFAULT_SEED, DEFAULT_SEED + 5))


def audit_seeds(
    model: Path,
    recipe_name: str,
    data_dir: Path,
    cells: Path,
    *,
    seeds: Sequence[int] = DEFAULT_SEEDS,
    samples_per_class: int = DEFAULT_PER_CLASS,
    max_samples: int | None = None,
    jobs: int | None = None,
    scheduler: str | None = None,
    progress: Progress = no_progress,
) -> SeedStudy:
    """Carry a recipe out with the images of several calibration draws, and evaluate each in exact integers.

    Args:
        model: The float ONNX file.
        recipe_name: A recipe that this package carries out itself (``int8``, ``int4``), or one's own as a .toml file.
        data_dir: Folder of CIFAR-10.
        cells: Folder where finished draws are kept; what is there already is not computed anew.
        seeds: Of the draws, two or more.
        samples_per_class: Calibration images of each class.
        max_samples: Evaluate only the first so many test images.
        jobs: Draws at once on this machine; one for each CPU when left out.
        scheduler: Address of a Dask scheduler, to compute on its workers instead.
        progress: Called with the draws that are finished.

    Raises:
        QuantizationError: for fewer than two seeds, an unknown recipe, or one that another backend carries out.
        Resnet8Error: as :func:`resnet8.sweep`.

    Example:
        >>> model, cells, few = Path("models/resnet8.onnx"), Path("cells"), {"samples_per_class": 20, "jobs": 1}
        >>> found = resnet8.audit_seeds(model, "int8", data, cells, seeds=[1, 2], max_samples=20, **few)
        >>> found.correct.runs
        2
    """
    chosen = recipe(recipe_name)
    scheme = chosen.native_scheme
    seeds = tuple(dict.fromkeys(seeds))
    if len(seeds) < MINIMUM_SEEDS:
        raise QuantizationError(
            "too few calibration draws to see a spread",
            found=str(len(seeds)),
            expected=f"{MINIMUM_SEEDS} or more seeds",
            remedy="ask for more",
        )
    asked = [Cell(scheme, seed) for seed in seeds]
    with place(jobs, scheduler) as where:
        material = prepare(model, data_dir, seeds, samples_per_class, lambda *_: test_images(data_dir, max_samples))
        found = measure_all(material, asked, where, cells, progress)
    return SeedStudy(
        recipe=chosen.name,
        settings=chosen.settings(),
        ground=material.ground(scheme),
        runs=tuple(SeedRun(seed, measured) for seed, measured in zip(seeds, found, strict=True)),
        environment=environment.current(),
        created=results.now(),
    )
