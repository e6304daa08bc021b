"""Any open model as a :class:`resnet8.inspection.picture.Drawing`, a box for each layer; and where boxes go."""

from __future__ import annotations

from dataclasses import replace
from pathlib import PurePath
from typing import TYPE_CHECKING

from resnet8 import words
from resnet8.inspection.picture import Box, Drawing, Edge
from resnet8.words import kilobytes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from resnet8.inspection.picture import Kind
    from resnet8.playground.network import LayerView, Network, Tensor

_KINDS: Mapping[str, Kind] = {
    "conv": "conv",
    "dense": "dense",
    "mul": "mul",
    "add": "add",
    "average-pool": "pool",
    "rescale": "rescale",
}


def box_key(number: int) -> str:
    """The key of the box of layer ``number``, from 0; the input's is ``n0``."""
    return f"n{number + 1}"


def drawing(network: Network) -> Drawing:
    """The layers of ``network``: box ``box_key(i)`` is ``network.layers[i]``."""
    boxes, edges = [], []
    written: dict[str, str] = {}
    if network.layers:
        images = network.layers[0].inputs[0]
        boxes.append(Box("n0", "input", "input", (_text(images),)))
        written[images.name] = "n0"
    for number, layer in enumerate(network.layers):
        key = box_key(number)
        boxes.append(_box(key, layer))
        edges += [Edge(written[one.name], key) for one in layer.inputs if one.name in written]
        written[layer.output.name] = key
    description = network.description
    title = f"{PurePath(description.path).name}: {description.dtype}, {kilobytes(description.size_bytes)}"
    note = words.GRID if network.quantized is not None else ""
    return Drawing(title, tuple(boxes), tuple(edges), note)


def around(drawn: Drawing, key: str) -> Drawing:
    """The box with that key and those that it has an edge with; without a title."""
    edges = tuple(one for one in drawn.edges if key in (one.source, one.target))
    keys = {key, *(one.source for one in edges), *(one.target for one in edges)}
    return replace(drawn, title="", boxes=tuple(one for one in drawn.boxes if one.key in keys), edges=edges)


def places(drawn: Drawing) -> dict[str, tuple[int, int]]:
    """Column and lane of each box by its key, for a drawing from left to right.

    The column is the longest way from the input. Lane 0 has the boxes on a longest way through the network, the lanes
    beside it, 1 and on, those of shorter branches.
    """
    columns = dict.fromkeys((one.key for one in drawn.boxes), 0)
    rest = dict(columns)
    for edge in drawn.edges:  # those into a box come before those out of it
        columns[edge.target] = max(columns[edge.target], columns[edge.source] + 1)
    for edge in reversed(drawn.edges):
        rest[edge.source] = max(rest[edge.source], rest[edge.target] + 1)
    longest = max(columns.values(), default=0)
    found: dict[str, tuple[int, int]] = {}
    for key, column in columns.items():
        lane = 0 if column + rest[key] == longest else 1
        while (column, lane) in found.values():
            lane += 1
        found[key] = (column, lane)
    return found


def way(source: tuple[int, int], target: tuple[int, int]) -> list[tuple[float, float]]:
    """The corners of an edge: straight to the next column, else in a lane beside the boxes between."""
    if target[0] - source[0] <= 1:
        return [source, target]
    lane = max(source[1], target[1], 1)
    return [source, (source[0] + 0.5, lane), (target[0] - 0.5, lane), target]


def _box(key: str, layer: LayerView) -> Box:
    title = "+" if layer.residual else layer.operator
    if layer.operator == "conv" and layer.weights is not None:
        title = f"conv {words.shape(layer.weights.shape[:2])}"
        if layer.strides is not None and layer.strides != (1, 1):
            title += f", stride {words.shape(layer.strides) if len(set(layer.strides)) > 1 else layer.strides[0]}"
    if layer.relu:
        title += ", ReLU"
    kind: Kind = "residual" if layer.residual else _KINDS[layer.operator]
    return Box(key, kind, title, (layer.name, _text(layer.output)))


def _text(tensor: Tensor) -> str:
    text = f"{words.shape(tensor.shape)} {tensor.dtype}"
    if tensor.params is None:
        return text
    return f"{text}, {words.grid(float(tensor.params.scale), int(tensor.params.zero_point))}"
