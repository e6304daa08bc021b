"""A quantized network as a C99 library for microcontrollers: integers alone, one static block of memory, no heap.

The arithmetic is :mod:`resnet8.execute.engine`'s with fixed-point multipliers; the library's check predicts images
whose logits the engine computed when it was written.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from resnet8.execute import engine
from resnet8.export.c_layers import FORMS, HIGH, WIDE, constants, shifted
from resnet8.export.plan import plan, separate
from resnet8.files import whole_folder
from resnet8.vectors import require_integers
from resnet8.vectors.csource import enumerator, template
from resnet8.vectors.formats import Field, Writer, c_header, definition
from resnet8.vectors.golden import identifier
from resnet8.vectors.readme import ROUNDING_WORDS

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from resnet8.data.cifar10 import Split
    from resnet8.export.c_layers import Constants
    from resnet8.export.plan import Plan, Step
    from resnet8.network.program import Program
    from resnet8.network.tensors import Activation
    from resnet8.numeric.variants import Requantization
    from resnet8.results import ModelDescription

_UNCHANGED = (
    "Makefile",
    "CMakeLists.txt",
    "resnet8_kernels.c",
    "resnet8_kernels.h",
    "check/board.h",
    "check/host.c",
    "check/cortex_m4.c",
    "check/mps2_an386.ld",
)
"""Files that do not depend on the network."""

_CALLS = {
    "conv": "convolve",
    "dense": "convolve",
    "add": "add",
    "mul": "multiply",
    "rescale": "multiply",
    "average-pool": "average",
}
_COLUMN_BYTES = 2 * 4 * 2
"""Of two columns, four codes of 16 bits each."""


@dataclass(frozen=True)
class Library:
    """What was written.

    Attributes:
        steps: Layers, a sum that is computed with the layer before it not counted.
        parameters: Bytes of the constants: weights as they are packed, biases, multipliers, shifts.
        memory: Bytes of the static memory: columns and codes.
        live: Bytes of codes that are needed at once, at most.
    """

    steps: int
    parameters: int
    memory: int
    live: int


@dataclass(frozen=True, eq=False)
class _Export:
    """What the files are made of.

    Attributes:
        program: The network.
        schedule: How it runs.
        layers: The constants of each step.
        how: The requantization.
        split: The images that the check predicts.
        model: The file that the program is from.
    """

    program: Program
    schedule: Plan
    layers: tuple[Constants, ...]
    how: Requantization
    split: Split
    model: ModelDescription

    @property
    def library(self) -> Library:
        groups = max(one.groups for one in self.layers)
        return Library(
            steps=len(self.layers),
            parameters=sum(one.bytes for one in self.layers) + 2**8,
            memory=groups * _COLUMN_BYTES + self.schedule.size,
            live=self.schedule.live,
        )

    @property
    def names(self) -> dict[str, object]:
        """What templates call by the same name."""
        logits = self.program.logits
        return {
            "model": _plain(self.model.path),
            "sha256": self.model.sha256,
            "requantization": self.how.name,
            "pixels": prod(self.program.input.shape),
            "classes": prod(logits.shape),
            "logit": f"{logits.dtype}_t",
            "images": len(self.split),
            "scale": repr(float(logits.scale)),
            "zero_point": logits.zero_point,
            "class_names": ", ".join(self.split.class_names),
        }


def export_c(folder: Path, program: Program, split: Split, how: Requantization, *, model: ModelDescription) -> Library:
    """Write the library, whole or not at all.

    Args:
        folder: To make; it must not exist.
        program: The network, every layer in integers.
        split: The images that its check predicts.
        how: A requantization by integers.
        model: The file that the program is from.

    Returns:
        How many steps it has, and the bytes of its constants (``parameters``) and of its static memory (``memory``),
        of which ``live`` are codes that are needed at once.

    Raises:
        StorageError: when the folder exists or cannot be written.
        ModelError: when a layer does not fit 8-bit codes and 32-bit accumulators, or rounds in a way of its own.
        QuantizationError: when multipliers are float32, or one cannot be written in this fixed-point form.

    Example:
        >>> opened = resnet8.open_integer(Path("models/resnet8_ort-7bit-weights.onnx"))
        >>> images = resnet8.read_split(data, "test").first(3)
        >>> how = resnet8.Requantization("fixed32")
        >>> resnet8.export_c(Path("library"), opened.program, images, how, model=opened.model).memory
        35072
    """
    require_integers(how, "the C library computes")
    schedule = plan(program)
    layers = tuple(constants(number, step, how) for number, step in enumerate(schedule.steps))
    export = _Export(program, schedule, layers, how, split, model)
    logits = engine.run(program, engine.input_codes(program, split.images), how)
    with whole_folder(folder) as part:
        writer = Writer(part)
        for name in _UNCHANGED:
            writer.write(name, _template(name).encode())
        for name in ("resnet8.h", "check/check.c"):
            writer.write(name, _template(name, **export.names).encode())
        writer.write("parameters.h", _header(export).encode())
        writer.write("parameters.c", _parameters(export).encode())
        writer.write("resnet8.c", _library(export).encode())
        writer.write("check/images.h", c_header("RESNET8_IMAGES_H", "check", _golden(split.images, logits)))
        writer.write("README.md", _readme(export).encode())
    return export.library


def _template(name: str, **values: object) -> str:
    return template(f"c/{name}", "resnet8.export", **values)


def _plain(path: str) -> str:
    """A path as a comment in C may hold it."""
    return path.encode("ascii", "backslashreplace").decode().replace("\\", "/").replace("*/", "*_/")


def _golden(images: NDArray[np.uint8], logits: NDArray[Any]) -> tuple[Field, ...]:
    return (
        Field("images", images.reshape(len(images), -1), "image, byte"),
        Field("logits", logits.reshape(len(images), -1), "image, class"),
    )


def _header(export: _Export) -> str:
    layers = export.layers
    forms = frozenset[str]().union(*(one.forms for one in layers))
    return _template(
        "parameters.h",
        rounding=enumerator(export.how.rounding),
        four=int(any(one.bits == 4 for one in layers)),
        eight=int(any(one.bits == 8 for one in layers)),
        groups=max(one.groups for one in layers),
        window=max(4, *(one.window for one in layers)),
        activations=export.schedule.size,
        declarations="extern const int8_t resnet8_pixel_codes[256];\n"
        + "".join(f"extern const {one.type} {one.name};\n" for one in layers),
        **{form: int(form in forms) for form in FORMS},
        **export.names,
    )


def _parameters(export: _Export) -> str:
    pixels = export.program.input
    codes = engine.input_codes(export.program, np.arange(2**8)).astype(np.int64) - shifted(pixels.params.dtype)
    table = definition("resnet8", Field("pixel_codes", codes.astype(np.int8), "value")).replace("static const", "const")
    return _template("parameters.c", pixels=table, layers="\n".join(one.text for one in export.layers))


def _library(export: _Export) -> str:
    schedule, logits = export.schedule, export.program.logits
    offset = shifted(logits.params.dtype)
    steps = zip(schedule.steps, export.layers, strict=True)
    return _template(
        "resnet8.c",
        live=schedule.live,
        image=schedule.offsets[export.program.input.name],
        at=schedule.offsets[logits.name],
        shifted=f" + {offset}" if offset else "",
        steps="\n".join(_call(step, one, schedule) for step, one in steps),
        **export.names,
    )


def _call(step: Step, one: Constants, schedule: Plan) -> str:
    """The line that runs a step, behind a comment that says what it is."""

    def at(name: str | None) -> str:
        return "NULL" if name is None else f"codes + {schedule.offsets[name]}"

    read = [at(name) for name in step.layer.inputs]
    if one.bits:
        read = [*read, at(step.residual), "memory.columns"]
    elif len(step.layer.operands) > 1:
        read = [*read, "NULL"][:2]
    arguments = ", ".join((f"&{one.name}", *read, at(step.output.name)))
    names = " and ".join(identifier(layer.name) for layer in step.layers)
    return (
        f"    /* {_operators(step)}, {names}: {_shape(step.output)} */\n"
        f"    resnet8_{_CALLS[step.layer.operator]}({arguments});"
    )


def _operators(step: Step) -> str:
    return " and ".join(layer.role for layer in step.layers)


def _shape(activation: Activation) -> str:
    return "x".join(map(str, activation.shape))


def _readme(export: _Export) -> str:
    schedule, library, source = export.schedule, export.library, export.split.source
    rows = "\n".join(
        f"| `{one.name}` | {_operators(step)} | {_shape(step.layer.reads[0])} → {_shape(step.output)} | "
        f"{one.bits or '-'} | {one.bytes:,} | {', '.join(sorted(one.forms))} |"
        for step, one in zip(schedule.steps, export.layers, strict=True)
    )
    wide = any({HIGH, WIDE} & one.forms for one in export.layers)
    return _template(
        "README.md",
        rows=rows,
        parameters=f"{library.parameters:,}",
        memory=f"{library.memory:,}",
        columns=f"{library.memory - schedule.size:,}",
        activations=f"{schedule.size:,}",
        live=f"{schedule.live:,}",
        separate=f"{separate(export.program):,}",
        rounding_words=ROUNDING_WORDS[export.how.rounding],
        widest="64 bits, the product of two of 32" if wide else "32 bits",
        dataset=f"{source.dataset}, {source.split}",
        **export.names,
    )
