"""What an ONNX file is, without a runtime: whole, of a version that is read here, a ResNet8, of which data types."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx
from onnx import TensorProto

from resnet8.errors import ModelError, Resnet8Error
from resnet8.facts import MAX_READABLE_IR_VERSION, MAX_READABLE_OPSET
from resnet8.network.onnx_graph import Graph, axes
from resnet8.results import ModelDescription
from resnet8.runtimes.base import require_shapes
from resnet8.runtimes.onnx_plain import require_plain

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_TYPES: Mapping[int, str] = {TensorProto.FLOAT: "float32", TensorProto.INT8: "int8", TensorProto.UINT8: "uint8"}
_WEIGHT_INPUT = {"Conv": 1, "MatMul": 1, "Gemm": 1, "QLinearConv": 3, "QLinearMatMul": 3}


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
    """Data types of the activations and of the weights, by the types that the graph's (de)quantizing nodes hold."""
    graph = Graph(model)
    activations, weights = set(), set()
    for node in graph.nodes:
        if node.op_type == "QuantizeLinear" and len(node.input) > 2:
            activations.add(node.input[2])
        if node.op_type in _WEIGHT_INPUT:
            name = node.input[_WEIGHT_INPUT[node.op_type]]
            writer = graph.nodes[graph.writers[name]] if name in graph.writers else None
            weights.add(writer.input[0] if writer is not None and writer.op_type == "DequantizeLinear" else name)
    of_x, of_w = (
        {_TYPES.get(graph.constants[name].data_type, "other") for name in names if name in graph.constants}
        for names in (activations, weights)
    )
    return _one(of_x), _one(of_w)


def _one(types: set[str]) -> str:
    return "float32" if not types else types.pop() if len(types) == 1 else "mixed"


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
