"""What an ONNX file may hold before ONNX Runtime sees it: one plain graph of the operators of a small network.

ONNX can express programs: loops without an end, branches, functions, operators of any library that is installed,
tensors in other files. None of it is needed here, and a file that has it is refused before a session is made.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NoReturn

import onnx
from onnx import AttributeProto, TensorProto

from resnet8.errors import ModelError

if TYPE_CHECKING:
    from pathlib import Path

NODES = 5_000
ELEMENTS = 2**22
"""Limits: nodes of the graph, and elements of each tensor for one image (the largest map of a ResNet8 has 2**14)."""

OPERATORS = {
    "": frozenset(
        (
            *("Add", "AveragePool", "BatchNormalization", "Cast", "Clip", "Concat", "Constant", "Conv", "ConvInteger"),
            *("DequantizeLinear", "Div", "Dropout", "DynamicQuantizeLinear", "Flatten", "Gather", "Gemm"),
            *("GlobalAveragePool", "GlobalMaxPool", "HardSigmoid", "HardSwish", "Identity", "LeakyRelu", "LogSoftmax"),
            *("MatMul", "MatMulInteger", "Max", "MaxPool", "Min", "Mul", "Neg", "PRelu", "Pad", "Pow", "QLinearConv"),
            *("QLinearMatMul", "QuantizeLinear", "Reciprocal", "ReduceMax", "ReduceMean", "ReduceSum", "Relu"),
            *("Reshape", "Round", "Shape", "Sigmoid", "Slice", "Softmax", "Split", "Sqrt", "Squeeze", "Sub", "Sum"),
            *("Tanh", "Transpose", "Unsqueeze"),
        )
    ),
    "com.microsoft": frozenset(
        (
            *("DequantizeLinear", "FusedConv", "FusedGemm", "FusedMatMul", "NhwcFusedConv", "QGemm", "QLinearAdd"),
            *("QLinearAveragePool", "QLinearConcat", "QLinearConv", "QLinearGlobalAveragePool", "QLinearLeakyRelu"),
            *("QLinearMul", "QLinearReduceMean", "QLinearSigmoid", "QLinearSoftmax", "QuantizeLinear"),
        )
    ),
    "com.ms.internal.nhwc": frozenset(("QLinearConv", "QLinearAveragePool", "QLinearGlobalAveragePool", "Conv")),
}
OPERATORS["ai.onnx"] = OPERATORS[""]
"""The operators of small convolutional networks, float and quantized, by domain; the last two are ONNX Runtime's."""


def require_plain(path: Path, model: onnx.ModelProto) -> None:
    """Check that ``model`` is one graph of known operators whose tensors are of moderate size.

    Args:
        path: Names the file in errors.
        model: As it was parsed.

    Raises:
        ModelError: when it has anything else.
    """
    graph = model.graph
    if model.functions or model.training_info:
        _refuse(path, "functions or training information", "one graph of operators")
    if len(graph.node) > NODES:
        _refuse(path, f"{len(graph.node):,} nodes", f"at most {NODES:,}")
    for node in graph.node:
        if node.op_type not in OPERATORS.get(node.domain, ()):
            _refuse(path, f"the operator {f'{node.domain}:' * bool(node.domain)}{node.op_type}", "those of a small CNN")
        for attribute in node.attribute:
            if attribute.type in (AttributeProto.GRAPH, AttributeProto.GRAPHS):
                _refuse(path, f"a graph within {node.op_type}", "one graph")
            if attribute.HasField("t"):
                _require_inside(path, attribute.t)
    for tensor in graph.initializer:
        _require_inside(path, tensor)
    if graph.sparse_initializer:
        _refuse(path, "sparse tensors", "dense ones")
    _require_moderate(path, model)


def _require_inside(path: Path, tensor: TensorProto) -> None:
    """The file's digest says nothing of numbers in another file, which is looked for in the working directory."""
    if tensor.data_location == TensorProto.EXTERNAL or tensor.external_data:
        _refuse(path, f"the tensor {tensor.name} in another file", "all numbers in the file itself")
    _require_size(path, tensor.name, list(tensor.dims))
    try:
        onnx.numpy_helper.to_array(tensor)  # the checker does not count the bytes
    except (ValueError, TypeError, KeyError, IndexError, OverflowError) as error:
        _refuse(path, f"the tensor {tensor.name}: {error!s:.100}", "as many numbers as its shape says", error)


def _require_moderate(path: Path, model: onnx.ModelProto) -> None:
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
    for value in (*inferred.graph.input, *inferred.graph.value_info, *inferred.graph.output):
        _require_size(path, value.name, [dim.dim_value for dim in value.type.tensor_type.shape.dim if dim.dim_value])


def _require_size(path: Path, name: str, shape: list[int]) -> None:
    if min(shape, default=0) < 0 or math.prod(shape) > ELEMENTS:
        _refuse(path, f"the tensor {name} of shape {shape}", f"at most {ELEMENTS:,} elements an image")


def _refuse(path: Path, found: str, expected: str, cause: Exception | None = None) -> NoReturn:
    raise ModelError(
        f"{path} was refused before it was run",
        found=found,
        expected=expected,
        remedy="export the network without it, or make the file with «resnet8 convert» or «resnet8 quantize»",
    ) from cause
