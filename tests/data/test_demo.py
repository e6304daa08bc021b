"""The embedded demo: always the same, whole or absent, and of the real folder's form."""

from __future__ import annotations

import json
import multiprocessing
import os
import pickle
import re
import shutil
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from resnet8.data import demo
from resnet8.data.calibration import calibrate
from resnet8.data.cifar10 import FOLDER, KNOWN_FINGERPRINTS, SPLIT_FILES, read_split
from resnet8.errors import DataError, MissingExtraError, StorageError
from resnet8.facts import CLASSES, DEFAULT_PER_CLASS, KERAS_MODEL, PARAMETERS
from resnet8.results import Evaluation, Quantization, load

if TYPE_CHECKING:
    from resnet8.pipeline import Reproduction

TRAIN_FINGERPRINT = "eca79967f771d6c3daf2f4ad6d83dc70c08d77b3ce2b90aaa24653b0def15241"
TEST_FINGERPRINT = "a3483518c64097084b59cd13e0269de5d3c2d363135b7b3bd3b68f95ec37194c"

DATA_FILES = (*SPLIT_FILES["train"], *SPLIT_FILES["test"], "batches.meta")
ALL_FILES = sorted([KERAS_MODEL, demo.README, *(f"{FOLDER}/{name}" for name in DATA_FILES)])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A demo folder; tests only read it."""
    return demo.materialize(tmp_path_factory.mktemp("demo") / "assets")


@pytest.fixture
def rendered(batches: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """The images as they were made before: for tests of what becomes of the files."""
    monkeypatch.setattr(demo, "batches", lambda: batches)


@pytest.fixture(scope="module")
def batches() -> dict[str, Any]:
    return demo.batches()


def files_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def digests(folder: Path) -> dict[str, str]:
    return {name: sha256((folder / name).read_bytes()).hexdigest() for name in files_in(folder)}


def test_folder_has_the_real_ones_form(made: Path) -> None:
    assert files_in(made) == ALL_FILES
    assert list(made.parent.iterdir()) == [made]  # no leavings


@pytest.mark.parametrize(("split", "fingerprint"), [("train", TRAIN_FINGERPRINT), ("test", TEST_FINGERPRINT)])
def test_fingerprints_are_golden(made: Path, split: str, fingerprint: str) -> None:
    source = read_split(made, split).source
    assert source.fingerprint == fingerprint
    assert source.dataset == "demo digits"
    assert KNOWN_FINGERPRINTS[fingerprint] == ("demo digits", split)


def test_splits_are_stratified(made: Path, batches: dict[str, Any]) -> None:
    train, test = read_split(made, "train"), read_split(made, "test")
    assert len(train) == 1200
    assert len(test) == 597
    assert np.bincount(train.labels).tolist() == [demo.TRAIN_PER_CLASS] * CLASSES
    assert np.bincount(test.labels).tolist() == [58, 62, 57, 63, 61, 62, 61, 59, 54, 60]
    for _, labels in list(batches.values())[:5]:
        assert np.bincount(labels).tolist() == [24] * CLASSES
    assert train.class_names == demo.CLASS_NAMES


def test_default_calibration_and_performance_subset_can_be_drawn(made: Path) -> None:
    calibration, _ = calibrate(made)
    assert len(calibration) == DEFAULT_PER_CLASS * CLASSES
    assert len(read_split(made, "test").perf_subset()) == 200


def test_pixels_are_those_of_photographs(made: Path) -> None:
    images = read_split(made, "train").images
    assert (images.min(), images.max()) == (0, 255)
    assert 100 < images.mean() < 150
    assert 40 < images.std() < 75  # CIFAR-10: 63
    assert np.mean((images == 0) | (images == 255)) < 0.02  # not saturated


def test_train_and_test_share_no_image(made: Path) -> None:
    train, test = read_split(made, "train"), read_split(made, "test")
    assert not {image.tobytes() for image in train.images} & {image.tobytes() for image in test.images}


def test_train_and_test_share_no_original_digit() -> None:
    # Colour and noise would hide a digit that is used twice.
    digits, labels = demo._load_digits()
    dealt = demo._deal(labels)
    assert sorted(np.concatenate(list(dealt.values())).tolist()) == list(range(len(labels)))
    test = {digits[i].tobytes() for i in dealt["test_batch"]}
    assert not any(digits[i].tobytes() in test for name in SPLIT_FILES["train"] for i in dealt[name])


def test_enlargement_is_bilinear() -> None:
    constant, unit = demo._enlarge(np.full((1, 8, 8, 1), 7), 32, 32)
    assert unit == 64
    assert np.all(constant == 7 * unit)
    # A ramp stays a ramp: every step a quarter of the original's, between the outer pixel centres.
    ramp, unit = demo._enlarge(np.broadcast_to(np.arange(8)[None, None, :, None], (1, 8, 8, 1)), 32, 32)
    assert set(np.diff(ramp[0, 5, 2:30, 0]).tolist()) == {unit // 4}
    assert ramp[0, 0, 0, 0] == 0
    assert ramp[0, 0, -1, 0] == 7 * unit


@pytest.mark.parametrize("name", [*SPLIT_FILES["train"], *SPLIT_FILES["test"]])
def test_batches_are_pickles_of_cifar10s_form(made: Path, batches: dict[str, Any], name: str) -> None:
    content = pickle.loads((made / FOLDER / name).read_bytes(), encoding="bytes")
    assert list(content) == [b"batch_label", b"labels", b"data", b"filenames"]
    assert content[b"data"].dtype == np.uint8
    assert content[b"data"].shape == (len(content[b"labels"]), 3072)
    assert len(set(content[b"filenames"])) == len(content[b"labels"])
    images, labels = batches[name]
    np.testing.assert_array_equal(content[b"data"].reshape(-1, 3, 32, 32)[:, 2], images[..., 2])  # planar, blue last
    assert content[b"labels"] == labels.tolist()


def test_meta_is_a_pickle_of_cifar10s_form(made: Path) -> None:
    content = pickle.loads((made / FOLDER / "batches.meta").read_bytes(), encoding="bytes")
    assert content == {
        b"num_cases_per_batch": 240,
        b"label_names": [name.encode() for name in demo.CLASS_NAMES],
        b"num_vis": 3072,
    }


def test_second_call_touches_nothing_and_needs_no_scikit_learn(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {name: (made / name).stat().st_mtime_ns for name in files_in(made)}
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    assert demo.materialize(made) == made
    assert {name: (made / name).stat().st_mtime_ns for name in files_in(made)} == before


def test_missing_scikit_learn_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(MissingExtraError, match=r"scikit-learn.*\.whl\[demo\]"):
        demo.materialize(tmp_path / "assets")
    assert files_in(tmp_path) == []


def test_other_digits_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digits, labels = demo._load_digits()
    digits[0, 3, 3] ^= 1
    monkeypatch.setattr(demo, "_load_digits", lambda: (digits, labels))
    with pytest.raises(DataError, match="does not come out as it did"):
        demo.materialize(tmp_path / "assets")
    assert files_in(tmp_path) == []


@pytest.mark.parametrize("name", [f"{FOLDER}/data_batch_3", f"{FOLDER}/batches.meta", KERAS_MODEL, demo.README])
@pytest.mark.parametrize("damage", ["truncated", "altered", "missing"])
@pytest.mark.usefixtures("rendered")
def test_damaged_copy_is_repaired(made: Path, tmp_path: Path, name: str, damage: str) -> None:
    folder = Path(shutil.copytree(made, tmp_path / "assets"))
    content = (folder / name).read_bytes()
    if damage == "missing":
        (folder / name).unlink()
    else:
        spoilt = content[:-9] if damage == "truncated" else content[:-9] + bytes(9)
        (folder / name).write_bytes(spoilt)
    demo.materialize(folder)
    assert digests(folder) == digests(made)


@pytest.mark.usefixtures("rendered")
def test_existing_folder_keeps_its_other_files(made: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    demo.materialize(tmp_path)
    assert digests(tmp_path) == digests(made) | {"notes.txt": sha256(b"mine").hexdigest()}


@pytest.mark.parametrize("name", [KERAS_MODEL, f"{FOLDER}/test_batch"])
def test_other_model_or_data_is_never_overwritten(tmp_path: Path, name: str) -> None:
    (tmp_path / FOLDER).mkdir()
    (tmp_path / name).write_bytes(b"the real one")
    with pytest.raises(StorageError, match=r"is not a demo folder.*choose another folder"):
        demo.materialize(tmp_path)
    assert files_in(tmp_path) == [name]
    assert (tmp_path / name).read_bytes() == b"the real one"


@pytest.mark.usefixtures("rendered")
def test_interrupted_build_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def interrupt(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == 4:
            raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        demo.materialize(tmp_path / "assets")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("rendered")
def test_loser_of_a_race_takes_the_winners(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "assets"
    create = demo._create

    def overtaken(folder: Path, contents: dict[str, bytes]) -> None:
        create(folder, contents)
        inode = folder.stat().st_ino
        create(folder, contents)
        assert folder.stat().st_ino == inode

    monkeypatch.setattr(demo, "_create", overtaken)
    demo.materialize(folder)
    assert digests(folder) == digests(made)
    assert list(tmp_path.iterdir()) == [folder]


def _materialize_when_all_are_ready(folders: list[Path], barrier: object) -> None:
    for folder in folders:
        barrier.wait()  # type: ignore[attr-defined]
        demo.materialize(folder)


def test_two_processes_at_once(made: Path, tmp_path: Path) -> None:
    folders = [tmp_path / state / "assets" for state in ("absent", "empty", "damaged")]
    absent, empty, damaged = folders
    absent.parent.mkdir()
    empty.mkdir(parents=True)
    shutil.copytree(made, damaged)
    (damaged / FOLDER / "test_batch").write_bytes(b"")
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(2)
    processes = [context.Process(target=_materialize_when_all_are_ready, args=(folders, barrier)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    for folder in folders:
        assert digests(folder) == digests(made)
        assert list(folder.parent.iterdir()) == [folder]


@pytest.mark.parametrize("below", ["", "deeper/assets"])
def test_place_that_cannot_be_written(tmp_path: Path, below: str) -> None:
    # A file where a folder should be: refused whoever runs the tests, root included.
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"cannot (make|write) .*file"):
        demo.materialize(tmp_path / "file" / below)
    assert files_in(tmp_path) == ["file"]


@pytest.mark.usefixtures("rendered")
def test_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="No space left on device"):
        demo.materialize(tmp_path / "assets")
    assert list(tmp_path.iterdir()) == []


def test_model_is_small(made: Path) -> None:
    assert (made / KERAS_MODEL).stat().st_size < 1_500_000


_SCORE = """
import json, sys
import keras
from pathlib import Path
from resnet8.data.cifar10 import preprocess, read_split
folder = Path(sys.argv[1])
model = keras.models.load_model(folder / "pretrainedResnet.h5", compile=False)
test = read_split(folder, "test")
predictions = model.predict(preprocess(test.images), batch_size=200, verbose=0).argmax(axis=1)
print(json.dumps({
    "parameters": model.count_params(),
    "input": model.input_shape,
    "output": model.output_shape,
    "layers": [type(layer).__name__ for layer in model.layers],
    "accuracy": float((predictions == test.labels).mean()),
}))
"""


@pytest.mark.slow
def test_model_is_a_resnet8_that_reads_the_digits(made: Path) -> None:
    environment = os.environ | {
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "CUDA_VISIBLE_DEVICES": "-1",
        "KERAS_BACKEND": "tensorflow",
    }
    # A process of its own: TensorFlow and torch crash each other in one.
    done = subprocess.run(
        [sys.executable, "-c", _SCORE, str(made)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout.splitlines()[-1])
    assert facts["parameters"] == PARAMETERS
    assert facts["input"] == [None, 32, 32, 3]
    assert facts["output"] == [None, 10]
    assert [facts["layers"].count(kind) for kind in ("Conv2D", "BatchNormalization", "Activation", "Add")] == [
        9,
        7,
        7,
        3,
    ]
    # Good enough to be worth quantizing, with something left to get wrong.
    assert 0.92 < facts["accuracy"] < 0.995


# --- the models that it brings along ---


def test_the_models_are_those_of_the_pipeline(tmp_path: Path, reproduced: Reproduction) -> None:
    folder = demo.materialize_models(tmp_path / "run")
    assert files_in(folder) == sorted([*demo.RUN_FILES, demo.README])
    for path in sorted((folder / "models").glob("*.onnx")):
        brought, made = (onnx.load(one) for one in (path, reproduced.output_dir / "models" / path.name))
        assert [one.op_type for one in brought.graph.node] == [one.op_type for one in made.graph.node]
        # Sums of the calibration are rounded in another order on another CPU.
        theirs = {one.name: numpy_helper.to_array(one) for one in made.graph.initializer}
        assert len(theirs) == len(brought.graph.initializer)
        for one in brought.graph.initializer:
            mine = numpy_helper.to_array(one)
            if mine.dtype.kind == "f":
                np.testing.assert_allclose(mine, theirs[one.name], rtol=1e-4, atol=1e-6)
            elif mine.dtype == np.int32:
                np.testing.assert_allclose(mine, theirs[one.name], rtol=1e-3, atol=2)
            else:
                assert np.abs(mine.astype(int) - theirs[one.name].astype(int)).max(initial=0) <= 1


def test_each_model_has_its_record_and_its_evaluation(tmp_path: Path) -> None:
    folder = demo.materialize_models(tmp_path / "run")
    measured = {load(Evaluation, path).model_sha256 for path in (folder / "results").glob("*.json")}
    assert measured == {sha256(path.read_bytes()).hexdigest() for path in (folder / "models").glob("*.onnx")}
    source = sha256((folder / "models" / "resnet8.onnx").read_bytes()).hexdigest()
    records = [load(Quantization, path) for path in (folder / "models").glob("*.onnx.json")]
    assert {one.source_sha256 for one in records} == {source}
    assert {one.model_sha256 for one in records} < measured


def test_damaged_and_missing_models_are_repaired_and_others_left_alone(tmp_path: Path) -> None:
    folder = demo.materialize_models(tmp_path / "run")
    before = digests(folder)
    (folder / "models" / "resnet8.onnx").write_bytes(b"damaged")
    shutil.rmtree(folder / "results")
    (folder / "models" / "mine.onnx").write_bytes(b"mine")
    demo.materialize_models(folder)
    assert digests(folder) == before | {"models/mine.onnx": sha256(b"mine").hexdigest()}


def test_models_of_others_are_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "resnet8.onnx").write_bytes(b"the real one")
    with pytest.raises(StorageError, match=r"is not a demo folder.*another models/resnet8\.onnx"):
        demo.materialize_models(tmp_path)
    assert files_in(tmp_path) == ["models/resnet8.onnx"]


def test_what_the_package_brings_along_stays_small() -> None:
    package = Path(demo.__file__).parent
    assert sum(path.stat().st_size for path in package.rglob("*") if path.suffix in {".h5", ".onnx"}) < 1_500_000


def test_nothing_brought_along_names_a_place_of_the_machine_that_made_it(tmp_path: Path) -> None:
    folder = demo.materialize_models(tmp_path / "run")
    for path in (*folder.rglob("*.json"), *folder.rglob("*.onnx")):
        assert not re.search(rb"/(tmp|home|root|work|Users)/", path.read_bytes()), path
