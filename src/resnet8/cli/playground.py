"""``resnet8 playground``."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path
from typing import Annotated

import typer

from resnet8.cli.common import require
from resnet8.errors import StorageError
from resnet8.files import read_bytes, write_bytes

INSTALLED = "notebook.py"
"""The notebook's name in the installed package."""


def playground(
    folder: Annotated[
        Path | None,
        typer.Argument(help="The folder with models/ and results/.  [default: $RESNET8_PLAYGROUND, else here]"),
    ] = None,
    demo: Annotated[bool, typer.Option("--demo", help="Open the embedded demo: at once, offline.")] = False,
    edit: Annotated[
        bool,
        typer.Option(
            "--edit",
            help="Open the notebook to be edited, with its code; where the package is installed, a copy of it here.",
        ),
    ] = False,
    port: Annotated[int | None, typer.Option(help="Of the server.  [default: a free one]", min=1, max=65535)] = None,
    headless: Annotated[bool, typer.Option("--headless", help="Open no browser; the address is printed.")] = False,
) -> None:
    """Open the playground in the browser: look inside the quantized network, and change it."""
    require("playground")
    from resnet8.playground import sources

    if demo and folder is not None:
        raise typer.BadParameter("it excludes a folder", param_hint="--demo")
    if demo:
        folder = sources.open_demo()
    elif folder is not None:
        sources.require_folder(folder)
    if port is not None:
        _require_free(port)
    environment = dict(os.environ)
    if folder is not None:
        environment[sources.FOLDER_VARIABLE] = str(folder.absolute())
    page = _editable(notebook()) if edit else notebook()
    # With a token: a page of another site, or of a name that leads here, gets nothing without it.
    command = [sys.executable, "-m", "resnet8.playground.server", "edit" if edit else "run", str(page), "--token"]
    command += [] if port is None else ["--port", str(port)]
    command += ["--headless"] if headless else []
    # The server takes this process's place: whatever ends the command ends the server.
    os.execve(sys.executable, command, environment)  # noqa: S606 - marimo, with arguments of our own


def _require_free(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise StorageError(
                f"cannot listen on port {port}",
                found=error.strerror or str(error),
                expected="a port that no other program uses",
                remedy="give another --port, or none for a free one",
            ) from error


def _editable(page: Path) -> Path:
    """The notebook to be edited: the checkout's own; of an installed package a copy in the current folder."""
    if page.name != INSTALLED:
        return page
    copy = Path("quantization.py")
    if not copy.exists():
        write_bytes(copy, read_bytes(page))
    return copy


def notebook() -> Path:
    """The notebook: in the checkout, or in the installed package.

    Raises:
        StorageError: when it is in neither.
    """
    package = Path(__file__).resolve().parent.parent
    places = (package.parent.parent / "playground" / "quantization.py", package / "playground" / INSTALLED)
    for place in places:
        if place.is_file():
            return place
    raise StorageError(
        "the notebook is missing",
        found=f"neither {places[0]} nor {places[1]}",
        expected="one of them",
        remedy="install the package again",
    )
