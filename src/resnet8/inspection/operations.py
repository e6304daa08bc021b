"""Every quantized operation of an ONNX file, twice: as the graph's nodes, and as the integer layers they make up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from resnet8.environment import current
from resnet8.inspection.records import (
    Accumulator,
    Codes,
    Grid,
    Layer,
    Member,
    Node,
    Operations,
    Weights,
)
from resnet8.numeric.grid import limits, signed_bits
from resnet8.results import now

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from resnet8.inspection.source import Source
    from resnet8.network.layers import AnyLayer
    from resnet8.network.tensors import Activation
    from resnet8.numeric.grid import QParams


_QLINEAR = ("x", "x_scale", "x_zero_point", "w", "w_scale", "w_zero_point")
_UNARY = ("x", "x_scale", "x_zero_point", "y_scale", "y_zero_point")
_BINARY = ("a", "a_scale", "a_zero_point", "b", "b_scale", "b_zero_point", "y_scale", "y_zero_point")
ROLES: dict[str, tuple[str, ...]] = {
    "QuantizeLinear": ("x", "y_scale", "y_zero_point"),
    "DequantizeLinear": ("x", "x_scale", "x_zero_point"),
    "QLinearConv": (*_QLINEAR, "y_scale", "y_zero_point", "bias"),
    "QLinearMatMul": (*_QLINEAR, "y_scale", "y_zero_point"),
    "QGemm": (*_QLINEAR, "bias", "y_scale", "y_zero_point"),
    "QLinearAdd": _BINARY,
    "QLinearMul": _BINARY,
    "QLinearAveragePool": _UNARY,
    "QLinearGlobalAveragePool": _UNARY,
    "QLinearSoftmax": _UNARY,
}
"""The quantized operators, and what each of their inputs is, by the specifications of ONNX and of ONNX Runtime's own
operators. One name for one thing: ``x`` the activation, ``w`` the weights, ``y`` the output, ``a`` and ``b`` the
operands of a sum or product."""


def inspect_operations(source: Source) -> Operations:
    """Every quantized operation of ``source``.

    Raises:
        ModelError: when it is not quantized, or has an operator or pattern that the integer engine does not know.

    Example:
        >>> found = resnet8.inspect_operations(resnet8.read_onnx(Path("models/resnet8_uint8.onnx")))
        >>> found.nodes[0].op_type, found.layers[0].kind, found.layers[0].weights.shape
        ('DequantizeLinear', 'conv', (3, 3, 3, 16))
    """
    program = source.program
    return Operations(
        model=source.description,
        nodes=tuple(_node(source, index) for index, node in enumerate(source.graph.nodes) if node.op_type in ROLES),
        layers=tuple(_layer(source, layer) for layer in program.layers),
        input=_codes(program.input),
        logits=program.logits.name,
        softmax=program.softmax,
        probabilities=None if program.probabilities is None else _grid(program.probabilities, None),
        environment=current(),
        created=now(),
    )


# Nodes


def _node(source: Source, index: int) -> Node:
    node = source.graph.nodes[index]
    roles = dict(zip(ROLES[node.op_type], node.input, strict=False))  # trailing inputs may be left out
    return Node(
        index=index,
        name=node.name,
        op_type=node.op_type,
        domain=node.domain or "ai.onnx",
        inputs=tuple(map(source.tensor, node.input)),
        outputs=tuple(map(source.tensor, node.output)),
        attributes={one.name: _attribute(one) for one in node.attribute},
        grids={
            role.removesuffix("_scale"): _node_grid(source, node, roles, role.removesuffix("_scale"))
            for role in roles
            if role.endswith("_scale")
        },
        parameters={role: source.parameter(name) for role, name in roles.items() if name in source.graph.constants},
    )


def _attribute(attribute: onnx.AttributeProto) -> int | float | str | tuple[int | float | str, ...]:
    def plain(value: Any) -> int | float | str:
        if isinstance(value, bytes):
            return value.decode(errors="replace")
        return value if isinstance(value, int | float) else str(value)

    value = onnx.helper.get_attribute_value(attribute)
    return tuple(map(plain, value)) if isinstance(value, list) else plain(value)


def _node_grid(source: Source, node: onnx.NodeProto, roles: dict[str, str], tensor: str) -> Grid:
    scale = source.graph.values(roles[f"{tensor}_scale"])
    zero_name = roles.get(f"{tensor}_zero_point", "")
    return Grid(
        scale=_numbers(scale),
        zero_point=_numbers(source.graph.values(zero_name) if zero_name else np.zeros(scale.shape, np.int32)),
        dtype=source.tensor(zero_name or roles.get(tensor, node.output[0])).dtype
        or "uint8",  # QuantizeLinear's default
        axis=_channel_axis(node) if scale.size > 1 else None,
    )


def _channel_axis(node: onnx.NodeProto) -> int:
    """The axis that scales run along, by each operator's specification."""
    attributes: dict[str, int] = {one.name: one.i for one in node.attribute}
    if node.op_type == "QLinearConv":
        return 0
    if node.op_type in ("QLinearMatMul", "QGemm"):
        return 0 if attributes.get("transB") else 1
    return attributes.get("axis", 1)


