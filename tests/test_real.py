"""The real model on the real data: the published numbers, exactly where they are deterministic."""

from __future__ import annotations

import hashlib
import importlib.util
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from resnet8 import environment
from resnet8.audit.agreement import audit_agreement, require_explained
from resnet8.data.assets import HOMES, Assets, fetch, locate, verify
from resnet8.data.cifar10 import KNOWN_FINGERPRINTS, MD5, read_split
from resnet8.evaluation import evaluate, evaluate_split
from resnet8.facts import PUBLISHED_PER_CLASS
from resnet8.pipeline import FLOAT_RESULTS, REFERENCE, Reproduction, reproduce
from resnet8.quantization.recipes import RECIPES
from resnet8.results import Evaluation, Quantization, load
from resnet8.runtimes import integer, ort
from resnet8.runtimes.ort import Trace

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from resnet8.runtimes import Predictor

pytestmark = [pytest.mark.real, pytest.mark.slow]

ROOT = Path(__file__).resolve().parent.parent

EVIDENCE = ROOT / "results" / "arithmetic"
"""What ``tools/arithmetic_evidence`` computed of all images."""

VNNI = environment.has_vnni(environment.cpu())

EVERYWHERE = {
    "published-uint8": 8675,
    "ort-uint8": 8637,
    "ort-portable": 8670,
    "ort-7bit-weights": 8670,
    "torch-int8": 8568,
    "int8": 8710,
    "int8-per-tensor": 8728,
}
"""Weights, or activations, that saturate nowhere: the same count on every x86-64 CPU."""

EXACT = {"published-int8": 8612, "ort-int8": 8612, "ort-per-channel": 8686, "int8-vnni": 8710}
"""Signed weights of 8 bits, added up exactly: what a CPU with VNNI reports."""

SATURATED = {"published-int8": 8559, "ort-int8": 8559, "ort-per-channel": 8428, "int8-vnni": 8445}
"""The same on a CPU with AVX2 or AVX-512 and without VNNI."""

COUNTS = EVERYWHERE | (EXACT if VNNI else SATURATED)


@pytest.fixture(scope="module")
def assets(real_assets: Path) -> Assets:
    return locate(real_assets)


@pytest.fixture(scope="module")
def run(real_run: Reproduction) -> Reproduction:
    """The whole pipeline, once, on the real assets."""
    return real_run


def result(run: Reproduction, name: str) -> Evaluation:
    return load(Evaluation, run.output_dir / f"results/{name}.json")


# --- inputs ---


def test_the_files_are_the_official_ones(assets: Assets) -> None:
    assert verify(assets.data_dir) == dict.fromkeys(MD5, True)
    for name, digest in MD5.items():
        assert hashlib.md5((assets.data_dir / name).read_bytes(), usedforsecurity=False).hexdigest() == digest
    assert f"sha256:{hashlib.sha256(assets.keras_model.read_bytes()).hexdigest()}" == HOMES.keras_model.digest


