"""Worked examples: each one's steps, done again by hand, lead to its code."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction

import builders
import pytest
import quantized

from resnet8.audit.worked import audit_worked
from resnet8.data.cifar10 import Split, read_split
from resnet8.execute import engine
from resnet8.numeric.grid import Dtype, qparams
from resnet8.report import arithmetic, tables
from resnet8.results import WorkedArithmetic, WorkedExample, from_json, to_json

MODEL = builders.model("q.onnx", "uint8", "int8")


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> Split:
    return read_split(builders.cifar_folder(tmp_path_factory.mktemp("data") / "cifar"), "test")


@pytest.fixture(scope="module", params=[("uint8", False), ("int8", True)], ids=["u8 per tensor", "s8 per channel"])
def result(request: pytest.FixtureRequest, split: Split) -> WorkedArithmetic:
    dtype, per_channel = request.param
    return audit_worked(MODEL, quantized.network(seed=7, dtype=dtype, per_channel=per_channel), split, image=2)


def by_hand(example: WorkedExample) -> int:
    """The code by rational arithmetic with the fixed-point multipliers."""
    if example.accumulator is None:
        total = sum(Fraction(t.a) * m for t, m in zip(example.terms, example.fixed_multipliers, strict=True))
    else:
        total = Fraction(example.accumulator * example.fixed_multipliers[0])
    return round(total / 2**example.shift) + example.zero_point


def test_there_is_one_example_of_each_kind_of_layer(result: WorkedArithmetic) -> None:
    assert [one.operator for one in result.examples] == [
        "conv",
        "mul",
        "bias-add",
        "residual-add",
        "average-pool",
        "dense",
    ]
    assert len(result.layers) == 7


def test_the_steps_lead_to_the_code(result: WorkedArithmetic) -> None:
    for example in result.examples:
        if example.accumulator is not None:
            products = sum(term.a * (1 if term.b is None else term.b) for term in example.terms)
            assert products + (example.bias or 0) == example.accumulator
            assert example.before_rounding == pytest.approx(example.accumulator * example.multipliers[0], rel=1e-12)
        assert by_hand(example) == example.code_fixed
        assert abs(example.code - example.code_fixed) <= 1
        for real, fixed in zip(example.multipliers, example.fixed_multipliers, strict=True):
            assert fixed / 2**example.shift == pytest.approx(real, rel=2**-28)


def test_examples_tell_something(result: WorkedArithmetic) -> None:
    """Neither clipped nor zero."""
    low = -128 if result.input.dtype == "int8" else 0
    for example in result.examples:
        assert low < example.code < low + 255
        assert example.code != example.zero_point


def test_pixels_are_quantized_as_the_input_grid_says(result: WorkedArithmetic) -> None:
    for pixel in result.pixels:
        assert pixel.code == round(pixel.real / result.input.scales[0]) + result.input.zero_points[0]


def test_classes_are_what_softmax_makes_of_their_logits(result: WorkedArithmetic) -> None:
    """In float64, by the definition; the result is float32."""
    (scale, _), (zero, _) = result.logits.scales, result.logits.zero_points
    reals = [scale * (one.code - zero) for one in result.classes]
    exponentials = [math.exp(real) for real in reals]
    assert len({one.code for one in result.classes}) > 1
    for one, real, exponential in zip(result.classes, reals, exponentials, strict=True):
        assert one.real == pytest.approx(real, rel=1e-6)
        assert one.probability == pytest.approx(exponential / sum(exponentials), rel=1e-5)
        assert one.probability_code is None


@pytest.mark.parametrize(("dtype", "zero"), [("uint8", 0), ("int8", -128)])
def test_quantized_probabilities_give_what_the_engine_returns(dtype: Dtype, zero: int, split: Split) -> None:
    grid = qparams(1 / 255, zero, dtype)
    program = replace(quantized.network(seed=7, dtype=dtype), probabilities=grid)
    result = audit_worked(MODEL, program, split, image=2)
    assert result.probabilities is not None
    assert (result.probabilities.dtype, result.probabilities.zero_points) == (dtype, (zero, zero))
    returned = engine.probabilities(program, engine.run(program, engine.input_codes(program, split.images[2:3])))
    for one, value in zip(result.classes, returned[0], strict=True):
        assert one.probability is not None
        assert one.probability_code == round(one.probability * 255) + zero
        assert (one.probability_code - zero) / 255 == pytest.approx(float(value), rel=1e-6)


def test_without_softmax_there_are_no_probabilities(split: Split) -> None:
    result = audit_worked(MODEL, replace(quantized.network(), softmax=False), split)
    assert {(one.probability, one.probability_code) for one in result.classes} == {(None, None)}
    assert tables.classes(result).headings == ("class", "code of the logit", "dequantized")


def test_the_table_names_the_first_of_the_greatest_logits(split: Split) -> None:
    result = audit_worked(MODEL, quantized.network(seed=7), split, image=2)
    tied = replace(result, classes=tuple(replace(one, code=9) for one in result.classes))
    assert f"image 2, {split.class_names[int(split.labels[2])]}; predicted: airplane" in tables.classes(tied).title
    best = max(result.classes, key=lambda one: one.real)
    assert f"predicted: {best.class_name}" in tables.classes(result).title


def test_it_comes_back_from_json(result: WorkedArithmetic) -> None:
    assert from_json(WorkedArithmetic, to_json(result), "memory") == result


def test_the_lines_show_every_step() -> None:
    from resnet8.results import Term

    example = WorkedExample(
        layer="conv", operator="conv", at=(1, 2, 0), terms=(Term(3, -2), Term(5, 7)), bias=11, accumulator=40,
        multipliers=(0.125,), fixed_multipliers=(1 << 30,), shift=33, before_rounding=5.0, zero_point=-3, code=2,
        code_fixed=2,
    )  # fmt: skip
    assert arithmetic.steps(example) == [
        "conv (conv), output row 1, column 2, channel 0",
        "acc   = (3)·(-2) + (5)·(7) + bias (11) = 40",
        "M     = 0.125 ≈ 1,073,741,824 · 2^-33",
        "M·acc = 5.000000",
        "code  = round(5.000000) + (-3) = 2",
    ]
