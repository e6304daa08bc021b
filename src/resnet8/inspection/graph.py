"""A network as a :class:`resnet8.inspection.picture.Drawing`.

A quantized file is drawn by its integer layers, QuantizeLinear and DequantizeLinear folded into them; a float file by
its nodes, each Relu in the box before it. Nodes that only move numbers (Transpose, Reshape, …) are not drawn.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from resnet8 import words
from resnet8.errors import StorageError
from resnet8.inspection import graphviz, picture
from resnet8.inspection.operations import ROLES, operations
from resnet8.inspection.picture import Box, Drawing, Edge
from resnet8.network.onnx_read import clean
from resnet8.words import kilobytes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    import onnx

    from resnet8.inspection.picture import Kind
    from resnet8.inspection.records import Codes, Layer, Operations, Weights
    from resnet8.inspection.source import Source

SUFFIXES = (".svg", ".png", ".mmd", ".dot")

_LAYER_KINDS: Mapping[str, Kind] = {
    "conv": "conv",
    "dense": "dense",
    "mul": "mul",
    "add": "add",
    "average-pool": "pool",
    "rescale": "rescale",
}
_NODE_KINDS: Mapping[str, Kind] = {
    "Conv": "conv",
    "MatMul": "dense",
    "Gemm": "dense",
    "Mul": "mul",
    "Add": "add",
    "AveragePool": "pool",
    "GlobalAveragePool": "pool",
    "MaxPool": "pool",
    "GlobalMaxPool": "pool",
    "Softmax": "softmax",
}
_TITLES: Mapping[str, str] = {
    "MatMul": "dense",
    "Gemm": "dense",
    "GlobalAveragePool": "average-pool",
    "AveragePool": "average-pool",
}
_CONSTANTS = {"conv": "weights", "dense": "weights", "mul": "constant", "add": "constant"}
_MOVES = {"Transpose", "Reshape", "Flatten", "Identity", "Squeeze", "Unsqueeze"}
_LONGEST_NAME = 40


def writer(path: Path) -> Callable[[Drawing], bytes]:
    """What turns a drawing into the content of a file called ``path``, by its suffix.

    Raises:
        StorageError: when the suffix is none of :data:`SUFFIXES`.
        MissingExtraError: when it needs Graphviz and that is not installed.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise StorageError(
            f"cannot draw into {path}",
            found=f"suffix {suffix}" if suffix else "no suffix",
            expected=", ".join(SUFFIXES),
            remedy="choose one of these",
        )
    if suffix in (".mmd", ".dot"):
        text = picture.mermaid if suffix == ".mmd" else picture.dot
        return lambda drawing: text(drawing).encode()
    graphviz.require()
    return partial(_painted, form=suffix[1:])


def _painted(drawing: Drawing, form: str) -> bytes:
    return graphviz.paint(picture.dot(drawing), form)


def drawing(source: Source) -> Drawing:
    """The network in ``source``.

    Raises:
        ModelError: when it is quantized and has an operator or pattern that the integer engine does not know.
    """
    title = f"{source.path.name}: {source.description.dtype}, {kilobytes(source.description.size_bytes)}"
    if any(node.op_type in ROLES for node in source.nodes):
        return Drawing(title, *_of_layers(operations(source)), note=words.GRID)
    return Drawing(title, *_Nodes(source).drawn())


# Quantized: the integer layers


def _of_layers(found: Operations) -> tuple[tuple[Box, ...], tuple[Edge, ...]]:
    boxes = [Box("n0", "input", "input", (_codes_text(found.input),))]
    edges = []
    written = {found.input.name: ("n0", found.input)}
    for number, layer in enumerate(found.layers, 1):
        key = f"n{number}"
        boxes.append(_layer_box(key, layer))
        edges += [_layer_edge(*written[codes.name], key, codes, joins=layer.residual) for codes in layer.inputs]
        written[layer.output.name] = (key, layer.output)
    if found.softmax:
        key = f"n{len(boxes)}"
        grid = found.probabilities
        lines = () if grid is None else (f"quantized to {grid.dtype}, {words.grid(grid.scale, grid.zero_point)}",)
        boxes.append(Box(key, "softmax", "softmax, float", lines))
        edges.append(Edge(written[found.logits][0], key))
    return tuple(boxes), tuple(edges)


def _layer_box(key: str, layer: Layer) -> Box:
    if layer.residual:
        return Box(key, "residual", _title("+", relu=layer.relu), (_short(layer.name), _codes_text(layer.output)))
    kernel = layer.weights.shape[:2] if layer.kind == "conv" and layer.weights is not None else ()
    title = _title(layer.kind, kernel, layer.strides or (), relu=layer.relu)
    weights = () if layer.weights is None else _weights_lines(layer.weights, layer.kind)
    return Box(key, _LAYER_KINDS[layer.kind], title, (_short(layer.name), *weights, _codes_text(layer.output)))


def _layer_edge(source: str, written: Codes, target: str, read: Codes, *, joins: bool) -> Edge:
    """Labelled where two grids meet, and where a layer reads codes on another grid than they were written on."""
    grids = [words.grid(codes.scale, codes.zero_point) for codes in (written, read)]
    return Edge(source, target, grids[1] if joins or grids[0] != grids[1] else "")


