"""Small quantized networks: layers as values, and ONNX files of them in both forms, written node by node.

A network is described once, as a :class:`Program`, and written as QDQ (float operators between DequantizeLinear and
QuantizeLinear) or as QOperator (QLinear operators). Reading either back must give the description.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from resnet8.facts import IMAGE_SHAPE, IR_VERSION, OPSET
from resnet8.network.layers import AveragePool, Product, Rescale, Sum, Weighted
from resnet8.network.program import Program
from resnet8.network.tensors import Activation, Constant
from resnet8.numeric.grid import QParams, limits, qparams, storage, width

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from resnet8.network.layers import AnyLayer
    from resnet8.numeric.grid import Dtype

Form = Literal["qdq", "qoperator"]

ONNX_TYPES = {"int8": TensorProto.INT8, "uint8": TensorProto.UINT8}
MICROSOFT = "com.microsoft"


# --- layers ---


def random_codes(rng: np.random.Generator, shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
    low, high = limits(dtype)
    return rng.integers(low, high + 1, shape).astype(dtype)


def activation(
    name: str,
    shape: tuple[int, ...],
    scale: float = 0.05,
    zero_point: int = 0,
    dtype: Dtype = "uint8",
    *,
    nchw: bool | None = None,
) -> Activation:
    """Maps are NCHW in the graph, vectors are not, unless said otherwise."""
    return Activation(name, shape, qparams(scale, zero_point, dtype), len(shape) == 3 if nchw is None else nchw)


def weighted(
    rng: np.random.Generator,
    x: Activation,
    out: Activation,
    *,
    kernel: tuple[int, int] = (1, 1),
    strides: tuple[int, int] = (1, 1),
    pads: tuple[int, int, int, int] = (0, 0, 0, 0),
    dtype: Dtype = "int8",
    per_channel: bool = False,
    bias: int = 0,
    largest: int = 127,
    dense: bool = False,
    name: str = "conv",
    scale: float = 0.01,
) -> Weighted:
    """Random weights. ``bias``: its largest magnitude, 0 for none. ``largest``: of int8 weights; 64 saturates nowhere.

    The spatial part of ``out.shape`` is what the geometry gives.
    """
    channels = out.shape[-1]
    shape = (*kernel, x.shape[-1], channels)
    if dtype == "int8":
        codes = rng.integers(-largest, largest + 1, shape).astype(np.int8)
        zeros = np.zeros(channels, np.int32)
    else:
        codes = rng.integers(0, 256, shape).astype(np.uint8)
        zeros = rng.integers(100, 156, channels).astype(np.int32)
    scales = (scale * rng.uniform(0.5, 2, channels)).astype(np.float32)
    if not per_channel:
        zeros, scales = zeros[0].reshape(()), scales[0].reshape(())
    if len(x.shape) == 3:
        rows = (x.shape[0] + pads[0] + pads[2] - kernel[0]) // strides[0] + 1
        columns = (x.shape[1] + pads[1] + pads[3] - kernel[1]) // strides[1] + 1
        out = replace(out, shape=(rows, columns, channels))
    return Weighted(
        name=name,
        output=out,
        x=x,
        weights=Constant(f"{name}.w", codes, QParams(np.asarray(scales), np.asarray(zeros), dtype)),
        bias=Constant(f"{name}.b", rng.integers(-bias, bias + 1, channels).astype(np.int32), None) if bias else None,
        strides=strides,
        pads=pads,
        dense=dense,
    )


def refilled(
    layer: Weighted,
    codes: NDArray[Any] | None = None,
    grid: QParams | None = None,
    bias: NDArray[Any] | None = None,
) -> Weighted:
    """``layer`` with other codes for weights, on another grid, with another bias."""
    weights = replace(layer.weights, grid=grid or layer.weights.grid)
    return replace(
        layer,
        weights=weights if codes is None else replace(weights, codes=codes),
        bias=layer.bias if bias is None else Constant(f"{layer.name}.b", bias, None),
    )


def product(x: Activation, out: Activation, constant: NDArray[Any], params: QParams, name: str = "mul") -> Product:
    return Product(name=name, output=out, x=x, constant=Constant(f"{name}.c", constant, params))


def addition(a: Activation, b: Activation | Constant, out: Activation, name: str = "add") -> Sum:
    return Sum(name=name, output=out, a=a, b=b)


def pool(x: Activation, out: Activation, name: str = "pool") -> AveragePool:
    return AveragePool(name=name, output=out, x=x)


def rescale(x: Activation, out: Activation, name: str = "rescale") -> Rescale:
    return Rescale(name=name, output=out, x=x, kernel="float")


# --- a network with every kind of layer ---


def network(
    seed: int = 0,
    dtype: Dtype = "uint8",
    weights: Dtype = "int8",
    *,
    per_channel: bool = False,
    largest: int = 64,
    classes_bias: bool = True,
) -> Program:
    """Images to ten logits: conv, mul, add of a constant, conv, residual add, global average pool, dense, softmax."""
    rng = np.random.default_rng(seed)
    low = limits(dtype)[0]

    def at(name: str, shape: tuple[int, ...], scale: float, zero: int) -> Activation:
        return activation(name, shape, scale, low + zero, dtype)

    # Inputs of the weighted layers spread over about the scale's range: neither flat nor saturated.
    image = at("image", IMAGE_SHAPE, 1.0, 0)
    options: dict[str, Any] = {"dtype": weights, "per_channel": per_channel, "largest": largest}
    first = weighted(
        rng,
        image,
        at("first", (0, 0, 4), 4.0, 120),
        kernel=(3, 3),
        strides=(4, 4),
        pads=(0, 1, 1, 1),
        bias=3000,
        name="first_conv",
        **options,
    )
    maps = first.output.shape
    scaled = product(
        first.output,
        at("scaled", maps, 0.25, 90),
        rng.integers(20, 120, 4).astype(dtype),
        qparams(0.001, low, dtype),
        "scaling",
    )
    shift = Constant("shifting.c", random_codes(rng, (4,), dtype), qparams(0.02, low + 128, dtype))
    shifted = addition(scaled.output, shift, at("shifted", maps, 0.25, 100), "shifting")
    second = weighted(
        rng,
        shifted.output,
        at("second", (0, 0, 4), 1.0, 110),
        kernel=(3, 3),
        pads=(1, 1, 1, 1),
        bias=500,
        name="second_conv",
        **options,
    )
    joined = addition(second.output, shifted.output, at("joined", maps, 1.1, 105), "joining")
    mean = pool(joined.output, at("mean", (1, 1, 4), 0.5, 128))
    dense = weighted(
        rng,
        replace(mean.output, shape=(4,), nchw=False),
        at("logits", (10,), 0.5, 128),
        bias=500 if classes_bias else 0,
        dense=True,
        name="dense",
        **options,
    )
    layers = (first, scaled, shifted, second, joined, mean, dense)
    return Program(image, layers, dense.output, softmax=True, probabilities=None)


def retyped(program: Program, types: Sequence[Dtype], seed: int = 30) -> Program:
    """``program`` with other random weights, of each layer on ``types``, unsigned ones around the middle.

    Those of int8 saturate in no kernel. Scales grow as the codes become few.
    """
    rng = np.random.default_rng(seed)
    layers: list[AnyLayer] = []
    kinds = iter(types)
    for layer in program.layers:
        if isinstance(layer, Weighted):
            dtype = next(kinds)
            low, high = (-64, 64) if dtype == "int8" else limits(dtype)
            codes = rng.integers(low, high + 1, layer.weights.shape).astype(storage(dtype))
            scale = layer.weights.params.scale * np.float32(2 ** (8 - width(dtype)))
            zeros = np.full(scale.shape, 2 ** (width(dtype) - 1) if dtype[0] == "u" else 0, np.int32)
            layers.append(refilled(layer, codes, QParams(np.asarray(scale), zeros, dtype)))
        else:
            layers.append(layer)
    return replace(program, layers=tuple(layers))


# --- ONNX ---


@dataclass
class Writer:
    """Nodes and constants of a graph that grows."""

    form: Form
    global_pool: bool = True
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: dict[str, NDArray[Any]] = field(default_factory=dict)
    flattened: set[str] = field(default_factory=set)

    def node(self, operator: str, inputs: list[str], output: str, domain: str = "", **attributes: Any) -> str:
        name = attributes.pop("name", f"{operator}:{output}")
        self.nodes.append(helper.make_node(operator, inputs, [output], name=name, domain=domain, **attributes))
        return output

    def constant(self, name: str, value: NDArray[Any]) -> str:
        self.constants[name] = value
        return name

    def grid(self, name: str, params: QParams) -> list[str]:
        """Scale and zero point as constants."""
        scale = self.constant(f"{name}.scale", params.scale)
        return [scale, self.constant(f"{name}.zero", params.zero_point.astype(params.dtype))]

    def operand(self, value: Activation | Constant) -> list[str]:
        """Codes, scale, zero point."""
        if isinstance(value, Constant):
            self.constant(value.name, value.codes)
        return [value.name, *self.grid(value.name, value.params)]

    def real(self, value: Activation | Constant) -> str:
        """The value dequantized."""
        name = f"{value.name}.real{sum(node.op_type == 'DequantizeLinear' for node in self.nodes)}"
        return self.node("DequantizeLinear", self.operand(value), name)

    def quantized(self, real: str, layer: AnyLayer) -> None:
        if layer.relu:
            real = self.node("Relu", [real], f"{layer.output.name}.relu")
        self.node("QuantizeLinear", [real, *self.grid(layer.output.name, layer.output.params)], layer.output.name)

    def broadcast(self, x: Activation, codes: NDArray[Any]) -> NDArray[Any]:
        """A constant of each channel, as the graph's layout needs it."""
        return codes.reshape(-1, 1, 1) if x.nchw and codes.ndim else codes

    def layer(self, layer: AnyLayer) -> None:
        if isinstance(layer, Weighted):
            self.weighted(layer)
        elif isinstance(layer, Rescale):
            self.quantized(self.real(layer.x), layer)
        elif isinstance(layer, AveragePool):
            self.pool(layer)
        else:
            self.elementwise(layer)

    def elementwise(self, layer: Product | Sum) -> None:
        a, b = (layer.x, layer.constant) if isinstance(layer, Product) else (layer.a, layer.b)
        if isinstance(b, Constant):
            b = replace(b, codes=self.broadcast(a, b.codes))
        operator = "Mul" if isinstance(layer, Product) else "Add"
        if self.form == "qoperator":
            out = self.grid(layer.output.name, layer.output.params)
            inputs = [*self.operand(a), *self.operand(b), *out]
            self.node(f"QLinear{operator}", inputs, layer.output.name, MICROSOFT, name=layer.name)
        else:
            real = self.node(operator, [self.real(a), self.real(b)], f"{layer.output.name}.sum", name=layer.name)
            self.quantized(real, layer)

    def pool(self, layer: AveragePool) -> None:
        window = {} if self.global_pool else {"kernel_shape": list(layer.x.shape[:2])}
        operator = "GlobalAveragePool" if self.global_pool else "AveragePool"
        if self.form == "qoperator":
            inputs = [*self.operand(layer.x), *self.grid(layer.output.name, layer.output.params)]
            channels_last = int(not layer.x.nchw)
            self.node(
                f"QLinear{operator}",
                inputs,
                layer.output.name,
                MICROSOFT,
                name=layer.name,
                channels_last=channels_last,
                **window,
            )
        else:
            real = self.node(operator, [self.real(layer.x)], f"{layer.output.name}.mean", name=layer.name, **window)
            self.quantized(real, layer)

    def weighted(self, layer: Weighted) -> None:
        geometry: dict[str, Any] = {"name": layer.name}
        weights = layer.weights.codes[0, 0] if layer.dense else layer.weights.codes.transpose(3, 2, 0, 1)
        if not layer.dense:
            geometry |= {
                "kernel_shape": list(layer.weights.shape[:2]),
                "strides": list(layer.strides),
                "pads": list(layer.pads),
            }
        name = self.constant(layer.weights.name, np.ascontiguousarray(weights))
        grid = self.grid(name, layer.weights.params)
        if self.form == "qoperator":
            self.qlinear_weighted(layer, [name, *grid], geometry)
        else:
            self.float_weighted(layer, [name, *grid], geometry)

    def qlinear_weighted(self, layer: Weighted, weights: list[str], geometry: dict[str, Any]) -> None:
        x, scale, zero = self.operand(layer.x)
        if layer.dense:
            x = self.flat(x, layer.x)
        out = self.grid(layer.output.name, layer.output.params)
        bias = [] if layer.bias is None else [self.constant(layer.bias.name, layer.bias.codes)]
        inputs = [x, scale, zero, *weights]
        if layer.dense and bias:
            self.node("QGemm", [*inputs, *bias, *out], layer.output.name, MICROSOFT, **geometry)
        else:
            operator = "QLinearMatMul" if layer.dense else "QLinearConv"
            self.node(operator, [*inputs, *out, *bias], layer.output.name, **geometry)

    def float_weighted(self, layer: Weighted, weights: list[str], geometry: dict[str, Any]) -> None:
        x = self.real(layer.x)
        if layer.dense:
            x = self.flat(x, layer.x)
        axis = {"axis": 1 if layer.dense else 0} if layer.weights.params.per_channel else {}
        inputs = [x, self.node("DequantizeLinear", weights, f"{weights[0]}.real", **axis)]
        if layer.bias is not None:
            bias = self.constant(layer.bias.name, layer.bias.codes)
            scale = self.constant(f"{bias}.scale", np.asarray(layer.x.scale * layer.weights.params.scale, np.float32))
            zero = self.constant(f"{bias}.zero", np.zeros(self.constants[scale].shape, np.int32))
            axis = {"axis": 0} if layer.weights.params.per_channel else {}
            inputs.append(self.node("DequantizeLinear", [bias, scale, zero], f"{bias}.real", **axis))
        operator = ("Gemm" if layer.bias is not None else "MatMul") if layer.dense else "Conv"
        self.quantized(self.node(operator, inputs, f"{layer.output.name}.float", **geometry), layer)

    def flat(self, name: str, x: Activation) -> str:
        """(N, C, 1, 1) as (N, C), where that has not happened."""
        if x.name not in self.flattened:
            return name
        return self.node("Flatten", [name], f"{name}.flat")

    def model(self, inputs: list[onnx.ValueInfoProto], outputs: list[onnx.ValueInfoProto]) -> onnx.ModelProto:
        constants = [numpy_helper.from_array(np.asarray(value), name) for name, value in self.constants.items()]
        graph = helper.make_graph(self.nodes, "tiny", inputs, outputs, constants)
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(MICROSOFT, 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)


