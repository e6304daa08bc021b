"""``resnet8 convert``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import resnet8
from resnet8.cli.common import AssetsDir, Demo, Logs, progress, require, show


def convert(
    keras_model: Annotated[
        Path | None, typer.Option(help="The Keras .h5 file.  [default: pretrainedResnet.h5 of --assets-dir]")
    ] = None,
    output: Annotated[Path, typer.Option(help="The ONNX file to write.")] = Path("models/resnet8.onnx"),
    pytorch_output: Annotated[
        Path | None, typer.Option(help="The PyTorch file to write.  [default: as --output, with .pt]")
    ] = None,
    certificate: Annotated[
        Path | None,
        typer.Option(help="The parity certificate to write.  [default: as --output, with .parity.json]"),
    ] = None,
    data_dir: Annotated[
        Path | None,
        typer.Option(help="Folder with CIFAR-10's batch files, or the one above it.  [default: that of --assets-dir]"),
    ] = None,
    assets_dir: AssetsDir = None,
    logs: Logs = Path("logs"),
    demo: Demo = False,
) -> None:
    """Convert Keras to ONNX to PyTorch, and prove the three equivalent on every test image.

    Without data, 1,000 seeded random images take their place, and the certificate says so.
    """
    from resnet8.errors import DataError, DownloadError
    from resnet8.files import read_bytes
    from resnet8.report import text

    require("keras", "torch")
    if keras_model is None or demo:
        found = resnet8.fetch(assets_dir, demo=demo, download=False)
        keras_model, data_dir = found.keras_model, data_dir if data_dir and not demo else found.data_dir
    elif data_dir is None:
        try:
            data_dir = resnet8.fetch(assets_dir, download=False).data_dir
        except (DataError, DownloadError):
            if assets_dir is not None:
                raise
    read_bytes(keras_model)  # a missing file is no reason to start TensorFlow
    with resnet8.Workers(logs) as workers, progress() as step:
        conversion = resnet8.convert(
            keras_model,
            workers,
            onnx_model=output,
            pytorch_model=pytorch_output or output.with_suffix(".pt"),
            data_dir=data_dir,
            step=step,
        )
    conversion.save(certificate or output.with_suffix(".parity.json"))
    conversion.require()
    show(text.parity(conversion.parity))
    for model in conversion.parity.models.values():
        show(f"{model.path}: {model.size_bytes:,} bytes")
