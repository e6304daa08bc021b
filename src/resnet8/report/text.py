"""Results on the terminal, with rich."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich import box
from rich.console import Group
from rich.table import Table as RichTable
from rich.text import Text

from resnet8.report import arithmetic, tables

_SHOWN = 5
"""Differing predictions that are listed."""

if TYPE_CHECKING:
    from rich.console import RenderableType

    from resnet8.report.document import Table
    from resnet8.results import Comparison, GraphAgreement, Parity, WorkedExample


def table(content: Table) -> RichTable:
    """A terminal table; words to the left, numbers to the right."""
    # As Text, for a str would be read as markup: a path may hold square brackets.
    title = Text(content.title, style="bold")
    grid = RichTable(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for i, heading in enumerate(content.headings):
        words = i < content.left
        grid.add_column(Text(heading), justify="left" if words else "right", no_wrap=not words, overflow="fold")
    for cells in content.rows:
        grid.add_row(*(Text(cell, style="bold red" if "⚠" in cell else "") for cell in cells))
    return grid


def comparison(result: Comparison) -> RenderableType:
    """The comparison: table, flags, refusals, recommendation."""
    return Group(
        table(tables.comparison(result)),
        *(Text(f"notice: {row.name}: {row.notice}", style="bold yellow") for row in result.rows if row.notice),
        *(Text(f"{name} could not be made: {words}") for name, words in result.refused.items()),
        *(
            Text.assemble(f"Recommended for {one.target}: ", (one.choice or "none", "bold green"), f"\n  {one.reason}")
            for one in result.recommendations
        ),
    )


def parity(result: Parity) -> RenderableType:
    """The certificate."""
    verdict = ("equivalent", "bold green") if result.passed else ("NOT equivalent", "bold red")
    lines = [Text.assemble("The models are ", verdict, ".")]
    if result.known_file is False:
        words = (
            "The ONNX file is another one than this Keras file makes with the tested versions: results may differ in "
            "the last bits of what is made from it."
        )
        lines.append(Text(words, style="bold yellow"))
    if result.folding:
        off, values = sum(one.off for one in result.folding), sum(len(one.ulps) for one in result.folding)
        words = (
            f"{off} of {values} folded constants were not correctly rounded by TensorFlow here (by up to "
            f"{max(one.largest for one in result.folding)} ulp); in the file all are."
        )
        lines.append(Text(words))
    return Group(table(tables.parity(result)), *lines)


def agreement(result: GraphAgreement, images: int) -> RenderableType:
    """Predictions of both sides, and where those that differ come from."""
    differences = result.prediction_differences
    lines = [
        f"Engine {result.engine_correct:,} correct, {result.runtime} {result.ort_correct:,}; "
        f"{len(differences):,} of {images:,} predictions differ.",
        *(
            f"  image {one.image}: engine {one.engine}, {result.runtime} {one.ort}; first differing code in {one.layer}: {one.cause}"
            for one in differences[:_SHOWN]
        ),
    ]
    if len(differences) > _SHOWN:
        lines.append(f"  and {len(differences) - _SHOWN:,} more (--json lists all)")
    return Group(*map(Text, lines))


def steps(example: WorkedExample) -> RenderableType:
    """One output code, step by step."""
    first, *others = arithmetic.steps(example)
    return Group(Text(first, style="bold"), *(Text(f"  {line}") for line in others))
