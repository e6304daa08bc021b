"""Sections of the page: the files in the folder, and the model that is chosen."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import marimo as mo

from resnet8 import words
from resnet8.playground import page
from resnet8.words import kilobytes, percent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from resnet8.playground.catalogue import Entry
    from resnet8.playground.opened import Opened


def files(entries: Sequence[Entry]) -> Any:
    """A table of the files: what each is, or what is wrong with it."""
    rows = [
        (
            one.name,
            " ".join(filter(None, (one.sentence, one.error, one.notice, _same(one)))),
            words.NONE if one.description is None else kilobytes(one.description.size_bytes),
            words.NONE if one.score is None else percent(one.score.accuracy),
        )
        for one in entries
    ]
    return page.table(("file", "what it is", "size", "top-1"), rows, left=2)


def _same(entry: Entry) -> str:
    return f"The same bytes as {', '.join(entry.same_as)}." if entry.same_as else ""


def model(entry: Entry, opened: Opened, float_opened: Opened | None) -> Any:
    """What an open model is, in a sentence and a line of facts."""
    network = opened.network
    facts = [
        f"**{page.plain(entry.path.name)}**",
        entry.kind,
        kilobytes(opened.description.size_bytes),
        "accuracy not measured" if entry.score is None else f"top-1 {percent(entry.score.accuracy)}",
        f"{len(network.layers)} layers",
        f"{sum(one.macs for one in network.layers):,} multiply-accumulates",
    ]
    if float_opened is not None:
        facts.append(f"compared with {page.plain(Path(float_opened.description.path).name)}")
    said = page.plain(" ".join(filter(None, (entry.sentence, _same(entry)))))
    return page.column(
        mo.md(f"{' · '.join(facts)}\n\n{said}"),
        *([page.message(entry.notice, "warn")] if entry.notice else []),
    )


def no_models(entries: Sequence[Entry]) -> Any:
    """What to do where there is no model, and what is wrong with the files there are."""
    said = mo.callout(
        mo.md(
            "**No models here.** `resnet8 reproduce` makes them in the current folder, `resnet8 reproduce --demo` "
            "those of the demo in `demo/`. *Open the demo* shows models of the demo at once, offline."
        ),
        kind="warn",
    )
    return page.column(said, files(entries) if entries else None)
