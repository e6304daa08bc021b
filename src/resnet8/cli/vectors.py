"""``resnet8 vectors``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from resnet8.cli.common import DataDir, Demo, progress, show
from resnet8.cli.common import data_dir as resolve
from resnet8.numeric.variants import Multiplier, Requantization, Rounding

if TYPE_CHECKING:
    from resnet8.vectors import VectorSet


def vectors(
    model: Annotated[Path, typer.Argument(help="A quantized .onnx file.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The folder to make; it must not exist.")],
    images: Annotated[
        str, typer.Option(help="Test images: indices such as 0,5,17, or a number N for the first N.")
    ] = "4",
    requantize: Annotated[
        Multiplier, typer.Option(help="How multipliers are held; not float32, for the vectors are integers.")
    ] = "fixed32",
    rounding: Annotated[Rounding, typer.Option(help="How products are rounded.")] = "half-even",
    data_dir: DataDir = None,
    demo: Demo = False,
) -> None:
    """Write golden vectors of every layer, for hardware testbenches and C, with a C program that checks them."""
    _say(output, run(model, output, images, Requantization(requantize, rounding), data_dir, demo=demo))


def run(model: Path, output: Path, images: str, how: Requantization, data_dir: Path | None, *, demo: bool) -> VectorSet:
    """Export, and compare with ONNX Runtime on the way."""
    from resnet8.data.cifar10 import read_split
    from resnet8.files import read_bytes
    from resnet8.runtimes.base import identify
    from resnet8.runtimes.integer import open_content
    from resnet8.vectors import choose_images, export_vectors, require_integers, traced

    require_integers(how)
    content = read_bytes(model)
    require_onnx(model, identify(model, content).format)
    predictor = open_content(model, content)
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
            progress=step(f"vectors of {model.name}"),
        )


def require_onnx(path: Path, found: str) -> None:
    """Refuse what golden values are not made of: another file than ONNX."""
    from resnet8.errors import ModelError

    if found != "onnx":
        raise ModelError(
            f"{path} holds no integer operators that are read here",
            found=found,
            expected="a quantized ONNX file",
            remedy="quantize with «resnet8 quantize»",
        )


def _say(output: Path, result: VectorSet) -> None:
    size = sum(path.stat().st_size for path in output.rglob("*") if path.is_file())
    show(
        f"{output}: {len(result.layers)} layers, {len(result.edges)} edge cases, {len(result.images)} images, "
        f"{result.requantization}; {len(result.files) + 1} files, {size / 2**20:.1f} MB"
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
