"""ONNX -> :class:`resnet8.network.program.Program`: float, QDQ and QOperator files, and as ONNX Runtime optimizes them.

The rules, in the order of the graph:

1. QuantizeLinear of the graph's input (also behind a Transpose) begins the program.
2. QLinearConv, QLinearMatMul, QGemm, QLinearAdd, QLinearMul, QLinearAveragePool, QLinearGlobalAveragePool: one layer.
3. DequantizeLinear on every input of Conv, MatMul, Gemm, Add, Mul, AveragePool, GlobalAveragePool, an optional Relu,
   then
   QuantizeLinear: one layer.
4. DequantizeLinear, then QuantizeLinear (also behind Reshape, Flatten, Transpose or Relu): a :class:`Rescale`, or,
   where both grids agree, nothing.
5. Transpose between NCHW and NHWC, Reshape and Flatten to (batch, features) of a 1 x 1 map: no arithmetic.
6. Softmax, QLinearSoftmax behind the last layer, and its QuantizeLinear and DequantizeLinear: the end.
7. Clip of codes between two constants: the grid of what wrote them has fewer codes (``int4``).
8. Conv, MatMul, Gemm, Add, Mul, Relu, AveragePool, GlobalAveragePool on real numbers: one layer without grids; a Relu
   belongs to the layer before it, where nothing else reads that layer.

Anything else is refused, by name.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import numpy_helper

from resnet8.errors import ModelError, QuantizationError
from resnet8.facts import IMAGE_SHAPE
from resnet8.network.layers import AnyLayer, AveragePool, Product, Rescale, Sum, Weighted
from resnet8.network.program import Program
from resnet8.network.rewrite import merged
from resnet8.network.tensors import Activation, Constant
from resnet8.numeric.grid import QParams, limits, of_width, storage

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

SUPPORTED = (
    "QuantizeLinear, DequantizeLinear, QLinearConv, QLinearMatMul, QGemm, QLinearAdd, QLinearMul, QLinearAveragePool, "
    "QLinearGlobalAveragePool, QLinearSoftmax; Conv, MatMul, Gemm, Add, Mul, Relu, AveragePool, GlobalAveragePool "
    "between DequantizeLinear and QuantizeLinear; Clip of codes to fewer bits; Transpose, Reshape, Flatten, Softmax"
)
_QUANTIZED = {"QuantizeLinear", "DequantizeLinear", "QLinearConv", "QLinearMatMul", "QGemm"}
_NCHW, _NHWC = [0, 3, 1, 2], [0, 2, 3, 1]


def read(model: onnx.ModelProto, source: str) -> Program:
    """The network in ``model``.

    Args:
        model: A checked ONNX model, (batch, 32, 32, 3) to (batch, 10).
        source: Its path, for errors.

    Raises:
        ModelError: when it has an operator or pattern outside the rules above.
    """
    return merged(_Reader(model, source).program())


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


@dataclass(frozen=True)
class _Real:
    """A float tensor in the graph: dequantized codes, a float operation on such that is not yet quantized, or reals."""

    codes: Activation | Constant | _Weights | _Pending
    relu: bool = False


@dataclass(frozen=True)
class _Weights:
    """A parameter: reals, dequantized codes with whatever axis their scales run along, or int32 bias."""

    name: str
    codes: NDArray[Any]
    params: QParams | None
    axis: int = 0

    @property
    def per_channel(self) -> bool:
        return self.params is not None and self.params.per_channel


@dataclass(frozen=True)
class _Pending:
    """A float operation whose result has not met its QuantizeLinear."""

    node: onnx.NodeProto
    operands: tuple[Activation | Constant | _Weights, ...]


class _Reader:
    def __init__(self, model: onnx.ModelProto, source: str) -> None:
        self._graph = model.graph
        self._source = source
        self._quantized = is_quantized(model)
        self._reads = Counter(name for node in model.graph.node for name in node.input)
        self._tensors = {tensor.name: tensor for tensor in model.graph.initializer}
        self._nodes = model.graph.node
        self._constants: dict[str, NDArray[Any]] = {}
        self._codes: dict[str, Activation] = {}
        self._real: dict[str, _Real] = {}
        self._layers: list[AnyLayer] = []
        self._input: Activation | None = None
        self._end: tuple[Activation, bool, QParams | None] | None = None
        inputs = [value.name for value in model.graph.input if value.name not in self._tensors]
        self._pixels = {inputs[0]: False}  # float tensors that hold the images; whether as NCHW

    def program(self) -> Program:
        for node in self._nodes:
            handler = _HANDLERS.get(node.op_type)
            if handler is None:
                raise self._unknown(node, "an operator that is not supported")
            handler(self, node)
        output = self._graph.output[0].name
        if self._quantized and self._input is None:
            raise self._refused("no QuantizeLinear of the input", "images quantized before the first layer")
        if self._end is None:
            real = self._real.get(output)
            codes = real.codes if real is not None else self._codes.get(output)
            if self._input is None or not isinstance(codes, Activation) or (real is not None and real.relu):
                what = "that is no quantized tensor" if self._quantized else "that no layer writes"
                raise self._refused(f"an output ({output}) {what}", "logits or probabilities")
            self._end = (codes, False, None)
        if self._input is None:
            raise self._refused("an output that does not depend on the images", "class scores, or their softmax")
        logits, softmax, probabilities = self._end
        return Program(self._input, tuple(self._layers), logits, softmax, probabilities)

    # Errors

    def _refused(self, found: str, expected: str) -> ModelError:
        if not self._quantized:
            return ModelError(
                f"{self._source} cannot be looked into",
                found=found,
                expected="a ResNet8 as «resnet8 convert» writes it",
            )
        return ModelError(
            f"{self._source} cannot be run in integers",
            found=found,
            expected=expected,
            remedy=f"supported: {SUPPORTED}",
        )

    def _unknown(self, node: onnx.NodeProto, why: str) -> ModelError:
        return self._refused(f"node «{node.name}», operator {node.op_type}: {why}", "a quantized network")

    # Reading values

    def _name(self, node: onnx.NodeProto, index: int) -> str:
        """Name of an input; empty where the node has fewer (the checker does not know com.microsoft's operators)."""
        return node.input[index] if index < len(node.input) else ""

    def _constant(self, node: onnx.NodeProto, index: int) -> NDArray[Any]:
        name = self._name(node, index)
        if name not in self._tensors:
            raise self._unknown(node, f"its input {index} ({name}) is computed; a constant is expected")
        if name not in self._constants:
            self._constants[name] = numpy_helper.to_array(self._tensors[name])
        return self._constants[name]

    def _params(self, node: onnx.NodeProto, scale: int, zero_point: int, dtype: np.dtype[Any] | None = None) -> QParams:
        scales = np.asarray(self._constant(node, scale), np.float32)
        if len(node.input) > zero_point and node.input[zero_point]:
            zeros = self._constant(node, zero_point)
        else:
            zeros = np.zeros(scales.shape, dtype or np.uint8)
        if zeros.dtype not in (np.int8, np.uint8, np.int32):
            raise self._unknown(node, f"codes of type {zeros.dtype}; int8 and uint8 are supported")
        zeros32 = zeros.astype(np.int32)
        if scales.size == 1:
            scales = scales.reshape(())
        zeros32 = zeros32.reshape(()) if zeros32.size == 1 else zeros32
        zeros32 = np.broadcast_to(zeros32, scales.shape) if zeros32.ndim <= scales.ndim else zeros32
        try:
            return QParams(scales, zeros32, zeros.dtype.name)
        except QuantizationError as error:
            raise self._unknown(node, str(error)) from error

    def _activation(self, node: onnx.NodeProto, index: int) -> Activation:
        name = self._name(node, index)
        if name not in self._codes:
            raise self._unknown(node, f"its input {index} ({name}) is no quantized activation")
        return self._codes[name]

    def _operand(self, node: onnx.NodeProto, index: int) -> Activation | Constant:
        """Input ``index`` of a QLinear operator with its scale and zero point behind it."""
        name = self._name(node, index)
        if name in self._tensors:
            return Constant(name, self._constant(node, index), self._params(node, index + 1, index + 2))
        return self._grid(node, self._activation(node, index), index + 1)

    def _grid(self, node: onnx.NodeProto, activation: Activation, scale: int) -> Activation:
        """``activation``, read with the scale and zero point that ``node`` gives (a file may say one thing twice)."""
        params = self._params(node, scale, scale + 1, storage(activation.params.dtype))
        if params.per_channel:
            raise self._unknown(node, "an activation with a scale for each channel")
        own = activation.params
        if params.dtype == storage(own.dtype).name and own.dtype != params.dtype:
            params = QParams(params.scale, params.zero_point, own.dtype)  # it has fewer codes, whoever reads them
        return activation if params.same_as(own) else replace(activation, grid=params)

    def _out(self, node: onnx.NodeProto, shape: tuple[int, ...], params: QParams | None, *, nchw: bool) -> Activation:
        activation = Activation(node.output[0], shape, params, nchw)
        if params is None:
            self._real[node.output[0]] = _Real(activation)
            return activation
        if params.per_channel:
            raise self._unknown(node, "an activation with a scale for each channel")
        self._codes[node.output[0]] = activation
        return activation

    # Rules 1 and 4

    def _quantize(self, node: onnx.NodeProto) -> None:
        params, name = self._params(node, 1, 2), node.input[0]
        if name in self._pixels:
            if self._input is not None:
                raise self._unknown(node, "the images are quantized twice")
            self._input = self._out(node, IMAGE_SHAPE, params, nchw=self._pixels[name])
            return
        real = self._real.get(name)
        if real is None:
            if self._end is not None and name == self._softmax_output:
                self._end = (self._end[0], True, params)
                self._softmax_output = node.output[0]
                return
            raise self._unknown(node, f"its input ({name}) comes from no supported pattern")
        if isinstance(real.codes, _Pending):
            self._pattern(node, real.codes, params, relu=real.relu)
        elif isinstance(real.codes, Activation):
            x = real.codes
            if x.grid is None:
                raise self._unknown(node, f"its input ({name}) comes from no supported pattern")
            if params.same_as(x.params) and not real.relu:
                self._codes[node.output[0]] = x
                return
            out = self._out(node, x.shape, params, nchw=x.nchw)
            self._layers.append(
                Rescale(
                    name=named(node),
                    output=out,
                    x=x,
                    relu=real.relu,
                    kernel="float",
                    nodes=(node.name,),
                )
            )
        else:
            raise self._unknown(node, "a constant that is quantized in the graph")

    def _dequantize(self, node: onnx.NodeProto) -> None:
        name = node.input[0]
        if name in self._tensors:
            codes = self._constant(node, 0)
            params = self._params(node, 1, 2, codes.dtype)
            axis = next((a.i for a in node.attribute if a.name == "axis"), 1)
            self._real[node.output[0]] = _Real(_Weights(name, codes, params, axis % max(codes.ndim, 1)))
        elif self._end is not None and name == self._softmax_output:
            self._softmax_output = node.output[0]
        else:
            self._real[node.output[0]] = _Real(self._grid(node, self._activation(node, 0), 1))

    # Rule 3

    def _float(self, node: onnx.NodeProto) -> None:
        if any(self._plain(name) is not None for name in node.input):
            self._on_reals(node)
            return
        operands = []
        for index, name in enumerate(node.input):
            if not name:
                continue
            real = self._real.get(name)
            if real is None or isinstance(real.codes, _Pending) or real.relu:
                raise self._unknown(node, f"its input {index} ({name}) is float, not dequantized codes")
            operands.append(real.codes)
        self._real[node.output[0]] = _Real(_Pending(node, tuple(operands)))

    def _relu(self, node: onnx.NodeProto) -> None:
        x = self._plain(node.input[0])
        if x is not None:
            out = self._out(node, x.shape, None, nchw=x.nchw)
            self._layers.append(
                Rescale(name=named(node), output=out, relu=True, kernel="float", nodes=(node.name,), x=x)
            )
            return
        real = self._real.get(node.input[0])
        if real is None:
            raise self._unknown(node, f"its input ({node.input[0]}) is not computed from the images as real numbers")
        self._real[node.output[0]] = replace(real, relu=True)

    # Rule 8

    def _plain(self, name: str) -> Activation | None:
        """The activation of that name, if it holds real numbers: also the images, where they are not quantized."""
        if name in self._pixels and not self._quantized:
            if self._input is None:
                self._input = Activation(next(iter(self._pixels)), IMAGE_SHAPE, None)
            return replace(self._input, nchw=self._pixels[name])
        real = self._real.get(name)
        return real.codes if real and isinstance(real.codes, Activation) and real.codes.grid is None else None

    def _on_reals(self, node: onnx.NodeProto) -> None:
        operands: list[Activation | Constant] = []
        for index, name in enumerate(node.input):
            if not name:
                continue
            plain = self._plain(name)
            if plain is None and name not in self._tensors:
                raise self._unknown(node, f"its input {index} ({name}) is not computed from the images")
            operands.append(plain or Constant(name, np.asarray(self._constant(node, index), np.float32), None))
        x = operands[0]
        if node.op_type in ("Add", "Mul"):
            layer = self._elementwise(node, x, operands[1], None, node)
        elif not isinstance(x, Activation):
            raise self._unknown(node, "a constant in place of an activation")
        elif node.op_type in ("Conv", "MatMul", "Gemm"):
            w, *bias = operands[1:]
            if not isinstance(w, Constant) or any(isinstance(one, Activation) for one in bias):
                raise self._unknown(node, "weights that are computed")
            weights = _Weights(w.name, w.codes, None)
            codes, bias_name = (bias[0].codes.reshape(-1), bias[0].name) if bias else (None, "")  # type: ignore[union-attr]
            layer = self._weighted(node, x, weights, codes, None, writer=node, bias_name=bias_name)
        else:
            layer = self._pool(node, x, None, node, nchw=True)
        self._layers.append(replace(layer, kernel="float"))

    # Rule 7

    def _clip(self, node: onnx.NodeProto) -> None:
        x = self._activation(node, 0)
        if len(node.input) != 3 or self._reads[x.name] != 1:
            raise self._unknown(node, "codes that are read elsewhere too, or one limit")
        ends = [self._constant(node, index) for index in (1, 2)]
        if any(end.size != 1 for end in ends):
            raise self._unknown(node, "limits that are no single numbers")
        low, high = (int(end.item()) for end in ends)
        dtype = next((one for bits in range(1, 17) if limits(one := of_width(x.params.dtype, bits)) == (low, high)), "")
        if not dtype:
            raise self._unknown(node, f"codes from {low} to {high}; those of a number of bits are supported")
        try:
            params = QParams(x.params.scale, x.params.zero_point, dtype)
        except QuantizationError as error:
            raise self._unknown(node, str(error)) from error
        narrow = self._out(node, x.shape, params, nchw=x.nchw)
        if self._input is x:
            self._input = narrow
        self._layers = [replace(one, output=narrow) if one.output is x else one for one in self._layers]

    def _pattern(self, quantize: onnx.NodeProto, pending: _Pending, params: QParams, *, relu: bool) -> None:
        node, operands = pending.node, pending.operands
        if node.op_type in ("Conv", "MatMul", "Gemm"):
            layer = self._weighted_pattern(quantize, node, operands, params)
        elif node.op_type in ("Add", "Mul"):
            a, b = (self._as_constant(node, one) for one in operands)
            layer = self._elementwise(node, a, b, params, quantize)
        else:
            (x,) = operands
            if not isinstance(x, Activation):
                raise self._unknown(node, "a constant that is pooled in the graph")
            layer = self._pool(node, x, params, quantize, nchw=True)
        self._layers.append(
            replace(layer, relu=relu, kernel="float", nodes=(node.name, quantize.name)),
        )

    def _as_constant(self, node: onnx.NodeProto, operand: Activation | Constant | _Weights) -> Activation | Constant:
        if not isinstance(operand, _Weights):
            return operand
        if operand.per_channel:
            raise self._unknown(node, "a constant with a scale for each channel")
        return Constant(operand.name, operand.codes, operand.params)

    def _weighted_pattern(
        self,
        quantize: onnx.NodeProto,
        node: onnx.NodeProto,
        operands: tuple[Activation | Constant | _Weights, ...],
        params: QParams,
    ) -> AnyLayer:
        x, w = operands[:2]
        if not isinstance(x, Activation) or not isinstance(w, _Weights):
            raise self._unknown(node, "weights that are computed")
        bias = operands[2] if len(operands) > 2 else None
        if bias is not None and not isinstance(bias, _Weights):
            raise self._unknown(node, "a bias that is computed")
        if bias is not None and bias.params is not None and w.params is not None:
            self._require_bias_scale(node, bias.params, x, w.params)
        codes = None if bias is None else bias.codes
        return self._weighted(node, x, w, codes, params, writer=quantize, bias_name="" if bias is None else bias.name)

    def _require_bias_scale(self, node: onnx.NodeProto, bias: QParams, x: Activation, w: QParams) -> None:
        if bias.dtype != "int32" or bias.zero_point.any():
            raise self._unknown(node, f"a bias in {bias.dtype}; int32 with zero point 0 is supported")
        wanted = np.float64(x.scale) * w.scale.astype(np.float64)
        if not np.allclose(bias.scale, wanted, rtol=1e-6, atol=0):
            raise self._unknown(node, "a bias whose scale is not scale_x * scale_w")

    # Rule 2

    def _qlinear_conv(self, node: onnx.NodeProto) -> None:
        x = self._operand(node, 0)
        if not isinstance(x, Activation):
            raise self._unknown(node, "a constant that is convolved in the graph")
        w = _Weights(node.input[3], self._constant(node, 3), self._params(node, 4, 5), 0)
        has_bias = len(node.input) > 8 and bool(node.input[8])
        bias = self._constant(node, 8) if has_bias else None
        params = self._params(node, 6, 7)
        self._layers.append(
            self._weighted(node, x, w, bias, params, writer=node, bias_name=node.input[8] if has_bias else "")
        )

    def _qlinear_matmul(self, node: onnx.NodeProto) -> None:
        x = self._operand(node, 0)
        if not isinstance(x, Activation):
            raise self._unknown(node, "a constant on the left")
        w = _Weights(node.input[3], self._constant(node, 3), self._params(node, 4, 5), 1)
        self._layers.append(self._weighted(node, x, w, None, self._params(node, 6, 7), writer=node, bias_name=""))

    def _qgemm(self, node: onnx.NodeProto) -> None:
        x = self._operand(node, 0)
        if not isinstance(x, Activation) or len(node.input) < 9 or not node.input[7]:
            raise self._unknown(node, "float output, or a constant on the left")
        transposed = bool(_attribute(node, "transB", 0))
        w = _Weights(node.input[3], self._constant(node, 3), self._params(node, 4, 5), 0 if transposed else 1)
        bias = self._constant(node, 6) if node.input[6] else None
        self._layers.append(
            self._weighted(node, x, w, bias, self._params(node, 7, 8), writer=node, bias_name=node.input[6])
        )

    def _qlinear_elementwise(self, node: onnx.NodeProto) -> None:
        a, b = self._operand(node, 0), self._operand(node, 3)
        self._layers.append(self._elementwise(node, a, b, self._params(node, 6, 7), node))

    def _qlinear_pool(self, node: onnx.NodeProto) -> None:
        x = self._operand(node, 0)
        if not isinstance(x, Activation):
            raise self._unknown(node, "a constant that is pooled in the graph")
        nchw = not _attribute(node, "channels_last", 0)
        self._layers.append(self._pool(node, x, self._params(node, 3, 4), node, nchw=nchw))

    def _weighted(
        self,
        node: onnx.NodeProto,
        x: Activation,
        w: _Weights,
        bias: NDArray[Any] | None,
        params: QParams | None,
        *,
        writer: onnx.NodeProto,
        bias_name: str,
    ) -> Weighted:
        if w.params is not None and w.params.dtype == "int32":
            raise self._unknown(node, "weights in int32; int8 and uint8 are supported")
        conv = node.op_type in ("Conv", "QLinearConv")
        if conv:
            weights, strides, pads, shape, nchw = self._conv_geometry(node, x, w)
        else:
            self._require_plain_gemm(node)
            matrix = w.codes.T if _attribute(node, "transB", 0) else w.codes
            if matrix.ndim != 2 or x.shape != (matrix.shape[0],):
                raise self._unknown(node, f"weights {matrix.shape} for an input {x.shape}")
            weights, strides, pads, shape, nchw = matrix[None, None], (1, 1), (0, 0, 0, 0), (matrix.shape[1],), False
        channels = weights.shape[-1]
        if (
            w.params is not None
            and w.params.per_channel
            and (w.params.scale.shape != (channels,) or not self._output_axis(node, w))
        ):
            raise self._unknown(node, f"scales of shape {w.params.scale.shape} along axis {w.axis} of the weights")
        kind: Any = np.float32 if w.params is None else np.int32
        if bias is not None and (bias.dtype != kind or bias.shape != (channels,)):
            raise self._unknown(node, f"a bias of type {bias.dtype} and shape {bias.shape}")
        parameters = {"weights": w.name} | ({"bias": bias_name} if bias is not None else {})
        return Weighted(
            name=named(node),
            output=self._out(writer, shape, params, nchw=nchw),
            nodes=(node.name,),
            parameters=parameters,
            x=x,
            weights=np.ascontiguousarray(weights),
            weight_grid=w.params,
            bias=np.zeros(channels, kind) if bias is None else bias,
            has_bias=bias is not None,
            strides=strides,
            pads=pads,
            dense=not conv,
        )

    def _output_axis(self, node: onnx.NodeProto, w: _Weights) -> bool:
        return w.axis == (0 if node.op_type in ("Conv", "QLinearConv") or _attribute(node, "transB", 0) else 1)

    def _require_plain_gemm(self, node: onnx.NodeProto) -> None:
        if _attribute(node, "transA", 0) or _attribute(node, "alpha", 1.0) != 1 or _attribute(node, "beta", 1.0) != 1:
            raise self._unknown(node, "transA, alpha or beta")

    def _conv_geometry(
        self, node: onnx.NodeProto, x: Activation, w: _Weights
    ) -> tuple[NDArray[Any], tuple[int, int], tuple[int, int, int, int], tuple[int, ...], bool]:
        if _attribute(node, "group", 1) != 1 or list(_attribute(node, "dilations", [1, 1])) != [1, 1]:
            raise self._unknown(node, "groups or dilations")
        if _attribute(node, "auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID"):
            raise self._unknown(node, "auto_pad; explicit pads are supported")
        nchw = not _attribute(node, "channels_last", 0)
        if len(x.shape) != 3 or w.codes.ndim != 4 or w.codes.shape[1] != x.shape[2] or x.nchw != nchw:
            raise self._unknown(node, f"weights {w.codes.shape} for an input {x.shape}")
        weights = w.codes.transpose(2, 3, 1, 0)
        top, left, bottom, right = (int(pad) for pad in _attribute(node, "pads", [0, 0, 0, 0]))
        rows, columns = (int(stride) for stride in _attribute(node, "strides", [1, 1]))
        height = (x.shape[0] + top + bottom - weights.shape[0]) // rows + 1
        width = (x.shape[1] + left + right - weights.shape[1]) // columns + 1
        return weights, (rows, columns), (top, left, bottom, right), (height, width, weights.shape[3]), nchw

    def _elementwise(
        self,
        node: onnx.NodeProto,
        a: Activation | Constant,
        b: Activation | Constant,
        params: QParams | None,
        writer: onnx.NodeProto,
    ) -> AnyLayer:
        if isinstance(a, Constant):
            a, b = b, a  # both operators commute
        if isinstance(a, Constant):
            raise self._unknown(node, "two constants")
        if isinstance(b, Constant):
            b = self._channelwise(node, a, b)
        elif a.shape != b.shape or a.nchw != b.nchw:
            raise self._unknown(node, f"shapes {a.shape} and {b.shape}")
        parameters = {"constant": b.name} if isinstance(b, Constant) else {}
        out = self._out(writer, a.shape, params, nchw=a.nchw)
        multiplies = node.op_type in ("Mul", "QLinearMul")
        if not multiplies:
            return Sum(name=named(node), output=out, nodes=(node.name,), parameters=parameters, a=a, b=b)
        if not isinstance(b, Constant):
            raise self._unknown(node, "a product of two activations")
        return Product(
            name=named(node),
            output=out,
            nodes=(node.name,),
            parameters=parameters,
            x=a,
            constant=b.codes,
            constant_grid=b.grid,
        )

    def _channelwise(self, node: onnx.NodeProto, a: Activation, constant: Constant) -> Constant:
        codes = constant.codes
        if a.nchw:
            codes = codes.reshape((1,) * (4 - codes.ndim) + codes.shape).transpose(0, 2, 3, 1)
        if codes.size not in (1, a.shape[-1]) or codes.shape[-1] != codes.size:
            raise self._unknown(node, f"a constant of shape {constant.codes.shape} for an input {a.shape}")
        return replace(constant, codes=np.broadcast_to(codes.reshape(-1), (a.shape[-1],)).copy())

    def _pool(
        self, node: onnx.NodeProto, x: Activation, params: QParams | None, writer: onnx.NodeProto, *, nchw: bool
    ) -> AnyLayer:
        if len(x.shape) != 3 or x.nchw != nchw:
            raise self._unknown(node, f"an input of shape {x.shape}")
        if not node.op_type.endswith("GlobalAveragePool"):
            kernel = tuple(_attribute(node, "kernel_shape", []))
            if (
                kernel != x.shape[:2]
                or any(_attribute(node, "pads", [0]))
                or _attribute(node, "auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID")
            ):
                raise self._unknown(node, f"a window {kernel} on a map {x.shape[:2]}; the whole map is supported")
        return AveragePool(
            name=named(node),
            output=self._out(writer, (1, 1, x.shape[2]), params, nchw=nchw),
            nodes=(node.name,),
            x=x,
        )

    # Rule 5

    def _transpose(self, node: onnx.NodeProto) -> None:
        name, perm = node.input[0], list(_attribute(node, "perm", []))
        if perm not in (_NCHW, _NHWC):
            raise self._unknown(node, f"perm {perm}; between NHWC and NCHW is supported")
        to_nchw = perm == _NCHW
        if name in self._pixels:
            self._require_turn(node, self._pixels[name], to_nchw=to_nchw)
            self._pixels[node.output[0]] = to_nchw
            return

        def turned(x: Activation) -> Activation:
            self._require_turn(node, x.nchw, to_nchw=to_nchw)
            return replace(x, nchw=to_nchw)

        self._reshaped(node, turned)

    def _require_turn(self, node: onnx.NodeProto, nchw: bool, *, to_nchw: bool) -> None:
        if nchw == to_nchw:
            raise self._unknown(node, "a tensor that has this layout already")

    def _flatten(self, node: onnx.NodeProto) -> None:
        def flat(x: Activation) -> Activation:
            if len(x.shape) != 3 or x.shape[:2] != (1, 1):
                raise self._unknown(node, f"a map of shape {x.shape}; 1 x 1 is supported")
            return replace(x, shape=(x.shape[2],), nchw=False)

        if node.op_type == "Flatten" and _attribute(node, "axis", 1) != 1:
            raise self._unknown(node, "another axis than 1")
        if node.op_type == "Reshape":
            target = self._constant(node, 1).tolist()
            if len(target) != 2:
                raise self._unknown(node, f"to {target}; (batch, features) is supported")
        self._reshaped(node, flat)

    def _reshaped(self, node: onnx.NodeProto, change: Callable[[Activation], Activation]) -> None:
        name = node.input[0]
        if name in self._codes:
            self._codes[node.output[0]] = change(self._codes[name])
            return
        plain = self._plain(name)
        real = self._real.get(name) if plain is None else _Real(plain)
        if real is None or not isinstance(real.codes, Activation):
            raise self._unknown(node, "its input is neither codes nor dequantized codes")
        self._real[node.output[0]] = replace(real, codes=change(real.codes))

    # Rule 6

    _softmax_output = ""

    def _softmax(self, node: onnx.NodeProto) -> None:
        quantized = node.op_type == "QLinearSoftmax"
        if _attribute(node, "axis", -1) not in (-1, 1):
            raise self._unknown(node, "another axis than the classes'")
        real = self._real.get(node.input[0])
        x = self._operand(node, 0) if quantized else None if real is None or real.relu else real.codes
        if not isinstance(x, Activation) or len(x.shape) != 1:
            raise self._unknown(node, "its input is no quantized vector of class scores")
        self._end = (x, True, self._params(node, 3, 4) if quantized else None)
        self._softmax_output = node.output[0]


def named(node: onnx.NodeProto) -> str:
    """A node's name for people: :func:`clean`; that of its output where it has none, for names are optional in ONNX."""
    return clean(node.name or node.output[0])


def clean(name: str) -> str:
    """A node's name without what converters and optimizers put before and behind it."""
    name = re.sub(r"^model(_\d+)?/", "", name)
    return re.sub(r"(_token_\d+|_quant|_nchwc|/MatMulAddFusion)+$", "", name)


def _attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:
    for attribute in node.attribute:
        if attribute.name == name:
            return onnx.helper.get_attribute_value(attribute)
    return default


_HANDLERS: Mapping[str, Callable[[_Reader, onnx.NodeProto], None]] = {
    "QuantizeLinear": _Reader._quantize,
    "DequantizeLinear": _Reader._dequantize,
    "QLinearConv": _Reader._qlinear_conv,
    "QLinearMatMul": _Reader._qlinear_matmul,
    "QGemm": _Reader._qgemm,
    "QLinearAdd": _Reader._qlinear_elementwise,
    "QLinearMul": _Reader._qlinear_elementwise,
    "QLinearAveragePool": _Reader._qlinear_pool,
    "QLinearGlobalAveragePool": _Reader._qlinear_pool,
    "QLinearSoftmax": _Reader._softmax,
    "Softmax": _Reader._softmax,
    "Relu": _Reader._relu,
    "Clip": _Reader._clip,
    "Transpose": _Reader._transpose,
    "Reshape": _Reader._flatten,
    "Flatten": _Reader._flatten,
} | dict.fromkeys(("Conv", "MatMul", "Gemm", "Add", "Mul", "AveragePool", "GlobalAveragePool"), _Reader._float)
