"""``resnet8 export rtl``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from resnet8.cli.common import DataDir, Demo, progress, require_onnx, show
from resnet8.cli.common import data_dir as resolve
from resnet8.numeric.variants import Multiplier, Requantization, Rounding


def rtl(
    model: Annotated[Path, typer.Argument(help="A quantized .onnx file.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The folder to make; it must not exist.")],
    images: Annotated[
        str, typer.Option(help="Test images: indices such as 0,5,17, or a number N for the first N.")
    ] = "1",
    requantize: Annotated[
        Multiplier, typer.Option(help="How multipliers are held; not float32, for hardware computes in integers.")
    ] = "fixed32",
    rounding: Annotated[Rounding, typer.Option(help="How products are rounded.")] = "half-even",
    word: Annotated[int, typer.Option(help="Bytes of a word of the packed files, 1 to 64: codes read at once.")] = 4,
    data_dir: DataDir = None,
    demo: Demo = False,
) -> None:
    """Write parameters, memory files and reference units in SystemVerilog, with a testbench that checks every value."""
    from resnet8.data.cifar10 import read_split
    from resnet8.export.rtl import export_rtl
    from resnet8.files import read_bytes
    from resnet8.runtimes.base import identify
    from resnet8.runtimes.integer import open_content
    from resnet8.vectors import choose_images, require_integers

    how = Requantization(requantize, rounding)
    require_integers(how)
    content = read_bytes(model)
    require_onnx(model, identify(model, content).format)
    predictor = open_content(model, content)
    split = read_split(resolve(data_dir, demo=demo), "test")
    with progress() as step:
        result = export_rtl(
            output,
            predictor.program,
            split,
            choose_images(images, len(split)),
            how,
            model=predictor.model,
            word=word,
            progress=step(f"export of {model.name}"),
        )
    size = sum(path.stat().st_size for path in output.rglob("*") if path.is_file())
    show(
        f"{output}: {len(result.layers)} layers, {len(result.images)} images, {result.requantization}, words of "
        f"{result.word} bytes; {len(result.files) + 1} files, {size / 2**20:.1f} MB"
    )
    show(f"check them with «make -C {output} check»; {output}/README.md says what each file is")
