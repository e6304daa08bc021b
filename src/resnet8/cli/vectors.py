"""``resnet8 vectors``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from resnet8.cli.common import (
    DataDir,
    Demo,
    NewFolder,
    QuantizedOnnx,
    Rounded,
    folder_size,
    open_for_export,
    progress,
    show,
)
from resnet8.cli.common import data_dir as resolve
from resnet8.numeric.variants import Multiplier, Requantization

if TYPE_CHECKING:
    from collections.abc import Sequence

    from resnet8.vectors import VectorSet


def vectors(
    model: QuantizedOnnx,
    output: NewFolder,
    images: Annotated[
        str, typer.Option(help="Test images: indices such as 0,5,17, or a number N for the first N.")
    ] = "4",
    requantize: Annotated[
        Multiplier, typer.Option(help="How multipliers are held; not float32, for the vectors are integers.")
    ] = "fixed32",
    rounding: Rounded = "half-even",
    inside: Annotated[
        list[str] | None,
        typer.Option(
            "--with",
            help="What else of each layer's inside: «partial-sums:R» of R products each, «sums» without the bias, "
            "«products» before the shift, «unclamped» codes; may be repeated.  [default: the accumulators only]",
            metavar="WHAT",
        ),
    ] = None,
    broadcast: Annotated[
        bool,
        typer.Option(
            "--broadcast",
            help="Write multipliers, shifts and zero points of weights for each channel, also where a layer has one.  "
            "[default: one where it has one]",
        ),
    ] = False,
    data_dir: DataDir = None,
    demo: Demo = False,
) -> None:
    """Write golden vectors of every layer, for hardware testbenches and C, with a C program that checks them."""
    how = Requantization(requantize, rounding)
    _say(output, run(model, output, images, how, data_dir, inside=inside or (), broadcast=broadcast, demo=demo))


def run(
    model: Path,
    output: Path,
    images: str,
    how: Requantization,
    data_dir: Path | None,
    *,
    inside: Sequence[str] = (),
    broadcast: bool = False,
    demo: bool,
) -> VectorSet:
    """Export, and compare with ONNX Runtime on the way."""
    from resnet8.data.cifar10 import read_split
    from resnet8.vectors import choose_images, choose_intermediates, export_vectors, require_integers, traced

    require_integers(how)
    asked = choose_intermediates(inside)
    content, predictor = open_for_export(model)
    split = read_split(resolve(data_dir, demo=demo), "test")
    chosen = choose_images(images, len(split))
    with progress() as step:
        return export_vectors(
            output,
            predictor.program,
            split,
            chosen,
            how,
            model=predictor.model,
            reference=traced(model, content, split.images[list(chosen)], how),
            intermediates=asked,
            broadcast=broadcast,
            progress=step(f"vectors of {model.name}"),
        )


def _say(output: Path, result: VectorSet) -> None:
    show(
        f"{output}: {len(result.layers)} layers, {len(result.edges)} edge cases, {len(result.images)} images, "
        f"{result.requantization}; {len(result.files) + 1} files, {folder_size(output)}"
    )
    if (ort := result.ort) is not None:
        words = "differ"
        if layers := sum(1 for layer in result.layers if layer.differing_from_ort):
            words += f" in {layers} of {ort.layers} layers, by at most {ort.largest_difference}"
            words += f" ({ort.arising:,} where a layer reads the same codes, the others follow)"
        there, here = (", ".join(map(str, classes)) for classes in (ort.predictions, result.predictions))
        classes = "it predicts the same classes" if ort.predictions_agree else f"it predicts {there}; these give {here}"
        show(f"ONNX Runtime: {ort.differing:,} of {ort.codes:,} codes {words}; {classes}")
    show(f"check them with «make -C {output}/c check»; {output}/README.md says what each file is")
