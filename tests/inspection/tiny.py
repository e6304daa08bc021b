"""A quantized network small enough to work out by hand, in both forms that a file can write it in.

Two 1 x 1 convolutions, the second beside a shortcut; residual add; pooling; a dense layer: (batch, 32, 32, 3) to
(batch, 10).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from resnet8.data import demo

RUN = Path(demo.__file__).parent / "run"
"""The demo's models and results as they are packaged: nothing runs for them."""
MICROSOFT = "com.microsoft"
DENSE = np.full((2, 10), 128, np.uint8)
DENSE[:, 0] = (129, 126)

GRIDS: dict[str, tuple[Any, Any]] = {
    "x": (np.float32(1), np.uint8(0)),
    "w1": (np.array([0.5, 0.25], np.float32), np.zeros(2, np.int8)),
    "b1": (np.array([0.5, 0.25], np.float32), np.zeros(2, np.int32)),
    "a": (np.float32(2), np.uint8(0)),
    "w2": (np.float32(0.5), np.int8(0)),
    "b": (np.float32(4), np.uint8(128)),
    "sum": (np.float32(4), np.uint8(10)),
    "mean": (np.float32(4), np.uint8(10)),
    "w3": (np.float32(0.125), np.uint8(128)),
    "scores": (np.float32(1), np.uint8(0)),
}
CODES: dict[str, Any] = {
    "w1": np.array([[1, 2, 3], [-4, 0, 4]], np.int8).reshape(2, 3, 1, 1),
    "b1": np.array([4, -8], np.int32),
    "w2": np.eye(2, dtype=np.int8).reshape(2, 2, 1, 1),
    "w3": DENSE,
}


def _grid(tensor: str) -> list[str]:
    return [f"{tensor}_scale", f"{tensor}_zero_point"]


def _dequantize(tensor: str, real: str, **attributes: int) -> onnx.NodeProto:
    return helper.make_node(
        "DequantizeLinear", [f"{tensor}_q", *_grid(tensor)], [real], name=f"{real}_dequantize", **attributes
    )


def _quantize(real: str, tensor: str) -> onnx.NodeProto:
    return helper.make_node("QuantizeLinear", [real, *_grid(tensor)], [f"{tensor}_q"], name=f"{tensor}_quantize")


def _model(nodes: list[onnx.NodeProto]) -> onnx.ModelProto:
    constants = {f"{name}_q": codes for name, codes in CODES.items()}
    for name, (scale, zero_point) in GRIDS.items():
        constants |= {f"{name}_scale": np.asarray(scale), f"{name}_zero_point": np.asarray(zero_point)}
    constants["flat"] = np.array([-1, 2], np.int64)
    used = {name for node in nodes for name in node.input}
    graph = helper.make_graph(
        [helper.make_node("Transpose", ["input"], ["pixels"], name="transpose", perm=[0, 3, 1, 2]), *nodes],
        "tiny",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 32, 32, 3])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["batch", 10])],
        [numpy_helper.from_array(value, name) for name, value in constants.items() if name in used],
    )
    opsets = [helper.make_opsetid("", 13), helper.make_opsetid(MICROSOFT, 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=7)


def qdq() -> onnx.ModelProto:
    """Float operators between DequantizeLinear and QuantizeLinear."""
    return _model(
        [
            _quantize("pixels", "x"),
            _dequantize("x", "x_real"),
            _dequantize("w1", "w1_real", axis=0),
            _dequantize("b1", "b1_real", axis=0),
            helper.make_node("Conv", ["x_real", "w1_real", "b1_real"], ["conv1"], name="model/first/Conv"),
            helper.make_node("Relu", ["conv1"], ["relu1"], name="relu"),
            _quantize("relu1", "a"),
            _dequantize("a", "a_real"),
            _dequantize("w2", "w2_real"),
            helper.make_node("Conv", ["a_real", "w2_real"], ["conv2"], name="model/second/Conv"),
            _quantize("conv2", "b"),
            _dequantize("b", "b_real"),
            helper.make_node("Add", ["a_real", "b_real"], ["added"], name="model/join/Add"),
            _quantize("added", "sum"),
            _dequantize("sum", "sum_real"),
            helper.make_node("GlobalAveragePool", ["sum_real"], ["pooled"], name="model/pool"),
            _quantize("pooled", "mean"),
            _dequantize("mean", "mean_real"),
            helper.make_node("Reshape", ["mean_real", "flat"], ["features"], name="reshape"),
            _dequantize("w3", "w3_real"),
            helper.make_node("MatMul", ["features", "w3_real"], ["products"], name="model/dense/MatMul"),
            _quantize("products", "scores"),
            _dequantize("scores", "output"),
        ]
    )


def qlinear() -> onnx.ModelProto:
    """The same with operators on codes, some of ONNX Runtime's own."""

    def operator(kind: str, reads: list[str], writes: str, name: str, domain: str = "") -> onnx.NodeProto:
        inputs = [name for one in reads for name in (f"{one}_q", *_grid(one))]
        return helper.make_node(kind, [*inputs, *_grid(writes)], [f"{writes}_q"], name=name, domain=domain)

    first = operator("QLinearConv", ["x", "w1"], "a", "model/first/Conv_quant")
    first.input.append("b1_q")
    dense = operator("QLinearMatMul", ["mean", "w3"], "scores", "model/dense/MatMul_quant")
    dense.input[0] = "features"
    return _model(
        [
            _quantize("pixels", "x"),
            first,
            operator("QLinearConv", ["a", "w2"], "b", "model/second/Conv_quant"),
            operator("QLinearAdd", ["a", "b"], "sum", "model/join/Add_quant", MICROSOFT),
            operator("QLinearGlobalAveragePool", ["sum"], "mean", "model/pool_quant", MICROSOFT),
            helper.make_node("Reshape", ["mean_q", "flat"], ["features"], name="reshape"),
            dense,
            _dequantize("scores", "output"),
        ]
    )


def with_unknown_operator() -> onnx.ModelProto:
    """The output is squashed by an operator that the engine has no integer form of."""
    model = qdq()
    model.graph.node[-1].output[0] = "logits"
    model.graph.node.append(helper.make_node("Sigmoid", ["logits"], ["output"], name="squash"))
    return model


def real() -> onnx.ModelProto:
    """In float: the QDQ form without its quantization."""
    model = qdq()
    skipped: dict[str, str] = {}
    nodes = []
    for node in model.graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            skipped[node.output[0]] = skipped.get(node.input[0], node.input[0])
        else:
            nodes.append(helper.make_node(node.op_type, [skipped.get(one, one) for one in node.input], node.output))
            nodes[-1].name = node.name
            nodes[-1].attribute.extend(node.attribute)
    last = nodes[-1]
    last.output[0] = "output"
    codes = {
        f"{name}_q": numpy_helper.from_array(value.astype(np.float32), f"{name}_q") for name, value in CODES.items()
    }
    kept = [codes.get(one.name, one) for one in model.graph.initializer]
    used = {name for node in nodes for name in node.input}
    del model.graph.node[:], model.graph.initializer[:]
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(one for one in kept if one.name in used)
    return model


def written(model: onnx.ModelProto, path: Path) -> Path:
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path
