"""The standard streams of a process, which may be closed, full, broken, or of an encoding that lacks letters."""

from __future__ import annotations

import io
import os
import sys
from typing import TYPE_CHECKING, Any

from resnet8.errors import StorageError

if TYPE_CHECKING:
    from pathlib import Path


def open_closed() -> None:
    """Let closed streams lead nowhere: else the next file or pipe gets the number of one, and what is printed there."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # it gets the lowest number that is free


def prepare() -> None:
    """Let standard output and error take any text, and never fail; a second time nothing happens.

    Work goes on though nobody reads what is said of it; whether standard output was lost is asked in the end
    (:func:`require_output`). Letters that the encoding lacks are escaped, as Python does on standard error.
    """
    open_closed()
    for name, number in (("stdout", 1), ("stderr", 2)):
        stream = getattr(sys, name)
        if stream is getattr(sys, f"__{name}__"):  # not what somebody put in its place
            lines, encoding = getattr(stream, "line_buffering", False), getattr(stream, "encoding", None)
            setattr(sys, name, _text(_Willing(number, "wb", closefd=False), encoding, lines=lines))


def log(path: Path) -> io.TextIOWrapper:
    """A log to append to, as UTF-8: one that is cut short by a full disk ends no work."""
    return _text(_Willing(path, "ab"), "utf-8", lines=True)


def _text(raw: io.RawIOBase, encoding: str | None, *, lines: bool) -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BufferedWriter(raw), encoding, errors="backslashreplace", line_buffering=lines)


def require_output() -> None:
    """Check that standard output took what was printed; a reader that went away (``| head``) had enough.

    Raises:
        StorageError: when it did not.
    """
    sys.stdout.flush()
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    refusal = raw.refusal if isinstance(raw, _Willing) else None
    if refusal is not None and not isinstance(refusal, BrokenPipeError):
        raise StorageError(
            "cannot write to standard output",
            found=refusal.strerror,
            expected="a place with room",
            remedy="make room, and run again; the files that were asked for are written",
        ) from refusal


class _Willing(io.FileIO):
    """A stream that takes everything: what the system refuses is dropped, and why is kept."""

    refusal: OSError | None = None

    def write(self, data: Any) -> int:
        if self.refusal is None:
            try:
                return super().write(data)
            except OSError as error:
                self.refusal = error
        return memoryview(data).nbytes
