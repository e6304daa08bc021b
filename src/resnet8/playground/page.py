"""What the cells of the notebook share: Marimo's elements around values of this package, caches, and long work."""

from __future__ import annotations

import base64
import html
import re
import sys
import traceback
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import marimo as mo
import numpy as np

from resnet8.errors import Resnet8Error
from resnet8.files import sha256_file
from resnet8.inspection.picture import mermaid
from resnet8.playground import plots, strip
from resnet8.playground.catalogue import stored_predictions
from resnet8.playground.flow import Answers, predictions
from resnet8.playground.images import feature_maps, grey, mosaic, png
from resnet8.playground.opened import Opened, open_file
from resnet8.playground.sqnr import Noise, noise

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import NDArray

    from resnet8.data.cifar10 import Split
    from resnet8.inspection.picture import Drawing
    from resnet8.network.program import Program
    from resnet8.results import Evaluation
    from resnet8.workers import Progress

T = TypeVar("T")


SAMPLE = 500
"""Images that are run to see which are lost, where no evaluation says so."""


class Stopped(Exception):  # noqa: N818 - no error: the button was pressed
    """A long computation was stopped."""


# What is kept: nothing is read or computed twice while a file stays as it is


@lru_cache(maxsize=8)
def _opened(path: str, digest: str) -> Opened:  # noqa: ARG001 - the digest is part of the key
    return open_file(Path(path))


def load(path: Path) -> Opened:
    """The model in a file, opened once for each content (:func:`resnet8.playground.opened.open_file`).

    Raises:
        Resnet8Error: when it cannot be opened.
    """
    return _opened(str(path), sha256_file(path))


matched = lru_cache(maxsize=8)(Opened.reference)
"""The float network behind a quantized one (:meth:`resnet8.playground.opened.Opened.reference`), matched once."""


@lru_cache(maxsize=8)
def _classes(network: Program, split: Split) -> NDArray[np.int64]:
    return predictions(network, split.images[:SAMPLE])


def lost_images(
    known: tuple[Evaluation, ...], opened: Opened, of: Opened, real: Program, split: Split
) -> tuple[NDArray[np.int64], str]:
    """The images that the float model gets right and the quantized one wrong, int64 (n,), and among which of them.

    By what is known of ``opened`` and of the float file ``of`` on all images, where there are such evaluations; else
    both networks are run on the first images.
    """
    mine, theirs = (stored_predictions(known, one.description.sha256, split) for one in (opened, of))
    where = f"among all {len(split):,} images, as evaluated"
    if mine is None or theirs is None:
        mine, theirs = _classes(opened.network, split), _classes(real, split)
        where = f"among the first {len(mine):,} images"
    labels = split.labels[: len(mine)]
    return np.flatnonzero((theirs == labels) & (mine != labels)), where


# Work


def attempt(work: Callable[[], T]) -> tuple[T | None, Any]:
    """What ``work`` gives and no message, or none and what went wrong, to be shown."""
    try:
        return work(), None
    except Resnet8Error as error:
        return None, mo.callout(mo.plain_text(str(error)), kind="danger")


def in_background(
    title: str,
    total: int,
    work: Callable[[Progress], object],
    *,
    key: tuple[object, ...],
    keep: Callable[[tuple[object, ...]], object],
    said: Callable[[tuple[object, str]], object],
    jobs: dict[str, object],
) -> None:
    """Do ``work(progress)`` beside the page, with a bar; it ends when the cell that began it runs again.

    Names of the page must not be looked up in the callables: they change meanwhile.

    Args:
        title: Of the bar.
        total: Of the bar's steps.
        work: What is done; its progress raises when it is to end.
        key: What it is done for, the model first.
        keep: Called with the key and, behind it, what ``work`` gave.
        said: Called with the model and why there is nothing; the reason is empty at the beginning, and when there is
            something.
        jobs: The job of each title that may still speak; one that was replaced may not.
    """
    job = jobs[title] = object()

    def tell(reason: str) -> None:
        if jobs.get(title) is job:
            said((key[0], reason))

    tell("")

    def run() -> None:
        thread, shown = mo.current_thread(), 0
        try:
            with mo.status.progress_bar(total=total, title=title, remove_on_exit=True) as bar:

                def progress(done: int, total: int) -> None:  # noqa: ARG001 - the bar knows it
                    nonlocal shown
                    if thread.should_exit:  # *Stop* was pressed, or something else was chosen
                        raise Stopped  # noqa: TRY301 - called by the work
                    bar.update(done - shown)
                    shown = done

                keep((*key, work(progress)))
                tell("")
        except Stopped:
            tell(f"{title}: stopped")
        except Resnet8Error as error:
            tell(f"{title}: {error}")
        except Exception as error:  # noqa: BLE001 - the page must say that nothing will come
            traceback.print_exc(file=sys.stderr)
            tell(f"{title} failed: {type(error).__name__}: {error}")

    mo.Thread(target=run, daemon=True).start()


