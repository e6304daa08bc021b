"""What a converted graph must contain to be this network."""

from __future__ import annotations

import copy
import math
import re
from collections import Counter
from dataclasses import dataclass
from itertools import chain, count
from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import TensorProto, numpy_helper

from resnet8 import facts
from resnet8.errors import ConversionError
from resnet8.network.onnx_graph import Graph
from resnet8.results import Structure
from resnet8.runtimes.onnx_file import shapes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from collections.abc import Set as AbstractSet

    import onnx

    from resnet8.results import FoldedConstant

_NUMBERED = re.compile(r"(?P<name>.+)__\d+")

BATCH = "batch"
"""Name of the dynamic axis."""


@dataclass(frozen=True)
class Converted:
    """A converted network.

    Attributes:
        content: The ONNX file's: input ``input``, float32 (batch, 32, 32, 3) NHWC, dynamic batch; output (batch, 10),
            softmax; opset 13, IR 7.
        structure: What it was found to contain.
        folding: How far off the constants were that TensorFlow folded out of batch normalizations on this machine.
    """

    content: bytes
    structure: Structure
    folding: tuple[FoldedConstant, ...]


def settle(model: onnx.ModelProto) -> None:
    """Give a converted graph the one form that its network has, in place.

    tf2onnx numbers what it makes, and orders its constants, by the order in which TensorFlow happens to list the
    network; once in a while it so misses that Flatten's target shape is a constant, and leaves it computed from the
    input's. Here that shape is a constant, constants are named after the node that uses them and stand in the order
    of use, what tf2onnx made and numbered (by all that it made before in the process) is named after what it does, and
    the first axis is called :data:`BATCH`: the same network makes the same file.
    """
    graph = model.graph
    constants = dict(Graph(model).constants)
    _fix_reshape(graph, constants)
    nodes = _needed(graph)
    _rename(nodes, _unnumbered(nodes, {value.name for value in graph.output}))
    names: dict[str, str] = {}
    for node in nodes:
        for i, name in enumerate(node.input):
            if name in constants:
                names.setdefault(name, f"{node.name}/input_{i}")
    _rename(nodes, names)
    for old, new in names.items():
        constants[old].name = new
    _replace(graph.node, nodes)
    _replace(graph.initializer, [constants[name] for name in names])
    for value in (*graph.input, *graph.output):
        axis = value.type.tensor_type.shape.dim[0]
        if not axis.HasField("dim_value"):
            axis.dim_param = BATCH


def _fix_reshape(graph: onnx.GraphProto, constants: dict[str, onnx.TensorProto]) -> None:
    """Make the computed target shape of a Flatten before a dense layer the constant that it is."""
    dense = {node.input[0]: node.input[1] for node in graph.node if node.op_type == "MatMul"}
    for node in graph.node:
        weights = constants.get(dense.get(node.output[0], ""))
        if node.op_type == "Reshape" and node.input[1] not in constants and weights is not None:
            name = f"{node.name}_shape"
            constants[name] = numpy_helper.from_array(np.array([-1, weights.dims[0]], np.int64), name)
            node.input[1] = name


def _needed(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """The nodes that the outputs depend on, in their order."""
    wanted = {output.name for output in graph.output}
    nodes: list[onnx.NodeProto] = []
    for node in reversed(graph.node):
        if wanted & set(node.output):
            wanted |= set(node.input)
            nodes.insert(0, node)
    return nodes


def _unnumbered(nodes: Sequence[onnx.NodeProto], kept: AbstractSet[str]) -> dict[str, str]:
    """Rename nodes ``a/b__17`` to ``a/b/Transpose``, by the operator; new names of what they write, but of ``kept``."""
    renamed: dict[str, str] = {}
    taken = {node.name for node in nodes}
    for node in nodes:
        if match := _NUMBERED.fullmatch(node.name):
            base = f"{match['name']}/{node.op_type}"
            node.name = next(name for name in chain((base,), (f"{base}_{i}" for i in count(1))) if name not in taken)
            taken.add(node.name)
            renamed |= {output: f"{node.name}:{i}" for i, output in enumerate(node.output) if output not in kept}
    return renamed


def _rename(nodes: Sequence[onnx.NodeProto], names: Mapping[str, str]) -> None:
    """Give tensors the names that stand behind theirs, wherever they are read or written."""
    for node in nodes:
        for tensors in (node.input, node.output):
            tensors[:] = [names.get(name, name) for name in tensors]


def _replace(field: Any, items: Sequence[Any]) -> None:
    copies = [copy.deepcopy(item) for item in items]  # for clearing the field empties what was in it
    del field[:]
    field.extend(copies)


def describe(model: onnx.ModelProto, parameters: int) -> Structure:
    """Count what an ONNX graph contains.

    Args:
        model: The graph.
        parameters: Of the Keras model it was converted from.
    """
    graph = model.graph
    constants = Graph(model).constants
    operators = Counter(node.op_type for node in graph.node)
    inputs, outputs = shapes(model)
    return Structure(
        input_shape=inputs,
        output_shape=outputs,
        opset=next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")),
        ir_version=model.ir_version,
        nodes=len(graph.node),
        operators=dict(sorted(operators.items())),
        convolutions=operators["Conv"],
        dense_layers=sum(node.op_type in ("MatMul", "Gemm") and node.input[1] in constants for node in graph.node),
        # An Add of two computed tensors; the others add a constant (batch normalization, bias).
        residual_adds=sum(
            node.op_type == "Add" and not any(name in constants for name in node.input) for node in graph.node
        ),
        parameters=parameters,
        graph_parameters=sum(
            math.prod(tensor.dims) for tensor in graph.initializer if tensor.data_type == TensorProto.FLOAT
        ),
    )


def require(structure: Structure) -> None:
    """Check that the structure is ResNet8's.

    Raises:
        ConversionError: naming the first fact that differs.
    """
    require_parameters(structure.parameters)
    for fact, found, expected in (
        ("graph parameters", structure.graph_parameters, facts.GRAPH_PARAMETERS),
        ("convolutions", structure.convolutions, facts.CONVOLUTIONS),
        ("dense layers", structure.dense_layers, facts.DENSE_LAYERS),
        ("residual adds", structure.residual_adds, facts.RESIDUAL_ADDS),
        ("opset", structure.opset, facts.OPSET),
        ("ir version", structure.ir_version, facts.IR_VERSION),
    ):
        _require(f"the converted graph is no ResNet8: {fact}", found, expected)
    if isinstance(structure.input_shape[0], int) or isinstance(structure.output_shape[0], int):
        raise ConversionError(
            "the converted graph has a fixed batch size",
            found=f"{structure.input_shape} to {structure.output_shape}",
            expected="a dynamic first axis",
        )


def require_parameters(count: int) -> None:
    """Check the Keras model's number of parameters.

    Raises:
        ConversionError: when it is not ResNet8's.
    """
    _require("the Keras model is no ResNet8: parameters", count, facts.PARAMETERS)


def _require(what: str, found: int, expected: int) -> None:
    if found != expected:
        raise ConversionError(
            what,
            found=str(found),
            expected=str(expected),
            remedy="check that the Keras file is MLPerf Tiny's pretrainedResnet.h5",
        )
