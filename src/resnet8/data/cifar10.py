"""The one reader of CIFAR-10 in its Python form: verify, decode, choose a subset.

The batches are Python 2 pickles of a dictionary with ``data`` (uint8, N x 3072: red, green, blue planes of 32 x 32) and
``labels`` (N integers), by the description on the data set's home page. A pickle can name any function to call, so they
are read by an unpickler that admits the NumPy array constructors and nothing else.
"""

from __future__ import annotations

import hashlib
import io
import pickle
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from resnet8.errors import DataError
from resnet8.facts import CLASS_NAMES, CLASSES, IMAGE_SHAPE, VALUES_PER_IMAGE
from resnet8.files import read_bytes, reading
from resnet8.results import DataSource

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

FOLDER = "cifar-10-batches-py"
META = "batches.meta"
SPLIT_FILES = {"train": tuple(f"data_batch_{i}" for i in range(1, 6)), "test": ("test_batch",)}

MD5 = {
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    "test_batch": "40351d587109b95175f43aff81a1287e",
    "batches.meta": "5ff9c542aee3614f3951f8cda6e48888",
}
"""Published digests of the official files."""

KNOWN_FINGERPRINTS: dict[str, tuple[str, str]] = {
    # SHA-256 of the decoded split (see Split): computed once from files with the digests above.
    "f912919bdea371136f1aa4feed6beeca728015a5f08b1899a29c932a7e30be2b": ("CIFAR-10", "train"),
    "8193b3fbce55bec361cd1b8fd4880cb1649832dc4d6de6da1e7a21847a4843aa": ("CIFAR-10", "test"),
    # The demo's digits (resnet8.data.demo), by the same rule.
    "eca79967f771d6c3daf2f4ad6d83dc70c08d77b3ce2b90aaa24653b0def15241": ("demo digits", "train"),
    "a3483518c64097084b59cd13e0269de5d3c2d363135b7b3bd3b68f95ec37194c": ("demo digits", "test"),
}

OFFICIAL = "CIFAR-10"
UNOFFICIAL = "unofficial"

PERF_SEED = 8108
PERF_PER_CLASS = 20


@dataclass(frozen=True, eq=False)
class Split:
    """Images and labels in memory.

    Attributes:
        images: uint8 (N, 32, 32, 3), NHWC, RGB, 0 to 255.
        labels: int64 (N,), 0 to 9.
        class_names: The ten names, by label.
        source: Where they come from.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    class_names: tuple[str, ...]
    source: DataSource

    def __len__(self) -> int:
        return len(self.labels)

    def select(self, indices: NDArray[np.int64], subset: str) -> Split:
        """The images at ``indices``, in that order, named ``subset``."""
        return replace(
            self,
            images=self.images[indices],
            labels=self.labels[indices],
            source=replace(self.source, subset=subset),
        )

    def first(self, count: int) -> Split:
        """The first ``count`` images (all of them when there are not that many).

        Raises:
            DataError: when ``count`` is not positive.
        """
        if count < 1:
            raise DataError("the number of images is not usable", found=str(count), expected="1 or more")
        return self if count >= len(self) else self.select(np.arange(count), f"first-{count}")

    def span(self, first: int, count: int) -> Split:
        """``count`` images from number ``first`` on, counted from 0; as many as there are, where it is beyond the last.

        Raises:
            DataError: when there is no image ``first``, or ``count`` is not positive.
        """
        if not 0 <= first < len(self):
            raise DataError(
                f"there is no image {first}",
                found=f"{len(self):,} images",
                expected=f"a number from 0 to {len(self) - 1:,}",
                remedy="begin with one of these",
            )
        if first == 0 or count < 1:
            return self.first(count)
        end = min(first + count, len(self))
        return self.select(np.arange(first, end), f"{first}-to-{end - 1}")

    def perf_subset(self) -> Split:
        """The official 200-image performance subset of MLPerf Tiny (:func:`perf_indices`)."""
        return self.select(perf_indices(self.labels), "mlperf-perf")


def perf_indices(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Test indices of MLPerf Tiny's 200-image performance subset, int64 (200,).

    ``numpy.random.default_rng(8108)``; 20 indices of each class in class order by ``choice`` without replacement,
    concatenated, then shuffled. On CIFAR-10's test labels this equals the reference's ``perf_samples_idxs.npy``.

    Raises:
        DataError: when a class has fewer than 20 images.
    """
    generator = np.random.default_rng(PERF_SEED)
    chosen = []
    for label in range(CLASSES):
        members = np.flatnonzero(labels == label)
        if len(members) < PERF_PER_CLASS:
            raise DataError(
                f"too few images of class {label} for the performance subset",
                found=str(len(members)),
                expected=f"at least {PERF_PER_CLASS}",
                remedy="take a number of images instead",
            )
        chosen.append(generator.choice(members, PERF_PER_CLASS, replace=False))
    indices = np.concatenate(chosen)
    generator.shuffle(indices)
    return indices


