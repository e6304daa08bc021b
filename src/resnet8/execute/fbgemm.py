"""What fbgemm, PyTorch's backend for x86, computes in a quantized convolution or linear layer: the bias stays float.

An ONNX file holds the bias as int32, and so does an integer accelerator. A PyTorch file holds it as float32, and fbgemm
adds it in accumulator steps to the converted accumulator, then requantizes, all in float32:

* a scale for each channel: ``round((float(accumulator) + bias / s) * (s / scale_out)) + zero``
* one scale for all weights: ``round(fma(bias, 1 / s, float(accumulator)) * (s / scale_out)) + zero``

where ``s = scale_x * scale_w``. :func:`resnet8.execute.engine.accumulate` takes the bias rounded to int32 (Jacob et al.
2018, arXiv:1712.05877, section 2.4). That moves the value before rounding by up to ``s / (2 * scale_out)`` code steps,
far more than float32 rounding.

Found by experiment, bit for bit, much of it next to ties: ``torch.ops.quantized.conv2d`` and ``linear`` have one rule,
for any number of rows and of channels, full vectors and what remains of them, one thread and two. Nor does the rule
depend on the CPU: fbgemm requantizes with AVX2 and fused multiply-adds where it has AVX-512 too (its sources,
``OutputProcessing-inl.h`` and ``QuantUtilsAvx2.cc``). Its accumulators do: without VNNI pairs of products saturate
(:mod:`resnet8.execute.vpmaddubsw`), which activations of 7 bits rule out.

``torch.ops.quantized.matmul``, which FX graph mode makes of ResNet8's dense layer, is not fbgemm's. ATen (its sources,
``qmatmul.cpp``) dequantizes both operands, multiplies them in float32 and quantizes the result:
``round(product * (1 / scale_out)) + zero``. The product is the BLAS library's, which adds up in another order, or
without fused multiply-adds, on another CPU: where the exact value is within float32 rounding of the border between two
codes, the code is the CPU's. The engine takes the exact sum instead, as near to all of them as one rule can be.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from resnet8.execute import engine

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from resnet8.network.layers import Weighted

_f32 = np.float32


def biased(layer: Weighted, codes: NDArray[Any], accumulators: engine.Accumulate = engine.accumulate) -> NDArray[Any]:
    """The accumulators of :func:`resnet8.execute.engine.accumulate`, the bias added as fbgemm adds it.

    The engine's float32 requantization of these gives fbgemm's codes; integers they are no more.

    Args:
        layer: The layer; its bias is added in whole steps where the file gives it so.
        codes: (N, H, W, C) or (N, C).
        accumulators: How the products add up.

    Returns:
        (N, *output shape): float32 where the file gives the bias as real numbers, whole numbers elsewhere.
    """
    if layer.real_bias is None:
        return accumulators(layer, codes)
    total = accumulators(replace(layer, bias=None), codes).astype(_f32, copy=False)
    unit = np.asarray(layer.x.scale * layer.weights.params.scale, _f32)
    if layer.weights.params.per_channel:
        return np.asarray(total + layer.real_bias / unit, _f32)
    # A fused multiply-add rounds once: the product of two float32 is exact in float64.
    product = layer.real_bias.astype(np.float64) * np.float64(_f32(1) / unit)
    return np.asarray(total.astype(np.float64) + product, _f32)
