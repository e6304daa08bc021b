"""Files that appear whole or not at all, and their digests."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import stat
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from resnet8.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from io import BufferedReader
    from typing import BinaryIO

_PART = re.compile(r"\.resnet8-[0-9a-f]{16}\.part")

LARGEST = 256 * 2**20
"""Bytes of a file that is read here, at most: more than any input has, and less than any machine's memory."""


@contextmanager
def opened(path: Path) -> Iterator[BufferedReader]:
    """The file, open to be read: a regular one of limited size, for a device or FIFO may have no end.

    Raises:
        StorageError: when it is anything else, or cannot be read.
    """
    with reading(path):
        status = path.stat()  # before it is opened, for that waits for a FIFO's writer
        if not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
            raise StorageError(
                f"{path} cannot be read as a file",
                found="a device, FIFO or socket",
                expected="a regular file",
                remedy="copy what it gives to a file, and name that",
            )
        if status.st_size > LARGEST:
            raise StorageError(
                f"{path} is too large",
                found=f"{status.st_size:,} bytes",
                expected=f"at most {LARGEST:,}",
                remedy="check the path",
            )
        with path.open("rb") as stream:
            yield stream


def sha256_file(path: Path) -> str:
    """Hex SHA-256 of the file's bytes.

    Raises:
        StorageError: as :func:`opened`.
    """
    with opened(path) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def read_bytes(path: Path) -> bytes:
    """The file's bytes.

    Raises:
        StorageError: as :func:`opened`.
    """
    with opened(path) as stream:
        return stream.read()


def read_text(path: Path) -> str:
    """The file's text.

    Raises:
        StorageError: as :func:`opened`, or when it is not UTF-8.
    """
    try:
        return read_bytes(path).decode()
    except UnicodeDecodeError as error:
        raise StorageError(f"{path} is no text", found=str(error), expected="UTF-8", remedy="convert it") from error


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


def clear(folder: Path | None = None) -> None:
    """Remove from ``folder``, or where the system keeps temporary files, what dead processes have left unfinished.

    While a part is written its writer holds a lock on it, which the system gives back when the writer ends, however it
    ends and whatever container it is in. On a file system without such locks nothing is removed.
    """
    with suppress(OSError):
        for path in (folder or _temporary()).iterdir():
            if _PART.fullmatch(path.name):
                with suppress(OSError), _locked(path):
                    _remove(path)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the lock of a file or folder; an :class:`OSError` when it is another's, or there is none."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def _temporary() -> Path:
    import tempfile  # it takes other modules, for what few commands do

    return Path(tempfile.gettempdir())


def _remove(part: Path) -> None:
    try:
        with suppress(OSError):
            part.unlink()
        shutil.rmtree(part, ignore_errors=True)
    except BaseException:  # an interrupt in this very moment
        _remove(part)
        raise


@contextmanager
def _part(folder: Path, make: Callable[[Path], None]) -> Iterator[Path]:
    """Something in ``folder`` that the block may write, and give a name by :func:`settle`; else it is removed.

    Args:
        folder: Where it is; what the dead left there is removed.
        make: Makes a file or folder of a name that is not there.
    """
    clear(folder)
    with ExitStack() as stack:
        while True:
            part = folder / f".resnet8-{os.urandom(8).hex()}.part"
            stack.callback(_remove, part)
            make(part)
            try:
                stack.enter_context(_locked(part))
            except (FileNotFoundError, BlockingIOError):
                continue  # in this moment without a lock it was taken for a leftover, and cleared
            except OSError:
                break  # a file system without locks
            if part.exists():
                break
        yield part


@contextmanager
def scratch_folder(parent: Path | None = None) -> Iterator[Path]:
    """A folder for what is needed in the block only, below ``parent`` or where the system keeps temporary files.

    Raises:
        StorageError: when it cannot be made, or has no room left when the block fails, whatever a library made of that.
    """
    place = partial(writing, "cannot write temporary files", remedy="make room, or name another place with TMPDIR")
    with ExitStack() as stack:
        with place():
            folder = parent or _temporary()
            folder = stack.enter_context(_part(folder, lambda part: part.mkdir(mode=0o700)))
        try:
            yield folder
        except Exception:
            if parent is None:
                with place():
                    (folder / "room").write_bytes(bytes(_ROOM))
            raise


_ROOM = 4 * 2**20
"""Bytes that there is room for beside what was written, or a temporary folder counts as full."""


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """An empty file beside ``path`` to write to; it becomes ``path`` only when the block ends without an error.

    Missing parent folders are made. The data reaches the disk before the name does, so a crash leaves the old file or
    the new one, never a part. A symbolic link stays; what it names is written.

    Raises:
        StorageError: when the disk is full, the folder is not writable, and the like; ``path`` is then unchanged.
    """
    path = _followed(path)
    with writing(f"cannot write {path}"):
        path.parent.mkdir(parents=True, exist_ok=True)
        with _part(path.parent, lambda part: part.touch(exist_ok=False)) as part:
            yield part
            settle(part, path)


def _followed(path: Path) -> Path:
    """``path``, or where it leads to as a symbolic link, whether that is there or not."""
    with writing(f"cannot write {path}"), suppress(FileNotFoundError):
        path.stat()  # a circle of links leads nowhere
    return Path(os.path.realpath(path)) if path.is_symlink() else path


def _stream(path: Path) -> BinaryIO | None:
    """What takes the data of a ``path`` that is no file: a device, a FIFO, or this process's own output.

    None of them may be replaced; the output (``/dev/stdout``) not even where it is a file.
    """
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    for number in (1, 2):
        with suppress(OSError):
            if os.path.samestat(status, os.fstat(number)):
                return os.fdopen(os.dup(number), "wb")  # where it is, not at its beginning
    return None if stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode) else path.open("wb")


def write_bytes(path: Path, data: bytes) -> None:
    """Write ``data`` to ``path`` as :func:`atomic_path` does; to a device or FIFO, as it comes.

    Raises:
        StorageError: when it cannot be written.
    """
    with writing(f"cannot write {path}"):
        stream = _stream(path)
        if stream is not None:
            with stream:
                stream.write(data)
            return
    with atomic_path(path) as part:
        part.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """Write ``text`` as UTF-8 to ``path`` as :func:`write_bytes` does; of a name that is not UTF-8, the escapes."""
    write_bytes(path, text.encode(errors="backslashreplace"))


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
    made: list[Path] = []
    try:
        with writing(
            f"cannot write {folder}",
            expected="a new folder in a writable place with free space",
            remedy="nothing was written; choose another place or make room, and run again",
        ):
            made = [parent for parent in target.parents if not parent.exists()]  # from the innermost outwards
            target.parent.mkdir(parents=True, exist_ok=True)
            with _part(target.parent, Path.mkdir) as part:
                yield part
                settle(part, target)
            made = []
    finally:
        for parent in made:
            with suppress(OSError):  # it holds something of another process
                parent.rmdir()
