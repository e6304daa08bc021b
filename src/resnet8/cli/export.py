"""``resnet8 export``."""

from __future__ import annotations

import typer

from resnet8.cli.export_rtl import rtl

app = typer.Typer(
    help="Write a quantized network as sources: with its golden values, and what checks them.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.callback()
def _group() -> None:
    """Write a quantized network as sources: with its golden values, and what checks them."""


app.command()(rtl)
