"""``resnet8 evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from resnet8.cli.common import DataDir, Demo, Json, progress, show
from resnet8.cli.common import data_dir as resolve

if TYPE_CHECKING:
    from resnet8.results import Evaluation


def evaluate(
    model: Annotated[Path, typer.Argument(help="A model file: .h5, .onnx, .pt or .tflite, known by its content.")],
    data_dir: DataDir = None,
    subset: Annotated[
        str | None, typer.Option(help="«mlperf-perf»: the official 200-image subset.", metavar="mlperf-perf")
    ] = None,
    max_samples: Annotated[int | None, typer.Option(help="Only the first N images.", metavar="N")] = None,
    batch_size: Annotated[int, typer.Option(help="Images fed at once.")] = 50,
    json: Json = None,
    predictions: Annotated[
        Path | None, typer.Option(help="Write the predicted class of each image here (.npy, int64).")
    ] = None,
    demo: Demo = False,
) -> None:
    """Measure a model's top-1 accuracy on the test images, overall and by class."""
    run(
        model,
        resolve(data_dir, demo=demo),
        subset=subset,
        max_samples=max_samples,
        batch_size=batch_size,
        json=json,
        predictions=predictions,
    )


def run(
    model: Path,
    data_dir: Path,
    *,
    subset: str | None = None,
    max_samples: int | None = None,
    batch_size: int = 50,
    json: Path | None = None,
    predictions: Path | None = None,
) -> Evaluation:
    """Evaluate, write what was asked for, and show the table."""
    from resnet8 import results
    from resnet8.evaluation import evaluate as measure
    from resnet8.render import tables, text

    with progress() as step:
        result = measure(
            model,
            data_dir,
            subset=subset,
            max_samples=max_samples,
            batch_size=batch_size,
            progress=step(f"evaluate {model.name}"),
        )
    if json is not None:
        results.save(result, json)
    if predictions is not None:
        results.save_array(results.from_digits(result.predictions), predictions)
    show(text.table(tables.evaluation(result)))
    show(f"{result.images_per_second:,.0f} images/s in {result.backend}; {result.model.size_bytes:,} bytes")
    return result
