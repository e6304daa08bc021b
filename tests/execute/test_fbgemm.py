"""PyTorch's quantized kernels on x86, operator by operator: the engine's codes, and the rule where they differ."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from quantized import activation, addition, pool, product, random_codes, refilled, rescale, weighted
from torch.ao.nn import quantized
from torch_quantized import convolution, matmul_codes, require_near_borders, tensor

from resnet8.execute import engine
from resnet8.execute.fbgemm import biased
from resnet8.network.layers import Product, Sum, Weighted
from resnet8.network.tensors import Constant, accumulator_bias
from resnet8.numeric.grid import QParams, dequantize, qparams, saturate
from resnet8.runtimes.pytorch import ENGINE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from resnet8.network.tensors import Activation

pytestmark = pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor:UserWarning")

UNIT = 2.0**-24
SCALES = ((0.043, 0.021, 0.05), (0.25, 0.5, 0.125), (0.0123, 0.77, 0.61), (0.05, 0.05, 0.1))
_f32 = np.float32


def layer_of(module: Any, scale: float, zero_point: int, shape: tuple[int, int, int]) -> Weighted:
    """The layer that ``module`` computes for codes of ``shape``; geometry and rounding of the bias written anew."""
    coded, bias = torch.ops.quantized.conv2d_unpack(module._packed_params)
    weights = coded.int_repr().numpy().transpose(2, 3, 1, 0)
    if coded.qscheme() == torch.per_channel_affine:
        scales = coded.q_per_channel_scales().numpy().astype(np.float32)
        params = QParams(scales, np.zeros(len(scales), np.int32), "int8")
    else:
        params = qparams(coded.q_scale(), 0, "int8")
    x = activation("x", shape, scale, zero_point)
    plain = weighted(
        np.random.default_rng(0),
        x,
        activation("y", (0, 0, weights.shape[3]), module.scale, module.zero_point),
        kernel=weights.shape[:2],
        strides=module.stride,
        pads=(*module.padding, *module.padding),
        bias=1,
    )
    real = bias.detach().numpy()
    whole = accumulator_bias(real, x, params).astype(np.int32)
    return replace(refilled(plain, weights, params, whole), real_bias=real)


CONVOLUTIONS = {
    "3x3": ((16, 16), 3, {"padding": 1}),
    "first": ((3, 16), 3, {"padding": 1}),
    "strided": ((16, 32), 3, {"stride": 2}),
    "1x1 strided": ((16, 32), 1, {"stride": 2}),
    "odd": ((5, 7), 3, {"padding": 2}),
}


GRANULARITY = pytest.mark.parametrize("per_channel", [False, True], ids=["per-tensor", "per-channel"])


@GRANULARITY
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_a_convolution_with_a_float_bias_bit_for_bit(name: str, per_channel: bool) -> None:
    channels, kernel, how = CONVOLUTIONS[name]
    rng = np.random.default_rng(90)
    differing = 0
    for seed in range(6):
        scale, zero = float(_f32(rng.uniform(0.01, 0.2))), int(rng.integers(0, 120))
        out = float(_f32(scale * 0.01 * 60 * 40 * channels[0] ** 0.5 * kernel / 40))
        module = convolution(seed, channels, kernel, out, 66, per_channel=per_channel, bias=out * 20, **how)
        codes = random_codes(rng, (3, 17, 17, channels[0]), "uint8")
        codes >>= 1  # 7 bits, as PyTorch's observers reduce the range: no pair of products saturates on any CPU
        wanted = module(tensor(codes.transpose(0, 3, 1, 2), scale, zero)).int_repr().numpy().transpose(0, 2, 3, 1)
        layer = layer_of(module, scale, zero, codes.shape[1:])
        assert len(np.unique(wanted)) > 50
        np.testing.assert_array_equal(engine.step(layer, {"x": codes}, accumulators=biased), wanted)
        whole = engine.step(layer, {"x": codes})
        assert np.abs(whole.astype(int) - wanted).max() <= 1
        differing += int((whole != wanted).sum())
    assert differing > 0  # rounding the bias to int32 does change codes


@dataclass(frozen=True)
class NearTies:
    """Random scales and biases that put most values of small accumulators on, or a few roundings beside, a tie.

    The multipliers are one whole number over another but for rounding, the biases whole steps but for two roundings.

    Attributes:
        coded: qint8 weights, channels out first, small.
        scales: Of each channel out, or of the tensor, float32.
        bias: float32 (channels out).
        x: The input, its codes below 16.
        scale: Of the output.
        zero_point: Of the output.
    """

    coded: torch.Tensor
    scales: NDArray[np.float32]
    bias: NDArray[np.float32]
    x: Activation
    scale: float
    zero_point: int

    @classmethod
    def draw(
        cls, rng: np.random.Generator, shape: tuple[int, ...], x: tuple[int, ...], *, per_channel: bool
    ) -> NearTies:
        """For weights of ``shape``, channels out first, on an input of shape ``x``."""
        coded = torch.from_numpy(rng.integers(-4, 5, shape).astype(np.int8))
        unit = _f32(rng.uniform(0.002, 0.02))
        read = activation("x", x, float(_f32(rng.uniform(0.01, 0.2))), int(rng.integers(0, 16)))
        scales = np.asarray(unit * rng.choice([1, 3, 5], shape[0]).astype(_f32) if per_channel else unit)
        if per_channel:
            zeros = torch.zeros(shape[0], dtype=torch.int64)
            axis = torch.from_numpy(scales.astype(np.float64))
            weights = torch._make_per_channel_quantized_tensor(coded, axis, zeros, 0)
        else:
            weights = torch._make_per_tensor_quantized_tensor(coded, float(scales), 0)
        off = 1 + rng.integers(-2, 3, shape[0]) * 2.0**-23
        bias = (rng.integers(-500, 500, shape[0]) * (read.scale * scales).astype(np.float64) * off).astype(_f32)
        scale = float(read.scale * unit * _f32(rng.choice([2, 6, 10, 14])))
        return cls(weights, scales, bias, read, scale, int(rng.integers(0, 200)))

    def codes(self, rng: np.random.Generator, count: int) -> NDArray[np.uint8]:
        return rng.integers(0, 16, (count, *self.x.shape)).astype(np.uint8)

    def filled(self, module: Any) -> Any:
        """``module``, with these weights, bias and output."""
        torch.backends.quantized.engine = ENGINE
        module.set_weight_bias(self.coded, torch.from_numpy(self.bias))
        module.scale, module.zero_point = self.scale, self.zero_point
        return module

    def near(self, accumulators: NDArray[np.int64]) -> int:
        """How many of the values are within 1e-5 of a tie, and in range."""
        steps = (self.x.scale * self.scales).astype(np.float64)
        values = (accumulators + self.bias / steps) * steps / self.scale
        inside = (values > -self.zero_point) & (values < 255 - self.zero_point)
        return int((inside & (np.abs(values % 1 - 0.5) < 1e-5)).sum())


@GRANULARITY
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_a_convolution_next_to_ties_bit_for_bit(name: str, per_channel: bool) -> None:
    channels, kernel, how = CONVOLUTIONS[name]
    rng = np.random.default_rng(95)
    near = 0
    for _ in range(20):
        shape = (channels[1], channels[0], kernel, kernel)
        drawn = NearTies.draw(rng, shape, (9, 9, channels[0]), per_channel=per_channel)
        module = drawn.filled(quantized.Conv2d(*channels, kernel, **how))
        codes = drawn.codes(rng, 2)
        there = tensor(codes.transpose(0, 3, 1, 2), float(drawn.x.scale), drawn.x.zero_point)
        layer = layer_of(module, float(drawn.x.scale), drawn.x.zero_point, drawn.x.shape)
        wanted = module(there).int_repr().numpy().transpose(0, 2, 3, 1)
        np.testing.assert_array_equal(engine.step(layer, {"x": codes}, accumulators=biased), wanted)
        near += drawn.near(engine.accumulate(replace(layer, bias=None), codes).astype(np.int64))
    assert near > 1000


@GRANULARITY
@pytest.mark.parametrize("rows", [1, 2, 50, 63])
def test_a_linear_layer_next_to_ties_bit_for_bit(rows: int, per_channel: bool) -> None:
    rng = np.random.default_rng(96)
    near = differing = 0
    for columns in (1, 7, 8, 10, 17, 32, 100):
        for depth in (3, 16, 64) * 4:
            drawn = NearTies.draw(rng, (columns, depth), (depth,), per_channel=per_channel)
            module = drawn.filled(quantized.Linear(depth, columns))
            codes = drawn.codes(rng, rows)
            there = tensor(codes, float(drawn.x.scale), drawn.x.zero_point)
            params = QParams(drawn.scales, np.zeros(drawn.scales.shape, np.int32), "int8")
            layer = Weighted(
                name="linear",
                output=activation("y", (columns,), drawn.scale, drawn.zero_point),
                x=drawn.x,
                weights=Constant("w", drawn.coded.int_repr().numpy().T[None, None], params),
                bias=Constant("b", accumulator_bias(drawn.bias, drawn.x, params).astype(np.int32), None),
                dense=True,
                real_bias=drawn.bias,
            )
            for relu, operator in ((False, torch.ops.quantized.linear), (True, torch.ops.quantized.linear_relu)):
                wanted = operator(there, module._packed_params._packed_params, drawn.scale, drawn.zero_point)
                ran = replace(layer, relu=relu)
                found = engine.step(ran, {"x": codes}, accumulators=biased)
                np.testing.assert_array_equal(found, wanted.int_repr().numpy())
                differing += int((engine.step(ran, {"x": codes}) != found).sum())
            near += drawn.near(engine.accumulate(replace(layer, bias=None), codes).astype(np.int64))
    assert near > 100 * rows
    assert differing > 0  # rounding the bias to int32 does change codes


def test_a_bias_is_rounded_to_the_nearest_accumulator_step() -> None:
    x = activation("x", (1, 1, 1), 0.5)
    real = np.array([0.25, 0.3, 0.125, 0.375, -0.125, -1.0], np.float32)
    steps = accumulator_bias(real, x, qparams(0.5, 0, "int8"))
    assert steps.tolist() == [1, 1, 0, 2, 0, -4]  # ties to even
    scales = np.array([0.5, 0.25, 0.125, 0.5, 0.5, 2.0], np.float32)
    assert accumulator_bias(real, x, QParams(scales, np.zeros(6, np.int32), "int8")).tolist() == [1, 2, 2, 2, 0, -1]


def test_other_layers_accumulate_as_they_are() -> None:
    rng = np.random.default_rng(91)
    layer = weighted(rng, activation("x", (9,)), activation("y", (5,)), bias=100, dense=True)
    codes = random_codes(rng, (4, 9), "uint8")
    np.testing.assert_array_equal(biased(layer, codes), engine.accumulate(layer, codes))


# --- ATen's own kernels, on every pair of codes ---


def all_pairs() -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    a, b = np.meshgrid(np.arange(256, dtype=np.uint8), np.arange(256, dtype=np.uint8), indexing="ij")
    return a, b


def require_explained(
    layer: Sum | Product, a: NDArray[Any], b: NDArray[Any], ours: NDArray[Any], theirs: NDArray[Any]
) -> None:
    """Each differing pair is a tie, or nearer to the border than 8 float32 roundings of what is added up.

    In float64, whose own error is far below.
    """
    differ = ours != theirs
    one, other = a[differ].astype(np.float64), b[differ].astype(np.float64)
    out = float(layer.output.scale)
    if isinstance(layer, Sum):
        (m_a, z_a), (m_b, z_b) = ((float(x.scale) / out, x.zero_point) for x in (layer.a, layer.b))
        exact = (one - z_a) * m_a + (other - z_b) * m_b
        magnitude = np.abs(one - z_a) * m_a + np.abs(other - z_b) * m_b + 2 * (z_a * m_a + z_b * m_b)
    else:
        scale = float(layer.x.scale) * float(layer.parameter.params.scale) / out
        exact = (one - layer.x.zero_point) * (other - int(layer.parameter.params.zero_point)) * scale
        magnitude = np.abs(exact)
    magnitude += 2 * layer.output.zero_point
    found, wanted = (codes[differ].astype(np.float64) for codes in (ours, theirs))
    border = np.maximum(found, wanted) - 0.5 - layer.output.zero_point
    assert (np.abs(found - wanted) == 1).all()
    assert (np.abs(exact - border) <= 8.01 * UNIT * magnitude + 1e-12).all()


@pytest.mark.parametrize("zeros", [(0, 0, 0), (3, 120, 77), (128, 64, 50)])
@pytest.mark.parametrize("scales", SCALES)
def test_mul_rounds_the_scaled_product_then_adds_the_zero(scales: tuple[float, ...], zeros: tuple[int, ...]) -> None:
    a, b = all_pairs()
    out = float(_f32(scales[0] * scales[1] * 100))
    theirs = torch.ops.quantized.mul(tensor(a, scales[0], zeros[0]), tensor(b, scales[1], zeros[1]), out, zeros[2])
    wanted = theirs.int_repr().numpy()
    accumulator = ((a.astype(np.int32) - zeros[0]) * (b.astype(np.int32) - zeros[1])).astype(_f32)
    multiplier = _f32(scales[0]) * _f32(scales[1]) * (_f32(1) / _f32(out))
    np.testing.assert_array_equal(saturate(np.rint(accumulator * multiplier) + zeros[2], "uint8"), wanted)
    layer = product(
        activation("x", (256,), scales[0], zeros[0]),
        activation("y", (256,), out, zeros[2]),
        np.arange(256, dtype=np.uint8),
        qparams(scales[1], zeros[1], "uint8"),
    )
    require_explained(layer, a, b, engine.step(layer, {"x": a}), wanted)


@pytest.mark.parametrize("relu", [False, True], ids=["add", "add_relu"])
@pytest.mark.parametrize("zeros", [(0, 0, 0), (3, 120, 77), (128, 64, 50)])
@pytest.mark.parametrize("scales", SCALES)
def test_add_dequantizes_adds_and_quantizes(scales: tuple[float, ...], zeros: tuple[int, ...], relu: bool) -> None:
    a, b = all_pairs()
    operator = torch.ops.quantized.add_relu if relu else torch.ops.quantized.add
    theirs = operator(tensor(a, scales[0], zeros[0]), tensor(b, scales[1], zeros[1]), scales[2], zeros[2])
    wanted = theirs.int_repr().numpy()
    low, inverse = zeros[2] if relu else 0, _f32(1) / _f32(scales[2])

    def fused(codes: NDArray[Any], scale: float, zero: int) -> NDArray[np.float32]:
        """A fused multiply-add: ``scale * code + (-scale * zero)``, the second product rounded."""
        product = codes.astype(np.float64) * np.float64(_f32(scale))
        return (product - np.float64(_f32(scale) * _f32(zero))).astype(_f32)

    total = fused(a, scales[0], zeros[0]) + fused(b, scales[1], zeros[1])
    np.testing.assert_array_equal(saturate(np.rint(total * inverse) + zeros[2], "uint8", low), wanted)
    # A few codes only, and the last of a run: subtract, then multiply.
    few = operator(tensor(a[0, :7], scales[0], zeros[0]), tensor(b[0, :7], scales[1], zeros[1]), scales[2], zeros[2])
    parts = [
        dequantize(codes[0, :7], qparams(scale, zero, "uint8"))
        for codes, scale, zero in zip((a, b), scales, zeros, strict=False)
    ]
    short = saturate(np.rint((parts[0] + parts[1]) * inverse) + zeros[2], "uint8", low)
    np.testing.assert_array_equal(short, few.int_repr().numpy())

    x, y, z = (activation(n, (256,), s, zero) for n, s, zero in zip("aby", scales, zeros, strict=True))
    for kernel in ("integer", "float"):
        layer = replace(addition(x, y, z), relu=relu, kernel=kernel)
        require_explained(layer, a, b, engine.step(layer, {"a": a, "b": b}), wanted)


def test_a_constant_of_each_channel_is_added_and_multiplied() -> None:
    rng = np.random.default_rng(92)
    for channels in (5, 16, 64):
        x = activation("x", (6, 6, channels), 0.043, 70)
        codes = random_codes(rng, (3, *x.shape), "uint8")
        constant = Constant("c", random_codes(rng, (channels,), "uint8"), qparams(0.021, 99, "uint8"))
        there = tensor(codes.transpose(0, 3, 1, 2), 0.043, 70).contiguous(memory_format=torch.channels_last)
        other = tensor(constant.codes.reshape(1, -1, 1, 1), 0.021, 99)
        for layer, theirs in (
            (
                addition(x, constant, activation("y", x.shape, 0.05, 60)),
                torch.ops.quantized.add(there, other, 0.05, 60),
            ),
            (
                product(x, activation("y", x.shape, 0.07, 60), constant.codes, constant.params),
                torch.ops.quantized.mul(there, other, 0.07, 60),
            ),
        ):
            ours, wanted = engine.step(layer, {"x": codes}), theirs.int_repr().numpy().transpose(0, 2, 3, 1)
            a, b = (value.reshape(-1, channels) for value in np.broadcast_arrays(codes, constant.codes))
            require_explained(layer, a, b, ours.reshape(-1, channels), wanted.reshape(-1, channels))
            assert (ours != wanted).mean() < 0.01


def test_average_pools_bit_for_bit() -> None:
    rng = np.random.default_rng(93)
    for shape in ((8, 8, 64), (7, 7, 5), (3, 5, 32)):
        x = activation("x", shape, 0.06, 77)
        layer = pool(x, activation("y", (1, 1, shape[2]), 0.06, 77))
        codes = random_codes(rng, (40, *shape), "uint8")
        there = tensor(codes.transpose(0, 3, 1, 2), 0.06, 77).contiguous(memory_format=torch.channels_last)
        theirs = torch.nn.functional.avg_pool2d(there, shape[:2]).int_repr().numpy().transpose(0, 2, 3, 1)
        np.testing.assert_array_equal(engine.step(layer, {"x": codes}), theirs)


@pytest.mark.parametrize("scales", SCALES)
def test_another_grid_is_dequantized_and_quantized(scales: tuple[float, ...]) -> None:
    codes = np.arange(256, dtype=np.uint8)
    there = torch.dequantize(tensor(codes, scales[0], 70))
    params = qparams(scales[0], 70, "uint8")
    np.testing.assert_array_equal(there.numpy(), dequantize(codes, params))  # subtract, then multiply
    theirs = torch.quantize_per_tensor(there, scales[2], 40, torch.quint8).int_repr().numpy()
    inverse = _f32(1) / _f32(scales[2])
    np.testing.assert_array_equal(saturate(np.rint(there.numpy() * inverse) + 40, "uint8"), theirs)
    layer = rescale(activation("x", (256,), scales[0], 70), activation("y", (256,), scales[2], 40))
    differing = engine.step(layer, {"x": codes[None]})[0] != theirs
    assert (np.abs(np.abs(there.numpy() / _f32(scales[2])) % 1 - 0.5)[differing] < 1e-5).all()


@pytest.mark.parametrize("rows", [1, 2, 30, 100])
@pytest.mark.parametrize("depth", [16, 64])
def test_a_matrix_product_is_float_and_its_last_bits_are_the_cpus(rows: int, depth: int) -> None:
    rng = np.random.default_rng(94)
    near = 0
    for number in range(40):
        largest = 16 if number % 4 else 256  # small codes: most values are on, or a few roundings beside, a tie
        codes, weights = (rng.integers(0, largest, s).astype(np.uint8) for s in ((rows, depth), (depth, 10)))
        scales = (3.0, 0.015) if number % 2 else tuple(float(_f32(rng.uniform(0.01, 0.2))) for _ in range(2))
        x = activation("x", (depth,), scales[0], int(rng.integers(0, largest)))
        params = qparams(scales[1], largest // 2 - 1, "uint8")
        scale = float(_f32(scales[0] * scales[1] * (int(rng.choice([2, 6, 10])) if largest == 16 else 500)))
        layer = replace(
            refilled(weighted(rng, x, activation("y", (10,), scale, 100), dense=True), weights[None, None], params),
            kernel="float",
        )
        there = torch.ops.quantized.matmul(
            tensor(codes, scales[0], x.zero_point), tensor(weights, scales[1], int(params.zero_point)), scale, 100
        )
        wanted = there.int_repr().numpy()
        np.testing.assert_array_equal(matmul_codes(layer, codes), wanted)
        require_near_borders(layer, codes, engine.step(layer, {"x": codes}), wanted)
        values = engine.accumulate(layer, codes) * layer.real_multiplier
        near += int(((np.abs(values) < 100) & (np.abs(values % 1 - 0.5) < 1e-5)).sum())
    assert near > 30 * rows


def test_another_order_of_the_sum_is_next_to_a_border_and_another_code_is_not() -> None:
    x, y = activation("x", (16,), 3.0, 5), activation("y", (10,), 2.5, 101)
    rng = np.random.default_rng(97)
    matrix = np.zeros((16, 10), np.int8)
    matrix[:13, 0] = 125
    layer = refilled(weighted(rng, x, y, dense=True), matrix[None, None], qparams(0.015, 0, "int8"))
    layer = replace(layer, kernel="float")
    codes = np.full((1, 16), 7, np.uint8)  # 13 * 125 * 2 = 3250 steps of 9 / 500, 58.5 but for the rounding of 0.015
    found = engine.step(layer, {"x": codes})
    other = found.copy()
    other[0, 0] = 160 if found[0, 0] == 159 else 159
    assert found[0, 0] in (159, 160)
    assert require_near_borders(layer, codes, found, other) == 1
    other[0, 1] += 1
    with pytest.raises(AssertionError):
        require_near_borders(layer, codes, found, other)
