"""``resnet8 export``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

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

app = typer.Typer(
    help="Write a quantized network as source for other tools, with what checks it.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command()
def c(
    model: QuantizedOnnx,
    output: NewFolder,
    requantize: Annotated[
        Multiplier, typer.Option(help="How multipliers are held; not float32, for the source computes in integers.")
    ] = "fixed32",
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
    from resnet8.vectors import require_integers

    how = Requantization(requantize, rounding)
    require_integers(how, "the C library computes")
    _, opened = open_for_export(model)
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


@app.command()
def rtl(
    model: QuantizedOnnx,
    output: NewFolder,
    images: Annotated[
        str, typer.Option(help="Test images: indices such as 0,5,17, or a number N for the first N.")
    ] = "1",
    requantize: Annotated[
        Multiplier, typer.Option(help="How multipliers are held; not float32, for hardware computes in integers.")
    ] = "fixed32",
    rounding: Rounded = "half-even",
    word: Annotated[int, typer.Option(help="Bytes of a word of the packed files, 1 to 64: codes read at once.")] = 4,
    data_dir: DataDir = None,
    demo: Demo = False,
) -> None:
    """Write parameters, memory files and reference units in SystemVerilog, with a testbench that checks every value."""
    from resnet8.data.cifar10 import read_split
    from resnet8.export.rtl import export_rtl
    from resnet8.vectors import choose_images, require_integers

    how = Requantization(requantize, rounding)
    require_integers(how)
    _, opened = open_for_export(model)
    split = read_split(resolve(data_dir, demo=demo), "test")
    with progress() as step:
        result = export_rtl(
            output,
            opened.program,
            split,
            choose_images(images, len(split)),
            how,
            model=opened.model,
            word=word,
            progress=step(f"export of {model.name}"),
        )
    show(
        f"{output}: {len(result.layers)} layers, {len(result.images)} images, {result.requantization}, words of "
        f"{result.word} bytes; {len(result.files) + 1} files, {folder_size(output)}"
    )
    show(f"check them with «make -C {output} check»; {output}/README.md says what each file is")