# Layers


def _layer(source: Source, layer: AnyLayer) -> Layer:
    inputs = tuple(map(_codes, layer.reads))
    window, bounds = layer.window, layer.accumulators()
    return Layer(
        name=layer.name,
        kind=layer.operator,
        residual=layer.residual,
        form="qlinear" if layer.kernel == "integer" else "qdq",
        relu=layer.relu,
        inputs=inputs,
        output=_codes(layer.output),
        weights=_weights(layer),
        bias=layer.bias is not None,
        strides=None if window is None else window.strides,
        pads=None if window is None else window.pads,
        multipliers=tuple(map(_numbers, layer.real_multipliers)),
        scale_ratio=inputs[0].scale / inputs[1].scale if layer.residual else None,
        accumulator=None if bounds is None else Accumulator(*bounds, bits=signed_bits(*bounds)),
        macs=layer.macs,
        nodes=tuple(_members(source, layer)),
        parameters={role: source.parameter(name) for role, name in layer.parameters.items()},
    )


def _codes(activation: Activation) -> Codes:
    return Codes(name=activation.name, shape=activation.shape, nchw=activation.nchw, **activation.facts)


def _grid(params: QParams, axis: int | None) -> Grid:
    return Grid(_numbers(params.scale), _numbers(params.zero_point), params.dtype, axis)


def _numbers(values: NDArray[Any]) -> Any:
    """A single number, or a tuple of them; Python's own."""
    return values.item() if values.size == 1 else tuple(values.tolist())


def _weights(layer: AnyLayer) -> Weights | None:
    parameter = layer.parameter
    if parameter is None:
        return None
    codes, params = parameter.codes, parameter.params
    low, high = limits(params.dtype)
    used = len(np.unique(codes))
    axis = codes.ndim - 1 if params.per_channel else None
    return Weights(codes.shape, _grid(params, axis), codes_used=used, codes_unused=high - low + 1 - used)


def _members(source: Source, layer: AnyLayer) -> Iterator[Member]:
    """The writer of the layer's codes; behind a QuantizeLinear also all float nodes, back to each DequantizeLinear."""
    writer = source.graph.writers[layer.output.name]
    found, pending = {writer}, [writer] if layer.kernel == "float" else []
    while pending:
        for name in source.graph.nodes[pending.pop()].input:
            index = source.graph.writers.get(name)
            if index is None or index in found:
                continue
            found.add(index)
            if source.graph.nodes[index].op_type != "DequantizeLinear":
                pending.append(index)
    for index in sorted(found):
        node = source.graph.nodes[index]
        yield Member(index, node.name, node.op_type)
