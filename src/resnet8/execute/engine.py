"""Executes an integer program, exactly.

Accumulators are integers throughout. They are computed by a float matrix product only where a bound proves it exact:
every partial sum of products, in any order, stays within the whole numbers that the float type represents without
rounding (2**24 for float32, 2**53 for float64), because ``max|x - zero_x| * sum|w - zero_w|`` does.

With a ``float32`` multiplier the engine repeats, step by step, what ONNX Runtime's kernels for x86 compute in float32
(facts from its sources, core/mlas/lib: quantize.cpp, qladd.cpp, qlmul.cpp, qlgavgpool.cpp; checked by agreement):

* QLinearConv, QLinearMatMul, QGemm: ``round(float(accumulator) * M) + zero``, ``M = scale_x * scale_w / scale_out``.
* QLinearMul: ``round(float(accumulator) * M + zero)``: an odd zero point turns ties the other way.
* QLinearAdd: ``round(a * M_a + (b * M_b + fixed))``, fused multiply-adds,
  ``fixed = zero - (M_a * zero_a + M_b * zero_b)``.
* QLinearAveragePool over the whole map: ``round(float(accumulator) * M) + zero``,
  ``M = scale_x / (scale_out * count)``.
* DequantizeLinear, float operator, QuantizeLinear: those operators, one after the other.

With any fixed-point multiplier the data path is int64 only.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, Protocol, assert_never

import numpy as np

from resnet8.execute.patches import patches
from resnet8.execute.walk import softmax, walk
from resnet8.network.layers import AveragePool, Product, Rescale, Sum, Weighted
from resnet8.network.tensors import Activation, Constant, accumulator_step
from resnet8.numeric.grid import dequantize, quantize, saturate
from resnet8.numeric.rounding import FixedPoint, fixed_point, fixed_point_pair, round_real, round_shift
from resnet8.numeric.variants import Requantization

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from resnet8.network.layers import AnyLayer
    from resnet8.network.program import Program
    from resnet8.numeric.variants import Rounding

EXACT_FLOAT32 = 2**24
EXACT_FLOAT64 = 2**53

_f32 = np.float32


class Accumulate(Protocol):
    """The accumulators of a weighted layer: from codes (N, H, W, C) to int64 or exact float (N, rows, columns, out)."""

    def __call__(self, layer: Weighted, codes: NDArray[Any]) -> NDArray[Any]:
        """Whole numbers, in whatever type holds them."""


def product_bound(layer: Weighted) -> int:
    """``max|x - zero_x| * sum|w - zero_w|``, the largest over the output channels, plus the largest ``|bias|``."""
    largest = max(abs(value) for value in layer.x.codes_from_zero)
    return int(largest * np.abs(layer.matrix).sum(axis=0).max() + np.abs(layer.added.astype(np.int64)).max())


def accumulate(layer: Weighted, codes: NDArray[Any]) -> NDArray[Any]:
    """``sum((x - zero_x) * (w - zero_w)) + bias``, exact whole numbers in float32, float64 or int64, by the bound.

    Args:
        layer: The layer.
        codes: (N, H, W, C) or (N, C).

    Returns:
        (N, *output shape).
    """
    bound = product_bound(layer)
    dtype: Any = _f32 if bound <= EXACT_FLOAT32 else np.float64 if bound <= EXACT_FLOAT64 else np.int64
    maps = codes.reshape(len(codes), *layer.map_shape)
    product: NDArray[Any] = patches(maps, layer, dtype, layer.x.zero_point) @ layer.matrix.astype(dtype)
    product += layer.added.astype(dtype)
    return product.reshape(len(codes), *layer.output.shape)


def run(
    program: Program,
    codes: NDArray[Any],
    requantization: Requantization = Requantization(),  # noqa: B008 - frozen
    accumulators: Accumulate = accumulate,
    watch: Callable[[str, NDArray[Any]], None] | None = None,
) -> NDArray[Any]:
    """The codes of the logits, (N, classes).

    Args:
        program: What to compute.
        codes: Of the input, (N, 32, 32, 3) in the input's type (:func:`input_codes`).
        requantization: How accumulators become codes.
        accumulators: How convolution and dense layers add up; :func:`accumulate` does so exactly.
        watch: Shown the name and the codes of each activation, (N, *shape), NHWC, the input's first.
    """
    return walk(program, codes, partial(step, requantization=requantization, accumulators=accumulators), watch)


def activations(program: Program, codes: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """The codes of every activation by name, NHWC, of a network run as :func:`run` does, with float32 multipliers."""
    values: dict[str, NDArray[Any]] = {}
    run(program, codes, watch=values.__setitem__)
    return values


def step(
    layer: AnyLayer,
    values: Mapping[str, NDArray[Any]],
    requantization: Requantization = Requantization(),  # noqa: B008 - frozen
    accumulators: Accumulate = accumulate,
) -> NDArray[Any]:
    """The codes that one layer writes, (N, *output shape), from the codes of its inputs by name."""
    read = {name: values[name] for name in layer.inputs}
    requantization = _own(layer, requantization)
    if requantization.multiplier != "float32":
        whole = _fixed(layer, read, requantization, accumulators)
    elif layer.kernel == "float":
        return _dequantized(layer, read, requantization.rounding, accumulators)
    else:
        whole = _float32(layer, read, requantization.rounding, accumulators)
    return saturate(whole, layer.output.params.dtype, layer.lowest)


def requantize(layer: AnyLayer, accumulators: NDArray[Any], requantization: Requantization) -> NDArray[Any]:
    """The codes that a layer with an integer kernel makes of accumulators, any shape (..., channels out).

    What :func:`step` does with them. As a function of the accumulator it never decreases.

    Raises:
        TypeError: for a sum.
    """
    if isinstance(layer, Sum):
        raise TypeError("a sum has two addends")
    requantization = _own(layer, requantization)
    if requantization.multiplier == "float32":
        whole: NDArray[Any] = _scaled(layer, accumulators, requantization.rounding)
    else:
        (factor,) = multipliers(layer, requantization)
        total = accumulators.astype(np.int64) * factor.multiplier
        whole = round_shift(total, factor.shift, requantization.rounding) + layer.output.zero_point
    return saturate(whole, layer.output.params.dtype, layer.lowest)


def _own(layer: AnyLayer, requantization: Requantization) -> Requantization:
    """The requantization with the layer's own rounding, where it has one."""
    return requantization if layer.rounding is None else replace(requantization, rounding=layer.rounding)


