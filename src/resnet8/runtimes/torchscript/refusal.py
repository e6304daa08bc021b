"""How an archive is refused, and the limits that code and pickles share."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from resnet8.errors import ModelError

if TYPE_CHECKING:
    from pathlib import Path

DEPTH = 40
"""How deep code and pickles are nested at most."""


def refuse(path: Path, found: str, expected: str) -> NoReturn:
    """Raise the error of a file that is not loaded.

    Raises:
        ModelError: always.
    """
    raise ModelError(
        f"{path} was refused before it was loaded",
        found=found,
        expected=expected,
        remedy="make the file with «resnet8 convert» or «resnet8 quantize»",
    )


def require(path: Path, condition: bool, found: str, expected: str = "what a small network needs") -> None:
    """Refuse the archive unless ``condition`` holds.

    Raises:
        ModelError: when it does not.
    """
    if not condition:
        refuse(path, found, expected)