def to_onnx(program: Program, form: Form, *, global_pool: bool = True) -> onnx.ModelProto:
    """The program as a file: NHWC images in, class probabilities (or codes' reals) out."""
    writer = Writer(
        form, global_pool, flattened={layer.output.name for layer in program.layers if layer.kind == "average-pool"}
    )
    pixels = "pixels"
    if program.input.nchw:
        pixels = writer.node("Transpose", ["pixels"], "pixels.nchw", perm=[0, 3, 1, 2])
    writer.node("QuantizeLinear", [pixels, *writer.grid(program.input.name, program.input.params)], program.input.name)
    for layer in program.layers:
        writer.layer(layer)
    output = writer.real(program.logits)
    if program.softmax:
        output = writer.node("Softmax", [output], "softmax", axis=1)
    if program.probabilities is not None:
        grid = writer.grid("probabilities", program.probabilities)
        codes = writer.node("QuantizeLinear", [output, *grid], "probabilities.codes")
        output = writer.node("DequantizeLinear", [codes, *grid], "probabilities")
    return writer.model(
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ("batch", *IMAGE_SHAPE))],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, ("batch", program.logits.shape[0]))],
    )


def session(model: onnx.ModelProto, *, optimize: bool = False) -> onnxruntime.InferenceSession:
    onnx.checker.check_model(model)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    if not optimize:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def run_layer(
    layer: AnyLayer, values: dict[str, NDArray[Any]], form: Form = "qoperator", *, global_pool: bool = True
) -> NDArray[Any]:
    """What ONNX Runtime computes for one layer: NHWC codes in, NHWC codes out."""
    writer = Writer(form, global_pool)
    writer.layer(layer)
    read = {one.name: one for one in operands(layer) if isinstance(one, Activation)}
    inputs = [
        helper.make_tensor_value_info(name, ONNX_TYPES[one.params.dtype], ("batch", *stored(one)))
        for name, one in read.items()
    ]
    out = layer.output
    outputs = [helper.make_tensor_value_info(out.name, ONNX_TYPES[out.params.dtype], ("batch", *stored(out)))]
    feed = {
        name: np.ascontiguousarray(values[name].transpose(0, 3, 1, 2)) if one.nchw else values[name]
        for name, one in read.items()
    }
    result: NDArray[Any] = session(writer.model(inputs, outputs)).run(None, feed)[0]
    return result.transpose(0, 2, 3, 1) if out.nchw else result


