"""What a layer computes before it rounds, exactly: in float64 with a bound, as a fraction, term by term."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any, assert_never

import numpy as np

from resnet8.execute import engine
from resnet8.execute.patches import patches
from resnet8.network.layers import AveragePool, Product, Rescale, Sum, Weighted

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from resnet8.network.layers import AnyLayer
    from resnet8.network.tensors import Activation

UNIT = 2.0**-24
"""Unit roundoff of float32: half the distance from 1 to the next number."""


def before_rounding(
    layer: AnyLayer, read: Mapping[str, NDArray[Any]], local: tuple[NDArray[np.int64], ...]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The value before rounding at some elements, and the sum of the magnitudes it is added up from, in code steps.

    In float64, whose error (below 1e-12 here) is far below every bound.
    """
    if isinstance(layer, Sum):
        (a, b), (m_a, m_b) = engine.addends(layer, read), layer.real_multipliers
        shape = read[layer.a.name].shape
        one, other = a[local] * m_a, np.broadcast_to(b, shape)[local] * m_b
        zeros = abs(layer.a.zero_point) * m_a + abs(layer.b.zero_point) * m_b + abs(layer.output.zero_point)
        return one + other, np.abs(one) + np.abs(other) + 2 * zeros
    multiplier = np.broadcast_to(layer.real_multiplier, layer.output.shape)[local[1:]]
    value = engine.integer_accumulator(layer, read)[local] * multiplier
    if isinstance(layer, Weighted):
        maps = read[layer.x.name].reshape(len(read[layer.x.name]), *layer.map_shape)
        rows = np.abs(patches(maps, layer, np.float64, layer.x.zero_point))
        total = rows @ np.abs(layer.matrix).astype(np.float64) + np.abs(layer.added)
        return value, total.reshape(len(maps), *layer.output.shape)[local] * multiplier
    if isinstance(layer, AveragePool):
        x = engine.from_zero(layer.x, read[layer.x.name].reshape(-1, *layer.x.shape))
        return value, np.abs(x).sum(axis=(1, 2), keepdims=True)[local] * multiplier + abs(layer.output.zero_point)
    if isinstance(layer, Product | Rescale):
        return value, np.abs(value) + abs(layer.output.zero_point)
    assert_never(layer)


def with_real_bias(
    layer: AnyLayer, exact: NDArray[np.float64], local: tuple[NDArray[np.int64], ...]
) -> NDArray[np.float64]:
    """What :func:`before_rounding` gives, with the bias as a file gives it in real numbers: not in whole steps."""
    if layer.real_bias is None or layer.added is None:
        return exact
    step = layer.real_bias.astype(np.float64) / np.float64(layer.output.scale) - layer.added * layer.real_multiplier
    return exact + np.broadcast_to(step, layer.output.shape)[local[1:]]


def float32_bound(layer: AnyLayer, exact: NDArray[np.float64], magnitude: NDArray[np.float64]) -> NDArray[np.float64]:
    """What float32 rounding can move the value by, in code steps: (number of roundings) x u x (sum of magnitudes)."""
    if isinstance(layer, Weighted | AveragePool) and layer.kernel == "integer":
        return 4.01 * UNIT * np.abs(exact)
    if isinstance(layer, Weighted):
        roundings = len(layer.matrix) + 8
    elif isinstance(layer, AveragePool):
        roundings = layer.count + 8
    elif isinstance(layer, Sum | Product):
        roundings = 8
    elif isinstance(layer, Rescale):
        roundings = 4
    else:
        assert_never(layer)
    return 1.001 * roundings * UNIT * magnitude


def as_fraction(layer: AnyLayer, read: Mapping[str, NDArray[Any]], at: tuple[int, ...]) -> Fraction:
    """The value before rounding at one element, in code steps, as a rational number."""
    one = {name: values[at[0] : at[0] + 1] for name, values in read.items()}
    values = (np.broadcast_to(value, (1, *layer.output.shape)) for value in engine.addends(layer, one))
    each = zip(values, exact_multipliers(layer, at[-1]), strict=True)
    return sum((int(value[0, *at[1:]]) * multiplier for value, multiplier in each), Fraction(0))


