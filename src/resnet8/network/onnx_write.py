"""A quantized network as an ONNX file (QDQ).

QuantizeLinear and DequantizeLinear surround each float operator, everything between the first and the last in NCHW.
Fewer codes than the type has stand as a Clip of the codes behind QuantizeLinear: ONNX Runtime runs it on integers, and
keeps the quantized kernels on both sides. (A pair of QuantizeLinear and DequantizeLinear would saturate as well, but
ONNX Runtime merges such pairs into one of other scale.) Roundings have no place in ONNX: QuantizeLinear rounds half to
even.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, assert_never

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from resnet8.facts import IMAGE_SHAPE, INPUT_NAME, IR_VERSION, OPSET
from resnet8.network.layers import AveragePool, Product, Rescale, Sum, Weighted
from resnet8.network.tensors import Constant
from resnet8.numeric.grid import limits, storage

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from resnet8.network.layers import AnyLayer
    from resnet8.network.program import Program
    from resnet8.network.tensors import Activation
    from resnet8.numeric.grid import QParams

OUTPUT_NAME = "probabilities"


def to_onnx(program: Program) -> onnx.ModelProto:
    """The file of ``program``: images, float32 (batch, 32, 32, 3), to class probabilities, (batch, 10).

    Reading it back (:func:`resnet8.network.onnx_read.extract`) gives the same network, but for roundings.
    """
    writer = _Writer(program)
    pixels = writer.node("Transpose", [INPUT_NAME], f"{INPUT_NAME}_nchw", perm=[0, 3, 1, 2])
    writer.quantize(pixels, program.input, "quantize_images")
    for layer in program.layers:
        writer.layer(layer)
    writer.end()
    return writer.model()


@dataclass
class _Writer:
    program: Program
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: dict[str, NDArray[Any]] = field(default_factory=dict)

    def node(self, operator: str, inputs: list[str], output: str, **attributes: Any) -> str:
        name = attributes.pop("name", output)
        self.nodes.append(helper.make_node(operator, inputs, [output], name=name, **attributes))
        return output

    def constant(self, name: str, value: NDArray[Any]) -> str:
        """Store ``value``, under another name where this one holds another value."""
        value, wanted, number = np.ascontiguousarray(value).reshape(value.shape), name, 1
        while name in self.constants and not _same(self.constants[name], value):
            number += 1
            name = f"{wanted}_{number}"
        self.constants[name] = value
        return name

    def grid(self, name: str, params: QParams) -> list[str]:
        zero_point = params.zero_point.astype(storage(params.dtype))
        return [self.constant(f"{name}_scale", params.scale), self.constant(f"{name}_zero_point", zero_point)]

    def quantize(self, real: str, activation: Activation, name: str) -> None:
        kind = storage(activation.params.dtype)
        narrow = kind.name != activation.params.dtype
        output = f"{activation.name}_saturated" if narrow else activation.name
        self.node("QuantizeLinear", [real, *self.grid(activation.name, activation.params)], output, name=name)
        if narrow:
            ends = [
                self.constant(f"{activation.name}_{end}", np.asarray(code, kind))
                for end, code in zip(("lowest", "highest"), limits(activation.params.dtype), strict=True)
            ]
            self.node("Clip", [output, *ends], activation.name, name=f"{name}_codes")

    def dequantize(self, codes: str, params: QParams, **attributes: int) -> str:
        output = f"{codes}_real{sum(codes == node.input[0] for node in self.nodes) or ''}"
        return self.node("DequantizeLinear", [codes, *self.grid(codes, params)], output, **attributes)

    def read(self, x: Activation) -> str:
        """A layer's input as reals."""
        real = self.dequantize(x.name, x.params)
        flat = len(x.shape) == 1 and len(self.program.activations[x.name].shape) == 3
        return self.node("Flatten", [real], f"{real}_flat") if flat else real

    def operand(self, x: Activation, constant: Constant) -> str:
        """A constant for each channel of ``x`` as reals."""
        shape = (-1, 1, 1) if len(x.shape) == 3 else (-1,)
        return self.dequantize(self.constant(constant.name, constant.codes.reshape(shape)), constant.params)

    def layer(self, layer: AnyLayer) -> None:
        output = layer.output.name
        named: dict[str, Any] = {"name": layer.name}
        if isinstance(layer, Weighted):
            real = self.weighted(layer)
        elif isinstance(layer, Product):
            constant = self.operand(layer.x, layer.constant)
            real = self.node("Mul", [self.read(layer.x), constant], f"{output}_float", **named)
        elif isinstance(layer, Sum):
            b = layer.b
            other = self.operand(layer.a, b) if isinstance(b, Constant) else self.read(b)
            real = self.node("Add", [self.read(layer.a), other], f"{output}_float", **named)
        elif isinstance(layer, AveragePool):
            real = self.node("GlobalAveragePool", [self.read(layer.x)], f"{output}_float", **named)
        elif isinstance(layer, Rescale):
            real = self.read(layer.x)
        else:
            assert_never(layer)
        if layer.relu:
            real = self.node("Relu", [real], f"{output}_relu")
        # A layer that only rescales has no other node to bear its name.
        self.quantize(real, layer.output, layer.name if layer.kind == "rescale" else f"{output}_quantize")

    def weighted(self, layer: Weighted) -> str:
        codes, params = layer.weights.codes, layer.weights.params
        codes = codes[0, 0] if layer.dense else codes.transpose(3, 2, 0, 1)
        axis = {"axis": 1 if layer.dense else 0} if params.per_channel else {}
        inputs = [self.read(layer.x), self.dequantize(self.constant(layer.weights.name, codes), params, **axis)]
        if layer.bias is not None:
            inputs.append(self.bias(layer, layer.bias))
        attributes: dict[str, Any] = {"name": layer.name}
        if not layer.dense:
            attributes |= {"kernel_shape": codes.shape[2:], "strides": layer.strides, "pads": layer.pads}
        operator = ("Gemm" if layer.bias is not None else "MatMul") if layer.dense else "Conv"
        return self.node(operator, inputs, f"{layer.output.name}_float", **attributes)

    def bias(self, layer: Weighted, bias: Constant) -> str:
        codes = self.constant(bias.name, bias.codes)
        scale = np.asarray(layer.x.scale * layer.weights.params.scale, np.float32)
        inputs = [codes, self.constant(f"{codes}_scale", scale)]
        axis = {"axis": 0} if layer.weights.params.per_channel else {}
        return self.node("DequantizeLinear", inputs, f"{codes}_real", **axis)

    def end(self) -> None:
        program = self.program
        output = self.read(program.logits)
        if program.softmax:
            output = self.node("Softmax", [output], "softmax", axis=1)
        if program.probabilities is not None:
            grid = self.grid(OUTPUT_NAME, program.probabilities)
            codes = self.node("QuantizeLinear", [output, *grid], f"{OUTPUT_NAME}_codes")
            self.node("DequantizeLinear", [codes, *grid], OUTPUT_NAME)
        else:
            self.nodes[-1].output[0] = OUTPUT_NAME

    def model(self) -> onnx.ModelProto:
        tensors = [numpy_helper.from_array(np.asarray(value), name) for name, value in self.constants.items()]
        graph = helper.make_graph(
            self.nodes,
            "resnet8",
            [helper.make_tensor_value_info(INPUT_NAME, TensorProto.FLOAT, ("batch", *IMAGE_SHAPE))],
            [helper.make_tensor_value_info(OUTPUT_NAME, TensorProto.FLOAT, ("batch", *self.program.logits.shape))],
            tensors,
        )
        opsets = [helper.make_opsetid("", OPSET)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="resnet8")
        onnx.checker.check_model(model)
        return model


def _same(one: NDArray[Any], other: NDArray[Any]) -> bool:
    return one.dtype == other.dtype and np.array_equal(one, other)
