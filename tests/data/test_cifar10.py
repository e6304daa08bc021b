"""The one reader of CIFAR-10: what it decodes, and what it refuses before it can do harm."""

from __future__ import annotations

import csv
import hashlib
import os
import pickle
import pickletools
import resource
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from builders import CLASS_NAMES, batch, cifar_folder, noise
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from resnet8.data.cifar10 import FOLDER, Split, find, perf_indices, preprocess, random_images, read_split
from resnet8.errors import DataError, Resnet8Error, StorageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from resnet8.data.assets import Assets


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return cifar_folder(tmp_path / "data")


def put(path: Path, content: object, protocol: int = 4) -> None:
    path.write_bytes(pickle.dumps(content, protocol=protocol))


def assert_refused(folder: Path, match: str, split: str = "test") -> Resnet8Error:
    with pytest.raises(DataError, match=match) as caught:
        read_split(folder, split)
    error = caught.value
    assert "\n" not in str(error)
    assert error.found
    assert error.expected
    assert error.remedy
    return error


# --- what is read ---


def test_decodes_planes_to_nhwc(folder: Path) -> None:
    """A pixel is where the data set's description puts it: red plane, green plane, blue plane, each row by row."""
    planes = np.zeros((1, 3072), np.uint8)
    planes[0, 0] = 1  # red, row 0, column 0
    planes[0, 1024 + 32] = 2  # green, row 1, column 0
    planes[0, 2048 + 5 * 32 + 7] = 3  # blue, row 5, column 7
    put(folder / "test_batch", {b"data": planes, b"labels": [9]})
    split = read_split(folder, "test")
    assert split.images.shape == (1, 32, 32, 3)
    assert split.images.dtype == np.uint8
    assert np.argwhere(split.images).tolist() == [[0, 0, 0, 0], [0, 1, 0, 1], [0, 5, 7, 2]]
    assert [split.images[0, 0, 0, 0], split.images[0, 1, 0, 1], split.images[0, 5, 7, 2]] == [1, 2, 3]
    assert split.labels.tolist() == [9]
    assert split.labels.dtype == np.int64
    assert split.class_names == CLASS_NAMES


def test_training_batches_come_in_file_order(folder: Path) -> None:
    split = read_split(folder, "train")
    np.testing.assert_array_equal(split.images, np.concatenate([noise(20, seed) for seed in range(5)]))
    assert split.labels.tolist() == list(range(10)) * 10
    assert len(split) == 100


def test_source(folder: Path) -> None:
    split = read_split(folder.parent if folder.name == FOLDER else folder, "test")
    content = noise(20, 5).tobytes() + bytes(list(range(10)) * 2)
    assert split.source.fingerprint == hashlib.sha256(content).hexdigest()
    assert (split.source.dataset, split.source.split, split.source.subset) == ("unofficial", "test", "all")
    assert split.source.directory == str(folder)


def test_fingerprint_sees_every_pixel_and_label(folder: Path) -> None:
    images, labels = noise(20, 5), list(range(10)) * 2
    prints = {read_split(folder, "test").source.fingerprint}
    images[19, 31, 31, 2] ^= 1
    put(folder / "test_batch", batch(images, labels))
    prints.add(read_split(folder, "test").source.fingerprint)
    labels[19] = 0
    put(folder / "test_batch", batch(images, labels))
    prints.add(read_split(folder, "test").source.fingerprint)
    assert len(prints) == 3


def test_altered_demo_says_so(demo_assets: Assets, tmp_path: Path) -> None:
    assert read_split(demo_assets.data_dir, "test").source.dataset == "demo digits"
    copy = cifar_folder(tmp_path / "copy")
    (copy / "test_batch").write_bytes((demo_assets.data_dir / "data_batch_1").read_bytes())
    assert read_split(copy, "test").source.dataset == "unofficial"  # known images, but of another split


