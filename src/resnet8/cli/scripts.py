"""What the familiar ``scripts/*.py`` do: their old arguments, the same code as the commands."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import resnet8
from resnet8.cli import HELP, execute
from resnet8.cli import calibrate as calibrate_command
from resnet8.cli import convert as convert_command
from resnet8.cli import evaluate as evaluate_command
from resnet8.cli import quantize as quantize_command
from resnet8.cli.common import DataDir, MaxSamples, SamplesPerClass, Seed, progress, require, say, show
from resnet8.cli.common import data_dir as resolve

if TYPE_CHECKING:
    from collections.abc import Callable

    from resnet8.results import Calibration, Evaluation

ONNX_MODEL = Path("models/resnet8.onnx")
PYTORCH_MODEL = Path("models/resnet8.pt")
LOGS = Path("logs")

Model = Annotated[Path | None, typer.Argument(metavar="MODEL", help="The model file.  [default: as --model]")]
Data = Annotated[Path | None, typer.Argument(metavar="DATA_DIR", help="CIFAR-10's folder.  [default: as --data-dir]")]
OutputJson = Annotated[Path | None, typer.Option(help="Write the result here, as JSON.  [default: nowhere]")]


def main(command: Callable[..., None]) -> None:
    """Run one script's function as a program of its own."""
    application = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    application.command(context_settings=HELP)(command)
    execute(application)


def _one(positional: Path | None, option: Path | None) -> Path | None:
    if positional is not None and option is not None:
        raise typer.BadParameter(f"{positional} and {option} are both given: leave one out")
    return positional or option


def convert(
    keras_model: Annotated[
        Path | None,
        typer.Option(help="The Keras .h5 file.  [default: pretrainedResnet.h5 of $RESNET8_ASSETS, else of the cache]"),
    ] = None,
    output: Annotated[Path, typer.Option(help="The ONNX file to write; the PyTorch file goes beside it.")] = ONNX_MODEL,
) -> None:
    """Convert Keras to ONNX and PyTorch, and prove them equivalent."""
    convert_command.convert(keras_model=keras_model, output=output)


def convert_pytorch(
    source: Annotated[
        Path | None, typer.Argument(metavar="INPUT", help="The ONNX file.  [default: as --input]")
    ] = None,
    target: Annotated[
        Path | None, typer.Argument(metavar="OUTPUT", help="The PyTorch file to write.  [default: as --output]")
    ] = None,
    input_: Annotated[
        Path | None, typer.Option("--input", help="The ONNX file.  [default: models/resnet8.onnx]")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", help="The PyTorch file to write.  [default: models/resnet8.pt]")
    ] = None,
) -> None:
    """Convert ONNX to PyTorch, and prove them equivalent on seeded random images."""
    from resnet8.conversion import convert_to_pytorch, parity
    from resnet8.files import write_bytes

    require("torch")
    onnx_model, pytorch_model = _one(source, input_) or ONNX_MODEL, _one(target, output) or PYTORCH_MODEL
    with resnet8.Workers(LOGS) as workers:
        content, pair = convert_to_pytorch(onnx_model, pytorch_model, workers)
    write_bytes(pytorch_model, content)
    parity.require(pair)
    show(
        f"{pytorch_model}: {len(content):,} bytes, (batch, 32, 32, 3) to (batch, 10); "
        f"probabilities differ from {onnx_model} by at most {pair.max_abs_difference:.2e}"
    )


def evaluate(
    positional_model: Model = None,
    positional_data: Data = None,
    model: Annotated[Path | None, typer.Option(help="The model file.  [default: models/resnet8.onnx]")] = None,
    data_dir: DataDir = None,
    max_samples: MaxSamples = None,
    output_json: OutputJson = None,
) -> None:
    """Measure top-1 accuracy, overall and by class, and a quantized model's delta to the float model beside it."""
    chosen = _one(positional_model, model) or ONNX_MODEL
    _evaluate(chosen, _one(positional_data, data_dir), max_samples, output_json)


def evaluate_pytorch(
    positional_model: Model = None,
    positional_data: Data = None,
    model: Annotated[Path | None, typer.Option(help="The model file.  [default: models/resnet8.pt]")] = None,
    data_dir: DataDir = None,
    max_samples: MaxSamples = None,
    output_json: OutputJson = None,
) -> None:
    """Measure a PyTorch model's top-1 accuracy, overall and by class, and its delta to the float model beside it."""
    from resnet8.files import read_bytes
    from resnet8.runtimes.base import require_format

    chosen, images = _one(positional_model, model) or PYTORCH_MODEL, _one(positional_data, data_dir)
    expected, remedy = "TorchScript (.pt)", "use evaluate.py, which opens every kind"
    require_format(chosen, read_bytes(chosen), "torchscript", "is no PyTorch model", expected=expected, remedy=remedy)
    _evaluate(chosen, images, max_samples, output_json)


