"""Changes as they are entered and added up; the changed model as a file, with a record of them, and as code."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from resnet8 import results
from resnet8.environment import Environment, current
from resnet8.errors import QuantizationError, StorageError
from resnet8.evaluation import record_path
from resnet8.files import read_bytes, write_bytes
from resnet8.network.change import Change, apply
from resnet8.network.onnx_write import to_onnx
from resnet8.results import SCHEMA_VERSION, STRICT, ModelDescription

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from resnet8.network.change import Field
    from resnet8.network.program import Program
    from resnet8.playground.opened import Opened

BIASES_LOST = "in ONNX a quantized layer's bias is int32, so a code may differ by one step"
ROUNDING_LOST = "ONNX has no place for a rounding: QuantizeLinear rounds half to even, and so does the file"


@dataclass(frozen=True)
class ChangeRecord:
    """What was changed in a model.

    Attributes:
        source: The model that was changed.
        reference: The float model that weights were quantized anew from; none where there was none.
        changes: In the order they were applied.
        model_sha256: Of the file that came of it.
        not_in_the_file: What of the changes the file does not hold, and why.
        code: Python that makes the same change.
    """

    source: ModelDescription
    reference: ModelDescription | None
    changes: tuple[Change, ...]
    model_sha256: str
    not_in_the_file: tuple[str, ...]
    code: str
    environment: Environment
    created: str
    kind: Literal["change"] = "change"
    schema_version: Literal[1] = SCHEMA_VERSION
    __pydantic_config__ = STRICT


def entered(tensor: str, field: Field, value: object, channel: str = "") -> Change:
    """A change as it was entered: texts become numbers.

    Args:
        tensor: Its name.
        field: What is changed.
        value: A number or its text; the name of a rounding.
        channel: The number of an output channel as text; blank for all.

    Raises:
        QuantizationError: when a text is no number, or no whole one where that is needed.
    """
    text = channel.strip()
    if text and not (text.isdecimal() and len(text) < 10):
        raise QuantizationError(
            "the channel is no number",
            found=f"{text:.40}",
            expected="the number of an output channel, from 0",
            remedy="leave it empty for all channels",
        )
    change = Change(tensor, field, str(value).strip(), int(text) if text else None)
    if field == "rounding":
        return change
    return replace(change, value=change.whole() if field in ("zero_point", "bits") else change.number())


def added(before: Iterable[Change], change: Change) -> tuple[Change, ...]:
    """``before`` and ``change``, which replaces an earlier one of the same tensor, field and channel."""
    same = (change.tensor, change.field, change.channel)
    return (*(one for one in before if (one.tensor, one.field, one.channel) != same), change)


def beside(model: Path, name: str) -> Path:
    """The file called ``name`` in the folder of ``model``: a name, and no path out of it.

    Raises:
        StorageError: when it is none, or one that some system has no file for.
    """
    if not _NAME.fullmatch(name) or _RESERVED.match(name) or len(os.fsencode(name)) > LONGEST:
        raise StorageError(
            f"{name!r:.60} is no name for the model",
            found=f"{len(name)} characters" if len(name) > LONGEST // 4 else None,
            expected=f"letters, digits, dots, dashes, underscores and spaces, up to {LONGEST} bytes; no folder",
            remedy=f"it is written to {model.parent}; choose another name",
        )
    return model.with_name(name)


LONGEST = 200
"""Bytes of a name; behind it comes what tells the record, and a part that is not finished."""
_NAME = re.compile(r"\w[\w .()+-]*")
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d) *(\.|$)", re.IGNORECASE)  # devices on Windows


def save(path: Path, opened: Opened, changes: Sequence[Change], real: Opened | None = None) -> ChangeRecord:
    """Write a model with ``changes`` to ``path`` as ONNX, and beside it ``path``.json, the record.

    Nothing that is there is overwritten, but for this very model without its record, as a process leaves it that ends
    between the two; where the record cannot be written the model goes too.

    Args:
        path: The new file.
        opened: The model that is changed, ONNX or TorchScript.
        changes: As for :func:`resnet8.network.change.apply`.
        real: The float model, where weights are quantized anew from its numbers.

    Raises:
        ModelError: when ``opened`` is not quantized, or ``real`` not the model behind it.
        QuantizationError: when a change makes no sense.
        StorageError: when ``path`` does not end in .onnx, or one of the files is there already or cannot be written.
    """
    if path.suffix != ".onnx":
        raise StorageError(
            f"{path} is no name for the model",
            found=f"the ending {path.suffix!r}" if path.suffix else "no ending",
            expected="a name that ends in .onnx",
            remedy="choose another name",
        )
    record_file = record_path(path)
    changed = apply(opened.require_quantized(), changes, None if real is None else opened.reference(real))
    content = to_onnx(changed).SerializeToString()
    # A link that leads nowhere is there too: what it names would be written.
    there = [one for one in (path, record_file) if os.path.lexists(one)]
    if there and not (there == [path] and not path.is_symlink() and read_bytes(path) == content):
        raise StorageError(
            f"{there[0]} is there already",
            found="a file of that name",
            expected="a new name: nothing is overwritten",
            remedy="choose another name",
        )
    record = ChangeRecord(
        source=opened.description,
        reference=None if real is None else real.description,
        changes=tuple(changes),
        model_sha256=results.sha256(content),
        not_in_the_file=_lost(changed),
        code=equivalent(opened, changes, real),
        environment=current(),
        created=results.now(),
    )
    write_bytes(path, content)
    try:
        results.save(record, record_file)
    except BaseException:
        with suppress(OSError):
            path.unlink()
        raise
    return record


def _lost(changed: Program) -> tuple[str, ...]:
    """What of ``changed`` an ONNX file cannot hold."""
    biases = [layer.name for layer in changed.real_biases]
    return (
        *(f"{one.output.name}: rounding {one.rounding}; {ROUNDING_LOST}" for one in changed.layers if one.rounding),
        *([f"the float biases of {', '.join(biases)}; {BIASES_LOST}"] if biases else []),
    )


def equivalent(opened: Opened, changes: Sequence[Change], real: Opened | None = None) -> str:
    """Python code that opens a model and makes ``changes``, as :func:`save`; it leaves the result in ``changed``."""
    files = {"opened": opened.description.path} | ({} if real is None else {"real": real.description.path})
    last = "" if real is None else ", opened.reference(real)"
    lines = [
        "from pathlib import Path",
        "",
        "from resnet8.network.change import Change, apply",
        "from resnet8.playground.opened import open_file",
        "",
        *(f"{name} = open_file(Path({path!r}))" for name, path in files.items()),
        "changes = [",
        *(f"    {_code(change)}," for change in changes),
        "]",
        f"changed = apply(opened.require_quantized(), changes{last})",
    ]
    return "\n".join(lines) + "\n"


def _code(change: Change) -> str:
    channel = "" if change.channel is None else f", channel={change.channel!r}"
    return f"Change({change.tensor!r}, {change.field!r}, {change.value!r}{channel})"