@pytest.mark.parametrize("protocol", [3, 4])
def test_pickles_of_todays_python(folder: Path, protocol: int) -> None:
    put(folder / "test_batch", batch(noise(20, 5), list(range(10)) * 2), protocol)
    np.testing.assert_array_equal(read_split(folder, "test").images, noise(20, 5))


@pytest.mark.parametrize(("protocol", "function"), [(2, r"_codecs\.encode"), (5, r"numpy.*\._frombuffer")])
def test_pickles_that_need_more_than_constructors(folder: Path, protocol: int, function: str) -> None:
    """Python 3 writes bytes in protocol 2 as a call, NumPy arrays in protocol 5 as another: neither is admitted."""
    put(folder / "test_batch", batch(noise(20, 5), list(range(10)) * 2), protocol)
    assert_refused(folder, f"it imports {function}")


def test_read_arrays_in_column_order(folder: Path) -> None:
    content = batch(noise(20, 5), list(range(10)) * 2)
    content[b"data"] = np.asfortranarray(content[b"data"])
    put(folder / "test_batch", content)
    np.testing.assert_array_equal(read_split(folder, "test").images, noise(20, 5))


@pytest.mark.parametrize("nested", [False, True])
def test_find(tmp_path: Path, nested: bool) -> None:
    folder = cifar_folder(tmp_path / FOLDER if nested else tmp_path / "other")
    assert find(tmp_path if nested else folder) == folder


@pytest.mark.real
def test_real_files(real_assets: Path) -> None:
    for split, count in (("train", 50_000), ("test", 10_000)):
        read = read_split(real_assets, split)
        assert len(read) == count
        assert np.bincount(read.labels).tolist() == [count // 10] * 10
        assert read.source.dataset == "CIFAR-10"
        assert read.class_names == CLASS_NAMES
    # Facts of the test batch that anyone can look up: it begins with a cat, two ships and an airplane.
    assert [read.class_names[label] for label in read.labels[:4]] == ["cat", "ship", "ship", "airplane"]


# --- subsets ---


def test_select_and_first(folder: Path) -> None:
    split = read_split(folder, "test")
    chosen = split.select(np.array([7, 3, 7]), "some")
    np.testing.assert_array_equal(chosen.images, split.images[[7, 3, 7]])
    assert chosen.labels.tolist() == [7, 3, 7]
    assert chosen.source.subset == "some"
    assert chosen.source.fingerprint == split.source.fingerprint  # of the whole split
    assert split.source.subset == "all"  # untouched
    assert split.first(5).labels.tolist() == [0, 1, 2, 3, 4]
    assert split.first(5).source.subset == "first-5"
    for count in (20, 21):
        assert split.first(count).source.subset == "all"
        assert len(split.first(count)) == 20


@pytest.mark.parametrize("count", [0, -1])
def test_first_refuses(folder: Path, count: int) -> None:
    with pytest.raises(DataError, match=f"found {count}, expected 1 or more"):
        read_split(folder, "test").first(count)


@pytest.mark.parametrize(
    ("first", "count", "indices", "subset"),
    [
        (3, 4, [3, 4, 5, 6], "3-to-6"),
        (17, 10, [17, 18, 19], "17-to-19"),
        (19, 1, [19], "19-to-19"),
        (0, 2, [0, 1], "first-2"),
        (0, 20, list(range(20)), "all"),
    ],
)
def test_span(folder: Path, first: int, count: int, indices: list[int], subset: str) -> None:
    split = read_split(folder, "test")
    found = split.span(first, count)
    np.testing.assert_array_equal(found.images, split.images[indices])
    np.testing.assert_array_equal(found.labels, split.labels[indices])
    assert found.source.subset == subset


@pytest.mark.parametrize(
    ("first", "count", "message"),
    [
        (20, 1, "there is no image 20: found 20 images, expected a number from 0 to 19"),
        (-1, 1, "there is no image -1: found 20 images"),
        (3, 0, "found 0, expected 1 or more"),
    ],
)
def test_span_refuses(folder: Path, first: int, count: int, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_split(folder, "test").span(first, count)


def test_perf_subset_of_the_demo_is_golden(demo_assets: Assets) -> None:
    split = read_split(demo_assets.data_dir, "test")
    subset = split.perf_subset()
    indices = perf_indices(split.labels)
    assert subset.source.subset == "mlperf-perf"
    np.testing.assert_array_equal(subset.labels, split.labels[indices])
    assert hashlib.sha256(indices.astype("<i8").tobytes()).hexdigest() == PERF_OF_DEMO


PERF_OF_DEMO = "f92fd4eff143b7922d81b850f194241cf3e4d92cd547aa02ff351908c9fd3d2e"


@settings(derandomize=True, max_examples=25)
@given(counts=st.lists(st.integers(20, 60), min_size=10, max_size=10), seed=st.integers(0, 1000))
def test_perf_subset_is_stratified_and_unique(counts: list[int], seed: int) -> None:
    labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(10), counts))
    indices = perf_indices(labels)
    assert len(set(indices.tolist())) == 200
    assert np.bincount(labels[indices]).tolist() == [20] * 10
    np.testing.assert_array_equal(indices, perf_indices(labels))


