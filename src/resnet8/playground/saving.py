"""A changed model as a file, with a record of what was changed, and as code."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from resnet8 import results
from resnet8.batches import batched
from resnet8.environment import Environment, current
from resnet8.errors import StorageError
from resnet8.evaluation import record_path
from resnet8.execute import native
from resnet8.facts import CLASSES
from resnet8.files import read_bytes, reading, write_bytes
from resnet8.network.change import Change, apply
from resnet8.network.onnx_write import to_onnx
from resnet8.playground.opened import open_content
from resnet8.results import SCHEMA_VERSION, STRICT, ModelDescription
from resnet8.words import percent

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from resnet8.network.program import Program
    from resnet8.playground.opened import Opened

BIASES_LOST = "in ONNX a quantized layer's bias is int32"
ROUNDING_LOST = "ONNX has no place for a rounding: QuantizeLinear rounds half to even, and so does the file"

TRIED = 500
"""Test images that are run, at most, to see what a file does otherwise that does not hold everything."""


@dataclass(frozen=True)
class Difference:
    """What a file computes otherwise than the network that was changed.

    Attributes:
        images: Test images that both were run on.
        classes_changed: How many of them have another class.
        logits_changed: Share of the codes of class scores that are others, 0 to 1.
        largest: How far one of them is off, in code steps.
    """

    images: int
    classes_changed: int
    logits_changed: float
    largest: int

    def __str__(self) -> str:
        """``on 500 test images 14 change class; 72.00 % of the logit codes differ, by up to 4``."""
        if not self.largest:
            return f"on {self.images:,} test images no logit code differs"
        change = "changes" if self.classes_changed == 1 else "change"
        return (
            f"on {self.images:,} test images {self.classes_changed} {change} class; "
            f"{percent(self.logits_changed)} of the logit codes differ, by up to {self.largest}"
        )


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
        difference: What the file computes otherwise for that; none where it holds everything, or no images were given.
    """

    source: ModelDescription
    reference: ModelDescription | None
    changes: tuple[Change, ...]
    model_sha256: str
    not_in_the_file: tuple[str, ...]
    code: str
    environment: Environment
    created: str
    difference: Difference | None = None
    kind: Literal["change"] = "change"
    schema_version: Literal[1] = SCHEMA_VERSION
    __pydantic_config__ = STRICT

    @property
    def notice(self) -> str:
        """What the file does not hold, and what comes of that; empty where it holds everything."""
        if not self.not_in_the_file:
            return ""
        told = "what it computes otherwise was not measured" if self.difference is None else str(self.difference)
        return f"Not in the file: {'; '.join(self.not_in_the_file)}; {told}"

    @property
    def sentence(self) -> str:
        """``resnet8_int8.onnx with 2 changes: conv1 scale 0.05, conv1 bits 4``; the first :data:`SHOWN` of them."""
        count, name = len(self.changes), Path(self.source.path).name
        if not count:
            return f"{name} as it is"
        told = [*map(_told, self.changes[:SHOWN]), *([f"{count - SHOWN} more"] if count > SHOWN else [])]
        return f"{name} with {count} change{'s' if count > 1 else ''}: {', '.join(told)}"


SHOWN = 3


def _told(change: Change) -> str:
    channel = "" if change.channel is None else f" of channel {change.channel}"
    value = f"{change.value:.6g}" if isinstance(change.value, float) else change.value
    return f"{change.tensor} {change.field.replace('_', ' ')}{channel} {value}"


def beside(model: Path, name: str) -> Path:
    """The file called ``name`` in the folder of ``model``: a name, and no path out of it.

    Raises:
        StorageError: when it is none, or one that some system has no file for.
    """
    if not _possible(name):
        raise StorageError(
            f"{name!r:.60} is no name for the model",
            found=f"{len(name)} characters" if len(name) > LONGEST // 4 else None,
            expected=f"letters, digits, dots, dashes, underscores and spaces, up to {LONGEST} bytes; no folder",
            remedy=f"it is written to {model.parent}; choose another name",
        )
    return model.with_name(name)


