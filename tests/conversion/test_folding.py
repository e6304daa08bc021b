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
from quantized import float_network

from resnet8.conversion.folding import BatchNormalization, Convolution, perturbed, settle, shifted, ulps
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


# --- constants that are moved ---


def constants(*values: float) -> bytes:
    tensors = [
        numpy_helper.from_array(np.array(values, np.float32), "floats"),
        numpy_helper.from_array(np.array([3, -1], np.int64), "shape"),
        numpy_helper.from_array(np.array(0.5, np.float32), "scalar"),
    ]
    return helper.make_model(helper.make_graph([], "constants", [], [], tensors)).SerializeToString()


def parsed(content: bytes) -> onnx.ModelProto:
    return onnx.load_model_from_string(content)


def test_every_constant_moves_by_at_most_one_ulp() -> None:
    content = float_network().SerializeToString()
    moved, count = perturbed(content, 1)
    old, new = parsed(content), parsed(moved)
    steps = []
    for one, other in zip(old.graph.initializer, new.graph.initializer, strict=True):
        assert (one.name, one.data_type, one.dims) == (other.name, other.data_type, other.dims)
        a, b = numpy_helper.to_array(one), numpy_helper.to_array(other)
        up, down = (np.nextafter(a, np.float32(end)) for end in (np.inf, -np.inf))
        assert np.all((b == a) | (b == up) | (b == down))
        steps += np.select([b == a, b == up], [0, 1], -1).ravel().tolist()
    assert count == len(steps) > 500
    for part in (old, new):
        del part.graph.initializer[:]
    assert old == new


def test_each_step_is_as_likely_as_the_others() -> None:
    numbers = np.linspace(-1, 1, 60_000, dtype=np.float32)
    moved, count = perturbed(constants(*numbers), 1)
    assert count == len(numbers) + 1
    steps = ulps(numpy_helper.to_array(parsed(moved).graph.initializer[0]), numbers)
    assert np.bincount(steps + 1) / len(numbers) == pytest.approx([1 / 3] * 3, abs=0.01)


def test_the_steps_of_a_seed() -> None:
    """By hand: the bits of each number, and the steps 0 0 1 1 -1 -1 1 1 that seed 1 begins with."""
    greatest = float(np.finfo(np.float32).max)
    moved, _ = perturbed(constants(1.0, -0.0, 1.0, -1.0, 1.0, 0.0, greatest, np.inf), 1)
    bits = numpy_helper.to_array(parsed(moved).graph.initializer[0]).view(np.uint32)
    assert [f"{one:08x}" for one in bits] == [
        *("3f800000", "00000000", "3f800001", "bf7fffff", "3f7fffff", "80000001"),
        *("7f7fffff", "7f800000"),  # the last finite number would become infinite, and infinity none: they stay
    ]
    assert numpy_helper.to_array(parsed(moved).graph.initializer[1]).tolist() == [3, -1]


def test_a_seed_names_a_perturbation() -> None:
    content = constants(*np.linspace(-1, 1, 50))
    made = [perturbed(content, seed)[0] for seed in (1, 1, 2, 3)]
    assert made[0] == made[1]
    assert len(set(made)) == 3