def test_perf_subset_needs_twenty_of_each() -> None:
    labels = np.repeat(np.arange(10), [20] * 7 + [19, 20, 20])
    with pytest.raises(DataError, match=r"class 7 .*found 19, expected at least 20"):
        perf_indices(labels)


@pytest.mark.real
def test_perf_subset_is_the_official_one(real_assets: Path) -> None:
    split = read_split(real_assets, "test")
    official = np.load(real_assets / "mlperf-tiny" / "perf_samples_idxs.npy")
    np.testing.assert_array_equal(perf_indices(split.labels), official)
    with (real_assets / "mlperf-tiny" / "y_labels.csv").open(newline="") as stream:
        truth = [int(row[2]) for row in csv.reader(stream)]
    assert split.perf_subset().labels.tolist() == truth


# --- preprocessing and noise ---


def test_preprocessing_changes_no_value() -> None:
    images = np.arange(256, dtype=np.uint8).reshape(1, 8, 32, 1)
    fed = preprocess(images)
    assert fed.dtype == np.float32
    assert fed.ravel().tolist() == [float(value) for value in range(256)]


def test_random_images_are_seeded() -> None:
    one, two, other = random_images(3), random_images(3), random_images(3, seed=1)
    np.testing.assert_array_equal(one.images, two.images)
    assert one.source == two.source
    assert one.images.shape == (3, 32, 32, 3)
    assert other.source.fingerprint != one.source.fingerprint
    assert one.source.dataset == "random images"


# --- folders that are none ---


def test_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    many = tmp_path / "many"
    many.mkdir()
    for i in range(6):
        (many / f"photo{i}.jpg").touch()
    for name, found in (
        ("nothing", "it does not exist"),
        ("file", "it is a file"),
        ("empty", "an empty folder"),
        ("many", r"a folder with photo0\.jpg, photo1\.jpg, photo2\.jpg, photo3\.jpg, …"),
    ):
        error = assert_refused(tmp_path / name, found)
        assert str(tmp_path / name) in str(error)


def test_folder_with_an_impossible_name(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="File name too long"):
        find(tmp_path / ("n" * 300))


def test_binary_version_of_the_data_set(tmp_path: Path) -> None:
    (tmp_path / "data_batch_1.bin").touch()
    (tmp_path / "test_batch.bin").touch()
    assert_refused(tmp_path, r"the Python version of CIFAR-10")


@pytest.mark.parametrize(("name", "split"), [("data_batch_3", "train"), ("batches.meta", "test")])
def test_missing_file_is_named(folder: Path, name: str, split: str) -> None:
    (folder / name).unlink()
    assert_refused(folder, name, split)


# --- files that are none ---


@pytest.mark.parametrize("length", [0, 1, 2, 20, 100, 30_000])
def test_truncated_batch(folder: Path, length: int) -> None:
    path = folder / "test_batch"
    path.write_bytes(path.read_bytes()[:length])
    assert_refused(folder, "test_batch is no CIFAR-10 file")


