"""The noise floor of recipes on the demo: that nothing moves but the constants, and what cannot be studied."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from resnet8.audit import noise
from resnet8.data import demo
from resnet8.errors import DataError, ModelError, QuantizationError, Resnet8Error
from resnet8.files import sha256_file
from resnet8.pipeline import FLOAT_RESULTS
from resnet8.quantization.recipes import RECIPES
from resnet8.report.documents import ANALYSIS, COMPARISON, NOISE, stale, write_comparison
from resnet8.results import Comparison, Evaluation, NoiseStudy, load, save

if TYPE_CHECKING:
    from resnet8.data.assets import Assets
    from resnet8.pipeline import Reproduction
    from resnet8.workers import Workers

GOLDEN = [571, 571, 571]
"""Correct of the demo's 597 images: unperturbed, then seeds 1 and 2."""
RECIPE = "ort-7bit-weights"  # of 7 bits, observed in float64: the same files and counts on every CPU
RUN = Path(demo.__file__).parent / "run"
"""The demo's models and results as they are packaged."""
MODEL = RUN / "models/resnet8.onnx"


# --- the study ---


@pytest.fixture(scope="module")
def told() -> list[tuple[int, int]]:
    """The progress of the study."""
    return []


@pytest.fixture(scope="module")
def study(demo_assets: Assets, workers: Workers, told: list[tuple[int, int]]) -> NoiseStudy:
    def progress(done: int, total: int) -> None:
        told.append((done, total))

    return noise.audit_noise(MODEL, RECIPE, demo_assets.data_dir, workers, seeds=len(GOLDEN) - 1, progress=progress)


def test_the_unperturbed_run_is_the_recipe_itself(study: NoiseStudy) -> None:
    known = load(Evaluation, RUN / f"results/{RECIPE}.json")
    assert study.runs[0].model_sha256 == known.model_sha256
    assert study.runs[0].overall == known.overall


def test_a_study_says_what_was_done(study: NoiseStudy) -> None:
    assert (study.recipe, study.settings, study.runtime) == (RECIPE, RECIPES[RECIPE].settings(), "onnxruntime")
    assert study.source_sha256 == sha256_file(MODEL)
    assert [run.seed for run in study.runs] == [None, 1, 2]
    assert len({run.model_sha256 for run in study.runs}) == 3
    assert study.perturbed == 78_186
    assert (study.data.dataset, study.data.split, study.data.subset) == ("demo digits", "test", "all")
    assert (study.calibration.data.split, len(study.calibration.indices)) == ("train", 1000)
    for run in study.runs:
        right = sum(a == b for a, b in zip(study.labels, run.predictions, strict=True))
        assert run.overall.correct == right
        assert run.overall.total == len(study.labels) == 597


def test_counts_of_the_demo(study: NoiseStudy) -> None:
    assert [run.overall.correct for run in study.runs] == GOLDEN


def test_progress_counts_the_images_of_all_runs(study: NoiseStudy, told: list[tuple[int, int]]) -> None:
    assert {total for _, total in told} == {3 * 597}
    assert [done for done, _ in told] == sorted({done for done, _ in told})
    assert told[-1] == (3 * 597, 3 * 597)


def test_the_comparison_and_the_analysis_have_it(study: NoiseStudy, reproduced: Reproduction, tmp_path: Path) -> None:
    for name in ("results", "docs"):
        shutil.copytree(reproduced.output_dir / name, tmp_path / name)
    made = [name for name, recipe in RECIPES.items() if recipe.reproduced and not recipe.refused]
    files = [tmp_path / name for name in (*FLOAT_RESULTS.values(), *(f"results/{name}.json" for name in made))]
    refused = [tmp_path / f"results/{name}.json" for name, recipe in RECIPES.items() if recipe.refused]

    write_comparison(tmp_path, files, refused)
    assert not any(row.noise for row in load(Comparison, tmp_path / COMPARISON).rows)

    save(study, tmp_path / NOISE / f"{RECIPE}.json")
    write_comparison(tmp_path, files, refused)
    rows = load(Comparison, tmp_path / COMPARISON).rows
    assert {row.name: row.noise for row in rows if row.noise} == {RECIPE: study.spread}
    document = (tmp_path / ANALYSIS).read_text()
    assert "## The noise floor" in document
    assert stale(tmp_path) == {}
    (tmp_path / ANALYSIS).write_text(document.replace("not different results", "different results"))
    assert set(stale(tmp_path)) == {tmp_path / ANALYSIS}


def test_pytorch(demo_assets: Assets, workers: Workers) -> None:
    found = noise.audit_noise(
        MODEL,
        "torch-int8",
        demo_assets.data_dir,
        workers,
        seeds=2,
        samples_per_class=20,
        max_samples=50,
    )
    assert found.runtime == "pytorch"
    assert len({run.model_sha256 for run in found.runs}) == 3
    assert (found.data.subset, len(found.labels)) == ("first-50", 50)


# --- what cannot be studied ---


@pytest.mark.parametrize(
    ("model", "recipe", "options", "error"),
    [
        ("resnet8.onnx", "ort-none", {}, (QuantizationError, "recipe is not known")),
        ("resnet8.onnx", "torch-uint8", {}, (QuantizationError, "no count that could move")),
        ("resnet8.onnx", RECIPE, {"seeds": 1}, (QuantizationError, "too few seeds to see a spread: found 1")),
        ("resnet8.onnx", "published-int8", {"calibration_seed": 7}, (QuantizationError, "fixes its calibration set")),
        ("resnet8.onnx", RECIPE, {"samples_per_class": 19}, (DataError, "too few calibration samples")),
        ("resnet8.onnx", RECIPE, {"max_samples": 0}, (DataError, "number of images")),
        ("resnet8_int8.onnx", RECIPE, {}, (ModelError, "quantized already")),
        ("resnet8_int8.onnx", "torch-int8", {}, (ModelError, "quantized already")),
        ("pretrainedResnet.h5", RECIPE, {}, (ModelError, "found a file for Keras, expected the float ONNX file")),
    ],
)
def test_bad_input(
    demo_assets: Assets,
    workers: Workers,
    *,
    model: str,
    recipe: str,
    options: dict[str, int],
    error: tuple[type[Resnet8Error], str],
) -> None:
    path = RUN / "models" / model if model.endswith(".onnx") else demo_assets.keras_model
    with pytest.raises(error[0], match=error[1]) as caught:
        noise.audit_noise(path, recipe, demo_assets.data_dir, workers, **options)  # type: ignore[arg-type]
    assert caught.value.found
    assert caught.value.expected
