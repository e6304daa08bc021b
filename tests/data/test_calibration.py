"""Which training images set the ranges: the published draw, stratified, never the test images."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np
import pytest
from builders import CLASS_NAMES, cifar_folder
from hypothesis import given, settings
from hypothesis import strategies as st

from resnet8.data import calibration
from resnet8.data.calibration import calibrate, draw
from resnet8.data.cifar10 import read_split
from resnet8.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

    from resnet8.data.assets import Assets

SHUFFLED = np.random.default_rng(3).permutation(np.repeat(np.arange(10), 150))


def published(labels: np.ndarray, samples_per_class: int, seed: int) -> tuple[list[int], list[int]]:
    """The published scripts' procedure, with the global generator: the draw for int8, then that for uint8."""
    before = np.random.get_state()  # noqa: NPY002 - the global generator is the oracle
    try:
        np.random.seed(seed)  # noqa: NPY002
        draws = []
        for _ in range(2):
            indices: list[int] = []
            for label in range(10):
                members = np.where(labels == label)[0]
                indices.extend(np.random.choice(members, samples_per_class, replace=False).tolist())  # noqa: NPY002
            draws.append(indices)
    finally:
        np.random.set_state(before)  # noqa: NPY002
    return draws[0], draws[1]


def test_is_the_published_draw() -> None:
    first, second = published(SHUFFLED, 100, 42)
    assert draw(SHUFFLED, 100, 42).tolist() == first
    assert draw(SHUFFLED, 100, 42, "second").tolist() == second
    assert first != second


@settings(derandomize=True, max_examples=40, deadline=None)
@given(
    counts=st.lists(st.integers(20, 60), min_size=10, max_size=10),
    seed=st.integers(0, 2**32 - 1),
    method=st.sampled_from(["first", "second"]),
    data=st.data(),
)
def test_is_stratified_unique_and_repeatable(counts: list[int], seed: int, method: str, data: st.DataObject) -> None:
    labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(10), counts))
    samples = data.draw(st.integers(20, min(counts)))
    state = np.random.get_state()[1].tolist()  # noqa: NPY002
    indices = draw(labels, samples, seed, method)
    assert indices.dtype == np.int64
    assert len(set(indices.tolist())) == 10 * samples
    assert labels[indices].tolist() == np.repeat(np.arange(10), samples).tolist()  # class by class
    assert indices.tolist() == published(labels, samples, seed)[method == "second"]
    np.testing.assert_array_equal(indices, draw(labels, samples, seed, method))
    assert np.random.get_state()[1].tolist() == state  # noqa: NPY002 - the global generator is nobody's business


def test_seeds_matter() -> None:
    assert draw(SHUFFLED, 20, 1).tolist() != draw(SHUFFLED, 20, 2).tolist()


@pytest.mark.parametrize("samples", [19, 1, 0, -5])
def test_too_few_asked_for(samples: int) -> None:
    with pytest.raises(DataError, match=f"found {samples}, expected at least 20; ask for more of each class"):
        draw(SHUFFLED, samples, 42)


def test_too_few_there() -> None:
    labels = np.repeat(np.arange(10), [50, 50, 50, 50, 31, 30, 50, 50, 50, 50])
    assert len(draw(labels, 30, 42)) == 300
    with pytest.raises(
        DataError, match=r"class 5 .*31 per class: found 30, expected at least 31; ask for fewer of each class"
    ):
        draw(labels, 31, 42)
    with pytest.raises(DataError, match=r"class 0 .*found 0"):
        draw(labels[labels > 0], 20, 42)


@pytest.mark.parametrize("seed", [-1, 2**32, 10**20])
def test_seed_out_of_range(seed: int) -> None:
    with pytest.raises(DataError, match=f"seed is out of range: found {seed}, expected 0 to 4294967295"):
        draw(SHUFFLED, 20, seed)


@pytest.mark.parametrize("seed", [0, 2**32 - 1])
def test_seeds_at_the_ends(seed: int) -> None:
    assert len(draw(SHUFFLED, 20, seed)) == 200


def test_calibrate(tmp_path: Path) -> None:
    folder = cifar_folder(tmp_path / "data", per_class=5)
    train = read_split(folder, "train")
    images, record = calibrate(folder, 20, 7, "second")
    assert list(record.indices) == published(train.labels, 20, 7)[1]
    np.testing.assert_array_equal(images.images, train.images[list(record.indices)])
    np.testing.assert_array_equal(images.labels, train.labels[list(record.indices)])
    assert record.per_class == dict.fromkeys(CLASS_NAMES, 20)
    assert (record.method, record.seed, record.samples_per_class) == ("second", 7, 20)
    assert record.data == images.source
    assert record.data.split == "train"
    assert record.data.fingerprint == train.source.fingerprint


def test_sample_is_calibrate_on_images_at_hand(demo_assets: Assets) -> None:
    train = read_split(demo_assets.data_dir, "train")
    images, record = calibration.sample(train, 30, 42, "first")
    others, other_record = calibrate(demo_assets.data_dir, 30)
    assert record == other_record
    np.testing.assert_array_equal(images.images, others.images)


def test_no_calibration_image_is_a_test_image(demo_assets: Assets) -> None:
    images, _ = calibrate(demo_assets.data_dir)
    test = {image.tobytes() for image in read_split(demo_assets.data_dir, "test").images}
    assert not test & {image.tobytes() for image in images.images}


def test_default_is_a_thousand_images(demo_assets: Assets) -> None:
    _, record = calibrate(demo_assets.data_dir)
    assert (len(record.indices), record.seed, record.method) == (1000, 42, "first")


@pytest.mark.real
def test_draws_on_the_real_data(real_assets: Path) -> None:
    labels = read_split(real_assets, "train").labels
    for method, indices in zip(("first", "second"), published(labels, 100, 42), strict=True):
        assert draw(labels, 100, 42, method).tolist() == indices
        assert hashlib.sha256(np.array(indices, "<i8").tobytes()).hexdigest() == REAL[method]


REAL = {
    "first": "c41e7afac70243a5d6cf6e90d53e31288f74e2378293e7c0e906ef4b84c268c6",
    "second": "815f92e77cd25b79124c11f59fe675d000140b8ece2d8d8909275426d2444b09",
}


# --- held out ---


def test_held_out_images_calibrate_nothing(tmp_path: Path) -> None:
    train = read_split(cifar_folder(tmp_path / "data", per_class=3), "train")
    excluded = np.arange(0, 150, 3)
    found = calibration.held_out(train, excluded, 40, 5000, 7)
    left = np.setdiff1d(np.arange(150), excluded)
    wanted = np.sort(np.random.RandomState(7).permutation(left)[:40])
    np.testing.assert_array_equal(found.images, train.images[wanted])
    assert found.source.subset == "held-out-40-seed-7"
    assert len(calibration.held_out(train, excluded, None, 5000, 7)) == 100
    assert len(calibration.held_out(train, excluded, None, 30, 7)) == 30


@pytest.mark.parametrize(("count", "seed", "match"), [(0, 1, "found 0"), (101, 1, "found 101"), (5, -1, "seed")])
def test_held_out_images_that_are_not_there(tmp_path: Path, count: int, seed: int, match: str) -> None:
    train = read_split(cifar_folder(tmp_path / "data", per_class=3), "train")
    with pytest.raises(DataError, match=match):
        calibration.held_out(train, np.arange(0, 150, 3), count, 5000, seed)