@pytest.mark.parametrize("content", [b"garbage", b"\x80\x02garbage", b"PK\x03\x04", b"<html>", bytes(3073)])
def test_no_pickle(folder: Path, content: bytes) -> None:
    (folder / "test_batch").write_bytes(content)
    assert_refused(folder, "test_batch is no CIFAR-10 file")


@settings(derandomize=True, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=4))
def test_any_altered_bytes_are_refused_or_read(tmp_path: Path, changes: list[tuple[float, int]]) -> None:
    """Whatever happens to the bytes around the pixels: a valid split, or an error of ours."""
    folder = tmp_path / "data"
    if not folder.exists():
        cifar_folder(folder, per_class=1)
    original = pickle.dumps(batch(noise(10, 5), list(range(10))), protocol=4)
    frame = [i for i in range(len(original)) if i < 250 or i > len(original) - 60]
    content = bytearray(original)
    for where, value in changes:
        content[frame[int(where * len(frame))]] = value
    (folder / "test_batch").write_bytes(content)
    try:
        split = read_split(folder, "test")
    except Resnet8Error:
        return
    assert split.images.shape == (len(split), 32, 32, 3)
    assert set(split.labels.tolist()) <= set(range(10))


def with_data(data: object) -> Callable[[dict[bytes, Any]], object]:
    return lambda content: {**content, b"data": data}


def with_labels(labels: object) -> Callable[[dict[bytes, Any]], object]:
    return lambda content: {**content, b"labels": labels}


RIGHT = list(range(10)) * 2


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda content: [content], "a pickled list"),
        (lambda content: {}, "no array «data»"),
        (lambda content: {b"data": content[b"data"]}, "no list «labels»"),
        (lambda content: {"data": content[b"data"], "labels": RIGHT}, "no array «data»"),  # text keys
        (with_data(None), "no array «data»"),
        (with_data(np.zeros((20, 3072), np.int8)), r"data of int8 \(20, 3072\)"),
        (with_data(np.zeros((20, 3072), np.float32)), "data of float32"),
        (with_data(np.zeros((20, 3071), np.uint8)), r"data of uint8 \(20, 3071\)"),
        (with_data(np.zeros((20, 32, 32, 3), np.uint8)), r"\(20, 32, 32, 3\)"),
        (with_data(np.zeros(3072, np.uint8)), r"\(3072,\)"),
        (with_data(np.uint8(3)), r"no array|numpy\._core\.multiarray\.scalar"),
        (with_data(np.zeros((0, 3072), np.uint8)), "20 labels for 0 images"),
        (with_labels(RIGHT[:-1]), "19 labels for 20 images"),
        (with_labels([]), "0 labels for 20 images"),
        (with_labels("0123456789" * 2), "no list «labels»"),
        (with_labels(np.array(RIGHT)), "no list «labels»"),
    ],
)
def test_batch_of_another_form(folder: Path, change: Callable[[dict[bytes, Any]], object], found: str) -> None:
    put(folder / "test_batch", change(batch(noise(20, 5), RIGHT)))
    assert_refused(folder, found)


def test_batch_without_images(folder: Path) -> None:
    put(folder / "test_batch", {b"data": np.zeros((0, 3072), np.uint8), b"labels": []})
    assert_refused(folder, "0 labels for 0 images")


@pytest.mark.parametrize(
    "label", [10, -1, 255, 3.0, "3", None, True, np.array([1, 2]), 2**70], ids=lambda label: type(label).__name__
)
@pytest.mark.parametrize("place", [0, 5, 19])
def test_label_out_of_range(folder: Path, label: object, place: int) -> None:
    """It is named by its place, whatever it is: 3.0 and True equal a right label before them, an array equals none."""
    labels: list[object] = [3 if i % 2 else 1 for i in range(20)]
    labels[place] = label
    put(folder / "data_batch_4", batch(noise(20, 5), labels))
    assert_refused(folder, rf"data_batch_4: label {place} is out of range.*expected an integer from 0 to 9", "train")


