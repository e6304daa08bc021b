"""A folder of vectors on the disk: whole or not at all, each array in the forms its readers want."""

from __future__ import annotations

import hashlib
import os
import shutil
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from resnet8.errors import StorageError
from resnet8.integer.vectors import formats

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from resnet8.integer.vectors.formats import Field
    from resnet8.integer.vectors.golden import Golden


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
            remedy="choose another with --output, or move it away",
        )
    target = folder.absolute()
    part = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.part")
    made: list[Path] = []
    try:
        made = [parent for parent in target.parents if not parent.exists()]  # from the innermost outwards
        part.mkdir(parents=True)
        yield part
        _settle(part)
        part.rename(target)
        made = []
    except OSError as error:
        raise StorageError(
            f"cannot write {folder}",
            found=error.strerror or str(error),
            expected="a new folder in a writable place with free space",
            remedy="nothing was written; choose another place or make room, and run again",
        ) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
        for parent in made:
            with suppress(OSError):  # it holds something of another process
                parent.rmdir()


def _settle(folder: Path) -> None:
    """Let the files reach the disk before their folder gets its name."""

    def sync(path: Path) -> None:
        with path.open("rb+") as stream:
            os.fsync(stream.fileno())

    with ThreadPoolExecutor(8) as pool:  # the system writes together what is asked for together
        list(pool.map(sync, (path for path in folder.rglob("*") if path.is_file())))


class Writer:
    """Writes files below ``folder``.

    Attributes:
        digests: Hex SHA-256 of each file, by its path in the folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.digests: dict[str, str] = {}

    def write(self, path: str, content: bytes) -> None:
        """Write one file."""
        target = self._folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
        self.digests[path] = hashlib.sha256(content).hexdigest()

    def arrays(self, path: str, prefix: str, fields: Sequence[Field], headers: dict[str, Sequence[Field]]) -> None:
        """Write a folder of arrays: all in one .npz, each as hex, and as C headers.

        Args:
            path: The folder.
            prefix: Of every name in C.
            fields: All arrays.
            headers: What each header holds, by its name.
        """
        self.write(f"{path}/vectors.npz", formats.npz(fields))
        for field in fields:
            self.write(f"{path}/{field.name}.hex", formats.hex_lines(path, field))
        for name, part in headers.items():
            self.write(f"{path}/{name}.h", formats.c_header(f"{prefix}_{name}_H", prefix, part))

    def layer(self, path: str, one: Golden, *, own_input: bool) -> None:
        """Write a layer's folder; in the network, the header of its input is that of the layer that writes it."""
        headers: dict[str, Sequence[Field]] = {"parameters": one.parameters, "expected": one.expected}
        if own_input:
            headers["input"] = one.inputs
        self.arrays(path, one.folder, (*one.inputs, *one.parameters, *one.expected), headers)