def _possible(name: str) -> bool:
    return bool(_NAME.fullmatch(name)) and not _RESERVED.match(name) and len(os.fsencode(name)) <= LONGEST


LONGEST = 200
"""Bytes of a name; behind it comes what tells the record, and a part that is not finished."""
_NAME = re.compile(r"\w[\w .()+-]*")
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d) *(\.|$)", re.IGNORECASE)  # devices on Windows


def free_name(model: Path, existing: Iterable[str] = ()) -> str:
    """A name for ``model`` with changes that is free: ``resnet8_int8_changed.onnx``, then ``…_changed-2.onnx``.

    For a .pt file it is ``resnet8_int8_changed_pt.onnx``, so that no two files of a folder are offered the same name.
    Where the file's own name is none for :func:`beside`, ``changed`` stands for it.

    Args:
        model: The file that is changed, in whose folder the names of files and of records are taken.
        existing: Other names that are taken.

    Raises:
        StorageError: when the folder cannot be read.
    """
    with reading(model.parent):
        # Whatever the case: some systems make no difference.
        taken = {name.casefold() for name in (*(one.name for one in model.parent.iterdir()), *existing)}
    base = f"{model.stem}_changed" + (f"_{model.suffix[1:]}" if model.suffix != ".onnx" else "")
    base = base if _possible(f"{base}-9999.onnx") else "changed"
    names = (f"{base}{'' if number == 1 else f'-{number}'}.onnx" for number in count(1))
    return next(one for one in names if taken.isdisjoint({one.casefold(), record_path(Path(one)).name.casefold()}))


def save(
    path: Path,
    opened: Opened,
    changes: Sequence[Change],
    real: Opened | None = None,
    images: NDArray[np.uint8] | None = None,
) -> ChangeRecord:
    """Write a model with ``changes`` to ``path`` as ONNX, and beside it ``path``.json, the record.

    Nothing that is there is overwritten, but for this very model without its record, as a process leaves it that ends
    between the two; where the record cannot be written the model goes too. Where the file does not hold everything, it
    is run and the changed network too, before anything is written, and the record says what differs.

    Args:
        path: The new file.
        opened: The model that is changed, ONNX or TorchScript.
        changes: As for :func:`resnet8.network.change.apply`.
        real: The float model, where weights are quantized anew from its numbers.
        images: Test images, uint8 (N, 32, 32, 3), of which the first :data:`TRIED` are run; none for no measurement.

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
    lost = _lost(changed)
    record = ChangeRecord(
        source=opened.description,
        reference=None if real is None else real.description,
        changes=tuple(changes),
        model_sha256=results.sha256(content),
        not_in_the_file=lost,
        code=equivalent(opened, changes, real),
        environment=current(),
        created=results.now(),
        difference=_difference(changed, open_content(path, content).network, images[:TRIED])
        if lost and images is not None and len(images)
        else None,
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


def _difference(changed: Program, written: Program, images: NDArray[np.uint8]) -> Difference:
    """What ``written`` computes otherwise than ``changed`` of ``images``; their class scores are on one grid."""

    def counted(part: slice) -> tuple[int, int, int]:
        codes = [native.run(one, images[part]) for one in (changed, written)]
        mine, theirs = (
            native.probabilities(one, logits).argmax(axis=1)
            for one, logits in zip((changed, written), codes, strict=True)
        )
        apart = np.abs(codes[0].astype(np.int64) - codes[1])
        return int((mine != theirs).sum()), int((apart != 0).sum()), int(apart.max())

    classes, logits, largest = zip(*batched(counted, len(images)), strict=True)
    return Difference(len(images), sum(classes), sum(logits) / (CLASSES * len(images)), max(largest))


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