def _codes_text(codes: Codes) -> str:
    return f"{words.shape(codes.shape)} {codes.dtype}, {words.grid(codes.scale, codes.zero_point)}"


def _weights_lines(weights: Weights, kind: str) -> tuple[str, ...]:
    shape = weights.shape if kind != "dense" else weights.shape[2:]
    what = f"{_CONSTANTS[kind]} {words.shape(shape)} {weights.grid.dtype}"
    grid = words.grid(weights.grid.scale, weights.grid.zero_point)
    return (what, grid) if weights.grid.axis is not None else (f"{what}, {grid}",)


# Float: the nodes


class _Nodes:
    """The boxes of a float file, made in the order of its nodes.

    Attributes:
        _writers: Key of the box that each computed tensor comes from.
        _nchw: The tensors that lie as (batch, channels, height, width), as convolutions and pooling want them.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._boxes: dict[str, Box] = {}
        self._edges: list[Edge] = []
        self._writers: dict[str, str] = {}
        self._nchw: set[str] = set()
        self._readers = Counter(name for node in source.nodes for name in node.input)
        self._readers.update(value.name for value in source.model.graph.output)

    def drawn(self) -> tuple[tuple[Box, ...], tuple[Edge, ...]]:
        for name in self._source.inputs:
            self._add("input", "input", (self._shape_text(name),), name)
        for node in self._source.nodes:
            self._node(node)
        return tuple(self._boxes.values()), tuple(self._edges)

    def _node(self, node: onnx.NodeProto) -> None:
        computed = [name for name in node.input if name in self._writers]
        if not computed:
            return  # a constant, and what is computed from constants alone
        spatial = _NODE_KINDS.get(node.op_type) in ("conv", "pool")
        if spatial or (node.op_type not in _MOVES and self._nchw.intersection(computed)):
            self._nchw.update(node.output)
        before = self._writers[computed[0]]
        if node.op_type in _MOVES:
            self._writers[node.output[0]] = before
        elif node.op_type == "Relu" and self._readers[computed[0]] == 1 and self._boxes[before].kind != "input":
            self._writers[node.output[0]] = before
            self._boxes[before] = replace(self._boxes[before], title=_title(self._boxes[before].title, relu=True))
        else:
            key = self._add(*self._described(node, residual=len(computed) > 1), *node.output)
            self._edges += [Edge(self._writers[name], key) for name in computed]

    def _add(self, kind: Kind, title: str, lines: tuple[str, ...], *writes: str) -> str:
        key = f"n{len(self._boxes)}"
        self._boxes[key] = Box(key, kind, title, lines)
        self._writers |= dict.fromkeys(writes, key)
        return key

    def _described(self, node: onnx.NodeProto, *, residual: bool) -> tuple[Kind, str, tuple[str, ...]]:
        kind = _NODE_KINDS.get(node.op_type, "other")
        name, output = _short(clean(node.name)), self._shape_text(node.output[0])
        if residual and kind == "add":
            return "residual", "+", (name, output)
        title = _TITLES.get(node.op_type, node.op_type if kind == "other" else node.op_type.lower())
        constant = next((one for one in node.input if one in self._source.initializers), None)
        if constant is None or kind not in _CONSTANTS:
            return kind, title, (name, output)
        shape = self._constant_shape(node, constant)
        if kind == "conv":
            strides = next((tuple(one.ints) for one in node.attribute if one.name == "strides"), ())
            title = _title(title, shape[:2], strides)
        what = f"{_CONSTANTS[kind]} {words.shape(shape)} {self._source.dtype(constant)}"
        return kind, title, (name, what, output)

    def _constant_shape(self, node: onnx.NodeProto, name: str) -> tuple[int, ...]:
        """Of weights as (kernel rows, kernel columns, channels in, channels out) or (features in, features out)."""
        shape = tuple(self._source.initializers[name].dims)
        if node.op_type == "Conv" and len(shape) == 4:
            return (*shape[2:], shape[1], shape[0])
        transposed = any(one.name == "transB" and one.i for one in node.attribute)
        shape = shape[::-1] if transposed else shape
        return tuple(size for size in shape if size != 1) or (1,)

    def _shape_text(self, name: str) -> str:
        shape, dtype = self._source.shape(name), self._source.dtype(name)
        if shape is None or dtype is None:
            return "shape not known"
        axes = shape[1:]
        if name in self._nchw and len(axes) == 3:
            axes = (*axes[1:], axes[0])
        return f"{words.shape(axes)} {dtype}"


# Words


def _title(operator: str, kernel: tuple[int, ...] = (), strides: tuple[int, ...] = (), *, relu: bool = False) -> str:
    """Operator, size of the kernel, stride where it is not 1, and ReLU."""
    parts = [f"{operator} {words.shape(kernel)}" if kernel else operator]
    if any(stride != 1 for stride in strides):
        parts.append(f"stride {words.shape(strides) if len(set(strides)) > 1 else strides[0]}")
    return ", ".join((*parts, "ReLU") if relu else parts)


def _short(name: str) -> str:
    """A name that fits a box: the middle of a long one is left out."""
    half = _LONGEST_NAME // 2
    return name if len(name) <= _LONGEST_NAME else f"{name[:half]}…{name[-half + 1 :]}"