def compared(
    quantized: Program, changed: Program, real: Program | None, part: Split, progress: Progress
) -> tuple[Answers, tuple[tuple[Noise, ...], ...]]:
    """Top-1 of two networks on ``part``; and the noise of both, where there is a float network.

    The progress is of ``comparisons(real) * len(part)`` steps.
    """
    total = comparisons(real) * len(part)

    def counted(rounds: int) -> Progress:
        return lambda done, _: progress(rounds * len(part) + done, total)

    both = (quantized, changed)
    before, after = (predictions(one, part.images, counted(at)) for at, one in enumerate(both))
    answers = Answers(part.labels, before, {plots.CHANGED: after})
    if real is None:
        return answers, ()
    return answers, tuple(noise(one, real, part.images, counted(at)) for at, one in enumerate(both, 2))


def comparisons(real: Program | None) -> int:
    """How often :func:`compared` goes through the images."""
    return 2 if real is None else 4


# What is shown


def plain(name: object) -> str:
    """A name out of a file, for Markdown, which would take it for more: tags, scripts, emphasis."""
    return re.sub(r"[^\w ]|_", lambda found: f"&#{ord(found[0])};", str(name))


def sketch(drawn: Drawing, key: str) -> Any:
    """A drawing without its legend, the box with that key marked."""
    text = mermaid(drawn, legend=False)
    return mo.mermaid(f"{text}    style {key} stroke:{plots.COLOURS[0]},stroke-width:5px\n")


def clickable(drawn: Drawing, key: str, clicked: Callable[[int], object]) -> Any:
    """The network from left to right; ``clicked`` is called with the number of a layer, from 1, 0 for the input."""

    def changed(_: object) -> None:
        for number in element.selections.get(strip.CLICKED, {}).get("layer", ())[:1]:
            clicked(int(number))

    chart = strip.strip(drawn, key)
    element = mo.ui.altair_chart(chart, chart_selection=False, legend_selection=False, on_change=changed)
    return element


def picture(pixels: NDArray[np.uint8], factor: int, caption: str, alt: str = "") -> Any:
    """Pixels, (H, W) or (H, W, 3), each ``factor`` wide, with a caption."""
    # As text in the page: Marimo may drop a file before the browser has asked for it.
    source = f"data:image/png;base64,{base64.b64encode(png(pixels, factor)).decode()}"
    width = pixels.shape[1] * factor
    return mo.image(source, alt=html.escape(alt or caption), caption=html.escape(caption), width=width)


def maps(values: NDArray[Any], span: tuple[float, float] | None, caption: str) -> Any:
    """The feature maps of an activation as one picture; ``span`` is black to white."""
    levels, factor = mosaic(grey(feature_maps(values), span))
    return picture(levels, factor, caption)


def table(headings: Sequence[str], rows: Iterable[Sequence[object]], left: int = 1) -> Any:
    """A table to read; the first ``left`` columns hold words, the others numbers. Long names break behind / and _."""

    def row(tag: str, cells: Sequence[object]) -> str:
        texts = (re.sub("([/_])", r"\1<wbr>", html.escape(str(one))) for one in cells)
        sides = ("left" if number < left else "right" for number in range(len(cells)))
        return "".join(
            f'<{tag} style="text-align: {side}">{text}</{tag}>' for side, text in zip(sides, texts, strict=True)
        )

    body = "".join(f"<tr>{row('td', one)}</tr>" for one in rows)
    return mo.md(f"<table><thead><tr>{row('th', headings)}</tr></thead><tbody>{body}</tbody></table>")
