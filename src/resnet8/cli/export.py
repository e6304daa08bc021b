"""``resnet8 export``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from resnet8.cli.common import Demo, require_onnx, show
from resnet8.cli.common import data_dir as resolve
from resnet8.cli.export_rtl import rtl
from resnet8.numeric.variants import Multiplier, Requantization, Rounding

app = typer.Typer(
    help="Write a quantized network as source for other tools, with what checks it.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Model = Annotated[Path, typer.Argument(help="A quantized .onnx file.")]
Output = Annotated[Path, typer.Option("-o", "--output", help="The folder to make; it must not exist.")]
Requantize = Annotated[
    Multiplier, typer.Option(help="How multipliers are held; not float32, for the source computes in integers.")
]
Rounded = Annotated[Rounding, typer.Option(help="How products are rounded.")]


@app.command()
def c(
    model: Model,
    output: Output,
    requantize: Requantize = "fixed32",
    rounding: Rounded = "half-even",
    images: Annotated[int, typer.Option(help="Images that its check predicts.", min=1, metavar="N")] = 4,
    data_dir: Annotated[
        Path | None,
        typer.Option(
            "--data-dir", help="Folder with CIFAR-10's batch files: check with its first test images.  [default: noise]"
        ),
    ] = None,
    demo: Demo = False,
) -> None:
    """Write a C99 library of the network for microcontrollers: integers alone, no heap, a check on golden images."""
    from resnet8.data.cifar10 import random_images, read_split
    from resnet8.export.c import export_c
    from resnet8.files import read_bytes
    from resnet8.runtimes.base import identify
    from resnet8.runtimes.integer import open_content
    from resnet8.vectors import require_integers

    how = Requantization(requantize, rounding)
    require_integers(how, "the C library computes")
    content = read_bytes(model)
    require_onnx(model, identify(model, content).format)
    opened = open_content(model, content)
    if data_dir is None and not demo:
        split = random_images(images)
    else:
        split = read_split(resolve(data_dir, demo=demo), "test").first(images)
    library = export_c(output, opened.program, split, how, model=opened.model)
    show(
        f"{output}: {library.steps} steps, {how.name}; parameters {library.parameters:,} bytes, "
        f"memory {library.memory:,} bytes ({library.live:,} of codes live at once)"
    )
    show(f"check it with «make -C {output} check»; {output}/README.md says how to build it for a microcontroller")


app.command()(rtl)
