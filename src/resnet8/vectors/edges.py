"""Small layers that reach the corners of the arithmetic, which images need not reach; and tables of it alone.

Scales are powers of two wherever an exact tie is wanted, so that every fixed-point form holds the multiplier exactly.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from resnet8.network.layers import AveragePool, Product, Rescale, Sum, Weighted
from resnet8.network.tensors import Activation, Constant
from resnet8.numeric.grid import QParams, limits, qparams, storage
from resnet8.numeric.rounding import round_shift
from resnet8.numeric.variants import ROUNDINGS
from resnet8.vectors.formats import Field

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from resnet8.network.layers import AnyLayer
    from resnet8.numeric.grid import Dtype

SEED = 8108
LIMIT = 2**30
"""Where the C functions saturate a scaled number: far outside every code."""

_INT32_MAX = 2**31 - 1
_ROWS = 4096
_ALL = (1, 16, 16, 1)  # one image that holds every code once


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


def _activation(name: str, shape: tuple[int, ...], scale: float, zero_point: int, dtype: Dtype) -> Activation:
    return Activation(name, shape, qparams(scale, zero_point, dtype))


def _every_code(dtype: Dtype) -> NDArray[Any]:
    low, high = limits(dtype)
    return np.arange(low, high + 1).astype(storage(dtype)).reshape(_ALL)


def _random(generator: np.random.Generator, shape: tuple[int, ...], dtype: Dtype) -> NDArray[Any]:
    low, high = limits(dtype)
    return generator.integers(low, high + 1, shape).astype(storage(dtype))


def _weighted(
    x: Activation,
    weights: NDArray[Any],
    weight_params: QParams,
    output: tuple[float, int, Dtype],
    *,
    bias: NDArray[Any] | None = None,
    strides: tuple[int, int] = (1, 1),
    pads: tuple[int, int, int, int] = (0, 0, 0, 0),
    relu: bool = False,
) -> Weighted:
    """A convolution, or a dense layer where ``x`` has one axis; ``output`` is scale, zero point and type."""
    channels = weights.shape[-1]
    shape: tuple[int, ...] = (channels,)
    if len(x.shape) == 3:
        height = (x.shape[0] + pads[0] + pads[2] - weights.shape[0]) // strides[0] + 1
        width = (x.shape[1] + pads[1] + pads[3] - weights.shape[1]) // strides[1] + 1
        shape = (height, width, channels)
    return Weighted(
        name="edge",
        output=_activation("output", shape, *output),
        relu=relu,
        x=x,
        weights=weights,
        weight_grid=weight_params,
        bias=np.zeros(channels, np.int32) if bias is None else bias.astype(np.int32),
        has_bias=bias is not None,
        strides=strides,
        pads=pads,
        dense=len(x.shape) == 1,
    )


def _sum(a: Activation, b: Activation | Constant, output: tuple[float, int, Dtype], *, relu: bool = False) -> Sum:
    return Sum(name="edge", output=_activation("output", a.shape, *output), relu=relu, a=a, b=b)


# Ties


def _ties() -> tuple[Edge, ...]:
    int8, uint8 = _every_code("int8"), _every_code("uint8")
    signed = _activation("x", _ALL[1:], 1.0, -3, "int8")
    unsigned = _activation("x", _ALL[1:], 0.25, 131, "uint8")
    half = Rescale(name="edge", output=_activation("output", _ALL[1:], 2.0, 5, "int8"), x=signed)
    quarter = Rescale(name="edge", output=_activation("output", _ALL[1:], 1.0, 7, "uint8"), x=unsigned)
    times = Product(
        name="edge",
        output=_activation("output", _ALL[1:], 4.0, -1, "int8"),
        x=_activation("x", _ALL[1:], 1.0, 127, "uint8"),
        constant=np.array([-2], np.int8),
        constant_grid=qparams(0.5, -5, "int8"),
    )
    a, b = _activation("a", _ALL[1:], 1.0, 1, "int8"), _activation("b", _ALL[1:], 0.5, 127, "uint8")
    both = {"a": int8, "b": uint8[:, ::-1]}
    far = _activation("b", _ALL[1:], 2.0**-10, 127, "uint8")
    channels = (16, 16, 4)
    constant = Constant("b", np.array([-128, -1, 0, 127], np.int8), qparams(0.5, 1, "int8"))
    repeated = np.repeat(uint8, 4, axis=3)
    every = "exact ties of both signs, at even and odd results"
    return (
        Edge("rescale_ties", f"{every}: every int8 code halved, odd zero points", half, {"x": int8}),
        Edge("rescale_quarters", f"{every}: every uint8 code over four", quarter, {"x": uint8}),
        Edge("mul_ties", f"{every}: every code times a constant, odd zero points", times, {"x": uint8}),
        Edge("add_ties", f"{every}: int8 plus uint8, one rounding of two products", _sum(a, b, (2.0, 3, "int8")), both),
        Edge(
            "add_far_scales",
            "addends whose scales are 1,024 apart: with short multipliers the smaller vanishes",
            _sum(a, far, (1.0, -7, "int8")),
            both,
        ),
        Edge("add_relu", "a sum clamped at an odd zero point", _sum(a, b, (0.5, 77, "uint8"), relu=True), both),
        Edge(
            "add_constant_ties",
            f"{every}: plus a constant of each channel, extreme constants",
            _sum(_activation("a", channels, 1.0, 129, "uint8"), constant, (1.0, 3, "uint8")),
            {"a": repeated},
        ),
    )


def _poolings() -> tuple[Edge, ...]:
    generator = np.random.default_rng(SEED + 1)
    shape = (8, 8, 16)
    # Sums of 32 (mod 64) are ties after the division by 64: one code of each map is moved to make them so.
    codes = generator.integers(-60, 60, (4, *shape))
    codes[:, 0, 0] += (32 - (codes + 7).sum(axis=(1, 2))) % 64
    x = _activation("x", shape, 1.0, -7, "int8")
    ties = AveragePool(name="edge", output=_activation("output", (1, 1, 16), 1.0, 9, "uint8"), x=x)
    odd = _activation("x", (3, 5, 4), 0.7, 201, "uint8")
    uneven = AveragePool(name="edge", output=_activation("output", (1, 1, 4), 0.3, -11, "int8"), x=odd)
    extreme = _random(generator, (6, 3, 5, 4), "uint8")
    extreme[0], extreme[1] = 0, 255
    return (
        Edge("pool_ties", "averages that end in exactly one half", ties, {"x": codes.astype(np.int8)}),
        Edge("pool_uneven", "an average of 15 codes, extreme maps, saturation", uneven, {"x": extreme}),
    )


# Types, padding, strides


def _mixtures(generator: np.random.Generator) -> list[Edge]:
    """Both types of activations and weights, and of the result, with odd zero points and uneven padding."""
    mixtures: list[tuple[Dtype, Dtype, Dtype, bool]] = [
        ("int8", "int8", "uint8", False),
        ("uint8", "uint8", "int8", True),
        ("uint8", "int8", "uint8", False),
        ("int8", "uint8", "int8", True),
    ]
    found = []
    for x_dtype, w_dtype, out_dtype, relu in mixtures:
        zeros: dict[Dtype, int] = {"int8": -37, "uint8": 91}
        x = _activation("x", (5, 6, 3), 0.02, zeros[x_dtype], x_dtype)
        weights = _random(generator, (3, 3, 3, 7), w_dtype)
        layer = _weighted(
            x,
            weights,
            qparams(0.01, zeros[w_dtype] + 20, w_dtype),
            (0.13, zeros[out_dtype] - 4, out_dtype),
            bias=generator.integers(-20_000, 20_000, 7),
            strides=(2, 1),
            pads=(0, 1, 2, 1),
            relu=relu,
        )
        words = f"{x_dtype} codes, {w_dtype} weights, {out_dtype} result" + (", ReLU" if relu else "")
        name = f"conv_{x_dtype}_{w_dtype}_{out_dtype}"
        purpose = f"{words}; odd zero points, uneven padding with a zero point that is not 0, strides 2 and 1"
        found.append(Edge(name, purpose, layer, {"x": _random(generator, (3, 5, 6, 3), x_dtype)}))
    return found


# Saturation


def _saturations(generator: np.random.Generator) -> list[Edge]:
    found = []
    for dtype, relu in (("int8", False), ("uint8", False), ("int8", True)):
        kind: Dtype = "int8" if dtype == "int8" else "uint8"
        x = _activation("x", (4, 4, 4), 1.0, 3, "int8")
        weights = _random(generator, (3, 3, 4, 5), "int8")
        low, high = limits(kind)
        layer = _weighted(
            x, weights, qparams(1.0, 0, "int8"), (64.0, (low + high) // 2, kind), pads=(1, 1, 1, 1), relu=relu
        )
        name = f"saturation_{kind}" + ("_relu" if relu else "")
        purpose = f"most codes beyond both ends of {kind}" + (", the lower one a ReLU" if relu else "")
        found.append(Edge(name, purpose, layer, {"x": _random(generator, (2, 4, 4, 4), "int8")}))
    return found


# Multipliers


def _multipliers(generator: np.random.Generator) -> tuple[Edge, ...]:
    """Accumulators come from the bias, so that each channel's result is of any wanted size."""
    channels = 60
    # From 2**6 (no bit behind the point is left in 8 bits) down to 2**-23, none of them a power of two.
    real = np.ldexp(generator.uniform(1.01, 1.99, channels), 6 - np.arange(channels) // 2)
    scales = real.astype(np.float32)
    bias = np.clip(generator.uniform(-140, 140, channels) / real, -(2**30), 2**30)
    x = _activation("x", (2,), 1.0, 1, "uint8")
    weights = _random(generator, (1, 1, 2, channels), "int8")
    spread = _weighted(
        x, weights, QParams(scales, np.zeros(channels, np.int32), "int8"), (1.0, -1, "int8"), bias=np.rint(bias)
    )
    halvings = np.ldexp(np.float32(1), -np.arange(2, 8)).astype(np.float32)
    powers = _weighted(
        _activation("x", (3, 3, 2), 0.5, 117, "uint8"),
        _random(generator, (3, 3, 2, 6), "uint8"),
        QParams(halvings, np.arange(125, 131, dtype=np.int32), "uint8"),
        (1.0, 11, "int8"),
        pads=(1, 1, 1, 1),
    )
    return (
        Edge(
            "dense_wide_multipliers",
            "a multiplier for each channel, from 127 down to a ten-millionth: short and long shifts",
            spread,
            {"x": _random(generator, (4, 2), "uint8")},
        ),
        Edge(
            "conv_powers_of_two",
            "multipliers of exactly 2**-3 to 2**-8, one for each channel; weights' zero points likewise",
            powers,
            {"x": _random(generator, (4, 3, 3, 2), "uint8")},
        ),
    )


# Accumulators


def _accumulators() -> tuple[Edge, ...]:
    depth = (3, 3, 64)
    x = _activation("x", depth, 1.0, 0, "uint8")
    codes = np.stack([np.zeros(depth), np.full(depth, 255)]).astype(np.uint8)
    weights = np.stack([np.full(depth, 127), np.full(depth, -128)], axis=-1).astype(np.int8)
    unit = qparams(1.0, 0, "int8")
    largest = _weighted(x, weights, unit, (2.0**18, 1, "int8"))
    reach = 255 * 3 * 3 * 64 * np.array([127, -128], np.int64)
    bias = np.array([_INT32_MAX, -_INT32_MAX - 1], np.int64) - reach
    brim = _weighted(x, weights, unit, (2.0**25, -1, "int8"), bias=bias)
    return (
        Edge("largest_sums", "every product of one sign and the largest magnitude", largest, {"x": codes}),
        Edge("int32_brim", "accumulators of exactly 2**31 - 1 and -2**31", brim, {"x": codes}),
    )


# The arithmetic alone


def products() -> tuple[Field, ...]:
    """A table of ``round(accumulator * multiplier / 2**shift)`` by all four roundings, saturated at 2**30."""
    generator = np.random.default_rng(SEED + 2)
    accumulator, multiplier, shift = (column[:_ROWS] for column in _operands(generator, _INT32_MAX))
    total = accumulator * multiplier
    return (
        Field("accumulator", accumulator.astype(np.int32), "row"),
        Field("multiplier", multiplier.astype(np.int32), "row"),
        Field("shift", shift.astype(np.uint8), "row"),
        _rounded(total, shift),
    )


def sums() -> tuple[Field, ...]:
    """A table of ``round((a * multiplier_a + b * multiplier_b) / 2**shift)``, likewise."""
    generator = np.random.default_rng(SEED + 3)
    a, multiplier_a, shift = _operands(generator, 255)
    b, multiplier_b, _ = _operands(generator, 255)
    b[::4], multiplier_b[::4] = -a[::4], multiplier_a[::4]  # sums of exactly 0
    b[1::4], multiplier_b[1::4] = a[1::4], multiplier_a[1::4]
    return (
        Field("a", a.astype(np.int32), "row"),
        Field("multiplier_a", multiplier_a.astype(np.int32), "row"),
        Field("b", b.astype(np.int32), "row"),
        Field("multiplier_b", multiplier_b.astype(np.int32), "row"),
        Field("shift", shift.astype(np.uint8), "row"),
        _rounded(a * multiplier_a + b * multiplier_b, shift),
    )


def _operands(
    generator: np.random.Generator, largest: int
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
    values, shifts = (-largest - 1, -largest, -1, 0, 1, largest), (0, 1, 31, 32, 33, 62)
    extremes = np.array(list(product(values, (0, 1, 2, 2**30, 2**31 - 1), shifts))).T
    first = slice(extremes.shape[1])
    value[first], multiplier[first], shift[first] = extremes
    return value, multiplier, shift


def _rounded(total: NDArray[np.int64], shift: NDArray[np.int64]) -> Field:
    columns = [np.clip(round_shift(total, shift, rounding), -LIMIT, LIMIT) for rounding in ROUNDINGS]
    return Field("rounded", np.stack(columns).astype(np.int32), f"rounding ({', '.join(ROUNDINGS)}), row")