@pytest.mark.parametrize(
    "names",
    [None, [], list(CLASS_NAMES)[:9], [*CLASS_NAMES, "cloud"], [1] * 10, "abcdefghij"],
    ids=["none", "empty", "nine", "eleven", "numbers", "text"],
)
def test_class_names(folder: Path, names: object) -> None:
    put(folder / "batches.meta", {b"label_names": names})
    assert_refused(folder, "batches.meta is no CIFAR-10 file.*label_names")


def test_class_names_as_text(folder: Path) -> None:
    put(folder / "batches.meta", {b"label_names": list(CLASS_NAMES)})
    assert read_split(folder, "test").class_names == CLASS_NAMES


# --- pickles that would do something ---


class Calls:
    """Pickles as a call."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("name", ["test_batch", "batches.meta"])
def test_a_pickle_that_calls_is_refused_before_it_runs(folder: Path, tmp_path: Path, protocol: int, name: str) -> None:
    witness = tmp_path / "it ran"
    armed = pickle.dumps({"data": Calls(os.system, f"touch '{witness}'")}, protocol)
    pickle.loads(armed)
    assert witness.exists()  # it is a live round
    witness.unlink()
    (folder / name).write_bytes(armed)
    error = assert_refused(folder, rf"{name}: the pickle was refused before it could run.*posix\.system")
    assert "do not trust" in str(error)
    assert not witness.exists()


@pytest.mark.parametrize(
    "module_and_name",
    [
        "builtins\neval",
        "__builtin__\neval",
        "builtins\ngetattr",
        "numpy\nload",
        "numpy\nfromfile",
        "numpy\nndarray.tofile",
        "numpy.core.multiarray\nfromfile",
        "numpy._core.multiarray\nscalar",
        "numpy.testing._private.utils\nrunstring",
        "copyreg\n_reconstructor",
        "resnet8.files\nwrite_bytes",
    ],
)
def test_only_the_array_constructors_are_admitted(folder: Path, module_and_name: str) -> None:
    (folder / "test_batch").write_bytes(b"\x80\x02c" + module_and_name.encode() + b"\n.")
    module, name = module_and_name.split("\n")
    assert_refused(folder, rf"it imports {module}\.{name}")


def test_dotted_names_are_no_way_around(folder: Path) -> None:
    """From protocol 4 a name may be a path of attributes."""
    program = b"\x80\x04\x8c\x05numpy\x8c\x0endarray.tofile\x93."
    assert [opcode.name for opcode, _, _ in pickletools.genops(program)][-2] == "STACK_GLOBAL"
    (folder / "test_batch").write_bytes(program)
    assert_refused(folder, r"it imports numpy\.ndarray\.tofile")


def test_object_arrays_are_no_images(folder: Path) -> None:
    data = np.empty((20, 3072), object)
    put(folder / "test_batch", {b"data": data, b"labels": RIGHT})
    assert_refused(folder, "data of object")


def test_split_is_compared_by_identity(folder: Path) -> None:
    split: Split = read_split(folder, "test")
    assert split == split  # noqa: PLR0124 - arrays have no truth value
    assert split != read_split(folder, "test")


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"\x80\x02}r\xff\xff\xff\xff.", "no array «data»"),  # LONG_BINPUT: place 4,294,967,295 of the memo
        (b"\x80\x05\x96\x00\x00\x00\x00\x10\x00\x00\x00.", "no complete pickle"),  # BYTEARRAY8 of 64 GB
        (b"\x80\x05\x8e\x00\x00\x00\x00\x10\x00\x00\x00.", "no complete pickle"),  # BINBYTES8 of 64 GB
    ],
)
def test_a_pickle_that_asks_for_more_room_than_there_is(tmp_path: Path, content: bytes, found: str) -> None:
    folder = cifar_folder(tmp_path / "cifar")
    (folder / "test_batch").write_bytes(content)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(DataError, match=found):
        read_split(folder, "test")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < before + 2**18, "more than 256 MB were touched"