def preprocess(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """What the network is fed, in calibration and evaluation: raw pixels 0 to 255 as float32, NHWC, not normalised."""
    return images.astype(np.float32)


def find(directory: Path) -> Path:
    """The folder that holds the batch files: ``directory`` itself, or ``cifar-10-batches-py`` in it.

    Raises:
        DataError: when neither holds ``test_batch``.
        StorageError: when they cannot be read.
    """
    with reading(directory):
        for folder in (directory, directory / FOLDER):
            if (folder / "test_batch").is_file():
                return folder
        if not directory.exists():
            found = "it does not exist"
        elif not directory.is_dir():
            found = "it is a file"
        else:
            names = sorted(entry.name for entry in directory.iterdir())
            shown = ", ".join(names[:4]) + (", …" if len(names) > 4 else "")
            found = f"a folder with {shown}" if names else "an empty folder"
    raise DataError(
        f"no CIFAR-10 in {directory}",
        found=found,
        expected=f"test_batch and data_batch_1 to data_batch_5, here or in {FOLDER}/ (the Python version of CIFAR-10)",
        remedy="run «resnet8 fetch», or name the folder that holds them",
    )


def read_split(directory: Path, split: str) -> Split:
    """Read and verify one split.

    Args:
        directory: The folder with the batch files, or the one above it.
        split: ``test`` or ``train`` (the five training batches in file order).

    Raises:
        DataError: for a missing, truncated or malformed file, a label out of range, or a pickle that imports anything
            but NumPy's array constructors.
        StorageError: when a file cannot be read.

    Example:
        >>> test = resnet8.read_split(data, "test")
        >>> test.images.shape, test.images.dtype, test.class_names[int(test.labels[0])] in test.class_names
        ((597, 32, 32, 3), dtype('uint8'), True)
    """
    folder = find(directory)
    for name in (*SPLIT_FILES[split], META):
        if not (folder / name).exists():
            raise DataError(
                f"CIFAR-10 in {folder} is not complete",
                found=f"no {name}",
                expected=f"{', '.join(SPLIT_FILES[split])} and {META}",
                remedy="fetch the official files with «resnet8 fetch»",
            )
    batches = [_read_batch(folder / name) for name in SPLIT_FILES[split]]
    # One buffer of the final layout, filled batch by batch: the planes of a batch are never held twice.
    images = np.empty((sum(len(labels) for _, labels in batches), *IMAGE_SHAPE), np.uint8)
    start = 0
    height, width, channels = IMAGE_SHAPE
    for planes, labels in batches:
        for channel in range(channels):  # one transposing copy would have an inner loop of three bytes
            part = planes.reshape(-1, channels, height, width)[:, channel]
            images[start : start + len(labels), ..., channel] = part
        start += len(labels)
    labels = np.concatenate([labels for _, labels in batches])
    fingerprint = _fingerprint(images, labels)
    name, known_split = KNOWN_FINGERPRINTS.get(fingerprint, (UNOFFICIAL, split))
    class_names = _read_class_names(folder / META)
    known = known_split == split and (name != OFFICIAL or class_names == CLASS_NAMES)
    source = DataSource(
        directory=str(folder),
        dataset=name if known else UNOFFICIAL,
        split=split,
        subset="all",
        fingerprint=fingerprint,
    )
    return Split(images, labels, class_names, source)


def random_images(count: int, seed: int = 0) -> Split:
    """Seeded uniform noise in place of images, for comparing models without data; the labels mean nothing (all 0)."""
    images = np.random.default_rng(seed).integers(0, 256, (count, *IMAGE_SHAPE), np.uint8)
    labels = np.zeros(count, np.int64)
    source = DataSource(
        directory="none",
        dataset="random images",
        split=f"seed {seed}",
        subset="all",
        fingerprint=_fingerprint(images, labels),
    )
    names = tuple(str(label) for label in range(CLASSES))
    return Split(images, labels, names, source)


def _fingerprint(images: NDArray[np.uint8], labels: NDArray[np.int64]) -> str:
    digest = hashlib.sha256(images.data)
    digest.update(labels.astype(np.uint8).data)
    return digest.hexdigest()


class _ArrayUnpickler(pickle._Unpickler):
    """Admits what a pickled NumPy array of numbers needs, by both of its historical module names.

    Python's own form of the unpickler: the compiled one makes room for as many values as a number in the file says; and
    without the instruction for which that one does, too.
    """

    dispatch: ClassVar = {key: step for key, step in pickle._Unpickler.dispatch.items() if key != pickle.BYTEARRAY8[0]}

    ADMITTED = frozenset(
        (module, name)
        for package in ("numpy.core", "numpy._core")
        for module, name in (
            (f"{package}.multiarray", "_reconstruct"),
            ("numpy", "ndarray"),
            ("numpy", "dtype"),
        )
    )

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self.ADMITTED:
            raise DataError(
                "the pickle was refused before it could run",
                found=f"it imports {module}.{name}",
                expected="nothing but NumPy's array constructors",
                remedy="do not trust this file; fetch the official one with «resnet8 fetch»",
            )
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)