def exact_multipliers(layer: AnyLayer, channel: int) -> tuple[Fraction, ...]:
    """What the accumulator of a channel, or each addend, is multiplied by: ``scale_x * scale_w / (count * scale_out)``.

    Rational numbers: nothing is rounded but the scales, which are float32.
    """
    factor, out = Fraction(1), layer.count * Fraction(float(layer.output.scale))
    if layer.multiplied is not None:
        scales = np.broadcast_to(layer.multiplied.params.scale, layer.output.shape[-1:])
        factor = Fraction(float(scales[channel]))
    return tuple(Fraction(float(source.scale)) * factor / out for _, source in layer.sources)


def partial_sums(
    layer: AnyLayer, values: Mapping[str, NDArray[Any]], rows: int | None = None
) -> NDArray[np.int64] | None:
    """The sums of products of a convolution or dense layer, ``rows`` products at a time, without the bias.

    Added up over the tiles they give the accumulator less the bias. This is what an array of ``rows`` rows computes
    where the depth is divided among several, in the order kernel row, kernel column, channel.

    Args:
        layer: The layer.
        values: Codes of its inputs by name, (N, *shape).
        rows: Of a tile; the last tile has what is left. Without it one tile holds all.

    Returns:
        int64 (N, tiles, *output shape); none of a layer that adds up no products.
    """
    if not isinstance(layer, Weighted):
        return None
    codes, matrix = values[layer.x.name], layer.matrix
    window = patches(codes.reshape(len(codes), *layer.map_shape), layer, np.int64, layer.x.zero_point)
    starts = range(0, len(matrix), rows or len(matrix))
    parts = (slice(start, start + starts.step) for start in starts)
    sums = [(window[:, part] @ matrix[part]).reshape(len(codes), *layer.output.shape) for part in parts]
    return np.stack(sums, axis=1)


def terms(layer: AnyLayer, values: Mapping[str, NDArray[Any]], at: tuple[int, ...]) -> Iterator[tuple[int, int | None]]:
    """The factors that are summed up, both less their zero points."""
    if isinstance(layer, Weighted):
        maps = values[layer.x.name].reshape(1, *layer.map_shape)
        rows = patches(maps, layer, np.int64, layer.x.zero_point)
        position = int(np.ravel_multi_index(at[1:-1], layer.output.shape[:-1])) if len(at) > 2 else 0
        for x, w in zip(rows[position], layer.matrix[:, at[-1]], strict=True):
            yield (int(x), int(w))
    elif isinstance(layer, Sum):
        a, b = engine.addends(layer, values)
        yield (int(a[at]), None)
        yield (int(np.broadcast_to(b, a.shape)[at]), None)
    elif isinstance(layer, Product):
        yield (_centred(layer.x, values, at), int(np.broadcast_to(layer.factor, layer.output.shape)[at[1:]]))
    elif isinstance(layer, AveragePool):
        codes = values[layer.x.name].reshape(1, *layer.x.shape)[0, :, :, at[-1]]
        for code in codes.ravel():
            yield (int(code) - layer.x.zero_point, None)
    elif isinstance(layer, Rescale):
        yield (_centred(layer.x, values, at), None)
    else:
        assert_never(layer)


def _centred(activation: Activation, values: Mapping[str, NDArray[Any]], at: tuple[int, ...]) -> int:
    return int(values[activation.name].reshape(1, *activation.shape)[at]) - activation.zero_point


def addends_of(layer: AnyLayer, values: Mapping[str, NDArray[Any]]) -> tuple[NDArray[np.int64], ...]:
    """The two addends of a sum, both less their zero points, int64 (N, *shape); of another layer nothing."""
    return engine.addends(layer, values) if isinstance(layer, Sum) else ()
