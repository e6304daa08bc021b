"""Real numbers on a grid: exact sums, against fractions."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from reals import pictures, residual

from resnet8.errors import QuantizationError
from resnet8.execute import real
from resnet8.execute.walk import walk
from resnet8.network.layers import AveragePool, Sum, Weighted
from resnet8.network.tensors import Activation, Constant
from resnet8.quantization.native import fold

if TYPE_CHECKING:
    from numpy.typing import NDArray

RNG = np.random.default_rng(9)


def rounded(value: Fraction, bits: int) -> Fraction:
    return Fraction(round(value * 2**bits), 2**bits)


@pytest.mark.parametrize("bits", [0, 12, 22])
def test_numbers_are_rounded_half_to_even(bits: int) -> None:
    values = np.concatenate([RNG.normal(0, 100, 500), (RNG.integers(-9999, 9999, 500) + 0.5) / 2**bits, [0.0, -0.0]])
    found = real.to_bits(values, bits)
    assert [Fraction(one) for one in found.tolist()] == [rounded(Fraction(one), bits) for one in values.tolist()]


def test_constants_are_on_a_grid_and_nothing_else_changes() -> None:
    network = fold(residual())
    odd = network.layers[0].with_parameter(Constant("w", np.float32(RNG.normal(0, 0.1, (3, 3, 3, 4))), None))
    network = replace(network, layers=(odd, *network.layers[1:]))
    found = real.on_a_grid(network)
    for one, was in zip(found.layers, network.layers, strict=True):
        assert (one.name, one.inputs, one.output, one.relu) == (was.name, was.inputs, was.output, was.relu)
        for new, old in ((one.parameter, was.parameter), (one.bias, was.bias)):
            assert (new is None) == (old is None)
            if new is not None and old is not None:
                np.testing.assert_array_equal(new.codes, real.to_bits(old.codes.astype(np.float64), 22), strict=True)


def dense(weights: NDArray[Any], bias: NDArray[Any] | None, *, relu: bool = False) -> Weighted:
    depth, channels = weights.shape
    return Weighted(
        name="dense",
        output=Activation("y", (channels,), None),
        x=Activation("x", (depth,), None),
        weights=Constant("w", weights[None, None], None),
        bias=None if bias is None else Constant("b", bias, None),
        dense=True,
        relu=relu,
    )


@pytest.mark.parametrize("relu", [False, True])
def test_sums_are_exact(relu: bool) -> None:
    weights, bias = (real.to_bits(RNG.normal(0, 0.1, shape), 22) for shape in ((64, 3), (3,)))
    x = real.to_bits(RNG.normal(0, 200, (5, 64)), 12)
    layer = dense(weights, bias, relu=relu)
    found = real.exact_step(layer, {"x": x})
    assert found.dtype == np.float64
    for row, one in zip(x.tolist(), found.tolist(), strict=True):
        for column, more, value in zip(weights.T.tolist(), bias.tolist(), one, strict=True):
            terms = (Fraction(a) * Fraction(b) for a, b in zip(row, column, strict=True))
            wanted = sum(terms, Fraction(more))
            assert Fraction(value) == rounded(max(wanted, Fraction(0)) if relu else wanted, 12)
    # So the order of the inputs does not matter.
    order = RNG.permutation(64)
    np.testing.assert_array_equal(real.exact_step(dense(weights[order], bias, relu=relu), {"x": x[:, order]}), found)


def test_averages_and_sums_are_exact() -> None:
    maps = real.to_bits(RNG.normal(0, 50, (4, 3, 5, 2)), 12)
    x, y = Activation("x", (3, 5, 2), None), Activation("y", (1, 1, 2), None)
    found = real.exact_step(AveragePool(name="pool", output=y, x=x), {"x": maps})
    for image, channel in np.ndindex(4, 2):
        total = sum(Fraction(one) for one in maps[image, :, :, channel].ravel().tolist())
        assert Fraction(float(found[image, 0, 0, channel])) == rounded(total / 15, 12)
    both = Sum(name="add", output=replace(x, name="z"), a=x, b=replace(x, name="x2"))
    np.testing.assert_array_equal(real.exact_step(both, {"x": maps, "x2": -maps}), 0 * maps)


def test_a_network_is_what_float32_computes_within_its_rounding() -> None:
    network, images = fold(residual()), pictures(20, 4)
    exact = walk(real.on_a_grid(network), images.astype(np.float64), real.exact_step)
    np.testing.assert_allclose(exact, real.run(network, images), rtol=1e-3, atol=5e-3)
    np.testing.assert_array_equal(exact, real.to_bits(exact, 12))
    assert np.abs(exact - exact.astype(np.float32)).max() == 0


@pytest.mark.parametrize("value", [2048.0, -2048.0, 1e30, float("nan"), float("inf")])
def test_values_that_are_too_large_are_refused_by_name(value: float) -> None:
    with pytest.raises(
        QuantizationError, match=r"«dense» are too large .*magnitudes below 2048; .*pixels from 0 to 255"
    ):
        real.exact_step(dense(np.ones((1, 1)), None), {"x": np.array([[value]])})
    found = real.exact_step(dense(np.ones((1, 1)), None), {"x": np.array([[2047.5]])})
    np.testing.assert_array_equal(found, [[2047.5]])