def _load(path: Path) -> dict[bytes, Any]:
    data = read_bytes(path)
    try:
        # encoding="bytes": the official files hold Python 2 strings.
        content = _ArrayUnpickler(io.BytesIO(data), encoding="bytes").load()
    except DataError as error:
        raise DataError(
            f"{path}: {error.what}", found=error.found, expected=error.expected, remedy=error.remedy
        ) from error
    except Exception as error:
        raise _damaged(path, f"{len(data):,} bytes that are no complete pickle ({error})") from error
    if not isinstance(content, dict):
        raise _damaged(path, f"a pickled {type(content).__name__}")
    return content


def _damaged(path: Path, found: str) -> DataError:
    return DataError(
        f"{path} is no CIFAR-10 file",
        found=found,
        expected="a batch of the Python version of CIFAR-10",
        remedy="it is truncated or altered: fetch it anew with «resnet8 fetch»",
    )


def _read_batch(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    content = _load(path)
    planes, listed = content.get(b"data"), content.get(b"labels")
    if not isinstance(planes, np.ndarray) or planes.dtype != np.uint8 or planes.shape[1:] != (VALUES_PER_IMAGE,):
        found = f"data of {planes.dtype} {planes.shape}" if isinstance(planes, np.ndarray) else "no array «data»"
        raise _damaged(path, f"{found} (expected uint8, N x {VALUES_PER_IMAGE})")
    if not isinstance(listed, list) or len(listed) != len(planes) or not listed:
        found = f"{len(listed)} labels" if isinstance(listed, list) else "no list «labels»"
        raise _damaged(path, f"{found} for {len(planes)} images")
    wrong = [i for i, label in enumerate(listed) if type(label) is not int or not 0 <= label < CLASSES]
    if wrong:
        raise DataError(
            f"{path}: label {wrong[0]} is out of range",
            found=f"{listed[wrong[0]]!r:.60}",
            expected=f"an integer from 0 to {CLASSES - 1}",
            remedy="fetch the official file with «resnet8 fetch»",
        )
    return planes, np.array(listed, np.int64)


def _read_class_names(path: Path) -> tuple[str, ...]:
    names = _load(path).get(b"label_names")
    if not isinstance(names, list) or len(names) != CLASSES or not all(isinstance(name, bytes | str) for name in names):
        raise _damaged(path, f"«label_names» {names!r:.60}")
    return tuple(name.decode("ascii", "replace") if isinstance(name, bytes) else name for name in names)
