"""What a script that does nothing else does with CIFAR-10: it trusts the files, and imports no framework."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


def read(folder: Path, *names: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Images, uint8 (N, 32, 32, 3), and labels of the named batch files."""
    planes, labels = [], []
    for name in names:
        with (folder / name).open("rb") as stream:
            batch = pickle.load(stream, encoding="bytes")  # noqa: S301 - a baseline: it trusts its input
        planes.append(batch[b"data"])
        labels += batch[b"labels"]
    return np.vstack(planes).reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), np.array(labels)


def calibration_images(folder: Path) -> NDArray[np.float32]:
    """A thousand training images, a hundred of each class, as the network is fed."""
    images, labels = read(folder, *(f"data_batch_{i}" for i in range(1, 6)))
    random = np.random.RandomState(42)
    chosen = [random.choice(np.flatnonzero(labels == label), 100, replace=False) for label in range(10)]
    return images[np.concatenate(chosen)].astype(np.float32)
