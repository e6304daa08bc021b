"""Layers as values: what they say about themselves, counted by hand or by trying every input."""

from __future__ import annotations

import dataclasses
from itertools import product as every
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from quantized import activation, addition, network, pool, product, rescale, weighted

from resnet8.execute import engine, exact, real
from resnet8.network.layers import Layer
from resnet8.network.onnx_write import to_onnx
from resnet8.network.tensors import Constant
from resnet8.numeric.grid import qparams
from resnet8.numeric.variants import Requantization

if TYPE_CHECKING:
    from collections.abc import Callable

    from resnet8.network.tensors import Activation
    from resnet8.numeric.grid import Dtype

RNG_SEED = 40


def test_codes_from_zero() -> None:
    assert activation("x", (1,), zero_point=0).codes_from_zero == (0, 255)
    assert activation("x", (1,), zero_point=128).codes_from_zero == (-128, 127)
    assert activation("x", (1,), zero_point=10, dtype="int8").codes_from_zero == (-138, 117)


def test_scale_and_zero_point_are_scalars() -> None:
    for grid in (activation("x", (2,), 0.1, 7), Constant("c", np.zeros(2, np.uint8), qparams(0.1, 7, "uint8"))):
        assert grid.scale == np.float32(0.1)
        assert grid.scale.dtype == np.float32
        assert (grid.zero_point, type(grid.zero_point)) == (7, int)


@pytest.mark.parametrize(("dtype", "plain"), [("int8", -128), ("uint8", 0)])
def test_the_lowest_code_is_the_zero_point_behind_a_relu(dtype: Dtype, plain: int) -> None:
    x = activation("x", (2,), zero_point=5, dtype=dtype)
    layer = rescale(x, activation("y", (2,), zero_point=3, dtype=dtype))
    assert (layer.lowest, layer.highest) == (plain, plain + 255)
    assert dataclasses.replace(layer, relu=True).lowest == 3


def test_kinds_and_operators() -> None:
    program = network()
    assert [layer.kind for layer in program.layers] == ["conv", "mul", "add", "conv", "add", "average-pool", "conv"]
    assert [program.layers[i].operator for i in (0, 3, 6)] == ["conv", "conv", "dense"]
    x = activation("x", (2,))
    assert rescale(x, x).kind == "rescale"


def test_a_program_knows_its_activations() -> None:
    program = network()
    assert list(program.activations) == [
        "image",
        "first",
        "scaled",
        "shifted",
        "second",
        "joined",
        "mean",
        "logits",
    ]
    assert program.activations["mean"].shape == (1, 1, 4)
    assert program.activations["image"] is program.input


def test_as_integer_changes_the_kernel_and_nothing_else() -> None:
    program = network()
    floats = dataclasses.replace(
        program, layers=tuple(dataclasses.replace(layer, kernel="float") for layer in program.layers)
    )
    integer = floats.as_integer()
    assert {layer.kernel for layer in integer.layers} == {"integer"}
    assert {layer.kernel for layer in floats.layers} == {"float"}
    for one, other in zip(integer.layers, program.layers, strict=True):
        for field in dataclasses.fields(one):
            assert getattr(one, field.name) is getattr(other, field.name), field.name


def test_the_matrix_is_the_weights_from_their_zero_point_depth_first() -> None:
    rng = np.random.default_rng(RNG_SEED)
    layer = weighted(
        rng, activation("x", (4, 4, 3)), activation("y", (0, 0, 2)), kernel=(2, 3), dtype="uint8", per_channel=True
    )
    assert layer.matrix.shape == (18, 2)
    assert layer.matrix.dtype == np.int64
    for i, j, channel, out in every(range(2), range(3), range(3), range(2)):
        wanted = int(layer.weights.codes[i, j, channel, out]) - int(layer.weights.params.zero_point[out])
        assert layer.matrix[(i * 3 + j) * 3 + channel, out] == wanted


def test_macs_are_counted_one_by_one() -> None:
    rng = np.random.default_rng(RNG_SEED)
    conv = weighted(
        rng, activation("x", (7, 9, 5)), activation("y", (0, 0, 6)), kernel=(3, 2), strides=(2, 3), pads=(0, 1, 2, 0)
    )
    assert conv.output.shape == (4, 3, 6)
    assert conv.macs == 4 * 3 * 6 * 3 * 2 * 5
    dense = weighted(rng, activation("x", (64,)), activation("y", (10,)), dense=True)
    assert dense.macs == 640


