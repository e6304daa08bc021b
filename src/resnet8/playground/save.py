"""The changed model as a file, with a record of what was changed, and as code."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from resnet8 import results
from resnet8.environment import Environment, current
from resnet8.errors import StorageError
from resnet8.evaluation import record_path
from resnet8.files import reading, write_bytes
from resnet8.network.onnx_write import to_onnx
from resnet8.playground.change import Change, apply
from resnet8.playground.network import reference
from resnet8.results import SCHEMA_VERSION, STRICT, ModelDescription

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from resnet8.network.program import Program
    from resnet8.playground.network import Network

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


def save(
    path: Path,
    network: Network,
    changes: Sequence[Change],
    float_network: Network | None = None,
) -> ChangeRecord:
    """Write ``network`` with ``changes`` to ``path`` as ONNX, and beside it ``path``.json, the record.

    Nothing that is there is overwritten, and where the record cannot be written the model goes too.

    Args:
        path: The new file.
        network: The model that is changed, ONNX or TorchScript.
        changes: As for :func:`resnet8.playground.change.apply`.
        float_network: The float model, where weights are quantized anew from its numbers.

    Raises:
        ModelError: when ``network`` is not quantized, or ``float_network`` not the model behind it.
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
    for one in (path, record_file):
        with reading(one):
            taken = one.exists()
        if taken:
            raise StorageError(
                f"{one} is there already",
                found="a file of that name",
                expected="a new name: nothing is overwritten",
                remedy="choose another name",
            )
    original = network.require_quantized()
    real = None if float_network is None else reference(network, float_network)
    changed = apply(original, changes, real)
    content = to_onnx(changed).SerializeToString()
    record = ChangeRecord(
        source=network.description,
        reference=None if float_network is None else float_network.description,
        changes=tuple(changes),
        model_sha256=results.sha256(content),
        not_in_the_file=_lost(changed),
        code=equivalent(network, changes, float_network),
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


def equivalent(network: Network, changes: Sequence[Change], float_network: Network | None = None) -> str:
    """Python code that opens ``network`` and makes ``changes``; it leaves the result in ``changed``.

    Args:
        network: The model that is changed.
        changes: What is changed.
        float_network: The float model, where weights are quantized anew from its numbers.
    """
    imports = "open_network" if float_network is None else "open_network, reference"
    lines = [
        "from pathlib import Path",
        "",
        "from resnet8.playground.change import Change, apply",
        f"from resnet8.playground.network import {imports}",
        "",
        f"network = open_network(Path({network.description.path!r}))",
    ]
    if float_network is not None:
        lines.append(f"real = reference(network, open_network(Path({float_network.description.path!r})))")
    lines.append("changes = [")
    lines += [f"    {_code(change)}," for change in changes]
    lines.append("]")
    last = "" if float_network is None else ", real"
    lines.append(f"changed = apply(network.require_quantized(), changes{last})")
    return "\n".join(lines) + "\n"


def _code(change: Change) -> str:
    channel = "" if change.channel is None else f", channel={change.channel!r}"
    return f"Change({change.tensor!r}, {change.field!r}, {change.value!r}{channel})"
