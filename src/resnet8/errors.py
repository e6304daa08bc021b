"""The exception family: every failure a user can cause or meet, in one line that says four things.

What was wrong, what was found, what was expected, and what to do. The command line prints ``str(error)`` and exits with
``error.exit_code``; anything that is not a :class:`Resnet8Error` is a bug in this package.
"""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


class Resnet8Error(Exception):
    """Base of all errors that this package raises on purpose.

    Args:
        what: What was wrong, naming the file or value concerned.
        found: What was there instead.
        expected: What should have been there.
        remedy: What the user can do about it.
    """

    exit_code = 1

    def __init__(
        self, what: str, *, found: str | None = None, expected: str | None = None, remedy: str | None = None
    ) -> None:
        super().__init__(what)
        self.what = what
        self.found = found
        self.expected = expected
        self.remedy = remedy

    def __str__(self) -> str:
        facts = [
            f"{label} {value}"
            for label, value in (("found", self.found), ("expected", self.expected))
            if value is not None
        ]
        text = self.what + (f": {', '.join(facts)}" if facts else "")
        text += f"; {self.remedy}" if self.remedy else ""
        return " ".join(text.split())  # one line, whatever a library's message held

    def __reduce__(self) -> tuple[object, ...]:
        # Keyword arguments survive the way back from a worker process.
        return partial(type(self), self.what, found=self.found, expected=self.expected, remedy=self.remedy), ()


class DataError(Resnet8Error):
    """Images, labels or calibration samples that cannot be used."""


class ModelError(Resnet8Error):
    """A model file that is missing, unreadable, unsafe, or not a ResNet8."""


class ConversionError(Resnet8Error):
    """A conversion whose result is not equivalent to its source."""


class QuantizationError(Resnet8Error):
    """A recipe that cannot be applied."""


class BackendRefusal(QuantizationError):  # noqa: N818 - it is the outcome of an experiment as much as an error
    """The backend does not compute with the recipe's data types; ``found`` holds its own words."""


class ResultError(Resnet8Error):
    """A result file that cannot be read, or results that cannot be compared."""


class DownloadError(Resnet8Error):
    """A file that could not be fetched, or is not what it should be."""


class StorageError(Resnet8Error):
    """A file or folder that cannot be written or read."""


class MissingExtraError(Resnet8Error):
    """A framework that the chosen command needs and that is not installed."""


class WorkerError(Resnet8Error):
    """A worker process that ended without an answer."""


@contextmanager
def opening(path: object, reader: str) -> Iterator[None]:
    """The boundary where a file becomes a network: what a library raises here is said of the file.

    Args:
        path: Names the file.
        reader: Who reads it, for people.

    Raises:
        ModelError: for any exception that is not this project's own.
    """
    try:
        yield
    except Resnet8Error:
        raise
    except Exception as error:
        raise ModelError(
            f"{path} cannot be opened by {reader}",
            found=f"{type(error).__name__}: {error!s:.200}",
            expected="a complete model file",
            remedy="it is damaged or of another version; make it again",
        ) from error


def missing_extra(package: str, extra: str) -> MissingExtraError:
    """The error for ``package`` not being installed, naming the ``extra`` of this project that brings it."""
    wheel = f"resnet8-{version('resnet8')}-py3-none-any.whl"
    return MissingExtraError(
        f"this needs the package {package}",
        found="it is not installed",
        remedy=f"in a checkout run «uv sync»; elsewhere install the wheel again with its extra: "
        f"pip install '{wheel}[{extra}]'",
    )