@pytest.mark.parametrize(("of_x", "of_w"), [("uint8", "int8"), ("int8", "int8"), ("uint8", "uint8")])
def test_the_worst_case_is_reached_and_not_exceeded(of_x: Dtype, of_w: Dtype) -> None:
    rng = np.random.default_rng(RNG_SEED)
    x = activation("x", (2,), zero_point=37, dtype=of_x)
    layer = weighted(rng, x, activation("y", (4,)), dtype=of_w, bias=500, dense=True, per_channel=True)
    low, high = np.iinfo(of_x).min, np.iinfo(of_x).max
    codes = np.array([*every(range(low, high + 1, 5), repeat=2), *every((low, high), repeat=2)]).astype(of_x)
    found = engine.accumulate(layer, codes)
    least, greatest = layer.worst_case()
    np.testing.assert_array_equal(found.min(axis=0), least)
    np.testing.assert_array_equal(found.max(axis=0), greatest)


def test_the_worst_case_holds_with_padding() -> None:
    rng = np.random.default_rng(RNG_SEED)
    x = activation("x", (2, 2, 2), zero_point=200)
    layer = weighted(rng, x, activation("y", (0, 0, 3)), kernel=(3, 3), pads=(2, 2, 2, 2), bias=50)
    least, greatest = layer.worst_case()
    extremes = np.array(list(every((0, 255), repeat=8)), np.uint8).reshape(-1, 2, 2, 2)
    found = engine.accumulate(layer, extremes)
    assert (found >= least).all()
    assert (found <= greatest).all()


def test_real_multipliers_are_the_quotients_of_float32_scales() -> None:
    rng = np.random.default_rng(RNG_SEED)
    x, y = activation("x", (4, 5, 3), 0.1), activation("y", (4, 5, 3), 0.3)
    sx, sy, sc = (float(np.float32(scale)) for scale in (0.1, 0.3, 0.7))
    assert float(rescale(x, y).real_multiplier) == sx / sy
    assert float(pool(x, y).real_multiplier) == sx / (20 * sy)
    assert pool(x, y).count == 20
    layer = product(x, y, np.arange(3).astype(np.uint8), qparams(0.7, 2, "uint8"))
    assert float(layer.real_multiplier) == sx * sc / sy
    assert layer.factor.tolist() == [-2, -1, 0]
    constant = Constant("c", np.arange(3).astype(np.uint8), qparams(0.7, 2, "uint8"))
    assert [float(one) for one in addition(x, constant, y).real_multipliers] == [sx / sy, sc / sy]
    assert [float(one) for one in addition(x, y, x).real_multipliers] == [1.0, sy / sx]
    conv = weighted(rng, x, activation("z", (0, 0, 6), 0.3), per_channel=True)
    assert conv.real_multiplier.tolist() == [sx * float(scale) / sy for scale in conv.weights.params.scale]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Unknown(Layer):
    kind = "unknown"
    x: Activation


@pytest.mark.parametrize(
    "ask",
    [
        real.step,
        lambda layer, codes: engine.step(layer, codes, Requantization("fixed32")),
        lambda layer, codes: engine.step(dataclasses.replace(layer, kernel="float"), codes),
        lambda layer, _: exact.float32_bound(layer, np.ones(2), np.ones(2)),
        lambda layer, codes: list(exact.terms(layer, codes, (0, 0))),
        lambda layer, _: to_onnx(dataclasses.replace(network(), layers=(layer,))),
    ],
)
def test_a_kind_that_is_not_known_is_never_taken_for_another(ask: Callable[[Any, Any], Any]) -> None:
    x = network().input
    with pytest.raises(AssertionError, match=r"unreachable.*Unknown"):
        ask(Unknown(name="odd", x=x, output=x), {x.name: np.zeros((1, *x.shape), np.uint8)})


def test_values_are_frozen() -> None:
    program = network()
    with pytest.raises(dataclasses.FrozenInstanceError):
        program.layers[0].relu = True  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError):
        program.input.name = "other"  # type: ignore[misc]
