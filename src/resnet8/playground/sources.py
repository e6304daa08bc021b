"""Where the playground finds models and images: a folder that the commands wrote, or the embedded demo."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from resnet8.data.assets import ENVIRONMENT_VARIABLE as ASSETS_VARIABLE
from resnet8.data.assets import cache_dir, fetch
from resnet8.data.cifar10 import find, perf_indices, read_split
from resnet8.data.demo import materialize_models
from resnet8.errors import DataError, Resnet8Error, StorageError
from resnet8.files import reading

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from resnet8.data.cifar10 import Split
    from resnet8.results import DataSource, Evaluation

OFFICIAL = "the official 200 (MLPerf Tiny)"
"""Name of the 200-image performance subset among samples."""

FOLDER_VARIABLE = "RESNET8_PLAYGROUND"
"""Names the folder that the playground opens first."""


def open_demo() -> Path:
    """The folder with the embedded demo's models, in the cache; with its images, nothing is downloaded or converted.

    Raises:
        MissingExtraError: when scikit-learn, which brings the images along, is not installed.
        StorageError: when the cache cannot be written.
    """
    fetch(demo=True)
    return materialize_models(cache_dir() / "demo-models")


def default_folder() -> Path:
    """What is opened first: the folder that ``RESNET8_PLAYGROUND`` names, else the current one."""
    return Path(os.environ.get(FOLDER_VARIABLE) or Path.cwd())


def named(text: str) -> Path:
    """The folder that a text names; ``~`` is the home folder."""
    path = Path(text.strip())
    try:
        return path.expanduser()
    except RuntimeError:  # of a user who has none
        return path


def require_folder(folder: Path) -> None:
    """Refuse a folder that is none.

    Raises:
        StorageError: when it does not exist, is a file, cannot be read, or its name is no text.
    """
    if str(folder) != os.fsencode(folder).decode(errors="replace"):
        raise StorageError(
            f"the folder {str(folder)!r} cannot be shown", found="a name that is not UTF-8", remedy="rename the folder"
        )
    with reading(folder):
        if not folder.is_dir():
            raise StorageError(
                f"there is no folder {folder}",
                found="it is a file" if folder.exists() else "it does not exist",
                expected="a folder with models/ and results/, or with model files",
                remedy="give the folder that «resnet8 reproduce» wrote to, or open the demo",
            )


def fingerprints(known: tuple[Evaluation, ...]) -> frozenset[str]:
    """The fingerprints of the whole test splits in evaluations (:func:`resnet8.playground.catalogue.evaluations`)."""
    return frozenset(one.data_fingerprint for one in known if one.data.subset == "all")


def images_of(folder: Path, wanted: frozenset[str] = frozenset()) -> Split:
    """The test images that the models in ``folder`` were evaluated on; where that is not known, the first there are.

    Looked for in ``folder`` and its ``data``, in the folder that ``RESNET8_ASSETS`` names, in ``data`` of the current
    folder, in the cache, and in the embedded demo.

    Args:
        folder: The folder of the models.
        wanted: Fingerprints of the images that they were evaluated on (:func:`fingerprints`).

    Raises:
        DataError: when there are no images.
    """
    first = None
    for place in _places(folder):
        with suppress(Resnet8Error):  # no images there, or damaged ones
            split = read_split(find(place), "test")
            if not wanted or split.source.fingerprint in wanted:
                return split
            first = first or split
    if first is None:
        raise DataError(
            f"there are no test images for the models in {folder}",
            found=f"none in {folder}, its data/, {ASSETS_VARIABLE}, ./data, the cache and the demo",
            expected="CIFAR-10's batch files",
            remedy=f"run «resnet8 fetch», or set {ASSETS_VARIABLE} to a folder that has them",
        )
    return first


def _places(folder: Path) -> Iterator[Path]:
    yield folder / "data"
    yield folder
    if named := os.environ.get(ASSETS_VARIABLE):
        yield Path(named)
    yield Path("data")
    yield cache_dir()
    with suppress(Resnet8Error):  # scikit-learn is not installed
        yield fetch(demo=True).data_dir


@dataclass(frozen=True, eq=False)
class Sample:
    """Some of the test images.

    Attributes:
        split: They and their labels.
        indices: Their numbers in the test set, int64 (N,).
    """

    split: Split
    indices: NDArray[np.int64]

    @property
    def source(self) -> DataSource:
        """Which they are, as a value: equal for the same images."""
        return self.split.source

    def __len__(self) -> int:
        return len(self.indices)

    def __str__(self) -> str:
        """``200 images``, and which."""
        if self.source.subset == "mlperf-perf":
            return "the official 200 images"
        return f"{len(self):,} images" + (f", from {self.indices[0]} on" if self.indices[0] else "")


def sample(split: Split, first: int, count: int) -> Sample:
    """The ``count`` test images from ``first`` on; fewer, where there are not that many.

    Raises:
        DataError: when there are none.
    """
    part = split.span(first, count)
    return Sample(part, np.arange(first, first + len(part)))


def official(split: Split) -> Sample:
    """The official 200-image performance subset (:func:`resnet8.data.cifar10.perf_indices`).

    Raises:
        DataError: when a class has too few images for it.
    """
    return Sample(split.perf_subset(), perf_indices(split.labels))


def nearest(candidates: NDArray[np.int64], index: int) -> int:
    """The first of ``candidates``, ascending, that is not before ``index``; the last one where all are."""
    return int(candidates[min(int(np.searchsorted(candidates, index)), len(candidates) - 1)])


def neighbour(candidates: NDArray[np.int64], index: int, by: int) -> int:
    """The one of ``candidates``, ascending, ``by`` places behind ``index``; the first or last where there is none."""
    place = int(np.searchsorted(candidates, index)) + by
    return int(candidates[min(max(place, 0), len(candidates) - 1)])
