"""Results are values: they go to JSON and come back the same, and anything else is refused."""

from __future__ import annotations

import json
import os
from dataclasses import FrozenInstanceError, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from builders import CIFAR10, CLASS_NAMES, evaluation, model, noise_study, parity, quantization, wrong_on
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from resnet8 import results
from resnet8.comparison import compare
from resnet8.errors import ResultError, StorageError
from resnet8.results import Comparison, Evaluation, NoiseSpread, NoiseStudy, Parity, Quantization

if TYPE_CHECKING:
    from pathlib import Path

LABELS = "0123456789" * 2
EVALUATION = evaluation(LABELS, wrong_on(LABELS, [3, 7]), recipe="ort-int8", described=model(weights="int8"))
COMPARISON = compare([evaluation(LABELS, LABELS), EVALUATION], refused={"torch-uint8": "no «quint8» weights"})
NOISE = noise_study(EVALUATION, [range(3), range(2)])
EXAMPLES = [EVALUATION, quantization("ort-int8"), parity(), COMPARISON, NOISE]


def edited(result: Any, **changes: object) -> str:
    """The result's JSON with some top-level fields changed; None removes one."""
    content = json.loads(results.to_json(result)) | changes
    return json.dumps({name: value for name, value in content.items() if changes.get(name, ...) is not None})


# --- round trip ---


@pytest.mark.parametrize("result", EXAMPLES, ids=lambda result: result.kind)
def test_round_trip(tmp_path: Path, result: Any) -> None:
    path = tmp_path / "results" / "r.json"
    results.save(result, path)
    back = results.load(type(result), path)
    assert back == result
    assert type(back) is type(result)
    results.save(back, path)
    assert path.read_text() == results.to_json(result)


@pytest.mark.parametrize("kind", [Evaluation, Quantization, Parity, Comparison, NoiseStudy])
@settings(derandomize=True, max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_round_trip_is_lossless(kind: Any, data: st.DataObject) -> None:
    """Any values that the types allow, by repr: it tells NaN, infinity, -0.0, True and 1 apart."""
    result = data.draw(st.from_type(kind))
    assume(kind is not Comparison or result.rows)
    assert repr(results.from_json(kind, results.to_json(result), "it")) == repr(result)


def test_a_name_that_is_not_utf8_is_spelled_out(tmp_path: Path) -> None:
    """JSON has no letters for its bytes, and its reader refuses halves of pairs."""
    named = replace(EVALUATION, model_path=os.fsdecode(b"ma\xffm\xc3\xbcll.onnx"))
    results.save(named, tmp_path / "r.json")
    assert results.load(Evaluation, tmp_path / "r.json").model_path == "ma\\udcffmüll.onnx"


def test_a_comparison_compares_something() -> None:
    with pytest.raises(ResultError, match=r"rows: .*at least 1 item"):
        results.from_json(Comparison, edited(COMPARISON, rows=[]), "r.json")


def test_schema_of_an_evaluation() -> None:
    """The names that users' own programs read."""
    content = json.loads(results.to_json(EVALUATION))
    assert content["kind"] == "evaluation"
    assert content["schema_version"] == 1
    assert content["backend"] == "onnxruntime"
    assert content["model_path"] == EVALUATION.model.path
    assert content["model_sha256"] == EVALUATION.model.sha256
    assert content["data_dir"] == "data"
    assert content["data_fingerprint"] == CIFAR10.fingerprint
    assert content["overall"] == {"correct": 18, "total": 20, "accuracy": 0.9}
    assert [one["class_name"] for one in content["per_class"]] == list(CLASS_NAMES)
    assert content["per_class"][3] == {"class_name": "cat", "correct": 1, "total": 2, "accuracy": 0.5}
    assert content["confusion_matrix"][3] == [0, 0, 0, 1, 1, 0, 0, 0, 0, 0]
    assert content["environment"]["cpu"]["flags"] == ["avx2", "avx512f", "avx512_vnni"]
    assert content["environment"]["libraries"]["onnxruntime"] == "1.31.1"


def test_plain_lists_stay_on_one_line() -> None:
    lines = results.to_json(EVALUATION).splitlines()
    assert "    [2, 0, 0, 0, 0, 0, 0, 0, 0, 0]," in lines  # a row of the matrix
    assert results.to_json(EVALUATION).endswith("}\n")


def test_results_cannot_be_changed() -> None:
    for result in EXAMPLES:
        with pytest.raises(FrozenInstanceError):
            result.created = "now"  # type: ignore[misc]


# --- what is refused ---


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="does not exist"):
        results.load(Evaluation, tmp_path / "nothing.json")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"7",
        b'"evaluation"',
        b"\xff\xfe\x00",
        b"{}",
        b"[" * 100_000,
        b'{"kind": "evaluation"}',
    ],
    ids=["empty", "truncated", "list", "null", "number", "word", "binary", "nothing", "deep", "hardly"],
)
def test_corrupt_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "r.json"
    path.write_bytes(content)
    for kind in (Evaluation, Quantization, Parity, Comparison):
        with pytest.raises(ResultError, match=r"r\.json") as caught:
            results.load(kind, path)
        assert caught.value.found
        assert caught.value.expected
        assert caught.value.remedy
    with pytest.raises(ResultError, match=r"r\.json"):
        results.read_any(path)


