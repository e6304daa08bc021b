"""Small layers that reach the corners of the arithmetic, which images need not reach; and tables of it alone.

Scales are powers of two wherever an exact tie is wanted, so that every fixed-point form holds the multiplier exactly.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from resnet8.network.layers import AveragePool, Product, Rescale, Sum
from resnet8.network.reading import convolution, dense
from resnet8.network.tensors import Activation, Constant
from resnet8.numeric.grid import QParams, limits, qparams, storage
from resnet8.numeric.rounding import round_shift
from resnet8.numeric.variants import ROUNDINGS
from resnet8.vectors.formats import Field

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from resnet8.network.layers import AnyLayer
    from resnet8.numeric.grid import Dtype

SEED = 8108
LIMIT = 2**30
"""Where the C functions saturate a scaled number: far outside every code."""

_INT32_MAX = 2**31 - 1
_ROWS = 4096


@dataclass(frozen=True, eq=False)
class Edge:
    """A layer made for one purpose.

    Attributes:
        name: An identifier.
        purpose: What it is there for.
        layer: The layer.
        values: Codes of its inputs by name, (images, *shape).
    """

    name: str
    purpose: str
    layer: AnyLayer
    values: dict[str, NDArray[Any]]


def edges() -> tuple[Edge, ...]:
    """All edge cases; the same ones every time."""
    generator = np.random.default_rng(SEED)
    return (
        *_ties(),
        *_poolings(),
        *_mixtures(generator),
        *_saturations(generator),
        *_multipliers(generator),
        *_accumulators(),
    )


# Building layers


def _activation(name: str, shape: tuple[int, ...], *grid: Any) -> Activation:
    """``grid``: scale, zero point, type."""
    return Activation(name, shape, qparams(*grid))


def _random(generator: np.random.Generator, shape: tuple[int, ...], dtype: Dtype) -> NDArray[Any]:
    low, high = limits(dtype)
    return generator.integers(low, high + 1, shape).astype(storage(dtype))


def _edge(
    name: str, purpose: str, kind: type[AnyLayer], output: Activation, values: dict[str, NDArray[Any]], **members: Any
) -> Edge:
    """A case for a layer of ``kind`` with these ``members``."""
    return Edge(name, purpose, kind(name="edge", output=output, **members), values)


def _weighted(
    name: str,
    purpose: str,
    codes: NDArray[Any],
    weights: NDArray[Any],
    grids: tuple[QParams, QParams, QParams],
    *,
    bias: NDArray[Any] | None = None,
    **facts: Any,
) -> Edge:
    """A case for a convolution, or for a dense layer where images have one axis; grids of input, weights, output."""
    x, weight_grid, output = grids
    read = Activation("x", codes.shape[1:], x)
    added = None if bias is None else Constant("", bias.astype(np.int32), None)
    if codes.ndim == 2:
        layer = dense(read, Constant("", weights[0, 0], weight_grid), added, name="edge", **facts)
    else:
        kernels = Constant("", weights.transpose(3, 2, 0, 1), weight_grid)
        window: dict[str, Any] = {"strides": (1, 1), "pads": (0, 0, 0, 0)}
        layer = convolution(read, kernels, added, name="edge", nchw=False, **window | facts)
    layer = replace(layer, output=replace(layer.output, name="output", grid=output))
    return Edge(name, purpose, layer, {"x": codes})


# Ties


def _ties() -> Iterator[Edge]:
    every = "exact ties of both signs, at even and odd results"
    shape = (16, 16, 1)
    codes = np.arange(256).reshape(1, *shape)  # an image that holds every code once
    int8, uint8 = (codes - 128).astype(np.int8), codes.astype(np.uint8)

    def output(*grid: Any) -> Activation:
        return _activation("output", shape, *grid)

    words = f"{every}: every int8 code halved, odd zero points"
    x = _activation("x", shape, 1.0, -3, "int8")
    yield _edge("rescale_ties", words, Rescale, output(2.0, 5, "int8"), {"x": int8}, x=x)
    words = f"{every}: every uint8 code over four"
    x = _activation("x", shape, 0.25, 131, "uint8")
    yield _edge("rescale_quarters", words, Rescale, output(1.0, 7, "uint8"), {"x": uint8}, x=x)
    words = f"{every}: every code times a constant, odd zero points"
    x = _activation("x", shape, 1.0, 127, "uint8")
    minus_two = Constant("", np.array([-2], np.int8), qparams(0.5, -5, "int8"))
    yield _edge("mul_ties", words, Product, output(4.0, -1, "int8"), {"x": uint8}, x=x, constant=minus_two)

    a, b = _activation("a", shape, 1.0, 1, "int8"), _activation("b", shape, 0.5, 127, "uint8")
    both = {"a": int8, "b": uint8[:, ::-1]}
    words = f"{every}: int8 plus uint8, one rounding of two products"
    yield _edge("add_ties", words, Sum, output(2.0, 3, "int8"), both, a=a, b=b)
    words = "addends whose scales are 1,024 apart: with short multipliers the smaller vanishes"
    far = _activation("b", shape, 2.0**-10, 127, "uint8")
    yield _edge("add_far_scales", words, Sum, output(1.0, -7, "int8"), both, a=a, b=far)
    words = "a sum clamped at an odd zero point"
    yield _edge("add_relu", words, Sum, output(0.5, 77, "uint8"), both, a=a, b=b, relu=True)
    words = f"{every}: plus a constant of each channel, extreme constants"
    repeated = np.repeat(uint8, 4, axis=3)
    a, out = (_activation(name, repeated.shape[1:], 1.0, zero, "uint8") for name, zero in (("a", 129), ("output", 3)))
    constant = Constant("b", np.array([-128, -1, 0, 127], np.int8), qparams(0.5, 1, "int8"))
    yield _edge("add_constant_ties", words, Sum, out, {"a": repeated}, a=a, b=constant)


def _poolings() -> Iterator[Edge]:
    generator = np.random.default_rng(SEED + 1)
    shape = (8, 8, 16)
    # Sums of 32 (mod 64) are ties after the division by 64: one code of each map is moved to make them so.
    codes = generator.integers(-60, 60, (4, *shape))
    codes[:, 0, 0] += (32 - (codes + 7).sum(axis=(1, 2))) % 64
    x, out = _activation("x", shape, 1.0, -7, "int8"), _activation("output", (1, 1, 16), 1.0, 9, "uint8")
    words = "averages that end in exactly one half"
    yield _edge("pool_ties", words, AveragePool, out, {"x": codes.astype(np.int8)}, x=x)
    x, out = _activation("x", (3, 5, 4), 0.7, 201, "uint8"), _activation("output", (1, 1, 4), 0.3, -11, "int8")
    extreme = _random(generator, (6, 3, 5, 4), "uint8")
    extreme[0], extreme[1] = 0, 255
    words = "an average of 15 codes, extreme maps, saturation"
    yield _edge("pool_uneven", words, AveragePool, out, {"x": extreme}, x=x)


# Types, padding, strides


def _mixtures(generator: np.random.Generator) -> Iterator[Edge]:
    """Both types of activations and weights, and of the result, with odd zero points and uneven padding."""
    zeros = {"int8": -37, "uint8": 91}
    for x, w, out, relu in (
        ("int8", "int8", "uint8", False),
        ("uint8", "uint8", "int8", True),
        ("uint8", "int8", "uint8", False),
        ("int8", "uint8", "int8", True),
    ):
        words = f"{x} codes, {w} weights, {out} result" + (", ReLU" if relu else "")
        weights = _random(generator, (3, 3, 3, 7), w)
        bias = generator.integers(-20_000, 20_000, 7)
        yield _weighted(
            f"conv_{x}_{w}_{out}",
            f"{words}; odd zero points, uneven padding with a zero point that is not 0, strides 2 and 1",
            _random(generator, (3, 5, 6, 3), x),
            weights,
            (qparams(0.02, zeros[x], x), qparams(0.01, zeros[w] + 20, w), qparams(0.13, zeros[out] - 4, out)),
            bias=bias,
            strides=(2, 1),
            pads=(0, 1, 2, 1),
            relu=relu,
        )


# Saturation


def _saturations(generator: np.random.Generator) -> Iterator[Edge]:
    for dtype, relu in (("int8", False), ("uint8", False), ("int8", True)):
        weights = _random(generator, (3, 3, 4, 5), "int8")
        yield _weighted(
            f"saturation_{dtype}" + ("_relu" if relu else ""),
            f"most codes beyond both ends of {dtype}" + (", the lower one a ReLU" if relu else ""),
            _random(generator, (2, 4, 4, 4), "int8"),
            weights,
            (qparams(1.0, 3, "int8"), qparams(1.0, 0, "int8"), qparams(64.0, sum(limits(dtype)) // 2, dtype)),
            pads=(1, 1, 1, 1),
            relu=relu,
        )


# Multipliers


def _multipliers(generator: np.random.Generator) -> Iterator[Edge]:
    """Accumulators come from the bias, so that each channel's result is of any wanted size."""
    channels = 60
    # From 2**6 (no bit behind the point is left in 8 bits) down to 2**-23, none of them a power of two.
    real = np.ldexp(generator.uniform(1.01, 1.99, channels), 6 - np.arange(channels) // 2)
    bias = np.clip(generator.uniform(-140, 140, channels) / real, -(2**30), 2**30)
    wide = _random(generator, (1, 1, 2, channels), "int8")
    exact = _random(generator, (3, 3, 2, 6), "uint8")
    yield _weighted(
        "dense_wide_multipliers",
        f"a multiplier for each channel, from {real.max():.1f} down to {real.min():.2g}: short and long shifts",
        _random(generator, (4, 2), "uint8"),
        wide,
        (
            qparams(1.0, 1, "uint8"),
            QParams(real.astype(np.float32), np.zeros(channels, np.int32), "int8"),
            qparams(1.0, -1, "int8"),
        ),
        bias=np.rint(bias),
    )
    halvings = np.ldexp(np.float32(1), -np.arange(2, 8)).astype(np.float32)
    yield _weighted(
        "conv_powers_of_two",
        "multipliers of exactly 2**-3 to 2**-8, one for each channel; weights' zero points likewise",
        _random(generator, (4, 3, 3, 2), "uint8"),
        exact,
        (
            qparams(0.5, 117, "uint8"),
            QParams(halvings, np.arange(125, 131, dtype=np.int32), "uint8"),
            qparams(1.0, 11, "int8"),
        ),
        pads=(1, 1, 1, 1),
    )


# Accumulators


def _accumulators() -> Iterator[Edge]:
    depth = (3, 3, 64)
    codes = np.stack([np.zeros(depth), np.full(depth, 255)]).astype(np.uint8)
    weights = np.stack([np.full(depth, 127), np.full(depth, -128)], axis=-1).astype(np.int8)
    reach = 255 * 3 * 3 * 64 * np.array([127, -128], np.int64)
    unit = (qparams(1.0, 0, "uint8"), qparams(1.0, 0, "int8"))
    words = "every product of one sign, as large as int8 weights make it"
    yield _weighted("largest_sums", words, codes, weights, (*unit, qparams(2.0**18, 1, "int8")))
    words = "accumulators of exactly 2**31 - 1 and -2**31"
    bias = np.array([_INT32_MAX, -_INT32_MAX - 1], np.int64) - reach
    yield _weighted("int32_brim", words, codes, weights, (*unit, qparams(2.0**25, -1, "int8")), bias=bias)
    words = "uint8 codes times uint8 weights, zero points at opposite ends: products of 65,025 and -65,025"
    for name, zero, read in (("conv", 255, np.zeros((1, *depth))), ("dense", 0, np.full((1, 64), 255))):
        ends = np.tile(np.array([0, 255], np.uint8), (*(depth[:2] if read.ndim == 4 else (1, 1)), 64, 1))
        per_channel = QParams(np.ones(2, np.float32), np.array([255, 0], np.int32), "uint8")
        grids = (qparams(1.0, zero, "uint8"), per_channel, qparams(2.0**19, 3, "int8"))
        yield _weighted(f"{name}_largest_products", words, read.astype(np.uint8), ends, grids)


# The arithmetic alone


def products() -> tuple[Field, ...]:
    """A table of ``round(accumulator * multiplier / 2**shift)`` by all four roundings, saturated at 2**30.

    Accumulators are of all of int32.
    """
    accumulator, multiplier, shift = _operands(np.random.default_rng(SEED + 2), -_INT32_MAX - 1, _INT32_MAX)
    return _table(accumulator * multiplier, shift, accumulator=accumulator, multiplier=multiplier)


def sums() -> tuple[Field, ...]:
    """A table of ``round((a * multiplier_a + b * multiplier_b) / 2**shift)``, likewise; addends from -255 to 255."""
    generator = np.random.default_rng(SEED + 3)
    a, multiplier_a, shift = _operands(generator, -255, 255)
    b, multiplier_b, _ = _operands(generator, -255, 255)
    b[::4], multiplier_b[::4] = -a[::4], multiplier_a[::4]  # sums of exactly 0
    b[1::4], multiplier_b[1::4] = a[1::4], multiplier_a[1::4]
    total = a * multiplier_a + b * multiplier_b
    return _table(total, shift, a=a, multiplier_a=multiplier_a, b=b, multiplier_b=multiplier_b)


def _operands(
    generator: np.random.Generator, least: int, largest: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Factors of all sizes, even multipliers with shifts that make ties, and the extremes of each."""
    value = generator.integers(-largest, largest + 1, _ROWS) >> generator.integers(0, largest.bit_length(), _ROWS)
    multiplier = generator.integers(1, 2**31, _ROWS) >> generator.integers(0, 31, _ROWS)
    multiplier = np.maximum(multiplier, 1)
    shift = generator.integers(0, 63, _ROWS)
    # In every other row the product has its lowest set bit just behind the point: a tie.
    lowest = np.abs(value * multiplier) & -np.abs(value * multiplier)
    tie = np.where(lowest > 0, np.log2(np.maximum(lowest, 1)).astype(np.int64) + 1, shift)
    shift[::2] = np.minimum(tie[::2], 62)
    values, shifts = (least, -largest, -1, 0, 1, largest), (0, 1, 31, 32, 33, 62)
    extremes = np.array(list(product(values, (0, 1, 2, 2**30, 2**31 - 1), shifts))).T
    first = slice(extremes.shape[1])
    value[first], multiplier[first], shift[first] = extremes
    return value, multiplier, shift


def _table(total: NDArray[np.int64], shift: NDArray[np.int64], **factors: NDArray[np.int64]) -> tuple[Field, ...]:
    """The columns: ``factors``, shift, and ``total`` shifted and rounded in each way."""
    whole = np.stack([round_shift(total, shift, rounding) for rounding in ROUNDINGS])
    beyond = int((np.abs(whole) > LIMIT).any(axis=0).sum())
    note = f"saturated at -2^30 and 2^30, far outside every code: {beyond:,} rows"
    return (
        *(Field(name, values.astype(np.int32), "row") for name, values in factors.items()),
        Field("shift", shift.astype(np.uint8), "row"),
        Field(
            "rounded", np.clip(whole, -LIMIT, LIMIT).astype(np.int32), f"rounding ({', '.join(ROUNDINGS)}), row", note
        ),
    )
