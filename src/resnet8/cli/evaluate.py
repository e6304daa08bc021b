"""``resnet8 evaluate``."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

import resnet8
from resnet8.cli.common import DataDir, Demo, Json, MaxSamples, logged, progress, show, write_json
from resnet8.cli.common import data_dir as resolve
from resnet8.numeric.variants import Multiplier, Requantization, Rounding

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from resnet8.runtimes import Predictor

    Opener = Callable[[Path, bytes], Predictor]

Runtime = Literal["integer"]
EmulatedCpu = Literal["avx2"]


def evaluate(
    model: Annotated[Path, typer.Argument(help="A model file: .h5, .onnx, .pt or .tflite, known by its content.")],
    data_dir: DataDir = None,
    subset: Annotated[
        str | None,
        typer.Option(
            help="«mlperf-perf»: the official 200-image subset.  [default: all images]", metavar="mlperf-perf"
        ),
    ] = None,
    max_samples: MaxSamples = None,
    batch_size: Annotated[int, typer.Option(help="Images fed at once.")] = 50,
    json: Json = None,
    predictions: Annotated[
        Path | None,
        typer.Option(help="Write the predicted class of each image here (.npy, int64).  [default: nowhere]"),
    ] = None,
    runtime: Annotated[
        Runtime | None,
        typer.Option(help="«integer»: this package's integer engine.  [default: the file's own runtime]"),
    ] = None,
    requantize: Annotated[
        Multiplier | None, typer.Option(help="How the integer engine holds multipliers.  [default: float32]")
    ] = None,
    rounding: Annotated[
        Rounding | None, typer.Option(help="How the integer engine rounds.  [default: half-even]")
    ] = None,
    emulate_cpu: Annotated[
        EmulatedCpu | None,
        typer.Option(help="«avx2»: predict what ONNX Runtime reports on an x86 CPU without VNNI.  [default: this CPU]"),
    ] = None,
    session_option: Annotated[
        list[str] | None,
        typer.Option(
            help="An entry of ONNX Runtime's session configuration; may be repeated.  [default: none]",
            metavar="NAME=VALUE",
        ),
    ] = None,
    logs: Annotated[Path, typer.Option(help="Folder for the log.")] = Path("logs"),
    demo: Demo = False,
) -> Any:  # an Evaluation; typer reads annotations, and results are imported later
    """Measure a model's top-1 accuracy on the test images, overall and by class."""
    from resnet8.report import tables, text
    from resnet8.results import from_digits, save_array

    opener = _opener(runtime, requantize, rounding, emulate_cpu, dict(map(_entry, session_option or [])))
    images = resolve(data_dir, demo=demo)
    with logged("evaluate", logs), progress() as step:
        result = resnet8.evaluate(
            model,
            images,
            subset=subset,
            max_samples=max_samples,
            batch_size=batch_size,
            progress=step(f"evaluate {model.name}"),
            opener=opener,
        )
    write_json(result, json)
    if predictions is not None:
        save_array(from_digits(result.predictions), predictions)
    show(text.table(tables.evaluation(result)))
    if result.notice:
        show(f"notice: {result.notice}")
    how = "" if result.requantization is None else f" ({result.requantization})"
    show(f"{result.images_per_second:,.0f} images/s in {result.runtime}{how}; {result.model.size_bytes:,} bytes")
    return result


def _entry(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not (name and separator and value):
        raise typer.BadParameter(f"found {text!r}, expected NAME=VALUE", param_hint="--session-option")
    return name, value


def _opener(
    runtime: Runtime | None,
    requantize: Multiplier | None,
    rounding: Rounding | None,
    emulate_cpu: EmulatedCpu | None,
    session_options: Mapping[str, str],
) -> Opener | None:
    """What opens the file where not its own runtime does as it always does."""
    if session_options:
        if runtime or requantize or rounding or emulate_cpu:
            raise typer.BadParameter("it is for ONNX Runtime itself", param_hint="--session-option")
        return partial(_in_session, options=session_options)
    if emulate_cpu and (runtime or requantize or rounding):
        raise typer.BadParameter("it excludes --runtime, --requantize and --rounding", param_hint="--emulate-cpu")
    if not (emulate_cpu or runtime):
        if requantize or rounding:
            raise typer.BadParameter("they need --runtime integer", param_hint="--requantize, --rounding")
        return None
    from resnet8.runtimes import integer  # other runtimes do without

    if emulate_cpu:
        return integer.open_emulated
    variant = Requantization(requantize or "float32", rounding or "half-even")
    return partial(integer.open_content, requantization=variant)


def _in_session(path: Path, content: bytes, options: Mapping[str, str]) -> Predictor:
    from resnet8.runtimes import ort
    from resnet8.runtimes.base import require_format

    require_format(path, content, "onnx", "has no session that takes options", expected="an ONNX file")
    return ort.open_content(path, content, options)
