"""The noise floor: what is moved, and how far; and on the demo, that nothing else is."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from resnet8.audit import noise
from resnet8.audit.noise import perturbed
from resnet8.errors import DataError, ModelError, QuantizationError, Resnet8Error
from resnet8.files import sha256_file
from resnet8.pipeline import FLOAT_RESULTS
from resnet8.quantization.recipes import RECIPES
from resnet8.report.documents import ANALYSIS, COMPARISON, NOISE, stale, write_comparison
from resnet8.results import Comparison, NoiseStudy, load, save

if TYPE_CHECKING:
    from pathlib import Path

    from resnet8.data.assets import Assets
    from resnet8.pipeline import Reproduction
    from resnet8.workers import Workers

GOLDEN = [570, 571, 570, 570, 571]
"""Correct of the demo's 597 images: unperturbed, then seeds 1 to 4."""
RECIPE = "ort-uint8"  # unsigned weights, observed in float64: the same files and counts on every CPU


def float_model(reproduced: Reproduction) -> Path:
    return reproduced.output_dir / "models/resnet8.onnx"


# --- what is moved ---


def test_every_constant_moves_by_at_most_one_ulp(reproduced: Reproduction) -> None:
    model = onnx.load(float_model(reproduced))
    before = model.SerializeToString()
    moved = perturbed(model, 1)
    assert model.SerializeToString() == before
    steps = []
    for old, new in zip(model.graph.initializer, moved.graph.initializer, strict=True):
        assert (old.name, old.data_type, old.dims) == (new.name, new.data_type, new.dims)
        a, b = numpy_helper.to_array(old), numpy_helper.to_array(new)
        if old.data_type != TensorProto.FLOAT:
            np.testing.assert_array_equal(a, b)
            continue
        up, down = (np.nextafter(a, np.float32(end)) for end in (np.inf, -np.inf))
        assert np.all((b == a) | (b == up) | (b == down))
        steps += np.select([b == a, b == up], [0, 1], -1).ravel().tolist()
    assert len(steps) == 78_186
    assert np.bincount(np.array(steps) + 1) / len(steps) == pytest.approx([1 / 3] * 3, abs=0.01)
    for part in (model, moved):
        del part.graph.initializer[:]
    assert model == moved


def constants(*values: float) -> onnx.ModelProto:
    tensors = [
        numpy_helper.from_array(np.array(values, np.float32), "floats"),
        numpy_helper.from_array(np.array([3, -1], np.int64), "shape"),
        numpy_helper.from_array(np.array(0.5, np.float32), "scalar"),
    ]
    return helper.make_model(helper.make_graph([], "constants", [], [], tensors))


def test_the_steps_of_a_seed() -> None:
    """By hand: the bits of each number, and the steps 0 0 1 1 -1 -1 1 1 that seed 1 begins with."""
    greatest = float(np.finfo(np.float32).max)
    moved = perturbed(constants(1.0, -0.0, 1.0, -1.0, 1.0, 0.0, greatest, np.inf), 1)
    bits = numpy_helper.to_array(moved.graph.initializer[0]).view(np.uint32)
    assert [f"{one:08x}" for one in bits] == [
        *("3f800000", "00000000", "3f800001", "bf7fffff", "3f7fffff", "80000001"),
        *("7f7fffff", "7f800000"),  # the last finite number would become infinite, and infinity none: they stay
    ]
    assert numpy_helper.to_array(moved.graph.initializer[1]).tolist() == [3, -1]


def test_a_seed_names_a_perturbation() -> None:
    model = constants(*np.linspace(-1, 1, 50))
    made = [perturbed(model, seed).SerializeToString() for seed in (1, 1, 2, 3)]
    assert made[0] == made[1]
    assert len(set(made)) == 3


# --- the study ---


@pytest.fixture(scope="module")
def told() -> list[tuple[int, int]]:
    """The progress of the study."""
    return []


@pytest.fixture(scope="module")
def study(reproduced: Reproduction, demo_assets: Assets, workers: Workers, told: list[tuple[int, int]]) -> NoiseStudy:
    def progress(done: int, total: int) -> None:
        told.append((done, total))

    return noise.audit_noise(
        float_model(reproduced), RECIPE, demo_assets.data_dir, workers, seeds=len(GOLDEN) - 1, progress=progress
    )


def test_the_unperturbed_run_is_the_recipe_itself(study: NoiseStudy, reproduced: Reproduction) -> None:
    (row,) = (row for row in reproduced.comparison.rows if row.name == RECIPE)
    assert study.runs[0].model_sha256 == sha256_file(reproduced.output_dir / "models" / RECIPES[RECIPE].output)
    assert study.runs[0].overall == row.overall


def test_a_study_says_what_was_done(study: NoiseStudy, reproduced: Reproduction) -> None:
    assert (study.recipe, study.settings, study.runtime) == (RECIPE, RECIPES[RECIPE].settings(), "onnxruntime")
    assert study.source_sha256 == sha256_file(float_model(reproduced))
    assert [run.seed for run in study.runs] == [None, 1, 2, 3, 4]
    assert len({run.model_sha256 for run in study.runs}) == 5
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
    assert {total for _, total in told} == {5 * 597}
    assert [done for done, _ in told] == sorted({done for done, _ in told})
    assert told[-1] == (5 * 597, 5 * 597)


def test_the_comparison_and_the_analysis_have_it(study: NoiseStudy, reproduced: Reproduction, tmp_path: Path) -> None:
    for name in ("results", "docs"):
        shutil.copytree(reproduced.output_dir / name, tmp_path / name)
    made = [name for name, recipe in RECIPES.items() if not recipe.refused]
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


def test_pytorch(reproduced: Reproduction, demo_assets: Assets, workers: Workers) -> None:
    found = noise.audit_noise(
        float_model(reproduced),
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
        ("resnet8.pt", RECIPE, {}, (ModelError, "found a file for PyTorch, expected the float ONNX file")),
    ],
)
def test_bad_input(
    reproduced: Reproduction,
    demo_assets: Assets,
    workers: Workers,
    *,
    model: str,
    recipe: str,
    options: dict[str, int],
    error: tuple[type[Resnet8Error], str],
) -> None:
    path = reproduced.output_dir / "models" / model
    with pytest.raises(error[0], match=error[1]) as caught:
        noise.audit_noise(path, recipe, demo_assets.data_dir, workers, **options)  # type: ignore[arg-type]
    assert caught.value.found
    assert caught.value.expected