def _evaluate(model: Path, data_dir: Path | None, max_samples: int | None, output_json: Path | None) -> None:
    """Evaluate, and say what is reached; of a quantized model also what it cost, by the float model beside it."""
    from resnet8.errors import Resnet8Error
    from resnet8.facts import MINIMUM_ACCURACY

    images = resolve(data_dir, demo=False)
    result: Evaluation = evaluate_command.evaluate(model, images, max_samples=max_samples, json=output_json)
    accuracy = result.overall.accuracy
    reached = "reached" if accuracy >= MINIMUM_ACCURACY else "not reached"
    show(f"≥ {MINIMUM_ACCURACY * 100:g} %: {reached} ({accuracy * 100:.2f} %)")
    beside = model.with_name((PYTORCH_MODEL if result.runtime == "pytorch" else ONNX_MODEL).name)
    if not (result.model.quantized and beside.is_file()):
        return
    try:
        with progress() as step:
            told = step(f"evaluate {beside.name}")
            other = resnet8.evaluate(beside, images, max_samples=max_samples, progress=told).overall.accuracy
    except Resnet8Error as error:
        say(f"no delta to {beside}: {error}")
        return
    show(f"delta to {beside} ({other * 100:.2f} %): {(accuracy - other) * 100:+.2f} points")


def calibration_utils(data_dir: DataDir = None, samples_per_class: SamplesPerClass = 100, seed: Seed = 42) -> None:
    """Draw the calibration set from the training images, and show its distribution."""
    calibrate_command.calibrate(data_dir, samples_per_class, seed)


def quantize_onnx(
    model: Annotated[
        Path | None,
        typer.Option(
            help="The float ONNX file; the default is converted first if missing.  [default: models/resnet8.onnx]"
        ),
    ] = None,
    data_dir: DataDir = None,
    output_int8: Annotated[Path, typer.Option(help="The int8 file to write.")] = Path("models/resnet8_int8.onnx"),
    output_uint8: Annotated[Path, typer.Option(help="The uint8 file to write.")] = Path("models/resnet8_uint8.onnx"),
    samples_per_class: SamplesPerClass = 100,
    seed: Seed = 42,
) -> None:
    """Quantize with ONNX Runtime to int8 and to uint8.

    With the default calibration these are the published models; with any other, both share the set that was asked for.
    """
    from resnet8.quantization.recipes import recipe

    kind = "published" if recipe("published-int8").accepts(samples_per_class, seed) else "ort"
    images = resolve(data_dir, demo=False)
    if model is None and not ONNX_MODEL.exists():
        resnet8.calibrate(images, samples_per_class, seed)  # what cannot be calibrated with is no reason to convert
        _convert_first(images)
    outputs = {f"{kind}-int8": output_int8, f"{kind}-uint8": output_uint8}
    _quantize("quantize_onnx", model or ONNX_MODEL, outputs, images, samples_per_class, seed)


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
    images = resolve(data_dir, demo=False)
    _quantize("quantize_pytorch", model, {"torch-int8": output}, images, samples_per_class, seed)


def _convert_first(images: Path) -> None:
    """Make the default ONNX model from the Keras file.

    Raises:
        Resnet8Error: when there is no Keras file, or it cannot be converted.
    """
    from resnet8.errors import Resnet8Error

    try:
        keras_model = resnet8.fetch(download=False).keras_model
    except Resnet8Error as error:
        raise type(error)(
            f"{ONNX_MODEL} does not exist, nor what to convert it from: {error.what}",
            found=error.found,
            expected=error.expected,
            remedy=error.remedy,
        ) from error
    _say("quantize_onnx", f"{ONNX_MODEL} does not exist: converting {keras_model} first")
    convert_command.convert(keras_model=keras_model, output=ONNX_MODEL, data_dir=images)


def _quantize(
    script: str, model: Path, outputs: dict[str, Path], images: Path, samples_per_class: int, seed: int
) -> None:
    """Quantize ``model`` by each recipe, and say how and what came of it."""
    from resnet8.files import read_bytes
    from resnet8.quantization.recipes import recipe

    whole = len(read_bytes(model))

    def say(drawn: Calibration) -> None:
        images = f"{drawn.samples_per_class} images per class, {len(drawn.indices):,} calibration images"
        _say(script, f"seed {drawn.seed}, {images}")
        for name, output in outputs.items():
            how = recipe(name).settings()
            words = ", ".join(f"{key} {how[key]}" for key in _SETTINGS if key in how)
            _say(script, f"{name}: calibration method {_METHODS[str(how['observer'])]}, {words}; output {output}")

    made = quantize_command.run(model, outputs, images, samples_per_class, seed, LOGS, say)
    _say(script, f"{model}: {whole:,} bytes")
    for output in made:
        size = output.stat().st_size
        _say(script, f"{output}: {size:,} bytes, {1 - size / whole:.1%} smaller than {model}")


def _say(script: str, line: str) -> None:
    """Say a line, and append it to the script's log."""
    from resnet8.results import now
    from resnet8.workers import append_to_log

    append_to_log(LOGS / f"{script}.log", f"{now()} {line}\n")
    show(line)


_METHODS = {"minmax": "MinMax", "histogram": "histogram"}
"""A recipe's observer, as calibration methods are called."""

_SETTINGS = ("format", "mode", "engine", "activations", "weights")
"""What else is said of a recipe's settings, where it has them."""