def input_codes(program: Program, images: NDArray[Any]) -> NDArray[Any]:
    """The codes of pixels, (N, 32, 32, 3), any number type, by the input's QuantizeLinear."""
    return quantize(images, program.input.params)


def probabilities(program: Program, logits: NDArray[Any]) -> NDArray[np.float32]:
    """Class probabilities, float32 (N, classes), of the codes of the logits: the graph's last, float part.

    Dequantize; softmax where the program has one; on the grid of the quantized softmax where it has that.
    """
    real = dequantize(logits, program.logits.params)
    if not program.softmax:
        return real
    result = softmax(real)
    if program.probabilities is not None:
        result = dequantize(quantize(result, program.probabilities), program.probabilities)
    return result


def from_zero(activation: Activation | Constant, codes: NDArray[Any], dtype: Any = np.int64) -> NDArray[Any]:
    """``code - zero_point`` in ``dtype``."""
    result: NDArray[Any] = codes.astype(dtype)
    result -= dtype(activation.zero_point)
    return result


def _codes(one: Activation | Constant, read: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
    """The codes of an operand, as maps where it is a map."""
    if isinstance(one, Constant):
        return one.codes
    codes = read[one.name]
    return codes.reshape(len(codes), *one.shape)


# Fixed point: int64 only


def multipliers(layer: AnyLayer, requantization: Requantization) -> tuple[FixedPoint, ...]:
    """The fixed-point multipliers of a layer: one, or two with one shift for a sum."""
    kind, (one, *others) = requantization.multiplier, layer.real_multipliers
    return fixed_point_pair((one, others[0]), kind) if others else (fixed_point(one, kind),)


def addends(
    layer: AnyLayer, read: Mapping[str, NDArray[Any]], accumulators: Accumulate = accumulate
) -> tuple[NDArray[np.int64], ...]:
    """What is multiplied, then added up, int64 (N, *output shape): the accumulator; of a sum both operands, from 0."""
    if isinstance(layer, Weighted):
        return (accumulators(layer, read[layer.x.name]).astype(np.int64),)
    codes = tuple(from_zero(one, _codes(one, read)) for _, one in layer.sources)
    if isinstance(layer, Product):
        return (codes[0] * layer.factor,)
    if isinstance(layer, AveragePool):
        return (codes[0].sum(axis=(1, 2), keepdims=True),)
    if isinstance(layer, Sum | Rescale):
        return codes
    assert_never(layer)


def integer_accumulator(
    layer: AnyLayer, read: Mapping[str, NDArray[Any]], accumulators: Accumulate = accumulate
) -> NDArray[np.int64]:
    """What is requantized, int64 (N, *output shape).

    Raises:
        TypeError: for a sum.
    """
    if isinstance(layer, Sum):
        raise TypeError("a sum has two addends")
    return addends(layer, read, accumulators)[0]


def numerator(
    layer: AnyLayer,
    read: Mapping[str, NDArray[Any]],
    requantization: Requantization,
    accumulators: Accumulate = accumulate,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """What is shifted to the right and rounded, int64 (N, *output shape), and by how many bits; fixed point only."""
    factors = multipliers(layer, requantization)
    values = addends(layer, read, accumulators)
    total, *others = (one * factor.multiplier for one, factor in zip(values, factors, strict=True))
    for other in others:
        total += other
    return total, factors[0].shift


def _fixed(
    layer: AnyLayer, read: Mapping[str, NDArray[Any]], requantization: Requantization, accumulators: Accumulate
) -> NDArray[np.int64]:
    total, shift = numerator(layer, read, requantization, accumulators)
    return round_shift(total, shift, requantization.rounding) + layer.output.zero_point


# Float multipliers, as ONNX Runtime's quantized kernels


def float_multiplier(layer: Weighted | Product | AveragePool | Rescale) -> NDArray[np.float32]:
    """``scale_x * scale_w / (scale_out * count)`` in float32, in this order, without what the layer lacks."""
    scale = _f32(1) if layer.multiplied is None else layer.multiplied.params.scale
    return np.asarray(layer.x.scale * scale / (layer.output.scale * _f32(layer.count)), _f32)


def _float32(
    layer: AnyLayer, read: Mapping[str, NDArray[Any]], rounding: Rounding, accumulators: Accumulate
) -> NDArray[Any]:
    if isinstance(layer, Sum):
        return round_real(_qlinear_add(layer, read), rounding)
    return _scaled(layer, _accumulated(layer, read, accumulators), rounding)


def _scaled(
    layer: Weighted | Product | AveragePool | Rescale, accumulator: NDArray[Any], rounding: Rounding
) -> NDArray[Any]:
    # What is not named is freed, or computed in place: memory is what costs time here.
    scaled = accumulator.astype(_f32, copy=False) * float_multiplier(layer)
    zero = _f32(layer.output.zero_point)
    if isinstance(layer, Product):
        scaled += zero
        return round_real(scaled, rounding)
    return round_real(scaled, rounding) + zero


def _accumulated(
    layer: Weighted | Product | AveragePool | Rescale, read: Mapping[str, NDArray[Any]], accumulators: Accumulate
) -> NDArray[Any]:
    """The accumulator in whatever type holds it."""
    if isinstance(layer, Weighted):
        return accumulators(layer, read[layer.x.name])
    if isinstance(layer, Rescale):
        return from_zero(layer.x, _codes(layer.x, read), _f32)
    return integer_accumulator(layer, read)


def _qlinear_add(layer: Sum, read: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
    a, b = (_codes(one, read) for one in (layer.a, layer.b))
    ratio_a, ratio_b = (np.float64(_f32(one.scale / layer.output.scale)) for one in (layer.a, layer.b))
    # A fused multiply-add rounds once: the product of a code and a float32 is exact in float64.
    zero_b = np.float64(_f32(ratio_b * layer.b.zero_point))
    fixed = _f32(layer.output.zero_point - _f32(ratio_a * layer.a.zero_point + zero_b))
    total = _table(float(ratio_a), 0.0)[a.astype(np.int16) + _TABLE_ZERO]
    total += _table(float(ratio_b), float(fixed)).astype(_f32)[b.astype(np.int16) + _TABLE_ZERO]
    return total.astype(_f32)


_TABLE_ZERO = 128


@lru_cache(maxsize=256)
def _table(ratio: float, fixed: float) -> NDArray[np.float64]:
    """``code * ratio + fixed`` of every code there is, int8 or uint8, from -128 on."""
    return np.arange(-_TABLE_ZERO, 256, dtype=np.float64) * ratio + fixed


def _mean(real: NDArray[np.float32]) -> NDArray[np.float32]:
    total = np.zeros((len(real), 1, 1, real.shape[3]), _f32)
    for row in range(real.shape[1]):
        for column in range(real.shape[2]):
            total[:, 0, 0] += real[:, row, column]
    return total / _f32(real.shape[1] * real.shape[2])


# Float operators between DequantizeLinear and QuantizeLinear


def _dequantized(
    layer: AnyLayer, read: Mapping[str, NDArray[Any]], rounding: Rounding, accumulators: Accumulate
) -> NDArray[Any]:
    if isinstance(layer, Weighted):
        # ONNX Runtime adds up products of floats, in an order of its own; the exact sum is what they come close to.
        step = accumulator_step(layer.x, layer.weights.params)
        real = (accumulators(layer, read[layer.x.name]).astype(np.float64) * step).astype(_f32)
    else:
        real, *other = (dequantize(_codes(one, read), one.params) for _, one in layer.sources)
        if isinstance(layer, Product):
            real *= layer.constant.real
        elif isinstance(layer, AveragePool):
            real = _mean(real)
        elif isinstance(layer, Sum):
            real = real + other[0]
        elif not isinstance(layer, Rescale):
            assert_never(layer)
    whole = round_real(real / layer.output.scale, rounding) + _f32(layer.output.zero_point)
    return saturate(whole, layer.output.params.dtype, layer.lowest)
