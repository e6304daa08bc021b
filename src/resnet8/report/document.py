"""A document as a value, paragraphs and tables one below the other, and what it is in Markdown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from resnet8.words import NONE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

Row = TypeVar("Row")
Cell = str | int | None


@dataclass(frozen=True)
class Table:
    """Headings and rows of cells; ``left`` counts the leading columns that hold words, the others hold numbers."""

    title: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    left: int = 1


def table(
    rows: Iterable[Row], columns: Mapping[str, Callable[[Row], Cell]], *, title: str = "", left: int = 1
) -> Table:
    """A row for each of ``rows``, a column for each heading of ``columns``, which says what stands in it (:func:`cells`)."""
    found = tuple(cells(*(cell(row) for cell in columns.values())) for row in rows)
    return Table(title, tuple(columns), found, left)


def cells(*row: Cell) -> tuple[str, ...]:
    """The cells of a row: numbers with a comma between thousands, a dash for what it does not have."""
    return tuple(NONE if cell is None else cell if isinstance(cell, str) else f"{cell:,}" for cell in row)


def markdown(*parts: str | Table) -> str:
    """The paragraphs and tables as Markdown, without the tables' titles."""
    return "\n\n".join(part if isinstance(part, str) else _markdown(part) for part in parts) + "\n"


def line(words: str) -> str:
    """Words from elsewhere, without line breaks that would begin something new."""
    return " ".join(words.split())


def _markdown(content: Table) -> str:
    rule = ["---" if i < content.left else "---:" for i in range(len(content.headings))]
    return "\n".join(
        "| " + " | ".join(line(cell).replace("|", "\\|") for cell in cells) + " |"
        for cells in (content.headings, rule, *content.rows)
    )