def operands(layer: AnyLayer) -> tuple[Activation | Constant, ...]:
    return (layer.a, layer.b) if isinstance(layer, Sum) else (layer.x,)


def stored(x: Activation) -> tuple[int, ...]:
    """The shape in the graph."""
    return (x.shape[2], *x.shape[:2]) if x.nchw else x.shape


def values_for(layer: AnyLayer, rng: np.random.Generator, count: int = 4) -> dict[str, NDArray[Any]]:
    """Random codes for every input of ``layer``."""
    return {
        one.name: random_codes(rng, (count, *one.shape), one.params.dtype)
        for one in operands(layer)
        if isinstance(one, Activation)
    }


# --- a float network to quantize ---


def float_network(seed: int = 72) -> onnx.ModelProto:
    """A small residual network in float, as a converter would write it."""
    rng = np.random.default_rng(seed)

    def tensor(name: str, *shape: int, size: float = 1.0) -> onnx.TensorProto:
        return numpy_helper.from_array((rng.normal(0, size, shape)).astype(np.float32), name)

    nodes = [
        helper.make_node("Transpose", ["pixels"], ["x"], name="turn", perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["x", "w1", "b1"], ["c1"], name="conv1", strides=[4, 4], pads=[0, 1, 1, 1]),
        helper.make_node("Relu", ["c1"], ["r1"], name="relu1"),
        helper.make_node("Conv", ["r1", "w2", "b2"], ["c2"], name="conv2", pads=[1, 1, 1, 1]),
        helper.make_node("Add", ["c2", "r1"], ["a"], name="add"),
        helper.make_node("Relu", ["a"], ["r2"], name="relu2"),
        helper.make_node("GlobalAveragePool", ["r2"], ["p"], name="pool"),
        helper.make_node("Flatten", ["p"], ["f"], name="flatten"),
        helper.make_node("Gemm", ["f", "w3", "b3"], ["logits"], name="dense"),
        helper.make_node("Softmax", ["logits"], ["probabilities"], name="softmax", axis=1),
    ]
    tensors = [
        tensor("w1", 6, 3, 3, 3, size=0.02),
        tensor("b1", 6),
        tensor("w2", 6, 6, 3, 3, size=0.15),
        tensor("b2", 6),
        tensor("w3", 6, 10, size=0.5),
        tensor("b3", 10),
    ]
    graph = helper.make_graph(
        nodes,
        "float",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ("batch", *IMAGE_SHAPE))],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ("batch", 10))],
        tensors,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)


