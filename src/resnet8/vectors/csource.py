"""The network and the edge cases as C tables, and the program around them."""

from __future__ import annotations

import math
from importlib import resources
from string import Template
from typing import TYPE_CHECKING

from resnet8.vectors.formats import macro
from resnet8.vectors.manifest import CONSTANT, EDGE, NETWORK

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from resnet8.numeric.variants import Rounding
    from resnet8.vectors.golden import Golden
    from resnet8.vectors.manifest import CodesRecord

NETWORK_INPUT = -1


def template(name: str, package: str = "resnet8.vectors", **values: object) -> str:
    """A file of a package's ``templates``, with ``$names`` filled in."""
    text = (resources.files(package) / "templates" / name).read_text("utf-8")
    return Template(text).substitute({key: str(value) for key, value in values.items()})


def program(
    layers: Sequence[Golden], edges: Sequence[Golden], network_input: CodesRecord, logits: str, rounding: Rounding
) -> dict[str, str]:
    """The program's files: names and texts.

    Args:
        layers: Of the network, in order.
        edges: The edge cases.
        network_input: The images' codes.
        logits: Folder of the layer that writes the class scores.
        rounding: How the network rounds.
    """
    numbers = {one.folder: number for number, one in enumerate(layers)}
    sizes = [math.prod(one.record.output.shape) for one in layers]
    network = (_case(one, _place(one, numbers, sum(sizes[:number]))) for number, one in enumerate(layers))
    zero_point = macro(NETWORK, "input_zero_point")
    return {
        "resnet8_integer.c": template("resnet8_integer.c"),
        "resnet8_integer.h": template("resnet8_integer.h"),
        "main.c": template("main.c", layers=len(layers)),
        "vectors.h": template(
            "vectors.h",
            largest=max(*sizes, *(math.prod(one.record.output.shape) for one in edges)),
            activations=sum(sizes),
        ),
        "vectors.c": template(
            "vectors.c",
            includes="\n".join(f'#include "../{path}"' for path in _headers(layers, edges)),
            rounding=enumerator(rounding),
            images=len(layers[0].codes),
            input=_tensor(network_input.shape, zero_point, network_input.dtype),
            logits=numbers[logits],
            layer_count=len(layers),
            layers="".join(network),
            edge_count=len(edges),
            edges="".join(_case(one, "") for one in edges),
            products=_table("products", ("accumulator", "multiplier", "shift", "rounded")),
            sums=_table("sums", ("a", "multiplier_a", "b", "multiplier_b", "shift", "rounded")),
        ),
        "Makefile": template("Makefile"),
    }


def _headers(layers: Sequence[Golden], edges: Sequence[Golden]) -> Iterator[str]:
    yield from ("network/input.h", "network/logits.h", "edge/products/table.h", "edge/sums/table.h")
    for one in layers:
        yield from (f"layers/{one.folder}/{name}.h" for name in ("parameters", "expected"))
    for one in edges:
        yield from (f"edge/{one.folder}/{name}.h" for name in ("input", "parameters", "expected"))


def _table(name: str, columns: tuple[str, ...]) -> str:
    prefix = f"edge_{name}"
    count = f"(int32_t)(sizeof {prefix}_shift / sizeof {prefix}_shift[0])"
    return f"{{{count}, {', '.join(f'{prefix}_{column}' for column in columns)}}}"


def _place(one: Golden, numbers: dict[str, int], offset: int) -> str:
    """Where a layer of the network reads and writes; what is not read counts as the network's input."""
    a, b = [*(numbers.get(read.source, NETWORK_INPUT) for read in one.record.inputs), NETWORK_INPUT][:2]
    return f"        .a_from = {a},\n        .b_from = {b},\n        .offset = {offset},\n"


def _case(one: Golden, place: str) -> str:
    """One element of a table of cases. In a network, what it reads are the arrays of the layers that write them."""
    own = {NETWORK: "network_input", EDGE: f"{one.folder}_{{}}"}
    operands = one.record.operands.items()
    reads = [
        own.get(read.source, f"{read.source}_output").format(name) for name, read in operands if read.source != CONSTANT
    ]
    a, b = [*reads, "NULL"][:2]
    accumulator = "NULL" if one.record.accumulator_bounds is None else f"{one.folder}_accumulator"
    body = "".join(f"            .{name} = {value},\n" for name, value in _members(one))
    return (
        f'    {{\n        .name = "{one.folder}",\n        .layer = {{\n{body}        }},\n'
        f"        .images = {len(one.codes)},\n        .a = {a},\n        .b = {b},\n"
        f"        .accumulator = {accumulator},\n        .output = {one.folder}_output,\n{place}    }},\n"
    )


def _members(one: Golden) -> Iterator[tuple[str, object]]:
    """The members of ``resnet8_layer``; those that a kind of layer does not use stay zero."""
    prefix, record, parameters = one.folder, one.record, one.parameters
    yield "kind", f"RESNET8_{enumerator('conv' if record.kind == 'dense' else record.kind)}"
    tensors = {**dict(zip("ab", record.operands.items(), strict=False)), "output": ("output", record.output)}
    for member, (name, codes) in tensors.items():
        shape = record.output.shape[-1:] if codes.source == CONSTANT else codes.shape
        yield member, _tensor(shape, macro(prefix, f"{name}_zero_point"), codes.dtype)
    yield from ((name, macro(prefix, f"output_{name}")) for name in ("lowest", "highest"))
    yield "multiplier", f"{prefix}_{'multiplier' if 'multiplier' in parameters else 'multiplier_a'}"
    yield from ((name, f"{prefix}_{name}") for name in ("multiplier_b", "shift") if name in parameters)
    for name in parameters.keys() & {"weights", "factor", "b"}:
        yield "constants", f"{prefix}_{name}"
        if name != "b":
            yield "constants_are_signed", _signed(parameters[name].values.dtype.name)
            yield "constants_zero_point", f"{prefix}_{name}_zero_point"
    if record.weights_shape is not None and record.strides is not None and record.pads is not None:
        yield "bias", f"{prefix}_bias"
        yield from zip(("kernel_rows", "kernel_columns"), record.weights_shape[1:3], strict=True)
        yield from zip(("stride_rows", "stride_columns"), record.strides, strict=True)
        yield from zip(("pad_top", "pad_left"), record.pads[:2], strict=True)
        yield "per_channel", int(parameters["weights_zero_point"].order == "channel out")


def enumerator(name: str) -> str:
    """A rounding or a kind as C's enumerations name it."""
    return name.upper().replace("-", "_")


def _tensor(shape: tuple[int, ...], zero_point: str, dtype: str) -> str:
    height, width, channels = shape if len(shape) == 3 else (1, 1, *shape)
    return f"{{{height}, {width}, {channels}, {zero_point}, {_signed(dtype)}}}"


def _signed(dtype: str) -> int:
    return int(not dtype.startswith("u"))
