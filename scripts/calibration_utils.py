"""The calibration set: «python scripts/calibration_utils.py --help», or import load_calibration_data."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from resnet8.data.calibration import calibrate
from resnet8.data.cifar10 import preprocess
from resnet8.facts import DEFAULT_PER_CLASS, DEFAULT_SEED

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def load_calibration_data(
    data_dir: str | Path, samples_per_class: int = DEFAULT_PER_CLASS, seed: int = DEFAULT_SEED
) -> tuple[NDArray[np.float32], NDArray[np.int64], list[str]]:
    """The calibration images as the network is fed, their labels, and the names of the classes.

    Args:
        data_dir: The folder with CIFAR-10's batch files, or the one above it.
        samples_per_class: Training images of each class, at least 20.
        seed: Of the draw; 0 to 4294967295.

    Returns:
        The images, float32 (N, 32, 32, 3), NHWC, RGB, raw pixels 0 to 255, N = 10 x samples_per_class, grouped by
        class in class order; their labels, int64 (N,), 0 to 9; and the ten names that the labels index.

    Raises:
        DataError: for missing or damaged data, too few samples per class, or a seed out of range.
        StorageError: when a file cannot be read.
    """
    images, _ = calibrate(Path(data_dir), samples_per_class, seed)
    return preprocess(images.images), images.labels, list(images.class_names)


if __name__ == "__main__":
    from resnet8.cli.scripts import calibration_utils, main

    main(calibration_utils)
