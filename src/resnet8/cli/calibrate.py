"""``resnet8 calibrate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import resnet8
from resnet8.cli.common import DataDir, Demo, show
from resnet8.cli.common import data_dir as resolve


def calibrate(
    data_dir: DataDir = None,
    samples_per_class: Annotated[int, typer.Option(help="Images of each class, at least 20.")] = 100,
    seed: Annotated[int, typer.Option(help="Of the draw.")] = 42,
    indices: Annotated[
        Path | None, typer.Option(help="Write the drawn training indices here (.npy, int64).  [default: nowhere]")
    ] = None,
    demo: Demo = False,
) -> None:
    """Draw the calibration set from the training images, and show its distribution."""
    import numpy as np

    from resnet8.report import tables, text
    from resnet8.results import save_array

    images, record = resnet8.calibrate(resolve(data_dir, demo=demo), samples_per_class, seed)
    if indices is not None:
        save_array(np.array(record.indices, np.int64), indices)
    show(text.table(tables.calibration(record)))
    pixels = images.images
    show(
        f"{len(images):,} images, stratified; fed as float32, raw pixels {pixels.min()} to {pixels.max()}, "
        f"mean {pixels.mean():.2f}; first indices {', '.join(map(str, record.indices[:5]))} …"
    )
