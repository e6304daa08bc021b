"""``resnet8 playground``."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from resnet8.errors import StorageError, missing_extra


def playground(
    folder: Annotated[
        Path | None,
        typer.Argument(help="The folder with models/ and results/.  [default: $RESNET8_PLAYGROUND, else here]"),
    ] = None,
    demo: Annotated[bool, typer.Option("--demo", help="Open the embedded demo: at once, offline.")] = False,
    edit: Annotated[bool, typer.Option("--edit", help="Open the notebook to be edited, with its code.")] = False,
    port: Annotated[int | None, typer.Option(help="Of the server.  [default: a free one]", min=1, max=65535)] = None,
    headless: Annotated[bool, typer.Option("--headless", help="Open no browser; the address is printed.")] = False,
) -> None:
    """Open the playground in the browser: look inside the quantized network, and change it."""
    for package in ("marimo", "altair"):
        if find_spec(package) is None:
            raise missing_extra(package, "playground")
    from resnet8.playground import sources

    if demo and folder is not None:
        raise typer.BadParameter("it excludes a folder", param_hint="--demo")
    if demo:
        folder = sources.open_demo()
    elif folder is not None and not folder.is_dir():
        raise StorageError(
            f"there is no folder {folder}",
            found="it is a file" if folder.exists() else "it does not exist",
            expected="a folder with models/ and results/",
            remedy="give the folder that «resnet8 reproduce» wrote to, or --demo",
        )
    environment = dict(os.environ)
    if folder is not None:
        environment[sources.FOLDER_VARIABLE] = str(folder.absolute())
    command = [sys.executable, "-m", "marimo", "edit" if edit else "run", str(notebook())]
    command += [] if port is None else ["--port", str(port)]
    command += ["--headless"] if headless else []
    server = subprocess.Popen(command, env=environment)  # noqa: S603 - marimo, with arguments of our own
    try:
        code = server.wait()
    except BaseException:
        server.terminate()
        server.wait()
        raise
    raise typer.Exit(code)


def notebook() -> Path:
    """The notebook: in the checkout, or in the installed package.

    Raises:
        StorageError: when it is in neither.
    """
    package = Path(__file__).resolve().parent.parent
    places = (package.parent.parent / "playground" / "quantization.py", package / "playground" / "notebook.py")
    for place in places:
        if place.is_file():
            return place
    raise StorageError(
        "the notebook is missing",
        found=f"neither {places[0]} nor {places[1]}",
        expected="one of them",
        remedy="install the package again",
    )
