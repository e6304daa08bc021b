"""QOperator: each layer is one operator on codes, of ONNX or of ONNX Runtime's own (com.microsoft).

A ReLU is where codes saturate: at the zero point. Where that is not the least code, and where there are fewer codes
than the type has, a Clip of the codes follows.

Weights of 4 and of 2 bits are cast to 8 (opsets 21 and 25). ONNX Runtime (from 1.23 and 1.24 on) computes the Cast when
it loads the file, and runs its integer kernels, at every optimization level: none of its fusions concern a Cast. int8
weights of so few bits saturate nowhere in kernels for CPUs without VNNI: ``2 * 255 * 8`` is far below 2**15.

A convolution's weights have one zero point in the file, for that of all channels must be the same in ONNX Runtime; a
dense layer's have as many as scales, which it requires.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, assert_never

import numpy as np

from resnet8.errors import QuantizationError
from resnet8.network.layers import AveragePool, Product, Rescale, Sum, Weighted
from resnet8.network.onnx_graph import PACKED
from resnet8.network.onnx_parts import MICROSOFT, Writer, channelwise, read_by, stored, weight_codes
from resnet8.network.tensors import Activation, Constant
from resnet8.numeric.grid import storage

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from resnet8.network.layers import AnyLayer


class QOperator(Writer):
    """Writes QOperator files."""

    def layer(self, layer: AnyLayer) -> None:
        """Add the nodes of ``layer``."""
        if isinstance(layer, Rescale):
            real = self.dequantize(layer.x.name, layer.x.params)
            real = self.node("Relu", [real], self.inner(f"{layer.output.name}_relu")) if layer.relu else real
            self.quantize(real, layer.output, layer.name)
            return
        output = self.saturated(layer.output, relu=layer.relu)
        if isinstance(layer, Weighted):
            self._weighted(layer, output)
        else:
            if isinstance(layer, Product):
                operator, operands = (
                    "QLinearMul",
                    [*self._activation(layer.x), *self._constant(layer.x, layer.constant)],
                )
            elif isinstance(layer, Sum):
                a, b = layer.a, layer.b
                other = self._constant(a, b) if isinstance(b, Constant) else self._activation(b)
                operator, operands = "QLinearAdd", [*self._activation(a), *other]
            elif isinstance(layer, AveragePool):
                operator, operands = "QLinearGlobalAveragePool", self._activation(layer.x)
            else:
                assert_never(layer)
            inputs = [*operands, *self.grid(layer.output.name, layer.output.params)]
            self.node(operator, inputs, output, name=layer.name, domain=MICROSOFT)
        self.narrow(output, layer.output, relu=layer.relu, name=f"{layer.output.name}_codes")

    def _activation(self, x: Activation) -> list[str]:
        """Codes, scale, zero point."""
        return [self.flat(x.name, x), *self.grid(x.name, x.params)]

    def _constant(self, x: Activation, constant: Constant) -> list[str]:
        return self._parameter(constant, channelwise(x, constant))

    def _parameter(self, one: Constant, codes: NDArray[Any], *, dense: bool = False) -> list[str]:
        """Codes, scale, zero point of what is stored."""
        params, dtype = one.params, stored(one.params.dtype)
        name = self.constant(one.name, codes, dtype)
        zeros = np.unique(params.zero_point)
        if len(zeros) > 1:
            raise QuantizationError(
                f"{one.name} does not fit a QOperator file",
                found=f"zero points from {zeros[0]} to {zeros[-1]}",
                expected="the same for all channels, as ONNX Runtime requires",
                remedy="write the QDQ form, or quantize its weights symmetrically",
            )
        scale = self.shared(f"{name}_scale", params.scale)
        zero_point = params.zero_point if dense else zeros[0]
        zero = self.shared(f"{name}_zero_point", zero_point.astype(storage(dtype)))
        return [self.widened(name, dtype) if dtype in PACKED else name, scale, zero]

    def _weighted(self, layer: Weighted, output: str) -> None:
        if (layer.x.dtype, layer.weights.dtype) == ("int8", "uint8"):
            raise QuantizationError(
                f"{layer.weights.name} does not fit a QOperator file",
                found="unsigned weights and signed activations",
                expected="unsigned activations, or signed weights: ONNX Runtime has no kernel for these",
                remedy="write the QDQ form, or quantize to other types",
            )
        inputs = [
            *self._activation(read_by(layer)),
            *self._parameter(layer.weights, weight_codes(layer), dense=layer.dense),
        ]
        grid = [] if self.float_output(layer) else self.grid(layer.output.name, layer.output.params)
        bias = [] if layer.bias is None else [self.constant(layer.bias.name, layer.bias.codes)]
        if layer.dense and (bias or not grid):
            self.node(
                "QGemm", [*inputs, *(bias or ([""] if grid else [])), *grid], output, name=layer.name, domain=MICROSOFT
            )
        elif layer.dense:
            self.node("QLinearMatMul", [*inputs, *grid], output, name=layer.name)
        else:
            self.node("QLinearConv", [*inputs, *grid, *bias], output, name=layer.name, **self.geometry(layer))
