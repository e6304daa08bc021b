"""Where models and images are found."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from resnet8 import assets, demo
from resnet8.cifar10 import read_split
from resnet8.errors import DataError
from resnet8.playground import sources
from resnet8.playground.catalogue import evaluations

if TYPE_CHECKING:
    from pathlib import Path

    from resnet8.assets import Assets
    from resnet8.pipeline import Reproduction


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty folder and an empty cache."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv(assets.CACHE_VARIABLE, str(tmp_path / "cache"))
    for name in (assets.ENVIRONMENT_VARIABLE, sources.FOLDER_VARIABLE):
        monkeypatch.delenv(name, raising=False)


def test_the_first_folder(tmp_path: Path, reproduced: Reproduction, monkeypatch: pytest.MonkeyPatch) -> None:
    here = tmp_path / "here"
    assert sources.default_folder() == here
    assert not sources.has_demo()
    shutil.copytree(reproduced.output_dir / "results", sources.demo_folder() / "results")
    assert sources.has_demo()
    assert sources.default_folder() == sources.demo_folder()
    (here / "models").mkdir()
    assert sources.default_folder() == here
    monkeypatch.setenv(sources.FOLDER_VARIABLE, str(tmp_path / "named"))
    assert sources.default_folder() == tmp_path / "named"


def test_a_demo_that_is_there_is_not_made_again(reproduced: Reproduction, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(reproduced.output_dir / "results", sources.demo_folder() / "results")

    def unexpected(*_: object, **__: object) -> None:
        raise AssertionError

    monkeypatch.setattr(sources.pipeline, "reproduce", unexpected)
    assert sources.make_demo() == sources.demo_folder()


def test_a_demo_that_is_missing_is_made_in_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    monkeypatch.setattr(sources.pipeline, "reproduce", lambda folder, **how: made.append((folder, how["assets"].demo)))
    assert sources.make_demo() == sources.demo_folder()
    assert made == [(sources.demo_folder(), True)]


def test_images_are_those_of_the_evaluations(
    tmp_path: Path, reproduced: Reproduction, demo_assets: Assets, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = evaluations(reproduced.output_dir)
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
