"""ONNX files in ONNX Runtime, on the CPU."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx
import onnxruntime
from google.protobuf.message import DecodeError
from onnx import TensorProto

from resnet8.environment import cpu
from resnet8.errors import ModelError
from resnet8.network import MAX_READABLE_IR_VERSION, MAX_READABLE_OPSET
from resnet8.results import ModelDescription, sha256
from resnet8.runtimes.base import require_shapes

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

_TYPES = {TensorProto.FLOAT: "float32", TensorProto.INT8: "int8", TensorProto.UINT8: "uint8"}
_WEIGHT_INPUT = {"Conv": 1, "MatMul": 1, "Gemm": 1, "QLinearConv": 3, "QLinearMatMul": 3}


class OrtPredictor:
    """An ONNX model in an inference session (see :class:`resnet8.runtimes.base.Predictor`).

    One thread inside the session and one session call per CPU at once: the int8 graphs spend much of their time in
    operators that ONNX Runtime does not divide among threads.
    """

    backend = "onnxruntime"

    def __init__(self, model: ModelDescription, session: onnxruntime.InferenceSession) -> None:
        self.model = model
        self.threads = cpu().logical_cpus
        self._session = session
        self._input = session.get_inputs()[0].name

    def probabilities(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Class probabilities, float32 (N, 10)."""
        output: NDArray[np.float32] = self._session.run(None, {self._input: images})[0]
        return output


def parse(path: Path, content: bytes) -> onnx.ModelProto:
    """The ONNX model in ``content``.

    Raises:
        ModelError: when it is no whole ONNX model, or of an operator set that ONNX Runtime does not read.
    """
    try:
        model = onnx.load_model_from_string(content)
        onnx.checker.check_model(model)
    except (DecodeError, onnx.checker.ValidationError) as error:
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
    """Shape of the first input that is no initializer, and of the first output; named axes as their names."""
    initializers = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in initializers]

    def shape(value: onnx.ValueInfoProto) -> tuple[int | str, ...]:
        dims = value.type.tensor_type.shape.dim
        return tuple(dim.dim_value if dim.HasField("dim_value") else dim.dim_param or "?" for dim in dims)

    return shape(inputs[0]), shape(model.graph.output[0])


def dtypes(model: onnx.ModelProto) -> tuple[str, str]:
    """Data types of the activations and of the weights, by the types that the graph's (de)quantizing nodes hold."""
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    producers = {output: node for node in model.graph.node for output in node.output}
    activations = {
        _TYPES.get(tensors[node.input[2]].data_type, "other")
        for node in model.graph.node
        if node.op_type == "QuantizeLinear" and len(node.input) > 2 and node.input[2] in tensors
    }
    weights = set()
    for node in model.graph.node:
        if node.op_type in _WEIGHT_INPUT:
            name = node.input[_WEIGHT_INPUT[node.op_type]]
            producer = producers.get(name)
            if producer is not None and producer.op_type == "DequantizeLinear":
                name = producer.input[0]
            if name in tensors:
                weights.add(_TYPES.get(tensors[name].data_type, "other"))
    return _one(activations), _one(weights)


def _one(types: set[str]) -> str:
    return "float32" if not types else types.pop() if len(types) == 1 else "mixed"


def open_content(path: Path, content: bytes) -> OrtPredictor:
    """Open the ONNX model in ``content``.

    Raises:
        ModelError: when it is damaged or no ResNet8.
    """
    model = parse(path, content)
    inputs, outputs = shapes(model)
    require_shapes(path, inputs[1:], outputs[1:])
    activations, weights = dtypes(model)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    description = ModelDescription(
        path=str(path),
        sha256=sha256(content),
        size_bytes=len(content),
        format="onnx",
        activations=activations,
        weights=weights,
    )
    return OrtPredictor(description, session)
