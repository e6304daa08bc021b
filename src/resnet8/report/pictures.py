"""The pictures in documents: drawn by Matplotlib from ``results/``; what is out of date is known without it."""

from __future__ import annotations

from pathlib import Path

from resnet8 import results
from resnet8.files import read_bytes, read_text
from resnet8.report import choice
from resnet8.report.documents import COMPARISON

PICTURE = Path("docs/images/accuracy-size")
"""Accuracy against size, without its suffix."""

SUFFIXES = (".svg", ".png")


def outdated(root: Path) -> list[Path]:
    """The pictures below ``root`` that README shows and that do not show what ``results/`` says.

    Raises:
        StorageError: when the comparison is missing.
        ResultError: when it is unreadable.
    """
    readme = root / "README.md"
    if not readme.is_file() or str(PICTURE) not in read_text(readme):
        return []
    wanted = choice.fingerprint(results.load(results.Comparison, root / COMPARISON)).encode()
    files = [(root / PICTURE).with_suffix(suffix) for suffix in SUFFIXES]
    return [path for path in files if not path.is_file() or wanted not in read_bytes(path)]


def drawn(root: Path) -> dict[Path, bytes]:
    """The pictures below ``root`` that are out of date, and what they should hold.

    Raises:
        MissingExtraError: when there are some and Matplotlib is not installed.
    """
    paths = outdated(root)
    if not paths:
        return {}
    from resnet8.report import plots  # an extra

    compared = results.load(results.Comparison, root / COMPARISON)
    about = choice.fingerprint(compared)
    return {path: plots.content(plots.accuracy_size(compared), path.suffix, about) for path in paths}
