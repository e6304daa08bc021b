"""The engine against plain Python integers, against rational numbers, and against ONNX Runtime's own operators."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction
from itertools import product as every
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from quantized import (
    activation,
    addition,
    network,
    pool,
    product,
    random_codes,
    refilled,
    rescale,
    run_layer,
    session,
    to_onnx,
    values_for,
    weighted,
)

from resnet8.execute import engine
from resnet8.network.layers import AveragePool, Product, Sum, Weighted
from resnet8.network.program import Program
from resnet8.network.tensors import Activation, Constant
from resnet8.numeric.grid import QParams, limits, qparams
from resnet8.numeric.rounding import fixed_point, fixed_point_pair
from resnet8.numeric.variants import MULTIPLIERS, ROUNDINGS, Requantization

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from resnet8.network.layers import AnyLayer
    from resnet8.numeric.grid import Dtype

FIXED = [
    Requantization(multiplier, rounding)
    for multiplier in MULTIPLIERS
    if multiplier != "float32"
    for rounding in ROUNDINGS
]
TYPES: tuple[tuple[Dtype, Dtype], ...] = (("uint8", "int8"), ("uint8", "uint8"), ("int8", "int8"))
GEOMETRIES = {
    "3x3 same": ((3, 3), (1, 1), (1, 1, 1, 1)),
    "3x2 odd": ((3, 2), (2, 3), (0, 1, 2, 0)),
    "padding wider than the kernel": ((2, 2), (1, 1), (3, 0, 0, 3)),
    "1x1 strided": ((1, 1), (2, 2), (0, 0, 0, 0)),
    "1x1 padded": ((1, 1), (1, 2), (1, 0, 0, 2)),
    "1x4": ((1, 4), (2, 1), (0, 2, 0, 1)),
}


def least(dtype: Dtype) -> int:
    return limits(dtype)[0]


# --- the oracle: one number at a time, in Python's own integers ---


def accumulator(layer: Weighted, image: NDArray[Any], at: tuple[int, int], channel: int) -> int:
    """One accumulator by its definition; outside of the map is the zero point, that is real 0."""
    maps = image.reshape(layer.x.shape if len(layer.x.shape) == 3 else (1, 1, -1)).tolist()
    weights = layer.weights.codes.tolist()
    zeros = np.broadcast_to(layer.weights.params.zero_point, layer.weights.shape[-1:]).tolist()
    total = int(layer.added[channel])
    for i, j in every(range(len(weights)), range(len(weights[0]))):
        row, column = at[0] * layer.strides[0] + i - layer.pads[0], at[1] * layer.strides[1] + j - layer.pads[1]
        inside = 0 <= row < len(maps) and 0 <= column < len(maps[0])
        for depth, of_channels in enumerate(weights[i][j]):
            x = maps[row][column][depth] if inside else layer.x.zero_point
            total += (x - layer.x.zero_point) * (of_channels[channel] - zeros[channel])
    return total


def accumulators(layer: Weighted, codes: NDArray[Any]) -> NDArray[Any]:
    rows, columns = layer.output.shape[:2] if len(layer.output.shape) == 3 else (1, 1)
    channels = layer.output.shape[-1]
    values = [
        accumulator(layer, image, (row, column), channel)
        for image in codes
        for row in range(rows)
        for column in range(columns)
        for channel in range(channels)
    ]
    return np.array(values, object).reshape(len(codes), *layer.output.shape)


def whole(value: Fraction, rounding: str) -> int:
    """A rational number rounded."""
    down = math.floor(value)
    rest, half = value - down, Fraction(1, 2)
    up = {
        "truncate": False,
        "half-up": rest >= half,
        "half-away": rest > half or (rest == half and value > 0),
        "half-even": rest > half or (rest == half and down % 2 == 1),
    }
    return down + up[rounding]


def exactly(layer: AnyLayer, values: Mapping[str, NDArray[Any]], requantization: Requantization) -> NDArray[Any]:
    """The codes of a fixed-point layer, every number a rational one."""
    output, kind = layer.output, requantization.multiplier
    if isinstance(layer, Sum):
        pair = fixed_point_pair(layer.real_multipliers, kind)
        factors = [Fraction(int(one.multiplier), 2 ** int(one.shift)) for one in pair]
        b = layer.b.codes if isinstance(layer.b, Constant) else values[layer.b.name]
        a, b = np.broadcast_arrays(values[layer.a.name], b)
        reals = [
            (int(one) - layer.a.zero_point) * factors[0] + (int(other) - layer.b.zero_point) * factors[1]
            for one, other in zip(a.flat, b.flat, strict=True)
        ]
        shape = a.shape
    else:
        sums, shape = whole_accumulators(layer, values)
        point = fixed_point(layer.real_multiplier, kind)
        multipliers, shifts = (np.broadcast_to(part, shape).flat for part in (point.multiplier, point.shift))
        reals = [
            Fraction(int(total) * int(multiplier), 2 ** int(shift))
            for total, multiplier, shift in zip(sums, multipliers, shifts, strict=True)
        ]
    low, high = limits(output.params.dtype)
    low = max(low, output.zero_point) if layer.relu else low
    codes = [min(max(whole(real, requantization.rounding) + output.zero_point, low), high) for real in reals]
    return np.array(codes, output.params.dtype).reshape(shape)


def whole_accumulators(layer: AnyLayer, values: Mapping[str, NDArray[Any]]) -> tuple[list[int], tuple[int, ...]]:
    if isinstance(layer, Weighted):
        sums = accumulators(layer, values[layer.x.name])
    else:
        x = values[layer.x.name].astype(object) - layer.x.zero_point
        if isinstance(layer, AveragePool):
            sums = x.sum(axis=(1, 2), keepdims=True)
        elif isinstance(layer, Product):
            sums = x * (layer.constant.codes.astype(object) - layer.constant.zero_point)
        else:
            sums = x
    return list(sums.flat), sums.shape


# --- accumulators ---


@pytest.mark.parametrize("per_channel", [False, True], ids=["per-tensor", "per-channel"])
@pytest.mark.parametrize(("of_x", "of_w"), TYPES)
@pytest.mark.parametrize("geometry", GEOMETRIES.values(), ids=GEOMETRIES)
def test_accumulators_are_those_of_python_integers(
    geometry: tuple[Any, Any, Any], of_x: Dtype, of_w: Dtype, per_channel: bool
) -> None:
    rng = np.random.default_rng(11)
    kernel, strides, pads = geometry
    x = activation("x", (5, 6, 3), zero_point=least(of_x) + 77, dtype=of_x)
    layer = weighted(
        rng,
        x,
        activation("y", (0, 0, 4)),
        kernel=kernel,
        strides=strides,
        pads=pads,
        dtype=of_w,
        per_channel=per_channel,
        bias=5000,
    )
    codes = random_codes(rng, (2, *x.shape), of_x)
    found = engine.accumulate(layer, codes)
    assert found.shape == (2, *layer.output.shape)
    np.testing.assert_array_equal(found, accumulators(layer, codes))


@pytest.mark.parametrize(("of_x", "of_w"), TYPES)
def test_a_dense_layer_is_a_convolution_of_one_pixel(of_x: Dtype, of_w: Dtype) -> None:
    rng = np.random.default_rng(12)
    x = activation("x", (9,), zero_point=least(of_x) + 3, dtype=of_x)
    layer = weighted(rng, x, activation("y", (5,)), dtype=of_w, per_channel=True, bias=100, dense=True)
    codes = random_codes(rng, (6, 9), of_x)
    found = engine.accumulate(layer, codes)
    assert found.shape == (6, 5)
    np.testing.assert_array_equal(found, accumulators(layer, codes))


def test_padding_is_real_zero_for_every_zero_point() -> None:
    rng = np.random.default_rng(13)
    for zero in (0, 1, 200, 255):
        x = activation("x", (2, 2, 1), zero_point=zero)
        layer = weighted(rng, x, activation("y", (0, 0, 3)), kernel=(3, 3), pads=(2, 2, 2, 2), dtype="uint8", bias=9)
        flat = np.full((1, 2, 2, 1), zero, np.uint8)
        np.testing.assert_array_equal(engine.accumulate(layer, flat), np.broadcast_to(layer.added, (1, 4, 4, 3)))


def test_one_convolution_in_literals() -> None:
    # (10-3)*2 + (20-3)*(-1) + 5 = 2 and (20-3)*2 + 0*(-1) + 5 = 39: the right half of the second window is padding
    x = activation("x", (1, 2, 1), zero_point=3)
    layer = Weighted(
        name="conv",
        output=activation("y", (1, 2, 1), scale=0.25, zero_point=10),
        x=x,
        weights=Constant("w", np.array([[[[2]], [[-1]]]], np.int8), qparams(0.5, 0, "int8")),
        bias=Constant("b", np.array([5], np.int32), None),
        pads=(0, 0, 0, 1),
    )
    codes = np.array([[[[10], [20]]]], np.uint8)
    assert engine.accumulate(layer, codes).ravel().tolist() == [2, 39]
    # multiplier 0.05 * 0.5 / 0.25 = 0.1: 0.2 -> 0, 3.9 -> 4
    assert engine.step(layer, {"x": codes}).ravel().tolist() == [10, 14]


def large(depth: int, bias: int = 0) -> tuple[Weighted, NDArray[np.uint8]]:
    """A dense layer with uint8 codes at both ends: accumulators near ``depth * 255 * 255``, odd and even."""
    x = activation("x", (depth,))
    layer = weighted(np.random.default_rng(14), x, activation("y", (3,), scale=1e4), dtype="uint8", bias=1, dense=True)
    weights = np.full(layer.weights.shape, 255, np.uint8)
    weights[..., 1] = 254
    weights[..., 2] = 0
    layer = refilled(layer, weights, qparams(0.01, 0, "uint8"), np.array([bias, -bias, bias], np.int32))
    codes = np.full((3, depth), 255, np.uint8)
    codes[1, ::2] = 254
    codes[2] = np.random.default_rng(15).integers(200, 256, depth)
    return layer, codes


@pytest.mark.parametrize(
    ("depth", "bias", "dtype"),
    [
        (64, 0, np.float32),
        (258, 0, np.float32),  # 258 * 255 * 255 = 16,776,450, 766 below 2**24
        (258, 766, np.float32),
        (258, 767, np.float64),
        (259, 0, np.float64),
        (4001, 0, np.float64),
        (64, 2**31 - 1, np.float64),
        (1, 2**24 + 1, np.float64),
    ],
)
def test_the_type_follows_the_bound_and_sums_beyond_2_to_24_are_exact(depth: int, bias: int, dtype: type) -> None:
    layer, codes = large(depth, bias)
    bound = engine.product_bound(layer)
    assert bound == depth * 255 * 255 + bias
    found = engine.accumulate(layer, codes)
    assert found.dtype == dtype
    wanted = codes.astype(object) @ layer.weights.codes[0, 0].astype(object) + layer.added.astype(object)
    assert found.astype(object).tolist() == wanted.tolist()
    if dtype is np.float64:
        # the reason: float32 would not have held them
        assert (wanted.astype(np.float32).astype(object) != wanted).any()


def test_all_types_give_the_same_accumulators(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(16)
    x = activation("x", (6, 6, 5), zero_point=-7, dtype="int8")
    layer = weighted(
        rng, x, activation("y", (0, 0, 4)), kernel=(3, 3), pads=(1, 1, 1, 1), bias=10_000, per_channel=True
    )
    codes = random_codes(rng, (3, *x.shape), "int8")
    found = {}
    for float32, float64 in ((2**24, 2**53), (0, 2**53), (0, 0)):
        monkeypatch.setattr(engine, "EXACT_FLOAT32", float32)
        monkeypatch.setattr(engine, "EXACT_FLOAT64", float64)
        result = engine.accumulate(layer, codes)
        found[result.dtype.name] = result
    assert set(found) == {"float32", "float64", "int64"}
    np.testing.assert_array_equal(found["float32"], found["int64"])
    np.testing.assert_array_equal(found["float64"], found["int64"])


def test_the_bound_covers_every_accumulator() -> None:
    rng = np.random.default_rng(17)
    for (of_x, of_w), zero in every(TYPES, (0, 100, 255)):
        x = activation("x", (12,), zero_point=least(of_x) + zero, dtype=of_x)
        layer = weighted(rng, x, activation("y", (7,)), dtype=of_w, bias=300, dense=True)
        low, high = layer.worst_case()
        bound = engine.product_bound(layer)
        assert max(abs(int(low.min())), abs(int(high.max()))) <= bound
        codes = random_codes(rng, (200, 12), of_x)
        found = engine.accumulate(layer, codes)
        assert (found >= low).all()
        assert (found <= high).all()


# --- fixed point, against rational numbers ---


def layers_of_every_kind(dtype: Dtype, rng: np.random.Generator) -> dict[str, AnyLayer]:
    low = least(dtype)

    def at(name: str, shape: tuple[int, ...], scale: float) -> Activation:
        return activation(name, shape, scale, low + int(rng.integers(256)), dtype)

    x = at("x", (3, 4, 3), 0.043)
    conv = weighted(rng, x, at("y", (0, 0, 3), 0.11), kernel=(2, 2), pads=(0, 1, 1, 0), per_channel=True, bias=200)
    constant = Constant("c", random_codes(rng, (3,), dtype), qparams(0.017, low + 99, dtype))
    return {
        "conv": conv,
        "conv per tensor": weighted(rng, x, at("y", (0, 0, 3), 0.11), kernel=(3, 3), bias=200),
        "dense": weighted(rng, at("x", (8,), 0.03), at("y", (5,), 0.2), bias=100, dense=True),
        "mul": product(x, at("y", x.shape, 0.05), constant.codes, constant.params),
        "add": addition(x, at("z", x.shape, 0.021), at("y", x.shape, 0.05)),
        "add to itself": addition(x, x, at("y", x.shape, 0.1)),
        "add of a constant": addition(x, constant, at("y", x.shape, 0.05)),
        "average-pool": pool(x, at("y", (1, 1, 3), 0.03)),
        "rescale": rescale(x, at("y", x.shape, 0.061)),
        "rescale to finer": rescale(x, at("y", x.shape, 0.0061)),
    }


@pytest.mark.parametrize("requantization", FIXED, ids=lambda one: one.name)
@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_fixed_point_codes_are_the_rational_ones(dtype: Dtype, requantization: Requantization) -> None:
    rng = np.random.default_rng(18)
    for name, layer in layers_of_every_kind(dtype, rng).items():
        values = values_for(layer, rng, 2)
        for one in (layer, replace(layer, relu=True)):
            found = engine.step(one, values, requantization)
            np.testing.assert_array_equal(found, exactly(one, values, requantization), err_msg=name, strict=True)


@pytest.mark.parametrize("rounding", ROUNDINGS)
def test_fixed_point_ties_go_where_the_rounding_says(rounding: Any) -> None:
    x = activation("x", (256,), scale=0.5, dtype="int8")
    layer = rescale(x, activation("y", (256,), scale=1, zero_point=-3, dtype="int8"))
    codes = np.arange(-128, 128).astype(np.int8)[None]
    for multiplier in MULTIPLIERS[1:]:
        found = engine.step(layer, {"x": codes}, Requantization(multiplier, rounding))
        wanted = [max(whole(Fraction(code, 2), rounding) - 3, -128) for code in range(-128, 128)]
        assert found.ravel().tolist() == wanted


def test_a_wide_multiplier_is_the_real_one() -> None:
    """With 31 bits no code differs from the exact quotient of the scales, but at what is a tie to 1e-6."""
    rng = np.random.default_rng(19)
    for layer in layers_of_every_kind("int8", rng).values():
        if isinstance(layer, Sum):
            continue
        values = values_for(layer, rng, 2)
        sums, shape = whole_accumulators(layer, values)
        real = np.array(sums, np.float64).reshape(shape) * layer.real_multiplier
        clear = np.abs(real - np.floor(real) - 0.5) > 1e-6
        wanted = np.clip(np.rint(real) + layer.output.zero_point, -128, 127)
        found = engine.step(layer, values, Requantization("fixed32", "half-even"))
        np.testing.assert_array_equal(found[clear], wanted[clear])


# --- float32 multipliers, against ONNX Runtime ---

ORT_TYPES = (("uint8", "int8"), ("uint8", "uint8"), ("int8", "int8"))
SCALES = ((0.05, 0.031, 0.07), (0.4, 0.013, 0.35), (0.02, 0.02, 0.04), (0.25, 0.5, 0.125))


def zero_points(rng: np.random.Generator, dtype: Dtype, count: int = 3) -> list[int]:
    return [int(zero) for zero in rng.integers(*limits(dtype), count, endpoint=True)]


def assert_as_onnx_runtime(layer: AnyLayer, values: dict[str, NDArray[Any]], **how: Any) -> None:
    found = engine.step(layer, values)
    wanted = run_layer(layer, values, "qdq" if layer.kernel == "float" else "qoperator", **how)
    np.testing.assert_array_equal(found.reshape(wanted.shape), wanted, strict=True)
    low, high = limits(layer.output.params.dtype)
    assert len(np.unique(wanted)) >= 10  # a comparison of flat or saturated codes would show nothing
    assert ((wanted > low) & (wanted < high)).mean() > 0.03


@pytest.mark.parametrize("per_channel", [False, True], ids=["per-tensor", "per-channel"])
@pytest.mark.parametrize(("of_x", "of_w"), ORT_TYPES)
@pytest.mark.parametrize("geometry", GEOMETRIES.values(), ids=GEOMETRIES)
def test_qlinear_conv_as_in_onnx_runtime(
    geometry: tuple[Any, Any, Any], of_x: Dtype, of_w: Dtype, per_channel: bool
) -> None:
    rng = np.random.default_rng(20)
    kernel, strides, pads = geometry
    for scale, _, scale_out in SCALES[:2]:
        zero_x, zero_y, _ = zero_points(rng, of_x)
        layer = weighted(
            rng,
            activation("x", (7, 9, 5), scale, zero_x, of_x),
            activation("y", (0, 0, 6), scale_out * 4, zero_y, of_x),
            kernel=kernel,
            strides=strides,
            pads=pads,
            dtype=of_w,
            per_channel=per_channel,
            bias=1000,
            largest=64,  # no pair of products leaves int16: the same on every CPU
        )
        assert_as_onnx_runtime(layer, values_for(layer, rng))


@pytest.mark.parametrize("bias", [0, 900], ids=["QLinearMatMul", "QGemm"])
@pytest.mark.parametrize("per_channel", [False, True], ids=["per-tensor", "per-channel"])
@pytest.mark.parametrize(("of_x", "of_w"), ORT_TYPES)
def test_dense_as_in_onnx_runtime(of_x: Dtype, of_w: Dtype, per_channel: bool, bias: int) -> None:
    rng = np.random.default_rng(21)
    zero_x, zero_y, _ = zero_points(rng, of_x)
    layer = weighted(
        rng,
        activation("x", (41,), 0.05, zero_x, of_x),
        activation("y", (6,), 0.9, zero_y, of_x),
        dtype=of_w,
        per_channel=per_channel,
        bias=bias,
        largest=64,
        dense=True,
    )
    assert_as_onnx_runtime(layer, values_for(layer, rng, 60))


def all_pairs(dtype: Dtype, shape: tuple[int, ...]) -> dict[str, NDArray[Any]]:
    low, high = limits(dtype)
    codes = np.arange(low, high + 1).astype(dtype)
    a, b = np.meshgrid(codes, codes, indexing="ij")
    return {"a": a.reshape(-1, *shape), "b": b.reshape(-1, *shape)}


@pytest.mark.parametrize("kernel", ["integer", "float"])
@pytest.mark.parametrize("dtype", ["int8", "uint8"])
@pytest.mark.parametrize("scales", [*SCALES, (0.0123, 0.77, 0.61), (3.0, 2.9, 7.7)])
def test_qlinear_add_of_every_pair_of_codes_as_in_onnx_runtime(
    scales: tuple[float, float, float], dtype: Dtype, kernel: Any
) -> None:
    rng = np.random.default_rng(22)
    for shape in ((256,), (8, 16, 4)):
        a, b, y = (
            activation(name, shape, scale, zero, dtype)
            for name, scale, zero in zip("aby", scales, zero_points(rng, dtype), strict=True)
        )
        assert_as_onnx_runtime(replace(addition(a, b, y), kernel=kernel), all_pairs(dtype, shape))


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_a_tensor_added_to_itself_as_in_onnx_runtime(dtype: Dtype) -> None:
    rng = np.random.default_rng(23)
    for scale, _, scale_out in SCALES:
        zero, zero_out, _ = zero_points(rng, dtype)
        a = activation("a", (256,), scale, zero, dtype)
        layer = addition(a, a, activation("y", (256,), scale_out * 2, zero_out, dtype))
        codes = np.arange(*limits(dtype)).astype(dtype)
        assert_as_onnx_runtime(layer, {"a": np.tile(codes, 256).reshape(-1, 256)})


@pytest.mark.parametrize("kernel", ["integer", "float"])
@pytest.mark.parametrize("layout", ["vector", "nchw", "nhwc"])
@pytest.mark.parametrize("channels", [6, 1], ids=["per channel", "one number"])
@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_constants_as_in_onnx_runtime(dtype: Dtype, channels: int, layout: str, kernel: Any) -> None:
    rng = np.random.default_rng(24)
    shape = (6,) if layout == "vector" else (7, 9, 6)
    low = least(dtype)
    for scale, scale_c, scale_out in SCALES:
        zero_x, zero_c, zero_y = zero_points(rng, dtype)
        x = activation("x", shape, scale, zero_x, dtype, nchw=layout == "nchw")
        y = activation("y", shape, scale_out, zero_y, dtype, nchw=layout == "nchw")
        middle = rng.integers(low + 40, low + 220, (channels,) if channels > 1 else ())
        constant = Constant("c", middle.astype(dtype), qparams(scale_c, zero_c, dtype))
        values = {"x": random_codes(rng, (200, *shape), dtype)}
        assert_as_onnx_runtime(replace(addition(x, constant, y), kernel=kernel), values)
        y = replace(y, grid=qparams(scale * scale_c * 100, zero_y, dtype))
        multiplied = replace(product(x, y, constant.codes, constant.params), kernel=kernel)
        assert_as_onnx_runtime(multiplied, values)


@pytest.mark.parametrize("operator", ["QLinearGlobalAveragePool", "QLinearAveragePool"])
@pytest.mark.parametrize("nchw", [True, False], ids=["nchw", "nhwc"])
@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_average_pools_as_in_onnx_runtime(dtype: Dtype, nchw: bool, operator: str) -> None:
    rng = np.random.default_rng(25)
    for shape, (scale, _, _) in every(((8, 8, 5), (3, 5, 7), (1, 1, 4)), SCALES):
        zero_x, zero_y, _ = zero_points(rng, dtype)
        x = activation("x", shape, scale, zero_x, dtype, nchw=nchw)
        y = activation("y", (1, 1, shape[2]), scale * 0.7, zero_y, dtype, nchw=nchw)
        values = values_for(pool(x, y), rng, 60)
        assert_as_onnx_runtime(pool(x, y), values, global_pool=operator == "QLinearGlobalAveragePool")


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_float_operators_on_exact_reals_as_in_onnx_runtime(dtype: Dtype) -> None:
    """Scales that are powers of two leave nothing to the order in which floats are added up."""
    rng = np.random.default_rng(26)
    zero_x, zero_y, _ = zero_points(rng, dtype)
    x = activation("x", (4, 4, 5), 2.0**-4, zero_x, dtype)
    y = activation("y", (1, 1, 5), 2.0**-4, zero_y, dtype)
    for global_pool in (True, False):
        layer = replace(pool(x, y), kernel="float")
        assert_as_onnx_runtime(layer, values_for(layer, rng, 60), global_pool=global_pool)
    conv = weighted(rng, x, activation("y", (0, 0, 6), 0.5, zero_y, dtype), kernel=(3, 3), pads=(1, 0, 2, 1), bias=900)
    conv = replace(refilled(conv, grid=qparams(2.0**-6, 0, "int8")), kernel="float")
    assert_as_onnx_runtime(conv, values_for(conv, rng))
    assert_as_onnx_runtime(replace(conv, relu=True), values_for(conv, rng))


@pytest.mark.parametrize(("of_x", "of_y"), [*every(["int8", "uint8"], repeat=2)])
def test_rescaling_as_in_onnx_runtime(of_x: Dtype, of_y: Dtype) -> None:
    rng = np.random.default_rng(27)
    codes = np.arange(least(of_x), least(of_x) + 256).astype(of_x)[None]
    for scale, _, scale_out in SCALES:
        x = activation("x", (256,), scale, zero_points(rng, of_x)[0], of_x)
        layer = rescale(x, activation("y", (256,), scale_out, least(of_y) + 120, of_y))
        assert_as_onnx_runtime(layer, {"x": codes})
        assert_as_onnx_runtime(replace(layer, relu=True), {"x": codes})


# --- ReLU ---


@pytest.mark.parametrize("kernel", ["integer", "float"])
@pytest.mark.parametrize("multiplier", ["float32", "fixed32", "fixed8", "power-of-two"])
@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_relu_lifts_codes_to_the_zero_point_and_no_others(dtype: Dtype, multiplier: Any, kernel: Any) -> None:
    rng = np.random.default_rng(28)
    for layer in layers_of_every_kind(dtype, rng).values():
        values = values_for(layer, rng, 2)
        how = Requantization(multiplier)
        plain = engine.step(replace(layer, kernel=kernel), values, how)
        lifted = engine.step(replace(layer, kernel=kernel, relu=True), values, how)
        np.testing.assert_array_equal(lifted, np.maximum(plain, layer.output.zero_point).astype(dtype), strict=True)


# --- whole programs ---


def images(count: int = 6, seed: int = 29) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, 32, 32, 3), np.uint8)


def test_input_codes_are_pixels_on_the_input_grid() -> None:
    for dtype, offset in (("uint8", 0), ("int8", -128)):
        program = network(dtype=dtype)
        codes = engine.input_codes(program, images())
        assert codes.dtype == np.dtype(dtype)
        np.testing.assert_array_equal(codes.astype(int) - offset, images())
        np.testing.assert_array_equal(codes, engine.input_codes(program, images().astype(np.float32)))


@pytest.mark.parametrize("how", [Requantization(), *FIXED[::3]], ids=lambda one: one.name)
def test_a_run_is_its_steps_one_after_the_other(how: Requantization) -> None:
    program = network()
    codes = engine.input_codes(program, images())
    values = {program.input.name: codes}
    for layer in program.layers:
        values[layer.output.name] = engine.step(layer, values, how)
    watched: dict[str, Any] = {}
    found = engine.run(program, codes, how, watch=watched.__setitem__)
    assert found.shape == (6, 10)
    np.testing.assert_array_equal(found, values["logits"])
    assert list(watched) == list(program.activations)
    for layer in program.layers:
        np.testing.assert_array_equal(watched[layer.output.name], values[layer.output.name])
        assert watched[layer.output.name].shape == (6, *layer.output.shape)


def test_a_run_keeps_what_is_still_needed() -> None:
    """One tensor is read four times, the last time long after; logits are read after they were written."""
    x = activation("x", (4,), 0.1, 10)
    a, b, c, logits = (activation(name, (4,), 0.1 * 2**i, 10) for i, name in enumerate(("a", "b", "c", "logits")))
    layers = (
        rescale(x, a, "first"),
        addition(a, a, b, "doubled"),
        addition(b, a, c, "tripled"),
        addition(a, c, logits, "quadrupled"),
        rescale(logits, activation("unused", (4,), 1.0, 0), "aside"),
    )
    program = Program(x, layers, logits, softmax=False, probabilities=None)
    codes = np.array([[10, 12, 18, 30]], np.uint8)
    found = engine.run(program, codes)
    # 0, 2, 8, 20 steps of 0.1; four times that in steps of 0.8
    np.testing.assert_array_equal(found, [[10, 11, 14, 20]])
    np.testing.assert_array_equal(codes, [[10, 12, 18, 30]])  # inputs are not written to


def test_logits_may_be_a_map() -> None:
    program = network()
    shortened = replace(program, layers=program.layers[:-1], logits=program.layers[-2].output, softmax=False)
    found = engine.run(shortened, engine.input_codes(program, images()))
    assert found.shape == (6, 4)


def test_images_do_not_influence_each_other() -> None:
    program = network(per_channel=True)
    codes = engine.input_codes(program, images())
    together = engine.run(program, codes)
    alone = np.concatenate([engine.run(program, codes[i : i + 1]) for i in range(6)])
    np.testing.assert_array_equal(together, alone)


def test_other_accumulators_may_be_put_in() -> None:
    program = network()
    codes = engine.input_codes(program, images())
    seen = []

    def shifted(layer: Weighted, read: NDArray[Any]) -> NDArray[Any]:
        seen.append(layer.name)
        return engine.accumulate(layer, read) + 1000

    for how in (Requantization(), Requantization("fixed16", "half-up")):
        seen.clear()
        assert (engine.run(program, codes, how, shifted) != engine.run(program, codes, how)).any()
        assert seen == ["first_conv", "second_conv", "dense"]


def test_probabilities_are_the_softmax_of_the_logits() -> None:
    program = network()
    logits = random_codes(np.random.default_rng(30), (50, 10), "uint8")
    found = engine.probabilities(program, logits)
    assert found.dtype == np.float32
    real = (logits.astype(np.float64) - program.logits.zero_point) * float(program.logits.scale)
    wanted = np.exp(real) / np.exp(real).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-12)
    plain = engine.probabilities(replace(program, softmax=False), logits)
    np.testing.assert_array_equal(plain, real.astype(np.float32))


def test_probabilities_may_lie_on_a_grid_of_their_own() -> None:
    grid = qparams(1 / 256, 0, "uint8")
    program = replace(network(), probabilities=grid)
    logits = random_codes(np.random.default_rng(31), (50, 10), "uint8")
    found = engine.probabilities(program, logits)
    free = engine.probabilities(replace(program, probabilities=None), logits)
    np.testing.assert_array_equal(found * 256, np.clip(np.rint(free * 256), 0, 255))


def test_probabilities_of_extreme_logits_are_finite() -> None:
    program = network()
    program = replace(program, logits=replace(program.logits, grid=qparams(1e6, 0, "uint8")))
    logits = np.array([[0, 255, *[0] * 8], [255] * 10], np.uint8)
    np.testing.assert_array_equal(engine.probabilities(program, logits), [[0, 1, *[0] * 8], [np.float32(0.1)] * 10])


@pytest.mark.parametrize("optimize", [False, True], ids=["as written", "optimized"])
@pytest.mark.parametrize(("of_x", "of_w"), TYPES)
def test_a_network_as_in_onnx_runtime(of_x: Dtype, of_w: Dtype, optimize: bool) -> None:
    program = network(3, of_x, of_w, per_channel=True)
    pixels = images(20)
    logits = engine.run(program, engine.input_codes(program, pixels))
    model = to_onnx(replace(program, softmax=False), "qoperator")
    real = session(model, optimize=optimize).run(None, {"pixels": pixels.astype(np.float32)})[0]
    np.testing.assert_array_equal(engine.probabilities(replace(program, softmax=False), logits), real)
    assert len(np.unique(logits)) > 20


# --- what is there for other modules ---


def test_the_multipliers_of_layers() -> None:
    rng = np.random.default_rng(32)
    layers = layers_of_every_kind("int8", rng)
    how = Requantization("fixed16")
    (one,) = engine.multipliers(layers["conv"], how)
    assert one.multiplier.shape == (3,)
    np.testing.assert_allclose(one.real, layers["conv"].real_multiplier, rtol=2.0**-15)
    first, second = engine.multipliers(layers["add"], how)
    assert first.shift == second.shift
    float32 = engine.float_multiplier(layers["conv"])
    assert float32.dtype == np.float32
    np.testing.assert_allclose(float32, layers["conv"].real_multiplier, rtol=2.0**-22)


def test_a_sum_has_no_accumulator_but_addends() -> None:
    rng = np.random.default_rng(33)
    layer = layers_of_every_kind("uint8", rng)["add of a constant"]
    values = values_for(layer, rng)
    with pytest.raises(TypeError, match="two addends"):
        engine.integer_accumulator(layer, values)
    a, b = engine.addends(layer, values)
    np.testing.assert_array_equal(a + layer.a.zero_point, values["x"])
    np.testing.assert_array_equal(b + layer.b.zero_point, layer.b.codes)
    assert a.dtype == b.dtype == np.int64


def test_weight_zero_points_of_channels() -> None:
    params = QParams(np.array([0.1, 0.2], np.float32), np.array([0, 128], np.int32), "uint8")
    rng = np.random.default_rng(34)
    layer = weighted(rng, activation("x", (3,)), activation("y", (2,)), dtype="uint8", per_channel=True, dense=True)
    layer = refilled(layer, grid=params)
    np.testing.assert_array_equal(layer.matrix, layer.weights.codes[0, 0].astype(int) - [0, 128])
