"""A network as a :class:`resnet8.inspection.picture.Drawing`: a box for each layer, quantized or float."""

from __future__ import annotations

from functools import partial
from pathlib import PurePath
from typing import TYPE_CHECKING

from resnet8 import words
from resnet8.errors import StorageError
from resnet8.inspection import graphviz, picture
from resnet8.inspection.picture import Box, Drawing, Edge
from resnet8.network import onnx_read
from resnet8.numeric.grid import storage

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from resnet8.inspection.source import Source
    from resnet8.network.layers import AnyLayer
    from resnet8.network.program import Program
    from resnet8.network.tensors import Activation
    from resnet8.numeric.grid import QParams
    from resnet8.results import ModelDescription

SUFFIXES = (".svg", ".png", ".mmd", ".dot")

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


def inspect_graph(source: Source) -> Drawing:
    """The network in ``source``.

    Raises:
        ModelError: when it has an operator or pattern that is not known.

    Example:
        >>> drawing = resnet8.inspect_graph(resnet8.read_onnx(Path("models/resnet8.onnx")))
        >>> len(drawing.boxes), drawing.boxes[0].title
        (31, 'input')
    """
    softmax = next((onnx_read.named(node) for node in source.graph.nodes if node.op_type == "Softmax"), "")
    return drawn(onnx_read.read(source.model, str(source.path)), source.description, softmax=softmax)


def drawn(network: Program, description: ModelDescription, *, softmax: str = "", brief: bool = False) -> Drawing:
    """The layers of a network: box ``n0`` is its input, ``n1`` its first layer, and so on.

    Args:
        network: What is drawn.
        description: The file that it was read from.
        softmax: Name of a float softmax, which is no layer of the network.
        brief: Only names, and what is written: no weights, no softmax, no words on arrows.
    """
    boxes = [Box("n0", "input", "input", (_text(network.input, brief=brief),))]
    edges = []
    written = {network.input.name: ("n0", network.input)}
    for number, layer in enumerate(network.layers, 1):
        key = f"n{number}"
        boxes.append(_box(key, layer, brief=brief))
        for read in layer.reads:
            source, there = written[read.name]
            edges.append(Edge(source, key, "" if brief else _label(there, read, joins=layer.residual)))
        written[layer.output.name] = key, layer.output
    if network.softmax and not brief:
        boxes.append(_softmax_box(f"n{len(boxes)}", network, softmax))
        edges.append(Edge(written[network.logits.name][0], boxes[-1].key))
    title = f"{PurePath(description.path).name}: {description.dtype}, {words.kilobytes(description.size_bytes)}"
    return Drawing(title, tuple(boxes), tuple(edges), note=words.GRID if network.quantized else "")


def _box(key: str, layer: AnyLayer, *, brief: bool) -> Box:
    kind = "residual" if layer.residual else layer.operator.removeprefix("average-")
    lines = (layer.name,) if brief else (_short(layer.name), *_parameter(layer))
    return Box(key, kind, _title(layer), (*lines, _text(layer.output, brief=brief)))


def _title(layer: AnyLayer) -> str:
    """Operator, size of the kernel, stride where it is not 1, and ReLU."""
    parts = ["+" if layer.residual else layer.operator]
    if (conv := layer.window) is not None:
        parts[0] += f" {words.shape(conv.weights.shape[:2])}"
        if conv.strides != (1, 1):
            parts.append(f"stride {words.shape(tuple(dict.fromkeys(conv.strides)))}")
    return ", ".join((*parts, "ReLU") if layer.relu else parts)


def _parameter(layer: AnyLayer) -> tuple[str, ...]:
    """Weights or constant, and the grid; in a line of its own where each channel has one."""
    one = layer.parameter
    if one is None:
        return ()
    axes = one.codes.shape if layer.window is not None else one.codes.shape[-2:]
    what = f"{'weights' if layer.macs else 'constant'} {words.shape(axes)}"
    if one.grid is None:
        return (f"{what} float32",)
    if one.grid.per_channel:
        return f"{what} {one.grid.dtype}", _grid(one.grid)
    return (f"{what} {one.grid.dtype}, {_grid(one.grid)}",)


def _text(one: Activation, *, brief: bool) -> str:
    if one.grid is None:
        return f"{words.shape(one.shape)} float32"
    dtype = storage(one.grid.dtype).name if brief else one.grid.dtype
    return f"{words.shape(one.shape)} {dtype}, {_grid(one.grid)}"


def _label(written: Activation, read: Activation, *, joins: bool) -> str:
    """The grid where two meet, and where a layer reads codes on another than they were written on."""
    if read.grid is None or written.grid is None:
        return ""
    label = _grid(read.grid)
    return label if joins or label != _grid(written.grid) else ""


def _grid(one: QParams) -> str:
    return words.grid(one.scale, one.zero_point)


def _softmax_box(key: str, network: Program, name: str) -> Box:
    if not network.quantized:
        return Box(key, "softmax", "softmax", (_short(name), _text(network.logits, brief=False)))
    grid = network.probabilities
    lines = () if grid is None else (f"quantized to {grid.dtype}, {_grid(grid)}",)
    return Box(key, "softmax", "softmax, float", lines)


def _short(name: str) -> str:
    """A name that fits a box: the middle of a long one is left out."""
    half = _LONGEST_NAME // 2
    return name if len(name) <= _LONGEST_NAME else f"{name[:half]}…{name[-half + 1 :]}"
