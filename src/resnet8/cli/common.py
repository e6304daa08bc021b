"""What the commands share: options, consoles, progress."""

from __future__ import annotations

import logging
import re
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import resnet8
from resnet8.errors import missing_extra
from resnet8.numeric.variants import Rounding
from resnet8.streams import log

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from matplotlib.figure import Figure
    from rich.console import Console, RenderableType

    from resnet8.results import AnyResult
    from resnet8.runtimes.integer import IntegerPredictor
    from resnet8.workers import Progress

WIDE = 180
"""Columns of the tables, at least: none is left out or cut, whatever the terminal or pipe."""

DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        help="Folder with CIFAR-10's batch files, or the one above it.  [default: $RESNET8_ASSETS, else the cache]",
    ),
]
AssetsDir = Annotated[
    Path | None,
    typer.Option(
        "--assets-dir",
        help="Folder with pretrainedResnet.h5 and cifar-10-batches-py/.  [default: $RESNET8_ASSETS, else the cache]",
    ),
]
Demo = Annotated[bool, typer.Option("--demo", help="Use the embedded demo: handwritten digits, no download.")]
MaxSamples = Annotated[int | None, typer.Option(help="Only the first N images.  [default: all]", metavar="N")]
Json = Annotated[Path | None, typer.Option("--json", help="Write the result here, as JSON.  [default: nowhere]")]
SamplesPerClass = Annotated[int, typer.Option(help="Calibration images of each class, at least 20.")]
Seed = Annotated[int, typer.Option(help="Of the calibration draw.")]
Jobs = Annotated[int | None, typer.Option(help="Cells at once.  [default: one for each CPU]", metavar="N")]
Scheduler = Annotated[
    str | None,
    typer.Option(help="Compute on the workers of this Dask scheduler, like tcp://HOST:8786.  [default: here]"),
]
Cells = Annotated[
    Path | None,
    typer.Option(help="Folder where finished cells are kept: the next run goes on from them.  [default: the cache]"),
]
QuantizedOnnx = Annotated[Path, typer.Argument(help="A quantized .onnx file.")]
NewFolder = Annotated[Path, typer.Option("-o", "--output", help="The folder to make; it must not exist.")]
Rounded = Annotated[Rounding, typer.Option(help="How products are rounded.")]
Plots = Annotated[
    list[Path] | None, typer.Option("--plot", help="Draw it here, .svg or .png; may be repeated.  [default: nowhere]")
]
Logs = Annotated[Path, typer.Option(help="Folder for the logs.")]


EXTRAS = {
    "keras": ("keras", "tensorflow", "tf2onnx"),
    "torch": ("torch", "onnx2torch"),
    "playground": ("marimo", "altair"),
}
"""What a command looks for before it begins, by the extra of this project that brings it."""


def require(*extras: str) -> None:
    """Check that the packages of ``extras`` are installed, without importing them.

    Raises:
        MissingExtraError: for the first that is not.
    """
    for extra in extras:
        for package in EXTRAS[extra]:
            if find_spec(package) is None:
                raise missing_extra(package, extra)


def open_for_export(path: Path) -> tuple[bytes, IntegerPredictor]:
    """A quantized ONNX file, and its network in the integer engine: what sources and golden values are made of.

    Raises:
        StorageError: when it cannot be read.
        ModelError: when it is no ONNX file, or not quantized.
    """
    from resnet8.files import read_bytes
    from resnet8.runtimes.base import identify
    from resnet8.runtimes.integer import open_content

    content = read_bytes(path)
    _require_onnx(path, identify(path, content).format)
    return content, open_content(path, content)


def folder_size(folder: Path) -> str:
    """``1.5 MB``, of 1,048,576 bytes, of all files in a folder."""
    return f"{sum(path.stat().st_size for path in folder.rglob('*') if path.is_file()) / 2**20:.1f} MB"


def _require_onnx(path: Path, found: str) -> None:
    """Refuse a model file of another format.

    Raises:
        ModelError: when ``found``, what ``path`` was identified as, is not ONNX.
    """
    from resnet8.errors import ModelError

    if found != "onnx":
        raise ModelError(
            f"{path} holds no integer operators that are read here",
            found=found,
            expected="a quantized ONNX file",
            remedy="quantize with «resnet8 quantize»",
        )


