"""Predictor x images -> evaluation, on a linear classifier whose answers are worked out independently."""

from __future__ import annotations

import os
import shutil
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pytest
from builders import CIFAR10, CLASS_NAMES, cifar_folder, model, noise, quantization
from sklearn.metrics import accuracy_score, confusion_matrix, recall_score

from resnet8 import results
from resnet8.data.cifar10 import Split, read_split
from resnet8.errors import DataError, ModelError, Resnet8Error
from resnet8.evaluation import choose, evaluate, evaluate_split, record_path
from resnet8.results import ModelDescription

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from resnet8.data.assets import Assets
    from resnet8.pipeline import Reproduction

COUNT = 203  # no multiple of a batch
PIXELS = 32 * 32 * 3


class Linear:
    """softmax(images @ weights): real arithmetic, a different answer for every image."""

    runtime = "onnxruntime"
    requantization = None
    session_options: ClassVar[dict[str, str]] = {}

    def __init__(self, threads: int = 1, described: ModelDescription | None = None) -> None:
        self.model = described or model()
        self.threads = threads
        self.weights = np.random.default_rng(7).normal(0, 0.003, (PIXELS, 10)).astype(np.float32)
        self.batches: list[int] = []

    def probabilities(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        assert images.dtype == np.float32
        assert images.shape[1:] == (32, 32, 3)
        self.batches.append(len(images))
        powers = np.exp(images.reshape(len(images), PIXELS) @ self.weights)
        probabilities: NDArray[np.float32] = powers / powers.sum(axis=1, keepdims=True)
        return probabilities


def expected_predictions(images: NDArray[np.uint8], weights: NDArray[np.float32]) -> NDArray[np.int64]:
    """The class with the largest weighted sum of raw pixels, in float64, without softmax or batches."""
    return np.einsum("nhwc,hwck->nk", images.astype(np.float64), weights.reshape(32, 32, 3, 10)).argmax(axis=1)


@pytest.fixture(scope="module")
def split() -> Split:
    images = noise(COUNT, 11)
    predictions = expected_predictions(images, Linear().weights)
    # Labels that the classifier gets right about two times in three, and no image of class 4.
    generator = np.random.default_rng(12)
    labels = np.where(generator.random(COUNT) < 0.65, predictions, generator.integers(0, 10, COUNT))
    labels[labels == 4] = 5
    return Split(images, labels.astype(np.int64), CLASS_NAMES, CIFAR10)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("batch_size", [1, 7, 50, COUNT, 1000])
def test_against_scikit_learn(split: Split, threads: int, batch_size: int) -> None:
    predictor = Linear(threads)
    result, probabilities = evaluate_split(predictor, split, batch_size)
    expected = expected_predictions(split.images, predictor.weights)
    assert len(set(expected.tolist())) > 5  # not a constant answer
    assert result.predictions == "".join(map(str, expected))
    assert result.labels == "".join(map(str, split.labels))
    matrix = confusion_matrix(split.labels, expected, labels=range(10))
    assert [list(row) for row in result.confusion_matrix] == matrix.tolist()
    assert result.overall.accuracy == pytest.approx(accuracy_score(split.labels, expected))
    assert result.overall.correct == accuracy_score(split.labels, expected, normalize=False)
    assert 0.3 < result.overall.accuracy < 0.9
    recall = recall_score(split.labels, expected, labels=range(10), average=None, zero_division=0)
    assert [one.accuracy for one in result.per_class] == pytest.approx(recall)
    assert [one.total for one in result.per_class] == np.bincount(split.labels, minlength=10).tolist()
    assert [one.class_name for one in result.per_class] == list(CLASS_NAMES)
    assert probabilities.shape == (COUNT, 10)
    assert probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
    assert sum(predictor.batches) == COUNT
    assert max(predictor.batches) <= batch_size


def test_provenance(split: Split) -> None:
    predictor = Linear()
    result, _ = evaluate_split(predictor, split, 50)
    assert (result.model_path, result.model_sha256) == (predictor.model.path, predictor.model.sha256)
    assert (result.data_dir, result.data_fingerprint) == (CIFAR10.directory, CIFAR10.fingerprint)
    assert result.data == split.source
    assert (result.runtime, result.batch_size, result.quantization) == ("onnxruntime", 50, None)
    assert result.images_per_second > 0
    assert result.run_seconds >= 0
    assert result.environment.libraries["numpy"] == np.__version__
    assert results.from_json(results.Evaluation, results.to_json(result), "it") == result


def test_a_class_without_images_scores_zero(split: Split) -> None:
    result, _ = evaluate_split(Linear(), split)
    assert (result.per_class[4].total, result.per_class[4].correct, result.per_class[4].accuracy) == (0, 0, 0.0)


def test_the_first_of_equal_classes_is_predicted(split: Split) -> None:
    class Even(Linear):
        def probabilities(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
            return np.full((len(images), 10), 0.1, np.float32)

    assert evaluate_split(Even(), split)[0].predictions == "0" * COUNT


def test_progress(split: Split) -> None:
    heard: list[tuple[int, int]] = []
    evaluate_split(Linear(), split, 100, lambda done, total: heard.append((done, total)))
    assert heard == [(100, COUNT), (200, COUNT), (COUNT, COUNT)]


@pytest.mark.parametrize("size", [0, -1])
def test_batch_size_out_of_range(split: Split, size: int) -> None:
    with pytest.raises(DataError, match=f"batch size is not usable: found {size}, expected 1 or more"):
        evaluate_split(Linear(), split, size)


class Broken(Linear):
    """Spoils the second batch."""

    def __init__(self, spoil: Any, threads: int = 1) -> None:
        super().__init__(threads)
        self.spoil = spoil
        self.calls = 0
        self.lock = threading.Lock()

    def probabilities(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        with self.lock:
            self.calls += 1
            second = self.calls == 2
        answer = super().probabilities(images)
        return self.spoil(answer) if second else answer


def with_value(value: float) -> Any:
    def spoil(answer: NDArray[np.float32]) -> NDArray[np.float32]:
        answer[3, 2] = value
        return answer

    return spoil


def fail(_: object) -> None:
    raise RuntimeError("the kernel\nsays no")


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(
    ("spoil", "found"),
    [
        (fail, "the kernel says no"),
        (lambda answer: answer[:, :9], "9"),
        (lambda answer: answer[:1], r"\(1, 10\)"),  # must not be spread over the batch
        (lambda answer: answer[:, :1], r"\(50, 1\)"),
        (lambda answer: answer[0], r"\(10,\)"),
        (lambda answer: answer[:-1], "49"),
        (lambda answer: np.float32(0.1), r"\(\)"),
        (with_value(np.nan), "1 images with NaN"),
        (with_value(np.inf), "1 images with NaN or infinity"),
    ],
    ids=["raises", "nine classes", "one image", "one class", "flat", "short", "number", "nan", "inf"],
)
def test_runtime_that_fails(split: Split, spoil: Any, found: str, threads: int) -> None:
    with pytest.raises(ModelError, match=found) as caught:
        evaluate_split(Broken(spoil, threads), split, 50)
    assert model().path in str(caught.value)
    assert caught.value.expected
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("threads", [1, 2])
def test_interrupt_while_running(split: Split, threads: int) -> None:
    before = threading.active_count()

    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate_split(Linear(threads), split, 10, interrupt)
    assert threading.active_count() == before


# --- which images ---


def test_choose(demo_assets: Assets) -> None:
    split = read_split(demo_assets.data_dir, "test")
    assert choose(split, None, None) is split
    assert choose(split, "mlperf-perf", None).source.subset == "mlperf-perf"
    assert len(choose(split, "mlperf-perf", None)) == 200
    assert choose(split, None, 7).source.subset == "first-7"


@pytest.mark.parametrize(
    ("subset", "count", "match"),
    [
        ("mlperf-perf", 5, "exclude each other"),
        ("all", None, "found all, expected mlperf-perf"),
        (None, 0, "found 0, expected 1 or more"),
    ],
)
def test_choose_refuses(split: Split, subset: str | None, count: int | None, match: str) -> None:
    with pytest.raises(DataError, match=match):
        choose(split, subset, count)


# --- how the model was quantized ---


def test_record_stands_beside_the_model() -> None:
    assert record_path(Path("models/resnet8_int8.onnx")) == Path("models/resnet8_int8.onnx.json")


@pytest.mark.parametrize("case", ["right", "another model's", "corrupt", "missing", "float model"])
def test_record(split: Split, tmp_path: Path, case: str) -> None:
    path = tmp_path / "q.onnx"
    record = quantization("ort-int8")
    dtype = "float32" if case == "float model" else "int8"
    sha256 = "c" * 64 if case == "another model's" else record.model_sha256
    assert sha256 is not None
    described = ModelDescription(str(path), sha256, 10, "onnx", dtype, dtype)
    if case == "corrupt":
        record_path(path).write_text("{}")
    elif case != "missing":
        results.save(record, record_path(path))
    result, _ = evaluate_split(Linear(described=described), split)
    assert result.quantization == (record if case == "right" else None)


# --- files ---


def test_evaluate_a_file(reproduced: Reproduction, demo_assets: Assets) -> None:
    path = reproduced.output_dir / "models" / "resnet8.onnx"
    whole = evaluate(path, demo_assets.data_dir)
    part = evaluate(path, demo_assets.data_dir, max_samples=30, batch_size=7)
    assert whole.overall.total == 597
    assert part.predictions == whole.predictions[:30]
    assert part.data.subset == "first-30"
    perf = evaluate(path, demo_assets.data_dir, subset="mlperf-perf")
    assert [one.total for one in perf.per_class] == [20] * 10
    assert whole.model_sha256 == results.sha256(path.read_bytes())


def test_evaluate_names_what_is_missing(tmp_path: Path, demo_assets: Assets, reproduced: Reproduction) -> None:
    with pytest.raises(Resnet8Error, match=r"nothing.onnx does not exist"):
        evaluate(tmp_path / "nothing.onnx", demo_assets.data_dir)
    with pytest.raises(DataError, match="no CIFAR-10 in"):
        evaluate(reproduced.output_dir / "models" / "resnet8.onnx", tmp_path)


def test_probing_reads_the_test_images_once_while_they_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from resnet8 import evaluation as module

    folder = cifar_folder(tmp_path / "cifar")
    reads = []

    def counted(directory: Path, split: str) -> Split:
        reads.append(split)
        return read_split(directory, split)

    monkeypatch.setattr(module, "read_split", counted)
    monkeypatch.setattr(module, "open_model", lambda *_, **__: Linear())
    first, _ = module.probe(tmp_path / "m", folder)
    again, _ = module.probe(tmp_path / "m", folder)
    assert (first.data, first.labels) == (again.data, again.labels)
    assert reads == ["test"]
    os.utime(folder / "test_batch", ns=(1, 1))
    module.probe(tmp_path / "m", folder)
    assert reads == ["test", "test"]


@pytest.mark.parametrize("record", ["of another file", "damaged"])
def test_a_record_that_is_not_of_this_file_is_said(tmp_path: Path, record: str) -> None:
    from resnet8.data import demo

    run = Path(demo.__file__).parent / "run/models"
    model = Path(shutil.copy(run / "resnet8_int8.onnx", tmp_path / "resnet8_int8.onnx"))
    beside = run / "resnet8_uint8.onnx.json"
    record_path(model).write_bytes(beside.read_bytes()[: None if record == "of another file" else 100])
    result = evaluate(model, cifar_folder(tmp_path / "cifar"), max_samples=1)
    assert result.quantization is None
    said = {"of another file": "altered or exchanged", "damaged": "is damaged, or no record"}[record]
    assert said in (result.notice or "")
    record_path(model).write_bytes((run / "resnet8_int8.onnx.json").read_bytes())
    whole = evaluate(model, tmp_path / "cifar", max_samples=1)
    assert whole.notice is None
    assert whole.quantization is not None
