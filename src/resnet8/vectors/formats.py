"""Arrays as files that other tools read: .npz, hex for Verilog's ``$readmemh``, C headers; and a folder of them."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from resnet8.vectors.manifest import ArrayRecord

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

_PER_LINE = 16
_INT32_MIN = -(2**31)


@dataclass(frozen=True, eq=False)
class Field:
    """A named array.

    Attributes:
        name: An identifier.
        values: Integers of 8, 16, 32 or 64 bits, any shape; 0-d for a single number.
        order: Its axes, outermost first, separated by commas; empty for a single number. A single number that has an
            order could be several: in C it is an array too.
        note: What else people must know of the numbers, where there is something.
    """

    name: str
    values: NDArray[Any]
    order: str = ""
    note: str = ""

    @property
    def title(self) -> str:
        """Name, type, shape and axes, for people."""
        shape = "x".join(map(str, self.values.shape))
        words = f"{self.name}: {self.values.dtype}" + (f" {shape} ({self.order})" if shape else "")
        return words + (f"; {self.note}" if self.note else "")

    @property
    def record(self) -> ArrayRecord:
        """The same for programs."""
        dtype = self.values.dtype
        return ArrayRecord(dtype.name, 8 * dtype.itemsize, dtype.kind == "i", self.values.shape, self.order)


class Writer:
    """Writes files below ``folder``.

    Attributes:
        digests: Hex SHA-256 of each file, by its path in the folder.
        records: How to read each file of hex, likewise.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.digests: dict[str, str] = {}
        self.records: dict[str, ArrayRecord] = {}

    def write(self, path: str, content: bytes) -> None:
        """Write one file."""
        target = self._folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
        self.digests[path] = hashlib.sha256(content).hexdigest()

    def arrays(
        self, path: str, prefix: str, headers: Mapping[str, Iterable[Field]], others: Iterable[Field] = ()
    ) -> None:
        """Write a folder of arrays: all in one .npz, each as hex, and as C headers.

        Args:
            path: The folder.
            prefix: Of every name in C.
            headers: What each header holds, by its name.
            others: Arrays, written before those, that no header holds.
        """
        fields = (*others, *(field for part in headers.values() for field in part))
        self.write(f"{path}/vectors.npz", npz(fields))
        for field in fields:
            self.write(f"{path}/{field.name}.hex", hex_lines(path, field))
            self.records[f"{path}/{field.name}.hex"] = field.record
        for name, part in headers.items():
            self.write(f"{path}/{name}.h", c_header(f"{prefix}_{name}_H", prefix, part))


def npz(fields: Iterable[Field]) -> bytes:
    """The fields as a compressed .npz without pickles; the same bytes for the same fields."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **{field.name: field.values for field in fields})
    return buffer.getvalue()


def hex_lines(path: str, field: Field) -> bytes:
    """The field for ``$readmemh``: each value on a line, two's complement, two hex digits a byte.

    A comment before them says what they are, and of which ``path``.
    """
    width = field.values.dtype.itemsize
    digits = field.values.astype(field.values.dtype.newbyteorder(">")).tobytes().hex().encode()
    lines = np.full((field.values.size, 2 * width + 1), ord("\n"), np.uint8)
    lines[:, :-1] = np.frombuffer(digits, np.uint8).reshape(-1, 2 * width)
    bits = f"{8 * width} bits each" + ("" if field.values.dtype.kind == "u" else ", two's complement")
    return f"// {path}/{field.title}; {bits}\n".encode() + lines.tobytes()


def c_header(guard: str, prefix: str, fields: Iterable[Field]) -> bytes:
    """The fields as a C99 header: arrays as ``static const PREFIX_NAME[]``, single numbers as ``#define PREFIX_NAME``.

    Args:
        guard: Of the header; made upper case.
        prefix: Of every identifier; made upper case for single numbers.
        fields: What it holds.
    """
    body = "\n".join(definition(prefix, field) for field in fields)
    guard = guard.upper()
    return f"#ifndef {guard}\n#define {guard}\n\n#include <stdint.h>\n\n{body}\n#endif\n".encode()


def macro(prefix: str, name: str) -> str:
    """The name of a single number in C."""
    return f"{prefix}_{name}".upper()


def definition(prefix: str, field: Field) -> str:
    """The field in C: ``static const`` array PREFIX_NAME with a comment, or macro of a single number."""
    if not field.values.shape and not field.order:
        return f"#define {macro(prefix, field.name)} ({field.values.item()})\n"
    literal = _word if field.values.dtype == np.uint32 else _literal
    words = [literal(value) for value in field.values.reshape(-1).tolist()]
    rows = (", ".join(words[start : start + _PER_LINE]) for start in range(0, len(words), _PER_LINE))
    return (
        f"/* {field.title} */\nstatic const {field.values.dtype}_t {prefix}_{field.name}[{len(words)}] = {{\n    "
        + ",\n    ".join(rows)
        + "\n};\n"
    )


def _literal(value: int) -> str:
    # C has no negative literals: the digits of the least int32 alone would be a wider integer.
    return f"({_INT32_MIN + 1} - 1)" if value == _INT32_MIN else str(value)


def _word(value: int) -> str:
    return f"0x{value:08x}u"
