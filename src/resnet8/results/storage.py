"""Results as files: JSON that says what it is, written whole, read back losslessly."""

from __future__ import annotations

import hashlib
import io
import json
import re
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

import numpy as np
from pydantic import ConfigDict, TypeAdapter, ValidationError

from resnet8.errors import ResultError
from resnet8.files import read_bytes, write_bytes, write_text

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


SCHEMA_VERSION: Literal[1] = 1

_UNPAIRED = re.compile("[\ud800-\udfff]")
"""What Python decodes such bytes to."""

STRICT = ConfigDict(extra="forbid", ser_json_inf_nan="constants")
"""Unknown fields are an error; every result's ``__pydantic_config__``."""


class AnyResult(Protocol):
    """A frozen dataclass that says what it is, and in which version of its schema."""

    @property
    def kind(self) -> str:
        """Name of the kind of result."""

    @property
    def schema_version(self) -> int:
        """Version of the schema."""


Result = TypeVar("Result", bound=AnyResult)


def sha256(content: bytes) -> str:
    """Hex SHA-256."""
    return hashlib.sha256(content).hexdigest()


def now() -> str:
    """The time in UTC, ISO 8601, to the second."""
    return datetime.now(UTC).replace(microsecond=0).isoformat()


def digits(classes: NDArray[np.integer[Any]]) -> str:
    """Class indices below ten as one decimal digit each."""
    return (np.asarray(classes, np.uint8) + ord("0")).tobytes().decode("ascii")


def from_digits(text: str) -> NDArray[np.int64]:
    """The int64 class indices that :func:`digits` wrote."""
    return np.frombuffer(text.encode("ascii"), np.uint8).astype(np.int64) - ord("0")


def to_json(result: AnyResult) -> str:
    """The result as indented JSON; lists of plain numbers or words stay on one line.

    Bytes of a file's name that are not UTF-8 are spelled out in it: JSON has no letters for them.
    """
    text = _layout(_adapter(type(result)).dump_python(result, mode="json", by_alias=True)) + "\n"
    return _UNPAIRED.sub(lambda match: rf"\\u{ord(match[0]):x}", text)


def from_json(kind: type[Result], text: str | bytes, source: str) -> Result:
    """The result of type ``kind`` in ``text``, validated.

    Raises:
        ResultError: when it is no JSON, or not a result of this kind and schema version; ``source`` is named.
    """
    refused = ResultError(
        f"{source} is no {kind.__name__.lower()} result of this version",
        expected=f"JSON of kind {kind.__name__.lower()}, schema version {SCHEMA_VERSION}",
        remedy="write it again with this version of resnet8",
    )
    try:
        result: Result = _adapter(kind).validate_json(text)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_input=False)
        # A file of another kind or version lacks fields too: that is not what is wrong with it.
        first = next((one for one in problems if one["loc"] in {("kind",), ("schema_version",)}), problems[0])
        where = ".".join(str(part) for part in first["loc"])
        refused.found = f"{where + ': ' if where else ''}{first['msg']}"
        raise refused from error
    if missing := {"kind", "schema_version"} - fields_of(text).keys():  # they have defaults, for whoever makes a result
        refused.found = f"no {' and no '.join(sorted(missing))}"
        raise refused
    return result


@cache
def _adapter(kind: type[Any]) -> TypeAdapter[Any]:
    return TypeAdapter(kind)  # it compiles a validator: once for each kind


def save(result: AnyResult, path: Path) -> None:
    """Write the result to ``path`` as JSON, whole or not at all.

    Raises:
        StorageError: when it cannot be written.
    """
    write_text(path, to_json(result))


def load(kind: type[Result], path: Path) -> Result:
    """Read a result of type ``kind``.

    Raises:
        StorageError: when the file cannot be read.
        ResultError: as :func:`from_json`.

    Example:
        >>> resnet8.load(Evaluation, Path("results/fp32-onnx.json")).overall.total
        597
    """
    return from_json(kind, read_bytes(path), str(path))


def save_array(array: NDArray[Any], path: Path) -> None:
    """Write an array as .npy, whole or not at all.

    Raises:
        StorageError: when it cannot be written.
    """
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    write_bytes(path, buffer.getvalue())


def fields_of(content: str | bytes) -> dict[str, Any]:
    """The top level of a JSON object; nothing when it is none."""
    try:
        fields = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    return fields if isinstance(fields, dict) else {}


def _layout(value: Any, indent: str = "") -> str:
    inner = indent + "  "
    if isinstance(value, dict) and value:
        items = (f"{inner}{json.dumps(key)}: {_layout(item, inner)}" for key, item in value.items())
        return "{\n" + ",\n".join(items) + f"\n{indent}}}"
    if isinstance(value, list) and any(isinstance(item, dict | list) for item in value):
        return "[\n" + ",\n".join(inner + _layout(item, inner) for item in value) + f"\n{indent}]"
    return json.dumps(value, ensure_ascii=False)
