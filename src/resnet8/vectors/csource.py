"""The network and the edge cases as C tables, and the program around them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from importlib import resources
from string import Template
from typing import TYPE_CHECKING

import numpy as np

from resnet8.network.layers import AveragePool, Product, Rescale, Sum, Weighted
from resnet8.network.tensors import Activation, Constant
from resnet8.numeric.variants import ROUNDINGS
from resnet8.vectors.formats import macro
from resnet8.vectors.golden import CONSTANT, EDGE, NETWORK

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from resnet8.network.layers import AnyLayer
    from resnet8.numeric.variants import Rounding
    from resnet8.vectors.golden import Golden

NETWORK_INPUT = -1
_KINDS = {Weighted: "CONV", Product: "MUL", Sum: "ADD", AveragePool: "AVERAGE_POOL", Rescale: "RESCALE"}
_ROUNDINGS = dict(zip(ROUNDINGS, ("HALF_EVEN", "HALF_AWAY", "HALF_UP", "TRUNCATE"), strict=True))
_COPIED = ("resnet8_integer.c", "resnet8_integer.h")


def template(name: str, **values: object) -> str:
    """A file of this package's ``templates``, with ``$names`` filled in."""
    text = (resources.files("resnet8.vectors") / "templates" / name).read_text("utf-8")
    return Template(text).substitute({key: str(value) for key, value in values.items()})


@dataclass(frozen=True, eq=False)
class Tables:
    """What the program checks.

    Attributes:
        layers: Of the network, in order.
        edges: The edge cases.
        logits: Folder of the layer that writes the class scores.
        network_input: The images' codes.
        rounding: How the network rounds.
    """

    layers: Sequence[Golden]
    edges: Sequence[Golden]
    logits: str
    network_input: Activation
    rounding: Rounding

    def files(self) -> Iterator[tuple[str, str]]:
        """The files of the folder ``c``: name, text."""
        for name in _COPIED:
            yield name, template(name)
        sizes = [_size(one) for one in self.layers]
        largest = max(sizes + [_size(one) for one in self.edges])
        yield "main.c", template("main.c", layers=len(self.layers))
        yield "vectors.h", template("vectors.h", largest=largest, activations=sum(sizes))
        yield "vectors.c", self._vectors()
        yield "Makefile", template("Makefile")

    def _vectors(self) -> str:
        numbers = {one.folder: number for number, one in enumerate(self.layers)}
        network, offset = [], 0
        for one in self.layers:
            network.append(_case(one, _place(one, numbers, offset)))
            offset += _size(one)
        height, width, channels = _map_shape(self.network_input.shape)
        zero_point = macro("network", "input_zero_point")
        return template(
            "vectors.c",
            includes="\n".join(f'#include "../{path}"' for path in self._headers()),
            rounding=_ROUNDINGS[self.rounding],
            images=len(self.layers[0].codes),
            input=f"{{{height}, {width}, {channels}, {zero_point}, {_signed(self.network_input)}}}",
            logits=numbers[self.logits],
            layer_count=len(self.layers),
            layers="".join(network),
            edge_count=len(self.edges),
            edges="".join(_case(one, "") for one in self.edges),
            products=_table("products", ("accumulator", "multiplier", "shift", "rounded")),
            sums=_table("sums", ("a", "multiplier_a", "b", "multiplier_b", "shift", "rounded")),
        )

    def _headers(self) -> Iterator[str]:
        yield from ("network/input.h", "network/logits.h", "edge/products/table.h", "edge/sums/table.h")
        for one in self.layers:
            yield from (f"layers/{one.folder}/{name}.h" for name in ("parameters", "expected"))
        for one in self.edges:
            yield from (f"edge/{one.folder}/{name}.h" for name in ("input", "parameters", "expected"))


def _size(one: Golden) -> int:
    """Codes that a layer writes for one image."""
    return math.prod(one.layer.output.shape)


def _table(name: str, columns: tuple[str, ...]) -> str:
    prefix = f"edge_{name}"
    count = f"(int32_t)(sizeof {prefix}_shift / sizeof {prefix}_shift[0])"
    return f"{{{count}, {', '.join(f'{prefix}_{column}' for column in columns)}}}"


