"""What an ONNX file is, without a runtime: whole, of a version that is read here, a ResNet8, of which data types."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx

from resnet8.errors import ModelError, Resnet8Error
from resnet8.facts import MAX_READABLE_IR_VERSION, MAX_READABLE_OPSET
from resnet8.network.onnx_graph import PACKED, Graph, axes
from resnet8.numeric.grid import width
from resnet8.results import ModelDescription
from resnet8.runtimes.base import require_shapes
from resnet8.runtimes.onnx_plain import require_plain

if TYPE_CHECKING:
    from pathlib import Path

_TYPES = ("other", "float32", "int8", "uint8", *PACKED)
_WEIGHT_INPUT = {"Conv": 1, "MatMul": 1, "Gemm": 1, "QLinearConv": 3, "QLinearMatMul": 3, "QGemm": 3}


def parse(path: Path, content: bytes) -> onnx.ModelProto:
    """The ONNX model in ``content``.

    Raises:
        ModelError: when it is no whole ONNX model, or of an operator set that ONNX Runtime does not read.
    """
    try:
        model = onnx.load_model_from_string(content)
        require_plain(path, model)
        onnx.checker.check_model(model)
    except Resnet8Error:
        raise
    except Exception as error:  # protobuf, the checker and shape inference raise many kinds
        raise ModelError(
            f"{path} is no valid ONNX model",
            found=str(error)[:200],
            expected="a complete ONNX file",
            remedy="it is truncated or damaged: make it again with «resnet8 convert»",
        ) from error
    opset = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0)
    if not 0 < opset <= MAX_READABLE_OPSET:
        raise ModelError(
            f"{path} uses an operator set that is not read here",
            found=f"opset {opset}",
            expected=f"opset 1 to {MAX_READABLE_OPSET}",
            remedy="export it with a lower opset (resnet8 writes 13)",
        )
    if model.ir_version > MAX_READABLE_IR_VERSION:
        raise ModelError(
            f"{path} is of a file format version that is not read here",
            found=f"IR version {model.ir_version}",
            expected=f"IR version {MAX_READABLE_IR_VERSION} or lower",
            remedy="set its ir_version to what its opset needs (resnet8 writes 7)",
        )
    return model


def shapes(model: onnx.ModelProto) -> tuple[tuple[int | str, ...], tuple[int | str, ...]]:
    """Shape of the first input that is no initializer, and of the first output; named axes as their names.

    Raises:
        ModelError: when there is no input.
    """
    inputs = Graph(model).inputs
    if not inputs:
        raise ModelError("the graph has no input", found="constants only", expected="an input (batch, 32, 32, 3)")
    return axes(inputs[0]), axes(model.graph.output[0])


def dtypes(model: onnx.ModelProto) -> tuple[str, str]:
    """Data types of the activations and of the weights, by the types that the graph's (de)quantizing nodes hold.

    Several are joined, the widest last: ``int4+uint8``.
    """
    graph = Graph(model)
    activations, weights = set(), set()
    for node in graph.nodes:
        if node.op_type == "QuantizeLinear":
            # Without a zero point the codes are uint8.
            activations.add(_type(graph, node.input[2]) if len(node.input) > 2 and node.input[2] else "uint8")
        if node.op_type in _WEIGHT_INPUT:
            name = node.input[_WEIGHT_INPUT[node.op_type]]
            while name in graph.writers and graph.nodes[graph.writers[name]].op_type in ("DequantizeLinear", "Cast"):
                name = graph.nodes[graph.writers[name]].input[0]
            weights.add(_type(graph, name))
    return _joined(activations), _joined(weights)


def element_bits(dtype: str) -> int:
    """The bits of an element of type ``dtype`` in a file."""
    return width(dtype) if dtype in PACKED else 8 * np.dtype(dtype).itemsize


def least_bits(model: onnx.ModelProto) -> int:
    """The bits of the codes of fewest bits that it stores: 2, 4 or 8."""
    graph = Graph(model)
    return min((width(dtype) for name in graph.constants if (dtype := graph.dtype(name)) in PACKED), default=8)


def _type(graph: Graph, name: str) -> str:
    """Of the constant ``name``; empty where it is none."""
    if name not in graph.constants:
        return ""
    dtype = graph.dtype(name)
    return dtype if dtype in _TYPES else "other"


def _joined(types: set[str]) -> str:
    return "+".join(sorted(types - {""}, key=_TYPES.index, reverse=True)) or "float32"


def read(path: Path, content: bytes) -> onnx.ModelProto:
    """The ONNX model in ``content``, a ResNet8 by its shapes.

    Raises:
        ModelError: when it is damaged or no ResNet8.
    """
    model = parse(path, content)
    inputs, outputs = shapes(model)
    require_shapes(path, inputs[1:], outputs[1:])
    return model


def read_float(path: Path, content: bytes) -> onnx.ModelProto:
    """The float ONNX ResNet8 in ``content``.

    Raises:
        ModelError: when it is damaged, quantized already, or no ResNet8.
    """
    model = read(path, content)
    if dtypes(model) != ("float32", "float32"):
        raise ModelError(
            f"{path} is quantized already",
            found="/".join(dtypes(model)),
            expected="a float32 model",
            remedy="name the file that «resnet8 convert» wrote",
        )
    return model


def describe(path: Path, content: bytes, model: onnx.ModelProto) -> ModelDescription:
    """What the file with this ``content``, parsed as ``model``, is."""
    return ModelDescription.of(path, content, "onnx", *dtypes(model))