@pytest.mark.parametrize(("split", "count"), [("train", 50_000), ("test", 10_000)])
def test_the_known_fingerprints_are_those_of_the_official_files(assets: Assets, split: str, count: int) -> None:
    read = read_split(assets.data_dir, split)
    assert KNOWN_FINGERPRINTS[read.source.fingerprint] == ("CIFAR-10", split)
    assert read.source.dataset == "CIFAR-10"
    assert len(read) == count
    assert np.bincount(read.labels).tolist() == [count // 10] * 10
    assert read.class_names[0] == "airplane"
    assert read.class_names[9] == "truck"


def test_the_folder_is_found_by_its_variable(real_assets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESNET8_ASSETS", str(real_assets))
    assert fetch(download=False) == locate(real_assets)


# --- FP32 ---


@pytest.mark.parametrize("backend", FLOAT_RESULTS)
def test_fp32_is_the_published_count_and_class_by_class(run: Reproduction, backend: str) -> None:
    evaluation = load(Evaluation, run.output_dir / FLOAT_RESULTS[backend])
    assert (evaluation.overall.correct, evaluation.overall.total) == (8719, 10_000)
    assert tuple(one.correct for one in evaluation.per_class) == PUBLISHED_PER_CLASS
    assert PUBLISHED_PER_CLASS == (877, 954, 839, 734, 872, 742, 946, 905, 924, 926)
    assert evaluation.overall.accuracy == 0.8719
    assert evaluation.data.dataset == "CIFAR-10"


def test_the_conversion_changes_no_prediction(run: Reproduction) -> None:
    parity = run.parity
    assert parity.passed
    assert parity.images == 10_000
    assert parity.structure.parameters == 78_666
    for pair in parity.pairs:
        assert pair.differing_predictions == 0
        assert pair.max_abs_difference < 1e-4
    predictions = {load(Evaluation, run.output_dir / path).predictions for path in FLOAT_RESULTS.values()}
    assert len(predictions) == 1


# --- quantized ---


@pytest.mark.parametrize("name", COUNTS)
def test_counts(run: Reproduction, name: str) -> None:
    assert result(run, name).overall.correct == COUNTS[name]


@pytest.mark.parametrize("name", ["fp32-onnx", "fp32-pytorch", *COUNTS])
def test_files_are_the_committed_ones(run: Reproduction, name: str) -> None:
    """Made on whatever CPU this is, byte for byte what the evidence was measured on."""
    committed = load(Evaluation, ROOT / f"results/{name}.json")
    assert result(run, name).model_sha256 == committed.model_sha256
    assert result(run, name).model.size_bytes == committed.model.size_bytes


def test_every_recipe_is_there(run: Reproduction) -> None:
    made = [name for name, recipe in RECIPES.items() if recipe.reproduced and not recipe.refused]
    assert set(COUNTS) == set(made)
    names = [row.name for row in run.comparison.rows]
    assert [name for name in names if name in RECIPES] == made
    assert set(run.comparison.refused) == {name for name, recipe in RECIPES.items() if recipe.refused}
    published = {row.name: row.published_correct for row in run.comparison.rows if row.published_correct is not None}
    assert published == {"fp32": 8719, "published-uint8": 8675, "published-int8": 8558, "torch-int8": 8568}


def test_the_published_draw_is_the_global_generators(run: Reproduction, assets: Assets) -> None:
    labels = read_split(assets.data_dir, "train").labels
    np.random.seed(42)  # noqa: NPY002 - the published procedure, to the letter
    draws = {}
    for name in ("published-int8", "published-uint8"):
        chosen = [np.random.choice(np.where(labels == label)[0], 100, replace=False) for label in range(10)]  # noqa: NPY002
        draws[name] = np.concatenate(chosen).tolist()
    draws["torch-int8"] = draws["published-int8"]
    for name, indices in draws.items():
        record = result(run, name).quantization
        assert record is not None
        assert record.calibration is not None
        assert list(record.calibration.indices) == indices
        assert record.calibration.data.split == "train"
        assert record.calibration.data.dataset == "CIFAR-10"


def test_uint8_weights_are_refused(run: Reproduction) -> None:
    record = load(Quantization, run.output_dir / "results/torch-uint8.json")
    assert "expected scalar type QInt8 but found QUInt8" in (record.refusal or "")


@pytest.mark.skipif(not importlib.util.find_spec("ai_edge_litert"), reason="needs the extra litert")
def test_the_references_own_model(run: Reproduction, assets: Assets) -> None:
    if assets.reference_tflite is None:
        pytest.skip("the folder has no mlperf-tiny/pretrainedResnet_quant.tflite")
    evaluation = result(run, REFERENCE)
    assert evaluation.overall.correct == 8697
    assert evaluation.model.size_bytes == 98_496
    (row,) = (row for row in run.comparison.rows if row.framework == "LiteRT")
    assert not row.candidate
    assert row.published_correct is None


def test_sizes_are_about_the_published_ones(run: Reproduction) -> None:
    sizes = {row.name: row.size_bytes for row in run.comparison.rows if row.framework == "ONNX Runtime"}
    assert abs(sizes["fp32"] / 1024 - 315) < 3
    assert abs(sizes["published-int8"] / 1024 - 123) < 3
    assert sizes["ort-portable"] < sizes["ort-uint8"]


# --- the run ---


def test_the_performance_subset_is_the_official_one(assets: Assets, real_assets: Path, run: Reproduction) -> None:
    indices = np.load(real_assets / "mlperf-tiny/perf_samples_idxs.npy")
    test = read_split(assets.data_dir, "test")
    evaluation = evaluate(run.output_dir / "models/resnet8.onnx", assets.data_dir, subset="mlperf-perf")
    assert evaluation.labels == "".join(str(label) for label in test.labels[indices])
    whole = load(Evaluation, run.output_dir / FLOAT_RESULTS["onnxruntime"])
    assert evaluation.predictions == "".join(whole.predictions[i] for i in indices)


def test_a_second_run_executes_nothing(run: Reproduction, assets: Assets) -> None:
    again = reproduce(run.output_dir, assets=assets)
    assert again.seconds == {}
    assert again.comparison == run.comparison


def test_the_document_is_of_cifar10(run: Reproduction) -> None:
    document = (run.output_dir / "docs/QUANTIZATION_ANALYSIS.md").read_text()
    assert "Not a CIFAR-10 result" not in document
    assert "--demo" not in document
    assert "8,719" in document
    assert "CIFAR-10 (official), test split" in document


# --- integer arithmetic ---


def evidence(run: Reproduction, name: str, *forms: str) -> list[Evaluation]:
    """What was computed of all images, of the very model and images of this run."""
    found = [load(Evaluation, EVIDENCE / f"{form}_{name}.json") for form in forms]
    measured = result(run, name)
    for one in found:
        assert (one.model_sha256, one.data_fingerprint) == (measured.model_sha256, measured.data_fingerprint)
    return found


def that_matter(exact: Evaluation, saturated: Evaluation) -> NDArray[np.int64]:
    """The images that saturation decides, and every 20th."""
    differing = np.flatnonzero([a != b for a, b in zip(exact.predictions, saturated.predictions, strict=True)])
    return np.union1d(differing, np.arange(0, len(exact.predictions), 20))


def same(predictor: Predictor, one: Evaluation, assets: Assets, indices: NDArray[np.int64]) -> bool:
    """Whether these images get the classes that they have in the evidence."""
    part = read_split(assets.data_dir, "test").select(indices, "those that matter")
    found = evaluate_split(predictor, part)[0].predictions
    return found == "".join(one.predictions[index] for index in indices)


@pytest.mark.parametrize("name", ["published-int8", "ort-per-channel"])
def test_both_counts_are_computed_on_any_cpu_and_one_is_this_cpus(
    run: Reproduction, real_models: dict[str, Path], assets: Assets, name: str
) -> None:
    """ONNX Runtime against the evidence on every image, the engine where saturation matters, and on every 20th."""
    exact, saturated = evidence(run, name, "exact", "emulated-avx2")
    assert (exact.overall.correct, saturated.overall.correct) == (EXACT[name], SATURATED[name])
    assert result(run, name).predictions == (exact if VNNI else saturated).predictions
    path, content, indices = real_models[name], real_models[name].read_bytes(), that_matter(exact, saturated)
    assert same(integer.open_content(path, content), exact, assets, indices)
    assert same(integer.open_emulated(path, content), saturated, assets, indices)


@pytest.mark.parametrize("name", ["published-uint8", "ort-portable", "ort-7bit-weights", "int8", "int8-per-tensor"])
@pytest.mark.parametrize("opener", [integer.open_content, integer.open_emulated])
def test_what_saturates_nowhere_is_the_same_with_and_without_vnni(
    run: Reproduction, real_models: dict[str, Path], assets: Assets, name: str, opener: Callable[..., Predictor]
) -> None:
    measured, images = result(run, name).predictions, 1_000
    form = "exact" if opener is integer.open_content else "emulated-avx2"
    if (EVIDENCE / f"{form}_{name}.json").is_file():  # of all images
        (known,) = evidence(run, name, form)
        assert known.predictions == measured
        images = 300
    predicted = evaluate(real_models[name], assets.data_dir, max_samples=images, opener=opener)
    assert predicted.predictions == measured[:images]


@pytest.mark.parametrize("name", ["published-int8", "ort-per-channel"])
def test_a_session_option_makes_signed_weights_exact(
    run: Reproduction, real_models: dict[str, Path], assets: Assets, name: str
) -> None:
    exact, saturated, measured = evidence(run, name, "exact", "emulated-avx2", "x64quantprecision")
    assert measured.session_options == {"session.x64quantprecision": "1"}
    assert measured.overall.correct == EXACT[name]
    opener = partial(ort.open_content, options={"session.x64quantprecision": "1"})
    assert same(opener(real_models[name], real_models[name].read_bytes()), exact, assets, that_matter(exact, saturated))
    found = evaluate(real_models[name], assets.data_dir, max_samples=50, opener=opener)
    assert found.session_options == {"session.x64quantprecision": "1"}


@pytest.mark.parametrize("name", [name for name in COUNTS if RECIPES[name].framework == "onnxruntime"])
def test_every_differing_code_has_a_cause(real_models: dict[str, Path], assets: Assets, name: str) -> None:
    """On a part of the images; the whole set of four files is in results/arithmetic."""
    path, content = real_models[name], real_models[name].read_bytes()
    traces = {form: Trace(path, content, optimize=form == "optimized") for form in ("optimized", "as in the file")}
    images = 300 if (EVIDENCE / f"agreement_{name}.json").is_file() else 100
    split = read_split(assets.data_dir, "test").first(images)
    found = audit_agreement(integer.open_content(path, content).model, traces, split)
    require_explained(found)
    for graph in found.graphs:
        sizes = [images * int(np.prod(layer.output.shape)) for layer in traces[graph.graph].program.layers]
        assert [layer.codes for layer in graph.layers] == sizes
        assert graph.engine_correct > 0.7 * images
    causes = {one.cause for one in found.graphs[0].prediction_differences}
    assert causes <= (set() if VNNI or name in EVERYWHERE else {"saturation"})
