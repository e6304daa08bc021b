"""The calibration set: «python scripts/calibration_utils.py --help», or import load_calibration_data."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from resnet8.calibration import DEFAULT_PER_CLASS, DEFAULT_SEED, calibrate
from resnet8.cifar10 import preprocess
from resnet8.cli.scripts import calibration_utils, main

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def load_calibration_data(
    data_dir: str | Path, samples_per_class: int = DEFAULT_PER_CLASS, seed: int = DEFAULT_SEED
) -> NDArray[np.float32]:
    """The calibration images as the network is fed, float32 (10 x samples_per_class, 32, 32, 3), 0 to 255."""
    images, _ = calibrate(Path(data_dir), samples_per_class, seed)
    return preprocess(images.images)


if __name__ == "__main__":
    main(calibration_utils)
