"""Folded constants: against decimal arithmetic, and in a graph that a converter left with wrong last bits."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal, localcontext
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from resnet8.conversion.folding import BatchNormalization, Convolution, settle, shifted, ulps
from resnet8.errors import ConversionError

if TYPE_CHECKING:
    from numpy.typing import NDArray

CHANNELS = 50


def normalization(seed: int = 0) -> BatchNormalization:
    generator = np.random.default_rng(seed)

    def normal(*shape: int) -> NDArray[np.float32]:
        return generator.normal(size=shape).astype(np.float32)

    convolution = Convolution(normal(3, 3, 2, CHANNELS), normal(CHANNELS))
    variance = np.exp(normal(CHANNELS) * 3)
    return BatchNormalization(convolution, normal(CHANNELS), normal(CHANNELS), normal(CHANNELS), variance, 0.001)


def converted(one: BatchNormalization, factor: NDArray[np.float32], addend: NDArray[np.float32]) -> onnx.ModelProto:
    """Conv, Mul and Add with these constants; a Relu, and an Add of something else beside them."""
    constants = {
        "kernel": one.convolution.kernel.transpose(3, 2, 0, 1),
        "bias": one.convolution.bias,
        "factor": factor.reshape(1, -1, 1, 1),
        "addend": addend.reshape(1, -1, 1, 1),
    }
    nodes = [
        helper.make_node("Conv", ["x", "kernel", "bias"], ["c"]),
        helper.make_node("Mul", ["c", "factor"], ["m"]),
        helper.make_node("Add", ["m", "addend"], ["a"]),
        helper.make_node("Add", ["a", "c"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2, 5, 5])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.ascontiguousarray(value), name) for name, value in constants.items()],
    )
    return helper.make_model(graph)


def constant(model: onnx.ModelProto, name: str) -> NDArray[np.float32]:
    return next(numpy_helper.to_array(one) for one in model.graph.initializer if one.name == name)


def exact(one: BatchNormalization) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Factor and addend to fifty decimal digits, rounded to the nearest float32 by comparing three candidates."""
    factors, addends = [], []
    with localcontext(prec=50):
        for gamma, beta, mean, variance in zip(
            *(values.tolist() for values in (one.gamma, one.beta, one.mean, one.variance)), strict=True
        ):
            factor = Decimal(gamma) / (Decimal(variance) + Decimal(one.epsilon)).sqrt()
            factors.append(nearest(factor))
            addends.append(nearest(Decimal(beta) - Decimal(mean) * factor))
    return np.array(factors, np.float32), np.array(addends, np.float32)


def nearest(value: Decimal) -> np.float32:
    middle = np.float32(float(value))
    candidates = (np.nextafter(middle, np.float32(-np.inf)), middle, np.nextafter(middle, np.float32(np.inf)))
    return min(candidates, key=lambda one: abs(Decimal(float(one)) - value))


@pytest.mark.parametrize("seed", range(20))
def test_constants_are_correctly_rounded_whatever_the_last_bits_were(seed: int) -> None:
    one = normalization(seed)
    factor, addend = exact(one)
    steps = np.random.default_rng(seed).integers(-3, 4, (2, CHANNELS))
    model = converted(one, shifted(factor, steps[0]), shifted(addend, steps[1]))
    found = settle(model, [one.convolution], [one])
    assert constant(model, "factor").shape == (1, CHANNELS, 1, 1)
    assert constant(model, "factor").ravel().tolist() == factor.tolist()
    assert constant(model, "addend").ravel().tolist() == addend.tolist()
    assert [folded.name for folded in found] == ["factor", "addend"]
    assert [list(folded.ulps) for folded in found] == steps.tolist()
    assert found[0].off == np.count_nonzero(steps[0])
    assert found[0].largest == np.abs(steps[0]).max()


def test_a_constant_of_another_network_is_refused() -> None:
    one = normalization()
    factor, addend = exact(one)
    model = converted(one, factor * np.float32(1.01), addend)
    before = model.SerializeToString()
    with pytest.raises(
        ConversionError, match="the conversion changed the constant factor: found values that differ by"
    ):
        settle(model, [one.convolution], [one])
    assert model.SerializeToString() == before


def test_changed_weights_are_refused() -> None:
    one = normalization()
    model = converted(one, *exact(one))
    other = replace(one.convolution, kernel=shifted(one.convolution.kernel, np.ones(one.convolution.kernel.shape, int)))
    with pytest.raises(ConversionError, match=r"changed the weights of a convolution: found no .* 3x3x2x50 kernel"):
        settle(model, [one.convolution, other], [one])


def test_another_form_is_refused() -> None:
    one = normalization()
    model = converted(one, *exact(one))
    del model.graph.node[2]
    with pytest.raises(ConversionError, match="unknown form: found 0 Add of a constant after"):
        settle(model, [one.convolution], [one])


def test_ulps_by_hand() -> None:
    values = np.array([1.0, np.nextafter(np.float32(1), np.float32(2)), -1.0, 0.0, 1e-45, -1e-45], np.float32)
    assert ulps(values, np.array([1, 1, -1, -0.0, -0.0, 0], np.float32)).tolist() == [0, 1, 0, 0, 1, -1]
    assert ulps(np.array([-1e-45], np.float32), np.array([1e-45], np.float32)).tolist() == [-2]
    assert ulps(np.array([2.0], np.float32), np.array([1.0], np.float32)).tolist() == [2**23]


@given(
    st.floats(width=32, allow_nan=False, allow_infinity=False, max_value=2.0**100, min_value=-(2.0**100)),
    st.integers(-9, 9),
)
def test_shifting_is_the_inverse(value: float, steps: int) -> None:
    start = np.array([value], np.float32)
    moved = shifted(start, np.array([steps]))
    assert ulps(moved, start).tolist() == [steps]
    direction = np.float32(np.inf if steps > 0 else -np.inf)
    for _ in range(abs(steps)):
        start = np.nextafter(start, direction)
    assert moved[0] == start[0]
