"""What the cells of the notebook do: open files once, say what went wrong, and work beside the page."""

from __future__ import annotations

import sys
import threading
import traceback
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import marimo as mo
import numpy as np

from resnet8.errors import Resnet8Error
from resnet8.files import sha256_file
from resnet8.playground import page
from resnet8.playground.catalogue import stored_predictions
from resnet8.playground.flow import predictions
from resnet8.playground.opened import Opened, open_file

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from resnet8.data.cifar10 import Split
    from resnet8.network.program import Program
    from resnet8.results import Evaluation
    from resnet8.workers import Progress

T = TypeVar("T")


NOISE, ALONE, FLIPS = "Errors of all layers", "Each layer alone", "Original and changed"
"""Titles of the work beside the page."""

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
        return None, page.message(str(error))


@dataclass(frozen=True)
class Job:
    """Work beside the page, and what came of it.

    Attributes:
        key: What it is done for, the model first.
        running: Whether it is not done yet.
        said: Why there is nothing; empty while it runs, and when there is something.
        found: What it gave; none before.
    """

    key: tuple[object, ...]
    running: bool = False
    said: str = ""
    found: Any = None


Jobs = dict[str, Job]
"""The last job of each title."""

_TELLING = threading.Lock()


def of(jobs: Mapping[str, Job], title: str, *key: object) -> Job:
    """The job of that title that was done for ``key``; one in which nothing happened where there is none.

    What was said is said of the model, whatever else the job was for.
    """
    job = jobs.get(title, Job(()))
    if job.key[:1] != key[:1]:
        return Job(key)
    return job if job.key[: len(key)] == key else Job(key, job.running, job.said)


def begin(
    title: str,
    images: int,
    work: Callable[[Progress], object],
    *,
    key: tuple[object, ...],
    tell: Callable[[Callable[[Jobs], Jobs]], object],
    jobs: dict[str, object],
) -> None:
    """Do ``work(progress)`` beside the page, with a bar; it ends when the cell that began it runs again.

    Names of the page must not be looked up in the callables: they change meanwhile.

    Args:
        title: Of the job and its bar.
        images: What the bar counts.
        work: What is done; its progress raises when it is to end.
        key: What it is done for, the model first.
        tell: Sets Marimo's state of all jobs by a function of what it was.
        jobs: The job of each title that may still speak; one that was replaced may not.
    """
    job = jobs[title] = object()

    def told(now: Job) -> None:
        with _TELLING:
            if jobs.get(title) is job:
                tell(lambda before: {**before, title: now})

    told(Job(key, running=True))

    def run() -> None:
        thread, shown = mo.current_thread(), 0
        try:
            with mo.status.progress_bar(
                total=images, title=title, subtitle=f"of {images:,} images", show_rate=False, remove_on_exit=True
            ) as bar:

                def progress(done: int, total: int) -> None:  # noqa: ARG001 - the bar knows it
                    nonlocal shown
                    if thread.should_exit:  # *Stop* was pressed, or something else was chosen
                        raise Stopped  # noqa: TRY301 - called by the work
                    bar.update(done - shown)
                    shown = done

                told(Job(key, found=work(progress)))
        except Stopped:
            told(Job(key, said=f"{title}: stopped"))
        except Resnet8Error as error:
            told(Job(key, said=f"{title}: {error}"))
        except Exception as error:  # noqa: BLE001 - the page must say that nothing will come
            traceback.print_exc(file=sys.stderr)
            told(Job(key, said=f"{title} failed: {type(error).__name__}: {error}"))

    mo.Thread(target=run, daemon=True).start()
