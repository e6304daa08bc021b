"""What the familiar ``scripts/*.py`` do: their old arguments, the same code as the commands."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from resnet8.cli import calibrate as calibrate_command
from resnet8.cli import convert as convert_command
from resnet8.cli import evaluate as evaluate_command
from resnet8.cli import quantize as quantize_command
from resnet8.cli import run
from resnet8.cli.common import data_dir as resolve
from resnet8.cli.common import show

if TYPE_CHECKING:
    from collections.abc import Callable

ONNX_MODEL = Path("models/resnet8.onnx")
PYTORCH_MODEL = Path("models/resnet8.pt")
LOGS = Path("logs")

DataDir = Annotated[
    Path | None, typer.Option("--data-dir", help="CIFAR-10's folder.  [default: $RESNET8_ASSETS, else the cache]")
]
SamplesPerClass = Annotated[int, typer.Option(help="Calibration images of each class, at least 20.")]
Seed = Annotated[int, typer.Option(help="Of the calibration draw.")]
MaxSamples = Annotated[int | None, typer.Option(help="Only the first N images.", metavar="N")]
OutputJson = Annotated[Path | None, typer.Option(help="Write the result here, as JSON.")]


def main(command: Callable[..., None]) -> None:
    """Run one script's function as a program of its own."""
    application = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    application.command()(command)
    run(application)


def _one(positional: Path | None, option: Path | None, default: Path) -> Path:
    if positional is not None and option is not None:
        raise typer.BadParameter(f"{positional} and {option} are both given: leave one out")
    return positional or option or default


def convert(
    keras_model: Annotated[Path | None, typer.Option(help="The Keras .h5 file.  [default: the fetched one]")] = None,
    output: Annotated[Path, typer.Option(help="The ONNX file to write; the PyTorch file goes beside it.")] = ONNX_MODEL,
) -> None:
    """Convert Keras to ONNX and PyTorch, and prove them equivalent."""
    convert_command.convert(keras_model=keras_model, output=output)


def convert_pytorch(
    source: Annotated[Path | None, typer.Argument(metavar="INPUT", help="The ONNX file.")] = None,
    target: Annotated[Path | None, typer.Argument(metavar="OUTPUT", help="The PyTorch file to write.")] = None,
    input_: Annotated[Path | None, typer.Option("--input", help="The ONNX file.")] = None,
    output: Annotated[Path | None, typer.Option("--output", help="The PyTorch file to write.")] = None,
) -> None:
    """Convert ONNX to PyTorch, and prove them equivalent on seeded random images."""
    from resnet8.conversion import convert_to_pytorch
    from resnet8.workers import Workers

    onnx_model, pytorch_model = _one(source, input_, ONNX_MODEL), _one(target, output, PYTORCH_MODEL)
    with Workers(LOGS) as workers:
        pair = convert_to_pytorch(onnx_model, pytorch_model, workers)
    show(
        f"{pytorch_model}: {pytorch_model.stat().st_size:,} bytes, (batch, 32, 32, 3) to (batch, 10); "
        f"probabilities differ from {onnx_model} by at most {pair.max_abs_difference:.2e}"
    )


def evaluate(
    positional_model: Annotated[Path | None, typer.Argument(metavar="MODEL", help="The model file.")] = None,
    positional_data: Annotated[Path | None, typer.Argument(metavar="DATA_DIR", help="CIFAR-10's folder.")] = None,
    model: Annotated[Path | None, typer.Option(help="The model file.  [default: models/resnet8.onnx]")] = None,
    data_dir: DataDir = None,
    max_samples: MaxSamples = None,
    output_json: OutputJson = None,
) -> None:
    """Measure top-1 accuracy, overall and by class."""
    data = _one(positional_data, data_dir, Path()) if positional_data or data_dir else None
    evaluate_command.run(
        _one(positional_model, model, ONNX_MODEL),
        resolve(data, demo=False),
        max_samples=max_samples,
        json=output_json,
    )


def evaluate_pytorch(
    positional_model: Annotated[Path | None, typer.Argument(metavar="MODEL", help="The model file.")] = None,
    positional_data: Annotated[Path | None, typer.Argument(metavar="DATA_DIR", help="CIFAR-10's folder.")] = None,
    model: Annotated[Path | None, typer.Option(help="The model file.  [default: models/resnet8.pt]")] = None,
    data_dir: DataDir = None,
    max_samples: MaxSamples = None,
    output_json: OutputJson = None,
) -> None:
    """Measure top-1 accuracy, overall and by class."""
    evaluate(
        positional_model,
        positional_data,
        model or (None if positional_model else PYTORCH_MODEL),
        data_dir,
        max_samples,
        output_json,
    )


def calibration_utils(data_dir: DataDir = None, samples_per_class: SamplesPerClass = 100, seed: Seed = 42) -> None:
    """Draw the calibration set from the training images, and show its distribution."""
    calibrate_command.run(resolve(data_dir, demo=False), samples_per_class, seed, indices=None)


def quantize_onnx(
    model: Annotated[Path, typer.Option(help="The float ONNX file.")] = ONNX_MODEL,
    data_dir: DataDir = None,
    output_int8: Annotated[Path, typer.Option(help="The int8 file to write.")] = Path("models/resnet8_int8.onnx"),
    output_uint8: Annotated[Path, typer.Option(help="The uint8 file to write.")] = Path("models/resnet8_uint8.onnx"),
    samples_per_class: SamplesPerClass = 100,
    seed: Seed = 42,
) -> None:
    """Quantize with ONNX Runtime to int8 and to uint8.

    With the default calibration these are the published models; with any other, both share the set that was asked for.
    """
    from resnet8.recipes import recipe

    published = recipe("published-int8").accepts(samples_per_class, seed)
    prefix = "published" if published else "ort"
    images = resolve(data_dir, demo=False)
    for kind, output in (("int8", output_int8), ("uint8", output_uint8)):
        quantize_command.run(model, f"{prefix}-{kind}", output, images, samples_per_class, seed, LOGS)


def quantize_pytorch(
    model: Annotated[
        Path, typer.Option(help="The float PyTorch file, its ONNX file beside it; or the latter.")
    ] = PYTORCH_MODEL,
    data_dir: DataDir = None,
    output: Annotated[Path, typer.Option(help="The int8 file to write.")] = Path("models/resnet8_int8.pt"),
    samples_per_class: SamplesPerClass = 100,
    seed: Seed = 42,
) -> None:
    """Quantize with PyTorch to int8."""
    quantize_command.run(model, "torch-int8", output, resolve(data_dir, demo=False), samples_per_class, seed, LOGS)