def _symbols(one: Golden) -> list[str]:
    """The arrays that hold what a layer reads: in a network, those of the layers that write it; NULL for none."""
    names = []
    for (name, _), source in zip(one.layer.sources, one.sources, strict=True):
        if source != CONSTANT:
            own = {NETWORK: "network_input", EDGE: f"{one.folder}_{name}"}
            names.append(own.get(source, f"{source}_output"))
    return [*names, "NULL"][:2]


def _place(one: Golden, numbers: Mapping[str, int], offset: int) -> str:
    """Where a layer of the network reads and writes; what is not read counts as the network's input."""
    reads = [numbers.get(source, NETWORK_INPUT) for source in (*one.sources, NETWORK)][:2]
    lines = (f"        .{name}_from = {number},\n" for name, number in zip("ab", reads, strict=True))
    return "".join(lines) + f"        .offset = {offset},\n"


def _case(one: Golden, place: str) -> str:
    """One element of a table of cases."""
    a, b = _symbols(one)
    accumulator = "NULL" if one.accumulator is None else f"{one.folder}_accumulator"
    body = "".join(f"            .{name} = {value},\n" for name, value in _members(one.folder, one.layer).items())
    return (
        f'    {{\n        .name = "{one.folder}",\n        .layer = {{\n{body}        }},\n'
        f"        .images = {len(one.codes)},\n        .a = {a},\n        .b = {b},\n"
        f"        .accumulator = {accumulator},\n        .output = {one.folder}_output,\n{place}    }},\n"
    )


def _members(prefix: str, layer: AnyLayer) -> dict[str, str]:
    """The members of ``resnet8_layer``; those that a kind of layer does not use stay zero."""
    tensors = layer.sources
    members = {"kind": f"RESNET8_{_KINDS[type(layer)]}"}
    for member, (name, tensor) in zip("ab", tensors, strict=False):
        members[member] = _tensor(prefix, name, tensor, layer)
    members |= {
        "output": _tensor(prefix, "output", layer.output, layer),
        "lowest": macro(prefix, "output_lowest"),
        "highest": macro(prefix, "output_highest"),
    }
    if isinstance(layer, Sum):
        fixed = {"multiplier": "multiplier_a", "multiplier_b": "multiplier_b", "shift": "shift"}
    else:
        fixed = {"multiplier": "multiplier", "shift": "shift"}
    members |= {member: f"{prefix}_{name}" for member, name in fixed.items()}
    return members | _constants(prefix, layer)


def _constants(prefix: str, layer: AnyLayer) -> dict[str, str]:
    if isinstance(layer, Sum):
        return {"constants": f"{prefix}_b"} if isinstance(layer.b, Constant) else {}
    if isinstance(layer, Product):
        return {
            "constants": f"{prefix}_factor",
            "constants_are_signed": str(int(layer.constant.dtype == np.int8)),
            "constants_zero_point": f"{prefix}_factor_zero_point",
        }
    if not isinstance(layer, Weighted):
        return {}
    rows, columns = layer.weights.shape[:2]
    return {
        "constants": f"{prefix}_weights",
        "constants_are_signed": str(int(layer.weights.dtype == np.int8)),
        "constants_zero_point": f"{prefix}_weights_zero_point",
        "bias": f"{prefix}_bias",
        "kernel_rows": str(rows),
        "kernel_columns": str(columns),
        "stride_rows": str(layer.strides[0]),
        "stride_columns": str(layer.strides[1]),
        "pad_top": str(layer.pads[0]),
        "pad_left": str(layer.pads[1]),
        "per_channel": str(int(layer.weight_params.per_channel)),
    }


def _tensor(prefix: str, name: str, tensor: Activation | Constant, layer: AnyLayer) -> str:
    shape = tensor.shape if isinstance(tensor, Activation) else layer.output.shape[-1:]
    height, width, channels = _map_shape(shape)
    return f"{{{height}, {width}, {channels}, {macro(prefix, f'{name}_zero_point')}, {_signed(tensor)}}}"


def _map_shape(shape: tuple[int, ...]) -> tuple[int, int, int]:
    height, width, channels = shape if len(shape) == 3 else (1, 1, *shape)
    return height, width, channels


def _signed(tensor: Activation | Constant) -> int:
    return int(not tensor.params.dtype.startswith("u"))
