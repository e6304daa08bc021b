"""Changes of single tensors: what they mean, what they leave alone, and which are refused."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from builders import noise
from hypothesis import given
from hypothesis import strategies as st
from quantized import assert_same_program, network
from reals import real_of

from resnet8.errors import QuantizationError
from resnet8.execute import engine, native
from resnet8.network.change import Change, apply
from resnet8.network.layers import Product, Sum, Weighted
from resnet8.numeric.grid import QParams, limits, quantize
from resnet8.numeric.variants import ROUNDINGS, Requantization

if TYPE_CHECKING:
    from resnet8.network.program import Program

IMAGES = noise(8, 5)
ACTIVATIONS = ("image", "first", "scaled", "shifted", "second", "joined", "mean", "logits")
PARAMETERS = ("first_conv.w", "scaling.c", "shifting.c", "second_conv.w", "dense.w")


def made(*changes: Change, program: Any = None, reference: Any = None) -> Program:
    return apply(program or network(), changes, reference)


def grids(quantized: Program) -> dict[str, QParams]:
    parameters = [layer.parameter for layer in quantized.layers if layer.parameter is not None]
    return {one.name: one.params for one in (*quantized.activations.values(), *parameters)}


def roundings(quantized: Program) -> dict[str, str]:
    return {layer.output.name: layer.rounding for layer in quantized.layers if layer.rounding is not None}


# --- what changes nothing ---


def test_every_activation_and_parameter_can_be_changed() -> None:
    assert set(grids(made())) == {*ACTIVATIONS, *PARAMETERS}
    for name in (*ACTIVATIONS, *PARAMETERS):
        changed = grids(made(Change(name, "factor", 2)))
        assert [one for one, grid in grids(made()).items() if not grid.same_as(changed[one])] == [name]


def test_no_change_changes_nothing() -> None:
    changed = made()
    assert_same_program(changed, network())
    assert roundings(changed) == {}


@pytest.mark.parametrize("name", [*ACTIVATIONS, *PARAMETERS])
@pytest.mark.parametrize("with_reference", [False, True])
def test_the_values_that_stand_there_already_change_nothing(name: str, with_reference: bool) -> None:
    params = grids(made())[name]
    changes = [
        Change(name, "scale", float(params.scale)),
        Change(name, "zero_point", int(params.zero_point)),
        Change(name, "factor", 1),
        Change(name, "bits", 8),
    ]
    real = real_of(network(3)) if with_reference else None  # other numbers: they must not be looked at
    assert_same_program(made(*changes, reference=real), network())


@pytest.mark.parametrize("name", [*ACTIVATIONS, *PARAMETERS])
def test_changes_that_cancel_out_leave_no_trace(name: str) -> None:
    there_and_back = made(Change(name, "factor", 2.0), Change(name, "factor", 0.5))
    assert_same_program(there_and_back, network())


def test_rounding_half_to_even_is_what_is_done_anyway() -> None:
    changed = made(Change("first", "rounding", "half-even"))
    assert roundings(changed) == {}
    back = apply(made(Change("first", "rounding", "truncate")), [Change("first", "rounding", "half-even")])
    assert roundings(back) == {}


# --- activations ---


def test_a_scale_holds_for_writer_and_readers_and_every_bias_keeps_its_value() -> None:
    original, changed = network(), made(Change("shifted", "scale", 0.5))
    assert float(changed.activations["shifted"].scale) == 0.5
    second, joined = changed.layers[3], changed.layers[4]
    assert isinstance(second, Weighted)
    assert isinstance(joined, Sum)
    assert float(second.x.scale) == 0.5
    assert float(joined.b.scale) == 0.5
    before = original.layers[3]
    assert isinstance(before, Weighted)
    np.testing.assert_array_equal(second.weights.codes, before.weights.codes)
    real = before.added * float(before.x.scale) * float(before.weights.params.scale)
    step = 0.5 * float(second.weights.params.scale)
    assert np.abs(second.added * step - real).max() <= step * 0.5001
    for number in (0, 1, 5, 6):
        assert changed.layers[number].output.params.same_as(original.layers[number].output.params)


@pytest.mark.parametrize(("name", "factor"), [("first", 2.0), ("shifted", 2.0), ("joined", 1.5), ("logits", 3.0)])
def test_a_coarser_activation_is_what_the_layer_computed_on_the_coarser_grid(name: str, factor: float) -> None:
    """Codes of the changed layer against the exact real value of its accumulator, quantized on the new grid."""
    program = network()
    changed = made(Change(name, "factor", factor))
    values = {program.input.name: engine.input_codes(program, IMAGES)}
    for layer, other in zip(program.layers, changed.layers, strict=True):
        if layer.output.name == name:
            if isinstance(layer, Sum):
                a, b = engine.addends(layer, values)
                real = a * np.float64(layer.a.scale) + b * np.float64(layer.b.scale)
            else:
                scales = layer.real_multiplier * np.float64(layer.output.scale)
                real = engine.integer_accumulator(layer, values) * scales
            expected = quantize(real.astype(np.float32), changed.activations[name].params)
            difference = np.abs(native.step(other, values).astype(int) - expected.astype(int))
            assert difference.max() <= 1  # a tie may round either way
            assert (difference > 0).mean() < 0.01
        values[layer.output.name] = engine.step(layer, values)


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
@pytest.mark.parametrize("bits", range(2, 8))
def test_fewer_bits_keep_the_range_with_fewer_codes(bits: int, dtype: Any) -> None:
    program = network(dtype=dtype)
    changed = made(Change("shifted", "bits", bits), program=program)
    low, high = limits(changed.activations["shifted"].params.dtype)
    assert high - low + 1 == 2**bits
    assert (low == 0) if dtype == "uint8" else (low == -(2 ** (bits - 1)))
    before, after = program.activations["shifted"], changed.activations["shifted"]
    assert float(after.scale) == pytest.approx(float(before.scale) * 255 / (2**bits - 1))
    qmin, qmax = limits(dtype)
    for code, narrow in ((qmin, low), (qmax, high)):
        real = float(before.scale) * (code - before.zero_point)
        assert abs(float(after.scale) * (narrow - after.zero_point) - real) <= float(after.scale) * 0.5001
    seen: dict[str, Any] = {}
    native.run(changed, IMAGES, seen.__setitem__)
    wide = replace(changed.layers[2], output=replace(after, grid=replace(after.params, dtype=dtype)))
    np.testing.assert_array_equal(seen["shifted"], np.clip(engine.step(wide, seen), low, high))
    assert seen["shifted"].max() == high
    assert_same_program(apply(changed, [Change("shifted", "bits", bits)]), changed)  # it has so many already


def test_bits_of_the_images_count_before_the_first_layer() -> None:
    changed = made(Change("image", "bits", 3))
    assert set(np.unique(engine.input_codes(changed, IMAGES)).tolist()) == set(range(8))
    assert float(changed.input.scale) == pytest.approx(255 / 7)


def test_a_zero_point_of_a_tensor_without_negative_numbers_leaves_them_out() -> None:
    """Many files hold a ReLU in a zero point that is the least code: with another zero point it must not be lost."""
    program = network(dtype="int8")
    lowest = made(Change("second", "zero_point", -128), program=program)
    assert not lowest.layers[3].relu  # the grid does it
    changed = apply(lowest, [Change("second", "zero_point", 0)])
    assert changed.layers[3].relu
    seen: dict[str, Any] = {}
    native.run(changed, IMAGES, seen.__setitem__)
    assert int(seen["second"].min()) == 0
    assert not made(Change("second", "zero_point", 0), program=program).layers[3].relu


def test_zero_points_move_codes_and_not_reals() -> None:
    moved = made(Change("second", "zero_point", 120))
    one, other = {}, {}
    original = made()
    native.run(original, IMAGES, one.__setitem__)
    native.run(moved, IMAGES, other.__setitem__)
    inside = (one["second"] > 0) & (one["second"] < 245)
    np.testing.assert_array_equal(one["second"][inside].astype(int) + 10, other["second"][inside].astype(int))


@pytest.mark.parametrize("rounding", ROUNDINGS)
def test_a_rounding_holds_for_one_layer(rounding: Any) -> None:
    program = network()
    changed = made(Change("second", "rounding", rounding))
    seen: dict[str, Any] = {}
    native.run(changed, IMAGES, seen.__setitem__)
    for layer in program.layers:
        chosen = rounding if layer.output.name == "second" else "half-even"
        expected = engine.step(layer, seen, Requantization("float32", chosen))
        np.testing.assert_array_equal(seen[layer.output.name], expected)


# --- weights and constants ---


@pytest.mark.parametrize("bits", range(2, 8))
@pytest.mark.parametrize(("dtype", "name"), [("int8", "second_conv.w"), ("uint8", "scaling.c"), ("uint8", "dense.w")])
def test_parameters_with_fewer_bits_use_so_few_codes(bits: int, dtype: Any, name: str) -> None:
    program = network(weights=dtype)
    changed = made(Change(name, "bits", bits), program=program)
    assert all(one.params.dtype == "uint8" for one in changed.activations.values())
    assert grids(changed)[name].dtype == dtype  # the codes themselves are fewer
    layer = next(one for one in changed.layers if name in one.parameters.values())
    before = next(one for one in program.layers if name in one.parameters.values())
    found, original = layer.parameter, before.parameter
    assert found is not None
    assert original is not None
    low = 0 if dtype == "uint8" else -(2 ** (bits - 1))
    assert low <= found.codes.min()
    assert found.codes.max() < low + 2**bits
    step = float(found.scale)
    assert np.abs(found.real - original.real).max() <= step * 1.0001


def test_symmetric_weights_keep_their_largest_magnitude() -> None:
    changed = made(Change("second_conv.w", "bits", 4)).layers[3]
    before = network().layers[3]
    assert isinstance(changed, Weighted)
    assert isinstance(before, Weighted)
    assert int(changed.weights.params.zero_point) == 0
    assert float(changed.weights.params.scale) == pytest.approx(float(before.weights.params.scale) * 127 / 7)


def test_one_channel_or_a_common_factor() -> None:
    program = network(per_channel=True)
    before = program.layers[3]
    assert isinstance(before, Weighted)
    one = made(Change("second_conv.w", "scale", 0.5, channel=2), program=program).layers[3]
    assert isinstance(one, Weighted)
    expected = before.weights.params.scale.copy()
    expected[2] = 0.5
    np.testing.assert_array_equal(one.weights.params.scale, expected)
    np.testing.assert_array_equal(one.weights.codes[..., [0, 1, 3]], before.weights.codes[..., [0, 1, 3]])
    np.testing.assert_array_equal(one.added[[0, 1, 3]], before.added[[0, 1, 3]])
    assert np.abs(one.weights.codes[..., 2]).max() <= 3
    common = made(Change("second_conv.w", "factor", 2), program=program).layers[3]
    assert isinstance(common, Weighted)
    np.testing.assert_array_equal(common.weights.params.scale, before.weights.params.scale * np.float32(2))


def test_weights_are_quantized_anew_from_the_float_network_where_it_is_known() -> None:
    program = network()
    real = real_of(network(9))
    change = Change("second_conv.w", "factor", 1.25)
    for behind in (None, real):
        layer = made(change, reference=behind).layers[3]
        before = program.layers[3]
        assert isinstance(layer, Weighted)
        assert isinstance(before, Weighted)
        floats = before.weights.real if behind is None else real.layers[3].weights.codes
        np.testing.assert_array_equal(layer.weights.codes, quantize(floats, layer.weights.params))
        step = float(layer.x.scale) * float(layer.weights.params.scale)
        bias = before.added * float(before.x.scale) * float(before.weights.params.scale)
        bias = bias if behind is None else real.layers[3].added
        assert np.abs(layer.added * step - bias).max() <= step * 0.501
    product = made(Change("scaling.c", "factor", 1.25), reference=real).layers[1]
    assert isinstance(product, Product)
    behind = real.layers[1].parameter
    assert behind is not None
    np.testing.assert_array_equal(product.constant.codes, quantize(behind.codes, product.constant.params))


@given(factor=st.floats(0.1, 10), bits=st.integers(2, 8), name=st.sampled_from((*ACTIVATIONS, *PARAMETERS)))
def test_any_sensible_change_gives_a_network_that_runs(factor: float, bits: int, name: str) -> None:
    changed = made(Change(name, "factor", factor), Change(name, "bits", bits))
    found = native.probabilities(changed, native.run(changed, IMAGES))
    assert found.shape == (8, 10)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-5)


def test_numbers_out_of_arrays_become_plain_ones() -> None:
    change = Change("first", "scale", np.float32(0.25))  # type: ignore[arg-type]
    assert repr(change.value) == "0.25"
    assert hash(change) == hash(Change("first", "scale", 0.25))


# --- refused ---


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (Change("nowhere", "scale", 1.0), "the tensor is not known: found nowhere"),
        (Change("first", "scale", 0.0), "first: a scale makes no sense: found 0.0, expected finite and greater than 0"),
        (Change("first", "scale", -1.0), "first: a scale makes no sense"),
        (Change("first", "scale", float("nan")), "first: a scale makes no sense"),
        (Change("first", "scale", 1e39), "first: a scale makes no sense: found inf"),
        (Change("first", "factor", 1e-50), "first: a scale makes no sense: found 0.0"),
        (Change("first", "scale", "wide"), "the scale is no number: found 'wide'"),
        (
            Change("first", "zero_point", 256),
            "first: a zero point is out of range: found 256, expected a code of uint8",
        ),
        (Change("first", "zero_point", -1), "first: a zero point is out of range: found -1"),
        (Change("first", "zero_point", 1e12), "first: a zero point is out of range"),
        (Change("first", "zero_point", 1.5), "the zero_point is no whole number: found 1.5"),
        (Change("first", "zero_point", float("inf")), "the zero_point is no whole number: found inf"),
        (Change("first", "bits", 1), "the bit width is not possible: found 1, expected 2 to 8 bits"),
        (Change("first", "bits", 9), "the bit width is not possible: found 9"),
        (Change("first", "scale", 1.0, channel=0), "first has no such channel: found 0, expected none"),
        (Change("dense.w", "scale", 1.0, channel=10), "dense.w has no such channel: found 10, expected 0 to 9"),
        (Change("dense.w", "bits", 4, channel=1), "the bit width is not possible: found 4 for channel 1 alone"),
        (Change("first", "rounding", "up"), "the rounding is not known: found up, expected half-even, half-away"),
        (Change("image", "rounding", "truncate"), "this tensor has no rounding of its own: found image"),
        (Change("dense.w", "rounding", "truncate"), "this tensor has no rounding of its own: found dense.w"),
        (Change("first", "colour", 1), "nothing of that name can be changed: found colour"),  # type: ignore[arg-type]
        (Change("first_conv.w", "factor", 1e-12), "the bias of «first_conv» does not fit int32 any more"),
    ],
)
def test_what_makes_no_sense_is_refused_in_a_line(change: Change, words: str) -> None:
    program = network(per_channel=True)
    with pytest.raises(QuantizationError) as caught:
        made(change, program=program)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_zero_point_must_be_one_of_the_fewer_codes() -> None:
    with pytest.raises(QuantizationError, match=r"first: a zero point is out of range: found 20, .* 0 to 15"):
        made(Change("first", "bits", 4), Change("first", "zero_point", 20))
