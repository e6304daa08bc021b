"""Files that appear whole or not at all, and their digests."""

from __future__ import annotations

import hashlib
import os
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from resnet8.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def sha256_file(path: Path) -> str:
    """Hex SHA-256 of the file's bytes.

    Raises:
        StorageError: when the file cannot be read.
    """
    with reading(path), path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def read_bytes(path: Path) -> bytes:
    """The file's bytes.

    Raises:
        StorageError: when the file cannot be read.
    """
    with reading(path):
        return path.read_bytes()


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn the operating system's refusals to read ``path`` into a :class:`StorageError`."""
    try:
        yield
    except FileNotFoundError as error:
        raise StorageError(f"{path} does not exist", expected="a file", remedy="check the path") from error
    except OSError as error:
        raise StorageError(
            f"cannot read {path}", found=error.strerror or str(error), expected="a readable file"
        ) from error


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A path beside ``path`` to write to; it becomes ``path`` only when the block ends without an error.

    Missing parent folders are made. The data reaches the disk before the name does, so a crash leaves the old file or
    the new one, never a part.

    Raises:
        StorageError: when the disk is full, the folder is not writable, and the like; ``path`` is then unchanged.
    """
    part = path.parent / f".{path.name}.{os.getpid()}.part"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        with part.open("rb+") as stream:
            os.fsync(stream.fileno())
        part.replace(path)
    except OSError as error:
        raise StorageError(
            f"cannot write {path}",
            found=error.strerror or str(error),
            expected="a writable place with free space",
            remedy="nothing was changed; choose another place or make room, and run again",
        ) from error
    finally:
        with suppress(OSError):
            part.unlink()


def write_bytes(path: Path, data: bytes) -> None:
    """Write ``data`` to ``path``, whole or not at all.

    Raises:
        StorageError: as :func:`atomic_path`.
    """
    with atomic_path(path) as part:
        part.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """Write ``text`` as UTF-8 to ``path``, whole or not at all.

    Raises:
        StorageError: as :func:`atomic_path`.
    """
    write_bytes(path, text.encode())
