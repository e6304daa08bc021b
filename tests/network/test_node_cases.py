"""The cases that ONNX ships for its quantized operators: those of 8-bit integers pass, the others are listed."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnx.backend.test.case.node as shipped
import pytest
from onnx import TensorProto

from resnet8.execute import engine
from resnet8.network.layers import Weighted
from resnet8.network.tensors import Activation, Constant
from resnet8.numeric.grid import QParams, dequantize, quantize

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

OPERATORS = {"QuantizeLinear", "DequantizeLinear", "QLinearConv", "QLinearMatMul"}

OTHER_CODES = "codes of a type other than int8, uint8 and int32"
BLOCKED = "one scale for each block of elements along an axis"
DYNAMIC = "computes its scale while it runs"
OUT_OF_SCOPE = {
    f"test_{operator}_{suffix}": reason
    for operator in ("quantizelinear", "dequantizelinear")
    for suffix, reason in {
        "e4m3fn": OTHER_CODES,
        "e5m2": OTHER_CODES,
        "uint16": OTHER_CODES,
        "int16": OTHER_CODES,
        "uint4": OTHER_CODES,
        "int4": OTHER_CODES,
        "uint2": OTHER_CODES,
        "int2": OTHER_CODES,
        "float4e2m1": OTHER_CODES,
    }.items()
} | {
    "test_dequantizelinear_e4m3fn_float16": OTHER_CODES,
    "test_dequantizelinear_e4m3fn_zero_point": OTHER_CODES,
    "test_dequantizelinear_blocked": BLOCKED,
    "test_quantizelinear_blocked_asymmetric": BLOCKED,
    "test_quantizelinear_blocked_symmetric": BLOCKED,
    "test_dynamicquantizelinear": DYNAMIC,
    "test_dynamicquantizelinear_expanded": DYNAMIC,
    "test_dynamicquantizelinear_max_adjusted": DYNAMIC,
    "test_dynamicquantizelinear_max_adjusted_expanded": DYNAMIC,
    "test_dynamicquantizelinear_min_adjusted": DYNAMIC,
    "test_dynamicquantizelinear_min_adjusted_expanded": DYNAMIC,
}


def shipped_cases() -> dict[str, Any]:
    """Every case of a module whose name speaks of quantization; importing a module makes its cases."""
    folder = Path(shipped.__file__).parent
    for path in sorted(folder.glob("*.py")):
        if "quantizelinear" in path.stem or path.stem.startswith("qlinear"):
            importlib.import_module(f"{shipped.__name__}.{path.stem}")
    return {
        case.name: case
        for case in shipped._NodeTestCases
        if {node.op_type for node in case.model.graph.node} & OPERATORS or "quantize" in case.name
    }


CASES = shipped_cases()
RUN = [name for name in CASES if name not in OUT_OF_SCOPE]


@pytest.mark.parametrize("name", RUN)
def test_the_case_passes(name: str) -> None:
    case = CASES[name]
    (node,) = case.model.graph.node
    for inputs, outputs in case.data_sets:
        values = dict(zip(filter(None, node.input), inputs, strict=True))
        found = OPERATIONS[node.op_type](node, [values.get(one) for one in node.input])
        (wanted,) = outputs
        if wanted.dtype == np.float32:
            np.testing.assert_allclose(found, wanted, rtol=0, atol=0, strict=True)
        else:
            np.testing.assert_array_equal(found, wanted, strict=True)


def test_no_case_is_passed_over() -> None:
    """A case that a new ONNX ships is run, and fails until it passes or is listed; none is listed that is gone."""
    assert set(CASES) == set(RUN) | set(OUT_OF_SCOPE)
    wanted = {"test_quantizelinear", "test_quantizelinear_axis", "test_dequantizelinear", "test_dequantizelinear_axis"}
    wanted |= {"test_qlinearconv", *(f"test_qlinearmatmul_{d}D_{t}_float32" for d in (2, 3) for t in ("int8", "uint8"))}
    assert wanted <= set(RUN)


@pytest.mark.parametrize("name", OUT_OF_SCOPE)
def test_what_is_out_of_scope_is_so_for_its_reason(name: str) -> None:
    graph = CASES[name].model.graph
    reason = OUT_OF_SCOPE[name]
    if reason == OTHER_CODES:
        types = {value.type.tensor_type.elem_type for value in (*graph.input, *graph.output)}
        in_scope = {TensorProto.FLOAT, TensorProto.INT8, TensorProto.UINT8, TensorProto.INT32}
        assert types - in_scope
    elif reason == BLOCKED:
        (node,) = graph.node
        assert any(attribute.name == "block_size" and attribute.i for attribute in node.attribute)
    else:
        assert len(graph.input) == 1  # no scale is given


# --- from the case's arrays to the functions under test ---


def grid(scale: Any, zero_point: Any) -> QParams:
    """For the tensor, where there is one scale, whatever its rank."""
    scale, zero = np.asarray(scale, np.float32), np.asarray(zero_point)
    if scale.size == 1:
        scale, zero = scale.reshape(()), zero.reshape(())
    return QParams(scale, zero.astype(np.int32), zero.dtype.name)


def axis_of(node: onnx.NodeProto) -> int:
    return next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 1)


def quantize_linear(node: onnx.NodeProto, inputs: list[Any]) -> NDArray[Any]:
    real, scale, zero = inputs
    return quantize(real, grid(scale, zero), axis_of(node))


def dequantize_linear(node: onnx.NodeProto, inputs: list[Any]) -> NDArray[np.float32]:
    codes, scale, zero = inputs
    return dequantize(codes, grid(scale, zero), axis_of(node))


def qlinear_conv(node: onnx.NodeProto, inputs: list[Any]) -> NDArray[Any]:
    assert not node.attribute  # strides, pads, groups: none in the cases of today
    codes, scale_x, zero_x, weights, scale_w, zero_w, scale_y, zero_y = inputs[:8]
    x = Activation("x", codes.transpose(0, 2, 3, 1).shape[1:], grid(scale_x, zero_x), nchw=True)
    rows, columns = (x.shape[i] - weights.shape[2 + i] + 1 for i in range(2))
    y = Activation("y", (rows, columns, len(weights)), grid(scale_y, zero_y), nchw=True)
    layer = weighted(x, y, weights.transpose(2, 3, 1, 0), grid(scale_w, zero_w))
    return engine.step(layer, {"x": codes.transpose(0, 2, 3, 1)}).transpose(0, 3, 1, 2)


def qlinear_matmul(node: onnx.NodeProto, inputs: list[Any]) -> NDArray[Any]:
    a, scale_a, zero_a, b, scale_b, zero_b, scale_y, zero_y = inputs
    # A stack of products is one product after the other.
    stacked = (one.reshape(-1, *one.shape[-2:]) for one in (a, b))
    result = []
    for left, right in zip(*stacked, strict=True):
        x = Activation("x", (left.shape[1],), grid(scale_a, zero_a))
        y = Activation("y", (right.shape[1],), grid(scale_y, zero_y))
        layer = weighted(x, y, right[None, None], grid(scale_b, zero_b), dense=True)
        result.append(engine.step(layer, {"x": left}))
    return np.stack(result).reshape(*a.shape[:-1], b.shape[-1])


def weighted(x: Activation, y: Activation, weights: NDArray[Any], params: QParams, *, dense: bool = False) -> Weighted:
    return Weighted(
        name="weighted",
        output=y,
        x=x,
        weights=Constant("w", weights, params),
        dense=dense,
    )


OPERATIONS: dict[str, Callable[[onnx.NodeProto, list[Any]], NDArray[Any]]] = {
    "QuantizeLinear": quantize_linear,
    "DequantizeLinear": dequantize_linear,
    "QLinearConv": qlinear_conv,
    "QLinearMatMul": qlinear_matmul,
}
