"""ONNX -> :class:`resnet8.network.program.Program`: float, QDQ and QOperator files, and as ONNX Runtime optimizes them.

The rules, in the order of the graph:

1. QuantizeLinear of the graph's input (also behind a Transpose) begins the program.
2. QLinearConv, QLinearMatMul, QGemm, QLinearAdd, QLinearMul, QLinearAveragePool, QLinearGlobalAveragePool: one layer.
3. DequantizeLinear on every input of Conv, MatMul, Gemm, Add, Mul, AveragePool, GlobalAveragePool, an optional Relu,
   then QuantizeLinear: one layer.
4. DequantizeLinear, then QuantizeLinear (also behind Reshape, Flatten, Transpose or Relu): a :class:`Rescale`, or,
   where both grids agree, nothing.
5. Transpose between NCHW and NHWC, Reshape and Flatten to (batch, features) of a 1 x 1 map: no arithmetic.
6. Softmax, QLinearSoftmax behind the last layer, and its QuantizeLinear and DequantizeLinear: the end. The last layer
   may write real numbers: its accumulators are their codes.
7. Clip of codes between two constants: the grid of what wrote them has fewer codes (``int4``), or a ReLU, where the
   lower one is the zero point.
8. Conv, MatMul, Gemm, Add, Mul, Relu, AveragePool, GlobalAveragePool on real numbers: one layer without grids; a Relu
   belongs to the layer before it, where nothing else reads that layer.
9. Cast of stored codes of 4 or 2 bits to 8: those codes. Mul of two stored scales: a scale.

Anything else is refused, by name.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import onnx

from resnet8.errors import ModelError, opening
from resnet8.network import reading
from resnet8.network.layers import AnyLayer, Rescale, Weighted
from resnet8.network.onnx_graph import PACKED, Graph, attribute
from resnet8.network.onnx_values import QLINEAR, Parameter, Stored, output_axis, require_grids, without_auto_pad
from resnet8.network.reading import NCHW, NHWC, Images, Reader, Scores, Tensor, Unfit, clean
from resnet8.network.rewrite import merged
from resnet8.network.tensors import Activation, Constant, accumulator_grid
from resnet8.numeric.grid import QParams, limits, of_width, storage

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from resnet8.network.program import Program

SUPPORTED = (
    "QuantizeLinear, DequantizeLinear, QLinearConv, QLinearMatMul, QGemm, QLinearAdd, QLinearMul, QLinearAveragePool, "
    "QLinearGlobalAveragePool, QLinearSoftmax; Conv, MatMul, Gemm, Add, Mul, Relu, AveragePool, GlobalAveragePool "
    "between DequantizeLinear and QuantizeLinear; Clip of codes to fewer bits; Cast of weights of 4 or 2 bits to 8; "
    "Transpose, Reshape, Flatten, Softmax"
)
_QUANTIZED = {"QuantizeLinear", "DequantizeLinear", "QLinearConv", "QLinearMatMul", "QGemm"}


def read(model: onnx.ModelProto, source: str) -> Program:
    """The network in ``model``.

    Args:
        model: A checked ONNX model, (batch, 32, 32, 3) to (batch, 10).
        source: Its path, for errors.

    Raises:
        ModelError: when it has an operator or pattern outside the rules above.
    """
    with opening(source, "the reader of ONNX networks"):
        return merged(_Reader(model, source).read())


def extract(model: onnx.ModelProto, source: str) -> Program:
    """The quantized network in ``model``: :func:`read`, which refuses a float one.

    Raises:
        ModelError: when it is not quantized, or as :func:`read`.
    """
    if not is_quantized(model):
        raise ModelError(
            f"{source} is not quantized",
            found="no QuantizeLinear and no QLinear operator",
            expected="an int8 or uint8 model (QDQ or QOperator)",
            remedy="quantize it with «resnet8 quantize»",
        )
    return read(model, source)


def is_quantized(model: onnx.ModelProto) -> bool:
    """Whether any of its operators takes or makes codes."""
    return any(node.op_type in _QUANTIZED for node in model.graph.node)


class _Reader(Reader["onnx.NodeProto"]):
    """An operator on dequantized codes has a layer for a value, until its QuantizeLinear comes."""

    supported = SUPPORTED

    def __init__(self, model: onnx.ModelProto, source: str) -> None:
        super().__init__(source, quantized=is_quantized(model))
        self._graph = Graph(model)
        self._output = model.graph.output[0].name
        images = self._graph.inputs[0].name
        self.values[images] = self.images(images)

    def read(self) -> Program:
        self.run(self._graph.nodes)
        if self.quantized and self.input is None:
            raise self.refused("no QuantizeLinear of the input", "images quantized before the first layer")
        end = self.values.get(self._output)
        if isinstance(end, Weighted) and not end.relu and not end.weights.params.per_channel:
            end = self._accumulated(end, self._output)
        if isinstance(end, Tensor) and not end.relu:
            end = Scores(end.activation, None, softmax=False)
        if not isinstance(end, Scores):
            what = "that is no quantized tensor" if self.quantized else "that no layer writes"
            raise self.refused(f"an output ({self._output}) {what}", "logits or probabilities")
        return self.program(end)

    def operator(self, node: onnx.NodeProto) -> str:
        return node.op_type

    def outputs(self, node: onnx.NodeProto) -> list[str]:
        return [node.output[0]]

    def place(self, node: onnx.NodeProto) -> str:
        return f"node «{node.name}», operator {node.op_type}"

    # Values

    def _name(self, node: onnx.NodeProto, index: int) -> str:
        """Name of an input; empty where the node has fewer (the checker does not know com.microsoft's operators)."""
        return node.input[index] if index < len(node.input) else ""

    def _value(self, node: onnx.NodeProto, index: int) -> Any:
        """What was read or stored as input ``index``; None where it is neither."""
        name = self._name(node, index)
        if name in self._graph.constants:
            return Stored(name, self._graph.values(name), None, self._graph.dtype(name))
        return self.values.get(name)

    def _constant(self, node: onnx.NodeProto, index: int) -> NDArray[Any]:
        value = self._value(node, index)
        if not isinstance(value, Constant):
            raise Unfit(f"its input {index} ({self._name(node, index)}) is computed; a constant is expected")
        return value.codes

    def _grid(self, node: onnx.NodeProto, scale: int, dtype: np.dtype[Any] | None = None) -> QParams:
        """The grid whose scale is input ``scale``, its zero point behind it; without one it is 0 of type ``dtype``."""
        scales = np.asarray(self._constant(node, scale), np.float32)
        given = bool(self._name(node, scale + 1))
        zeros = self._constant(node, scale + 1) if given else np.zeros(scales.shape, dtype or np.uint8)
        if zeros.dtype not in (np.int8, np.uint8, np.int32):
            raise Unfit(f"codes of type {zeros.dtype}; int8 and uint8 are supported")
        scales, whole = (one.reshape(() if one.size == 1 else one.shape) for one in (scales, zeros))
        whole = np.broadcast_to(whole, scales.shape) if whole.ndim <= scales.ndim else whole
        return QParams(scales, whole.astype(np.int32), zeros.dtype.name)

    def _codes(self, node: onnx.NodeProto, index: int) -> Activation:
        value = self._value(node, index)
        if not isinstance(value, Tensor) or value.real:
            raise Unfit(f"its input {index} ({self._name(node, index)}) is no quantized activation")
        return value.activation

    def _regridded(self, node: onnx.NodeProto, index: int) -> Activation:
        """Codes, read with the scale and zero point behind them (a file may say one thing twice)."""
        x = self._codes(node, index)
        own = x.params
        grid = self._grid(node, index + 1, storage(own.dtype))
        if grid.per_channel:
            raise Unfit("an activation with a scale for each channel")
        if grid.dtype == storage(own.dtype).name and own.dtype != grid.dtype:
            grid = QParams(grid.scale, grid.zero_point, own.dtype)  # it has fewer codes, whoever reads them
        return x if grid.same_as(own) else replace(x, grid=grid)

    # Rules 1 and 4

    def _quantize(self, node: onnx.NodeProto) -> Any:
        grid, source, name = self._grid(node, 1), self._value(node, 0), node.output[0]
        if isinstance(source, Images):
            return self.begin(source, name, grid)
        if isinstance(source, Scores) and source.grid is None:
            return replace(source, grid=grid)
        if isinstance(source, AnyLayer):
            return self.add(replace(source, nodes=(*source.nodes, node.name)), name, grid)
        if isinstance(source, Tensor) and source.real:
            return self.rescale(source, name, grid, name=named(node), nodes=(node.name,))
        if isinstance(source, Constant):
            raise Unfit("a constant that is quantized in the graph")
        raise Unfit(f"its input ({node.input[0]}) comes from no supported pattern")

    def _dequantize(self, node: onnx.NodeProto) -> Any:
        source = self._value(node, 0)
        if isinstance(source, Stored):
            axis = attribute(node, "axis", 1) % max(source.codes.ndim, 1)
            grid = source.on(self._grid(node, 1, source.codes.dtype))
            return Parameter(source.name, source.codes, grid, axis)
        return source if isinstance(source, Scores) else Tensor(self._regridded(node, 0), real=True)

    # Rules 3 and 8

    def _float(self, node: onnx.NodeProto) -> Any:
        scales = [self._value(node, index) for index in range(len(node.input))]
        if self.quantized and node.op_type == "Mul" and all(isinstance(one, Stored) for one in scales):
            return Stored(node.output[0], self._graph.values(node.output[0]), None)
        operands = [self._operand(node, index) for index, name in enumerate(node.input) if name]
        layer = self._layer(node, node.op_type, operands, kernel="float")
        return layer if self.quantized else self.add(layer, node.output[0], None)

    def _operand(self, node: onnx.NodeProto, index: int) -> Activation | Constant:
        """An input of a float operator."""
        value, name = self._value(node, index), self._name(node, index)
        if self.quantized:
            if isinstance(value, Tensor) and value.real and not value.relu:
                return value.activation
            if not isinstance(value, Parameter):
                raise Unfit(f"its input {index} ({name}) is float, not dequantized codes")
            return value
        if isinstance(value, Tensor):
            return value.activation
        if not isinstance(value, Constant):
            raise Unfit(f"its input {index} ({name}) is not computed from the images")
        return replace(value, codes=np.asarray(value.codes, np.float32))

    def _relu(self, node: onnx.NodeProto) -> Any:
        source = self._value(node, 0)
        if not isinstance(source, AnyLayer) and not (isinstance(source, Tensor) and source.real is self.quantized):
            raise Unfit(f"its input ({node.input[0]}) is not computed from the images as real numbers")
        if isinstance(source, AnyLayer) or source.real:
            return replace(source, relu=True)
        x = source.activation
        layer = Rescale(name=named(node), output=x, relu=True, kernel="float", nodes=(node.name,), x=x)
        return self.add(layer, node.output[0], None)

    # Rule 2

    def _qlinear(self, node: onnx.NodeProto) -> Any:
        operator, inputs, bias, out = QLINEAR[node.op_type]
        operands: list[Activation | Constant] = [self._gridded(node, index) for index in inputs]
        if bias and self._name(node, bias):
            operands.append(Constant(node.input[bias], self._constant(node, bias), None))
        layer = self._layer(node, operator, operands, kernel="integer")
        if not self._name(node, out):
            return self._accumulated(layer, node.output[0])
        return self.add(layer, node.output[0], self._grid(node, out))

    def _gridded(self, node: onnx.NodeProto, index: int) -> Activation | Constant:
        """An input of a QLinear operator; scales of its weights run along their channels out."""
        value = self._value(node, index)
        if isinstance(value, Stored):
            grid = value.on(self._grid(node, index + 1))
            return Parameter(value.name, value.codes, grid, output_axis(node))
        return self._regridded(node, index)

    def _accumulated(self, layer: AnyLayer, name: str) -> Tensor:
        """Real numbers at the end, which are quantized nowhere: accumulators are their codes."""
        last = all(reader.op_type == "Softmax" for reader in self._graph.readers[name])
        if not isinstance(layer, Weighted) or layer.relu or not last:
            raise Unfit("float output")
        grid = accumulator_grid(layer.x, layer.weights.params)
        return replace(self.add(layer, name, grid), real=True)

    # Layers

    def _layer(
        self, node: onnx.NodeProto, operator: str, operands: list[Activation | Constant], **facts: Any
    ) -> AnyLayer:
        facts |= {"name": named(node), "nodes": (node.name,)}
        x, *others = operands
        if operator in ("Add", "Mul"):
            return reading.joined(x, others[0], multiplies=operator == "Mul", **facts)
        if not isinstance(x, Activation):
            raise Unfit("a constant in place of an activation")
        if operator in ("Conv", "MatMul", "Gemm"):
            return self._weighted(node, x, others, **facts)
        window = tuple(attribute(node, "kernel_shape", [])) if operator == "AveragePool" else None
        plain = not any(attribute(node, "pads", [0])) and without_auto_pad(node)
        return reading.pooled(x, window, nchw=not attribute(node, "channels_last", 0), plain=plain, **facts)

    def _weighted(
        self, node: onnx.NodeProto, x: Activation, others: list[Activation | Constant], **facts: Any
    ) -> AnyLayer:
        w, bias = others[0], others[1] if len(others) > 1 else None
        if not isinstance(w, Constant):
            raise Unfit("weights that are computed")
        if isinstance(bias, Activation):
            raise Unfit("a bias that is computed")
        if w.grid is None:
            bias = None if bias is None else replace(bias, codes=bias.codes.reshape(-1))
        else:
            require_grids(node, x, w, w.grid, bias)
        if not node.op_type.endswith("Conv"):
            if (attribute(node, "transA", 0), attribute(node, "alpha", 1.0), attribute(node, "beta", 1.0)) != (0, 1, 1):
                raise Unfit("transA, alpha or beta")
            matrix = replace(w, codes=w.codes.T) if attribute(node, "transB", 0) else w
            layer = reading.dense(x, matrix, bias, **facts)
        else:
            if attribute(node, "group", 1) != 1 or list(attribute(node, "dilations", [1, 1])) != [1, 1]:
                raise Unfit("groups or dilations")
            if not without_auto_pad(node):
                raise Unfit("auto_pad; explicit pads are supported")
            facts |= {"strides": attribute(node, "strides", [1, 1]), "pads": attribute(node, "pads", [0, 0, 0, 0])}
            layer = reading.convolution(x, w, bias, nchw=not attribute(node, "channels_last", 0), **facts)
        kind = np.float32 if w.grid is None else np.int32
        if bias is not None and (bias.codes.dtype != kind or bias.codes.shape != layer.output.shape[-1:]):
            raise Unfit(f"a bias of type {bias.codes.dtype} and shape {bias.codes.shape}")
        return layer

    # Rule 7

    def _clip(self, node: onnx.NodeProto) -> Any:
        x = self._codes(node, 0)
        if len(node.input) != 3 or len(self._graph.readers[x.name]) != 1:
            raise Unfit("codes that are read elsewhere too, or one limit")
        ends = [self._constant(node, index) for index in (1, 2)]
        if any(end.size != 1 for end in ends):
            raise Unfit("limits that are no single numbers")
        low, high = (int(end.item()) for end in ends)
        own = x.params
        dtype = next((one for bits in range(1, 17) if limits(one := of_width(own.dtype, bits))[1] == high), "")
        relu = bool(dtype) and low == x.zero_point > limits(dtype)[0]
        if (relu and self.input is x) or not dtype or not (relu or low == limits(dtype)[0]):
            raise Unfit(f"codes from {low} to {high}; those of a number of bits are supported, or from the zero point")
        narrow = replace(x, name=node.output[0], grid=QParams(own.scale, own.zero_point, dtype))
        if self.input is x:
            self.input = narrow
        self.layers = [
            replace(one, output=narrow, relu=one.relu or relu) if one.output is x else one for one in self.layers
        ]
        return Tensor(narrow)

    # Rule 9

    def _cast(self, node: onnx.NodeProto) -> Stored:
        source, wanted = self._value(node, 0), attribute(node, "to", 0)
        if not isinstance(source, Stored) or source.of not in PACKED:
            raise Unfit("something else than stored codes of 4 or 2 bits")
        if wanted != onnx.helper.np_dtype_to_tensor_dtype(source.codes.dtype):
            raise Unfit(f"codes of type {source.of} to another type than {source.codes.dtype}")
        return source

    # Rule 5

    def _transpose(self, node: onnx.NodeProto) -> Images | Tensor:
        perm, source = list(attribute(node, "perm", [])), self._value(node, 0)
        if perm not in (NCHW, NHWC):
            raise Unfit(f"perm {perm}; between NHWC and NCHW is supported")
        if not isinstance(source, Images | Tensor):
            raise Unfit("its input is neither codes nor dequantized codes")
        return source.turned(nchw=perm == NCHW)

    def _flatten(self, node: onnx.NodeProto) -> Tensor:
        source = self._value(node, 0)
        if node.op_type == "Flatten" and attribute(node, "axis", 1) != 1:
            raise Unfit("another axis than 1")
        if node.op_type == "Reshape" and len(target := self._constant(node, 1).tolist()) != 2:
            raise Unfit(f"to {target}; (batch, features) is supported")
        if not isinstance(source, Tensor):
            raise Unfit("its input is neither codes nor dequantized codes")
        return source.flat()

    # Rule 6

    def _softmax(self, node: onnx.NodeProto) -> Any:
        if attribute(node, "axis", -1) not in (-1, 1):
            raise Unfit("another axis than the classes'")
        source, quantized = self._value(node, 0), node.op_type == "QLinearSoftmax"
        if isinstance(source, AnyLayer):
            source = self._accumulated(source, node.input[0])
        reals = isinstance(source, Tensor) and source.real is self.quantized and not source.relu
        x = self._regridded(node, 0) if quantized else source.activation if reals else None
        if x is None or len(x.shape) != 1:
            raise Unfit("its input is no quantized vector of class scores")
        return Scores(x, self._grid(node, 3) if quantized else None)

    handlers: ClassVar[Mapping[str, Callable[[Any, Any], Any]]] = {
        "QuantizeLinear": _quantize,
        "DequantizeLinear": _dequantize,
        "QLinearSoftmax": _softmax,
        "Softmax": _softmax,
        "Relu": _relu,
        "Clip": _clip,
        "Cast": _cast,
        "Transpose": _transpose,
        "Reshape": _flatten,
        "Flatten": _flatten,
        **dict.fromkeys(("Conv", "MatMul", "Gemm", "Add", "Mul", "AveragePool", "GlobalAveragePool"), _float),
        **dict.fromkeys(QLINEAR, _qlinear),
    }


def named(node: onnx.NodeProto) -> str:
    """A node's name for people: :func:`clean`; that of its output where it has none, for names are optional in ONNX."""
    return clean(node.name or node.output[0])