# --- comparing ---


def assert_same_program(found: Program, expected: Program, *, kernel: str | None = None) -> None:
    """Every fact of two programs but the names of nodes."""
    assert_same_activation(found.input, expected.input)
    assert_same_activation(found.logits, expected.logits)
    assert found.softmax == expected.softmax
    assert (found.probabilities is None) == (expected.probabilities is None)
    if found.probabilities is not None and expected.probabilities is not None:
        assert found.probabilities.same_as(expected.probabilities)
    assert [(layer.kind, layer.name) for layer in found.layers] == [
        (layer.kind, layer.name) for layer in expected.layers
    ]
    for one, other in zip(found.layers, expected.layers, strict=True):
        assert_same_layer(one, other)
        assert kernel is None or one.kernel == kernel


def assert_same_activation(found: Activation, expected: Activation) -> None:
    assert (found.name, found.shape, found.nchw) == (expected.name, expected.shape, expected.nchw)
    assert found.params.same_as(expected.params)


def assert_same_constant(found: Constant, expected: Constant) -> None:
    assert found.name == expected.name
    np.testing.assert_array_equal(found.codes, expected.codes, strict=True)
    assert found.params.same_as(expected.params)


def assert_same_layer(found: AnyLayer, expected: AnyLayer) -> None:
    assert type(found) is type(expected)
    assert (found.inputs, found.relu, found.parameters) == (expected.inputs, expected.relu, expected.parameters)
    assert_same_activation(found.output, expected.output)
    for one, other in zip(operands(found), operands(expected), strict=True):
        if isinstance(one, Constant) or isinstance(other, Constant):
            assert_same_constant(one, other)
        else:
            assert_same_activation(one, other)
    if isinstance(found, Product):
        assert_same_constant(found.constant, expected.constant)
    if isinstance(found, Weighted):
        assert_same_constant(found.weights, expected.weights)
        np.testing.assert_array_equal(found.added, expected.added, strict=True)
        assert (found.strides, found.pads, found.dense) == (expected.strides, expected.pads, expected.dense)