@pytest.mark.parametrize("cut", [1, 100, 1000])
def test_truncated_file(cut: int) -> None:
    with pytest.raises(ResultError, match="found"):
        results.from_json(Evaluation, results.to_json(EVALUATION)[:-1][:-cut], "r.json")


@pytest.mark.parametrize("result", EXAMPLES, ids=lambda result: result.kind)
def test_other_kind(result: Any) -> None:
    for kind in {Evaluation, Quantization, Parity, Comparison} - {type(result)}:
        with pytest.raises(ResultError, match=f"^r.json is no {kind.__name__.lower()} result"):
            results.from_json(kind, results.to_json(result), "r.json")
        with pytest.raises(ResultError):
            results.from_json(type(result), edited(result, kind=kind.__name__.lower()), "r.json")


@pytest.mark.parametrize("result", EXAMPLES, ids=lambda result: result.kind)
@pytest.mark.parametrize("version", [0, 2, "next"])
def test_other_version(result: Any, version: object) -> None:
    with pytest.raises(ResultError, match=r"schema_version: .*expected .*schema version 1; write it again"):
        results.from_json(type(result), edited(result, schema_version=version), "r.json")


@pytest.mark.parametrize("result", EXAMPLES, ids=lambda result: result.kind)
@pytest.mark.parametrize("name", ["kind", "schema_version"])
def test_file_that_does_not_say_what_it_is(result: Any, name: str) -> None:
    with pytest.raises(ResultError, match=name):
        results.from_json(type(result), edited(result, **{name: None}), "r.json")


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"overall": {"correct": "many", "total": 1, "accuracy": 1.0}}, "overall.correct"),
        ({"overall": {"correct": 1, "total": 1}}, "overall.accuracy"),
        ({"confusion_matrix": [["x"]]}, "confusion_matrix.0.0"),
        ({"labels": 7}, "labels"),
        ({"model": None}, "model"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_wrong_field_is_named(changes: dict[str, object], where: str) -> None:
    with pytest.raises(ResultError, match=where.replace(".", r"\.")):
        results.from_json(Evaluation, edited(EVALUATION, **changes), "r.json")


def test_read_any_goes_by_the_kind_inside(tmp_path: Path) -> None:
    for result in EXAMPLES:
        path = tmp_path / "r.json"
        results.save(result, path)
        if isinstance(result, Evaluation | Quantization | NoiseStudy):
            assert results.read_any(path) == result
        else:
            assert results.read_any(path) is None


# --- what a noise study says ---


def test_spread_and_agreement_of_a_noise_study() -> None:
    labels = "0123456789"
    study = noise_study(
        evaluation(labels, wrong_on(labels, range(1)), recipe="ort-int8"), [range(3), range(1), range(2)]
    )
    assert study.counts == (7, 9, 8)
    # by hand: mean 8, variance (1 + 1 + 0) / 2
    assert study.spread == NoiseSpread(mean=8.0, deviation=1.0, least=7, greatest=9, runs=3)
    assert study.agreements == ((8, 10, 9), (8, 9, 9))


# --- small values ---


@settings(derandomize=True)
@given(classes=hnp.arrays(np.int64, st.integers(0, 300), elements=st.integers(0, 9)))
def test_digits_and_back(classes: np.ndarray[Any, np.dtype[np.int64]]) -> None:
    text = results.digits(classes)
    assert text == "".join(map(str, classes.tolist()))
    back = results.from_digits(text)
    assert back.dtype == np.int64
    np.testing.assert_array_equal(back, classes)


@settings(derandomize=True)
@given(text=st.text("0123456789"))
def test_digits_inverts_from_digits(text: str) -> None:
    assert results.digits(results.from_digits(text)) == text


@pytest.mark.parametrize(
    ("correct", "total", "accuracy"), [(8719, 10_000, 0.8719), (0, 5, 0.0), (5, 5, 1.0), (0, 0, 0.0)]
)
def test_score(correct: int, total: int, accuracy: float) -> None:
    assert results.score(correct, total) == results.Score(correct, total, accuracy)


@pytest.mark.parametrize(
    ("activations", "weights", "dtype", "quantized"),
    [
        ("float32", "float32", "float32", False),
        ("int8", "int8", "int8", True),
        ("uint8", "uint8", "uint8", True),
        ("uint8", "int8", "uint8/int8", True),
    ],
)
def test_dtype_of_a_model(activations: str, weights: str, dtype: str, quantized: bool) -> None:
    described = model(activations=activations, weights=weights)
    assert described.dtype == dtype
    assert described.quantized is quantized


def test_now_is_utc_to_the_second() -> None:
    assert len(results.now()) == len("2026-01-02T03:04:05+00:00")
    assert results.now().endswith("+00:00")


def test_sha256_golden() -> None:
    assert results.sha256(b"abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_save_array(tmp_path: Path) -> None:
    array = np.random.default_rng(1).random((5, 10), np.float32)
    results.save_array(array, tmp_path / "p.npy")
    back = np.load(tmp_path / "p.npy")
    assert back.dtype == np.float32
    np.testing.assert_array_equal(back, array)
    with pytest.raises(ValueError, match="Object arrays"):  # would be a pickle
        results.save_array(np.array([{}]), tmp_path / "o.npy")
    assert [path.name for path in tmp_path.iterdir()] == ["p.npy"]


def test_data_source_of_another_split_is_another_value() -> None:
    assert replace(CIFAR10, split="train") != CIFAR10
