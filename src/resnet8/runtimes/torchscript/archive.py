"""The one reader of zip archives: within limits, each member once, checksums compared."""

from __future__ import annotations

import io
import zipfile
from contextlib import contextmanager
from typing import TYPE_CHECKING

from resnet8.errors import ModelError
from resnet8.runtimes.torchscript.refusal import require

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MEMBERS = 2_000
UNPACKED = 64 * 2**20
"""Limits: members, and bytes of all of them."""

_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # the others take memory by numbers in the file


def names(path: Path, content: bytes) -> list[str]:
    """The names of an archive's members; nothing is unpacked.

    Args:
        path: Names the file in errors.
        content: Of the file.

    Raises:
        ModelError: when it is no whole zip archive.
    """
    with _opened(path, content, f"{len(content):,} bytes of a zip archive without its end") as archive:
        return archive.namelist()


def members(path: Path, content: bytes) -> dict[str, bytes]:
    """The members of an archive that lie in its one folder, by their names in it.

    Args:
        path: Names the file in errors.
        content: Of the file.

    Raises:
        ModelError: when it is damaged, exceeds a limit, has several folders or a member twice.
    """
    with _opened(path, content) as archive:
        entries = archive.infolist()
        size = sum(entry.file_size for entry in entries)
        found = {entry.filename for entry in entries}
        require(path, len(entries) <= MEMBERS, f"{len(entries):,} members", f"at most {MEMBERS:,}")
        require(path, size <= UNPACKED, f"{size:,} bytes when unpacked", f"at most {UNPACKED:,}")
        require(
            path,
            len({name.partition("/")[0] for name in found}) == 1 and len(found) == len(entries),
            "members of several folders, or one twice",
            "one folder, each member once",
        )
        plain = all(entry.compress_type in _METHODS for entry in entries)
        require(path, plain, "an unusual compression", "stored or deflated members")
        # Reading compares the checksums, which torch does not.
        return {entry.filename.partition("/")[2]: archive.read(entry) for entry in entries}


def packed(found: dict[str, bytes]) -> bytes:
    """A zip archive of one folder with the members ``found``, stored."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, data in found.items():
            archive.writestr(zipfile.ZipInfo(f"archive/{name}"), data)
    return content.getvalue()


@contextmanager
def _opened(path: Path, content: bytes, found: str | None = None) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            yield archive
    except ModelError:
        raise
    except Exception as error:  # zipfile meets altered bytes with many kinds of exception
        raise ModelError(
            f"{path} is damaged",
            found=found or f"{type(error).__name__}: {error!s:.100}",
            expected="a complete TorchScript file",
            remedy="make it again with «resnet8 convert» or «resnet8 quantize»",
        ) from error
