"""Where models and images are found."""

from __future__ import annotations

import shutil
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest

from resnet8.data import assets, demo
from resnet8.data.cifar10 import preprocess, read_split
from resnet8.errors import DataError, MissingExtraError
from resnet8.playground import sources
from resnet8.playground.catalogue import evaluations, models, stored_predictions
from resnet8.runtimes import open_model

if TYPE_CHECKING:
    from pathlib import Path

    from resnet8.data.assets import Assets
    from resnet8.data.cifar10 import Split


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty folder and an empty cache."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv(assets.CACHE_VARIABLE, str(tmp_path / "cache"))
    for name in (assets.ENVIRONMENT_VARIABLE, sources.FOLDER_VARIABLE):
        monkeypatch.delenv(name, raising=False)


def test_the_first_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert sources.default_folder() == tmp_path / "here"
    monkeypatch.setenv(sources.FOLDER_VARIABLE, str(tmp_path / "named"))
    assert sources.default_folder() == tmp_path / "named"


def test_the_demo_opens_with_its_models_images_and_accuracies() -> None:
    folder = sources.open_demo()
    entries = models(folder, evaluations(folder))
    assert [one.path.name for one in entries] == [
        "resnet8.onnx",
        "resnet8_int8.onnx",
        "resnet8_ort-7bit-weights.onnx",
        "resnet8_uint8.onnx",
    ]
    split = sources.images_of(folder, sources.fingerprints(evaluations(folder / "models")))
    assert len(split) == 597
    for one in entries:
        assert one.score is not None
        assert one.score.total == len(split)
        assert one.description is not None
        stored = stored_predictions(evaluations(folder), one.description.sha256, split)
        assert stored is not None
        assert (stored == split.labels).sum() == one.score.correct
        found = open_model(one.path).probabilities(preprocess(split.images[:100])).argmax(axis=1)
        assert found.tolist() == stored[:100].tolist()  # none of them saturates on any CPU


def test_the_demo_needs_scikit_learn_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(MissingExtraError, match="demo"):
        sources.open_demo()


def test_images_are_those_of_the_evaluations(
    tmp_path: Path, demo_run: Path, demo_assets: Assets, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = evaluations(demo_run)
    wanted = sources.fingerprints(known)
    split = read_split(demo_assets.data_dir, "test")
    assert wanted == {split.source.fingerprint}
    monkeypatch.setenv(assets.ENVIRONMENT_VARIABLE, str(demo_assets.data_dir.parent))
    assert sources.images_of(tmp_path, wanted).source.fingerprint in wanted
    monkeypatch.delenv(assets.ENVIRONMENT_VARIABLE)
    # The demo's are found without being asked for, and stand in where the right ones are missing.
    assert sources.images_of(tmp_path, frozenset({"other"})).source.fingerprint in wanted
    shutil.copytree(demo_assets.data_dir, tmp_path / "data" / demo_assets.data_dir.name)
    assert str(tmp_path / "data") in sources.images_of(tmp_path).source.directory


def test_no_images_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_folder: Path) -> Path:
        raise DataError("scikit-learn is not installed")

    monkeypatch.setattr(demo, "materialize", missing)
    with pytest.raises(DataError, match="there are no test images for the models in"):
        sources.images_of(tmp_path)


def test_samples_know_the_numbers_of_their_images(demo_split: Split) -> None:
    some = sources.sample(demo_split, 590, 5)
    assert some.split.labels.tolist() == demo_split.labels[590:595].tolist()
    assert (some.indices.tolist(), str(some)) == ([590, 591, 592, 593, 594], "5 images, from 590 on")
    assert str(sources.sample(demo_split, 0, 200)) == "200 images"
    assert len(sources.sample(demo_split, 590, 100)) == 7  # there are no more
    official = sources.official(demo_split)
    assert (len(official), str(official)) == (200, "the official 200 images")
    assert official.split.labels.tolist() == demo_split.labels[official.indices].tolist()


@pytest.mark.parametrize(
    ("first", "count", "message"),
    [
        (597, 5, "there is no image 597: found 597 images, expected a number from 0 to 596; begin with one of these"),
        (3, 0, "the number of images is not usable: found 0, expected 1 or more"),
    ],
)
def test_no_sample_is_a_line(demo_split: Split, first: int, count: int, message: str) -> None:
    with pytest.raises(DataError, match=message):
        sources.sample(demo_split, first, count)


def test_too_few_images_for_the_official_ones_are_a_line(demo_split: Split) -> None:
    message = "too few images of class .* for the performance subset: found .*; take a number of images instead"
    with pytest.raises(DataError, match=message):
        sources.official(demo_split.first(150))


def test_images_are_found_among_those_that_are_asked_for() -> None:
    candidates = np.array([3, 7, 8])
    assert [sources.nearest(candidates, index) for index in (0, 3, 4, 8, 9)] == [3, 3, 7, 8, 8]
    assert [sources.neighbour(candidates, index, 1) for index in (3, 7, 8)] == [7, 8, 8]
    assert [sources.neighbour(candidates, index, -1) for index in (3, 7, 8)] == [3, 3, 7]
