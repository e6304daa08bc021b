"""QDQ: QuantizeLinear and DequantizeLinear surround each float operator, everything between in NCHW.

Fewer codes than the type has stand as a Clip of the codes behind QuantizeLinear: ONNX Runtime runs it on integers, and
keeps the quantized kernels on both sides. (A pair of QuantizeLinear and DequantizeLinear would saturate as well, but
ONNX Runtime merges such pairs into one of other scale.)

Weights of 4 bits are read by DequantizeLinear as they are (opset 21); ONNX Runtime keeps a float convolution behind it,
at every optimization level. Those of 2 bits (opset 25) are cast to 8 first: at the levels above «basic» ONNX Runtime
takes a DequantizeLinear of INT2, as one of int8, into a QLinearConv, which has no such weights, and then refuses the
graph that it made. The Cast it computes when it loads the file, and runs its integer kernels.

Class scores that are not quantized come straight from Gemm. ONNX Runtime then computes the last layer as a MatMulNBits
of its own, whose sums are of floats; in a QOperator file they are exact.

A compact file dequantizes each activation once, has no zero points of 0 for what is signed, and multiplies scale_x by
scale_w in the graph: the scales of biases are most of what QDQ files have more than others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, assert_never

import numpy as np

from resnet8.network.layers import AveragePool, Product, Rescale, Sum, Weighted
from resnet8.network.onnx_graph import PACKED
from resnet8.network.onnx_parts import Writer, channelwise, read_by, stored, weight_codes
from resnet8.network.tensors import Constant
from resnet8.numeric.grid import storage, width

if TYPE_CHECKING:
    from resnet8.network.layers import AnyLayer
    from resnet8.network.program import Program
    from resnet8.network.tensors import Activation
    from resnet8.numeric.grid import QParams


class QDQ(Writer):
    """Writes QDQ files."""

    def __init__(self, program: Program, *, compact: bool) -> None:
        super().__init__(program, compact=compact)
        self._reals: dict[tuple[str, ...], str] = {}

    def layer(self, layer: AnyLayer) -> None:
        """Add the nodes of ``layer``."""
        output = layer.output.name
        if isinstance(layer, Weighted):
            if self.float_output(layer):
                self._weighted(layer, output)
                return
            real = self._weighted(layer, self.inner(f"{output}_float"))
        elif isinstance(layer, Product):
            inputs = [self._constant(layer.x, layer.constant), self._read(layer.x)][::-1]
            real = self.node("Mul", inputs, self.inner(f"{output}_float"), name=layer.name)
        elif isinstance(layer, Sum):
            b = layer.b
            other = self._constant(layer.a, b) if isinstance(b, Constant) else self._read(b)
            real = self.node("Add", [self._read(layer.a), other], self.inner(f"{output}_float"), name=layer.name)
        elif isinstance(layer, AveragePool):
            real = self.node("GlobalAveragePool", [self._read(layer.x)], self.inner(f"{output}_float"), name=layer.name)
        elif isinstance(layer, Rescale):
            real = self._read(layer.x)
        else:
            assert_never(layer)
        if layer.relu:
            real = self.node("Relu", [real], self.inner(f"{output}_relu"))
        # A layer that only rescales has no other node to bear its name.
        named = layer.name if layer.kind == "rescale" else "" if self.compact else f"{output}_quantize"
        self.quantize(real, layer.output, named)

    def _read(self, x: Activation) -> str:
        """A layer's input as reals."""
        key = (x.name, str(len(x.shape)), *self.grid(x.name, x.params))
        if not self.compact or key not in self._reals:
            self._reals[key] = self.flat(self.dequantize(x.name, x.params), x)
        return self._reals[key]

    def _constant(self, x: Activation, constant: Constant) -> str:
        """A constant for each channel of ``x`` as reals."""
        codes = self.constant(constant.name, channelwise(x, constant), stored(constant.params.dtype))
        return self._parameter(codes, constant.params)

    def _weighted(self, layer: Weighted, output: str) -> str:
        params, codes = layer.weights.params, weight_codes(layer)
        axis: dict[str, Any] = {"axis": 1 if layer.dense else 0} if params.per_channel else {}
        weights = self.constant(layer.weights.name, codes, stored(params.dtype))
        inputs = [self._read(read_by(layer)), self._parameter(weights, params, **axis)]
        if layer.bias is not None:
            inputs.append(self._bias(layer, layer.bias))
        attributes: dict[str, Any] = {}
        if not layer.dense:
            attributes = self.geometry(layer)
        operator = ("Gemm" if layer.bias is not None else "MatMul") if layer.dense else "Conv"
        return self.node(operator, inputs, output, name=layer.name, **attributes)

    def _parameter(self, codes: str, params: QParams, **axis: Any) -> str:
        """The reals of stored codes."""
        dtype = stored(params.dtype)
        if width(dtype) == 2:
            codes, dtype = self.widened(codes, dtype), storage(dtype).name
        inputs = [codes, self.shared(f"{codes}_scale", params.scale)]
        if params.zero_point.any() or not (self.compact or dtype in PACKED):
            zero_point = params.zero_point.astype(storage(dtype))
            inputs.append(self.shared(f"{codes}_zero_point", zero_point, dtype))
        return self.node("DequantizeLinear", inputs, self.inner(f"{codes}_real"), **axis)

    def _bias(self, layer: Weighted, bias: Constant) -> str:
        codes, params = self.constant(bias.name, bias.codes), layer.weights.params
        if self.compact and params.per_channel:
            scales = [self.shared("", layer.x.params.scale), self.shared("", params.scale)]
            scale = self.node("Mul", scales, self.inner(""))
        else:
            scale = self.shared(f"{codes}_scale", np.asarray(layer.x.scale * params.scale, np.float32))
        axis: dict[str, Any] = {"axis": 0} if params.per_channel else {}
        return self.node("DequantizeLinear", [codes, scale], self.inner(f"{codes}_real"), **axis)
