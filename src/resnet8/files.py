"""Files that appear whole or not at all, and their digests."""

from __future__ import annotations

import hashlib
import os
import shutil
import uuid
from concurrent.futures import ThreadPoolExecutor
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
def writing(
    what: str,
    *,
    expected: str = "a writable place with free space",
    remedy: str = "nothing was changed; choose another place or make room, and run again",
) -> Iterator[None]:
    """Turn the operating system's refusals to write into a :class:`StorageError` that begins with ``what``."""
    try:
        yield
    except OSError as error:
        raise StorageError(what, found=error.strerror or str(error), expected=expected, remedy=remedy) from error


def settle(part: Path, path: Path) -> None:
    """Give a finished file or folder its name: the bytes first, so that a crash cannot leave a name without them.

    A file takes the place of one that is there; a folder that is there and not empty is an :class:`OSError`.
    """
    files = [one for one in part.rglob("*") if one.is_file()] if part.is_dir() else [part]
    with ThreadPoolExecutor(min(len(files), 8) or 1) as pool:  # the system writes together what is asked for together
        list(pool.map(_sync, files))
    part.replace(path)


def _sync(path: Path) -> None:
    with path.open("rb+") as stream:
        os.fsync(stream.fileno())


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
        with writing(f"cannot write {path}"):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield part
            settle(part, path)
    finally:
        with suppress(OSError):
            part.unlink()


def write_bytes(path: Path, data: bytes) -> None:
    """Write ``data`` to ``path`` as :func:`atomic_path` does."""
    with atomic_path(path) as part:
        part.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """Write ``text`` as UTF-8 to ``path`` as :func:`atomic_path` does."""
    write_bytes(path, text.encode())


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """A folder beside ``folder`` to fill; it becomes ``folder`` only when the block ends without an error.

    Missing parents are made, and removed again when the block fails.

    Raises:
        StorageError: when ``folder`` exists, or cannot be made; nothing is left then.
    """
    if os.path.lexists(folder):
        raise StorageError(
            f"{folder} exists already",
            expected="a folder that is not there yet: nothing is overwritten",
            remedy="choose another name, or move it away",
        )
    target = folder.absolute()
    part = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.part")
    made: list[Path] = []
    try:
        with writing(
            f"cannot write {folder}",
            expected="a new folder in a writable place with free space",
            remedy="nothing was written; choose another place or make room, and run again",
        ):
            made = [parent for parent in target.parents if not parent.exists()]  # from the innermost outwards
            part.mkdir(parents=True)
            yield part
            settle(part, target)
            made = []
    finally:
        shutil.rmtree(part, ignore_errors=True)
        for parent in made:
            with suppress(OSError):  # it holds something of another process
                parent.rmdir()
