"""Which training images set the quantization ranges: seeded, stratified, verified.

Static quantization estimates the range of every activation on a calibration set. It comes from the training batches;
the test images stay unseen.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from resnet8.data.cifar10 import Split, read_split
from resnet8.errors import DataError
from resnet8.facts import CLASSES, DEFAULT_PER_CLASS, DEFAULT_SEED
from resnet8.results import Calibration

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

MINIMUM_PER_CLASS = 20

DRAWS = {"first": 0, "second": 1}
"""How many whole draws are thrown away before the one that is used (:func:`draw`)."""


def draw(labels: NDArray[np.int64], samples_per_class: int, seed: int, method: str = "first") -> NDArray[np.int64]:
    """Indices of a stratified sample, int64 (10 x samples_per_class,), grouped by class in class order.

    ``numpy.random.RandomState(seed)`` (the generator behind ``numpy.random.seed``), then per class
    ``choice(indices_of_class, samples_per_class, replace=False)``: the draw of the published scripts, to the image.
    ``method="second"`` goes on without reseeding and takes the next such draw, as the published scripts did for uint8.

    Raises:
        DataError: for fewer than 20 samples per class, or a class with too few images.
    """
    if samples_per_class < MINIMUM_PER_CLASS:
        raise DataError(
            "too few calibration samples per class",
            found=str(samples_per_class),
            expected=f"at least {MINIMUM_PER_CLASS}",
            remedy="ask for more of each class",
        )
    if not 0 <= seed < 2**32:
        raise DataError("the seed is out of range", found=str(seed), expected="0 to 4294967295")
    members = [np.flatnonzero(labels == label) for label in range(CLASSES)]
    smallest = min(range(CLASSES), key=lambda label: len(members[label]))
    if len(members[smallest]) < samples_per_class:
        raise DataError(
            f"too few training images of class {smallest} to calibrate with {samples_per_class} per class",
            found=str(len(members[smallest])),
            expected=f"at least {samples_per_class}",
            remedy="ask for fewer of each class",
        )
    # The legacy generator on purpose: its stream is frozen by NumPy's policy, and it is the published one.
    state = np.random.RandomState(seed)
    for _ in range(DRAWS[method] + 1):
        chosen = [state.choice(indices, samples_per_class, replace=False) for indices in members]
    return np.concatenate(chosen).astype(np.int64)


def calibrate(
    data_dir: Path,
    samples_per_class: int = DEFAULT_PER_CLASS,
    seed: int = DEFAULT_SEED,
    method: str = "first",
) -> tuple[Split, Calibration]:
    """Draw the calibration set from the training batches in ``data_dir``, and verify its distribution.

    Returns:
        The drawn images, in the order drawn, and the record of the draw.

    Raises:
        DataError: as :func:`draw` and :func:`resnet8.data.cifar10.read_split`.

    Example:
        >>> images, record = resnet8.calibrate(data, samples_per_class=20, seed=7)
        >>> len(images), record.per_class["zero"], len(set(record.indices))
        (200, 20, 200)
    """
    return sample(read_split(data_dir, "train"), samples_per_class, seed, method)


def sample(train: Split, samples_per_class: int, seed: int, method: str) -> tuple[Split, Calibration]:
    """:func:`calibrate` on a training split that was read already."""
    indices = draw(train.labels, samples_per_class, seed, method)
    chosen = train.select(indices, "calibration")
    counts = np.bincount(chosen.labels, minlength=CLASSES)
    if len(np.unique(indices)) != len(indices) or not np.all(counts == samples_per_class):
        raise DataError(
            "the calibration set is not stratified",
            found=f"{counts.tolist()} images per class, {len(indices) - len(np.unique(indices))} of them twice",
            expected=f"{samples_per_class} different images of each class",
        )
    return chosen, Calibration(
        data=chosen.source,
        method=method,
        seed=seed,
        samples_per_class=samples_per_class,
        per_class={name: int(count) for name, count in zip(chosen.class_names, counts, strict=True)},
        indices=tuple(indices.tolist()),
    )


def held_out(train: Split, excluded: NDArray[np.int64], count: int | None, default: int, seed: int) -> Split:
    """Training images that calibrate nothing, to choose settings on: a seeded draw, in file order.

    ``numpy.random.RandomState(seed)``, ``choice(indices that are not excluded, count, replace=False)``.

    Args:
        train: The training images.
        excluded: Indices of the calibration images.
        count: How many.
        default: How many when ``count`` is left out, or all that there are where these are fewer.
        seed: Of the draw.

    Raises:
        DataError: when there are not that many.
    """
    left = np.setdiff1d(np.arange(len(train)), excluded)
    wanted = min(default, len(left)) if count is None else count
    if not 1 <= wanted <= len(left):
        raise DataError(
            "the number of held-out images is not usable",
            found=str(wanted),
            expected=f"1 to {len(left)}: the training images that do not calibrate",
            remedy="ask for other numbers of held-out or calibration images",
        )
    if not 0 <= seed < 2**32:
        raise DataError("the seed is out of range", found=str(seed), expected="0 to 4294967295")
    chosen = np.random.RandomState(seed).choice(left, wanted, replace=False)
    return train.select(np.sort(chosen).astype(np.int64), f"held-out-{wanted}-seed-{seed}")
