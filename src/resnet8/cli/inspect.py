"""``resnet8 inspect``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from resnet8.cli.common import show

app = typer.Typer(
    help="Look into a model file: its quantized operations, its network as a picture.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Model = Annotated[Path, typer.Argument(help="An ONNX file of a ResNet8.")]


@app.command()
def operations(
    model: Model,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The JSON file to write.  [default: standard output]")
    ] = None,
) -> None:
    """List every quantized operation: its parameters and where they live, and the integer layers they make up."""
    from resnet8 import results
    from resnet8.inspection.operations import inspect_operations
    from resnet8.inspection.source import read_onnx
    from resnet8.report import tables, text

    found = inspect_operations(read_onnx(model))
    if output is None:
        typer.echo(results.to_json(found), nl=False)
        return
    results.save(found, output)
    show(text.table(tables.operations(found)))
    show(f"{output}: written")


@app.command()
def graph(
    model: Model,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="What to write: .svg, .png (by Graphviz), .mmd or .dot.")
    ],
) -> None:
    """Draw the network with its shapes, data types and scales."""
    from resnet8.files import write_bytes
    from resnet8.inspection.graph import inspect_graph, writer
    from resnet8.inspection.source import read_onnx

    content = writer(output)
    drawn = inspect_graph(read_onnx(model))
    write_bytes(output, content(drawn))
    show(f"{output}: {len(drawn.boxes)} boxes, {len(drawn.edges)} arrows")