def console(*, err: bool = False) -> Console:
    """Standard output, or error; wide but for progress bars on a terminal, which must fit it.

    A narrow terminal wraps the lines of a wide table; rich would leave out columns and cut numbers.
    """
    from rich.console import Console

    # No markup: a path may hold square brackets or :words:, which stand for nothing else.
    make = partial(Console, stderr=err, highlight=False, markup=False, emoji=False)
    plain = make()
    if err and plain.is_terminal:
        return plain
    return make(width=max(plain.width, WIDE))


def say(line: str) -> None:
    """Say a line on standard error."""
    typer.echo(line, err=True)


def show(content: RenderableType) -> None:
    """Print a rendering to standard output."""
    console().print(content)


def data_dir(given: Path | None, *, demo: bool) -> Path:
    """The folder of images that the options name.

    Raises:
        Resnet8Error: when none is given and none was fetched.
    """
    return given if given is not None and not demo else resnet8.fetch(demo=demo, download=False).data_dir


def cells_folder(given: Path | None) -> Path:
    """Where finished cells are kept."""
    from resnet8.data.assets import cache_dir

    return given or cache_dir() / "cells"


def numbers(option: str, text: str) -> tuple[int, ...]:
    """Numbers of a list like ``2,4-6``.

    Raises:
        BadParameter: when it is none.
    """
    found: list[int] = []
    for part in text.split(","):
        if (match := re.fullmatch(r"\s*(\d{1,10})(?:-(\d{1,10}))?\s*", part)) is None:
            raise typer.BadParameter(f"{option} takes numbers like 2,4,8 or 2-8, not «{text}»")
        first, last = int(match[1]), int(match[2] or match[1])
        if not first <= last <= first + 1000:
            raise typer.BadParameter(f"{option} takes ranges like 2-8, not «{part}»")
        found += range(first, last + 1)
    return tuple(dict.fromkeys(found))


def write_json(result: AnyResult, path: Path | None) -> None:
    """Write a result where it was asked for."""
    if path is not None:
        resnet8.save(result, path)


@contextmanager
def logged(name: str, folder: Path = Path("logs")) -> Iterator[None]:
    """Append what is logged and every warning in this block to ``folder/NAME.log``.

    Raises:
        StorageError: when the log cannot be written.
    """
    from resnet8.workers import append_to_log, start_logging

    path = folder / f"{name}.log"
    append_to_log(path)
    with log(path) as stream:
        handler = start_logging(logging.StreamHandler(stream))
        try:
            yield
        finally:
            logging.captureWarnings(capture=False)
            logging.getLogger().removeHandler(handler)
            handler.close()


@contextmanager
def progress(*, remaining: bool = False) -> Iterator[Callable[[str], Progress]]:
    """Progress bars on standard error, one for each step; nothing where it is no terminal.

    With ``remaining``, also the time left, by the pace of the last hour.
    """
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        SpinnerColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.progress import Progress as Bars

    target = console(err=True)
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        *([TextColumn("left:"), TimeRemainingColumn()] if remaining else []),
    )
    window = 3600.0 if remaining else 30.0
    with Bars(
        *columns, console=target, transient=True, disable=not target.is_terminal, speed_estimate_period=window
    ) as bars:

        def step(text: str) -> Progress:
            for task in bars.task_ids:
                bars.remove_task(task)
            bar = bars.add_task(text, total=None)

            def update(done: int, total: int) -> None:
                bars.update(bar, completed=done, total=total)

            return update

        yield step


@contextmanager
def asked(label: str, plots: list[Path] | None) -> Iterator[Progress]:
    """The progress of a question, with the time left; what cannot be drawn is said first."""
    if plots:
        from resnet8.report.plots import require_suffix

        for path in plots:
            require_suffix(path)
    with progress(remaining=True) as step:
        yield step(label)


def written(result: AnyResult, json: Path | None, plots: list[Path] | None, kind: str) -> None:
    """Write a result where it was asked for, and draw it by the function ``kind`` of :mod:`resnet8.report.plots`."""
    write_json(result, json)
    for path in plots or ():
        from resnet8.files import write_bytes
        from resnet8.report import plots as drawing

        draw: Callable[[Any], Figure] = getattr(drawing, kind)
        write_bytes(path, drawing.content(draw(result), path.suffix))
        say(f"drawn: {path}")
