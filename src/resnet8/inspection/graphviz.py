"""Graphviz's program ``dot``, which lays out and paints what DOT text describes."""

from __future__ import annotations

import shutil
import subprocess

from resnet8.errors import MissingExtraError, Resnet8Error

_PATIENCE_S = 120
_DPI = 144
"""Dots per inch of a PNG: twice a page's, for sharp text on dense screens."""


def require() -> str:
    """Path of the program.

    Raises:
        MissingExtraError: when it is not installed.
    """
    program = shutil.which("dot")
    if program is None:
        raise MissingExtraError(
            "drawing .svg and .png needs the program «dot» of Graphviz",
            found="it is not installed",
            remedy="install it (Debian, Ubuntu: apt-get install graphviz), or write .mmd or .dot, which need nothing",
        )
    return program


def paint(text: str, form: str) -> bytes:
    """The picture that DOT ``text`` describes, as ``form``: ``svg`` or ``png``.

    Raises:
        MissingExtraError: when Graphviz is not installed.
        Resnet8Error: when it fails.
    """
    command = [require(), f"-T{form}", *([f"-Gdpi={_DPI}"] if form == "png" else [])]
    try:
        done = subprocess.run(command, input=text.encode(), capture_output=True, check=True, timeout=_PATIENCE_S)  # noqa: S603 - DOT text is no code, and goes in on stdin
    except (subprocess.SubprocessError, OSError) as error:
        words = getattr(error, "stderr", b"") or str(error).encode()
        raise Resnet8Error(
            f"Graphviz cannot draw this as {form}",
            found=words.decode(errors="replace")[:300],
            expected="a picture",
            remedy="write .mmd or .dot, which need no Graphviz",
        ) from error
    return done.stdout
