"""Folding: factors and addends of every channel go into the convolution before them, and nowhere else."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from reals import pictures, residual

from resnet8.execute import real
from resnet8.network.layers import Product, Sum, Weighted
from resnet8.network.program import Program
from resnet8.network.rewrite import folded
from resnet8.network.tensors import Activation, Constant


def test_the_folded_network_computes_the_same() -> None:
    network, images = residual(), pictures(20, 3)
    result = folded(network)
    assert [(layer.operator, layer.name, layer.relu) for layer in result.layers] == [
        ("conv", "conv1", True),
        ("conv", "conv2", True),
        ("conv", "conv3", False),
        ("add", "joining", True),
        ("conv", "conv4", True),
        ("conv", "conv5", False),
        ("conv", "conv6", False),
        ("add", "rejoining", True),
        ("average-pool", "pool", False),
        ("dense", "dense", False),
    ]
    np.testing.assert_allclose(real.run(result, images), real.run(network, images), rtol=1e-4, atol=1e-4)
    assert result.layers[0].output.name == "shifted_relu"
    assert folded(result).layers == result.layers


def dense(x: Activation, name: str, *, bias: bool) -> Weighted:
    """Two inputs, two outputs, small whole numbers."""
    return Weighted(
        name=name,
        output=Activation(f"{name}_out", (2,), None),
        x=x,
        weights=Constant(f"{name}_w", np.float32([[[[1, 2], [3, -4]]]]), None),
        bias=Constant(f"{name}_b", np.float32([5, 6]), None) if bias else None,
        dense=True,
    )


IMAGE = Activation("image", (2,), None)
FACTORS, ADDENDS = Constant("factors", np.float32([10, 0.5]), None), Constant("addends", np.float32([1, -1]), None)


def times(x: Activation, name: str = "mul") -> Product:
    return Product(name=name, output=replace(x, name=f"{name}_out"), x=x, constant=FACTORS)


def plus(x: Activation, name: str = "add") -> Sum:
    return Sum(name=name, output=replace(x, name=f"{name}_out"), a=x, b=ADDENDS)


def program(*layers: Weighted | Product | Sum) -> Program:
    return Program(IMAGE, layers, layers[-1].output, softmax=False, probabilities=None)


@pytest.mark.parametrize(("bias", "expected"), [(True, [51, 2]), (False, [1, -1])])
def test_weights_and_bias_by_hand(bias: bool, expected: list[float]) -> None:
    first = dense(IMAGE, "dense", bias=bias)
    scaled = times(first.output)
    (layer,) = folded(program(first, scaled, plus(scaled.output))).layers
    assert layer.parameter is not None
    assert layer.parameter.codes.tolist() == [[[[10, 1], [30, -2]]]]
    np.testing.assert_array_equal(layer.added, np.float32(expected), strict=True)
    assert (layer.name, layer.output.name) == ("dense", "add_out")


def test_an_addition_before_the_factor_is_multiplied_too() -> None:
    first = dense(IMAGE, "dense", bias=False)
    shifted = plus(first.output)
    (layer,) = folded(program(first, shifted, times(shifted.output))).layers
    assert layer.added is not None
    assert layer.added.tolist() == [10, -0.5]


def test_nothing_folds_through_a_relu_or_into_what_others_read() -> None:
    first = dense(IMAGE, "dense", bias=True)
    clipped = replace(first, relu=True)
    assert [one.name for one in folded(program(clipped, times(first.output))).layers] == ["dense", "mul"]
    shared = program(
        first, times(first.output), Sum(name="both", output=IMAGE, a=times(first.output).output, b=first.output)
    )
    assert [one.name for one in folded(shared).layers] == ["dense", "mul", "both"]
    assert [one.name for one in folded(program(times(IMAGE), plus(times(IMAGE).output))).layers] == ["mul", "add"]


def test_what_is_read_as_class_scores_stays() -> None:
    first = dense(IMAGE, "dense", bias=True)
    network = replace(program(first, times(first.output)), logits=first.output)
    assert [one.name for one in folded(network).layers] == ["dense", "mul"]


def test_two_weighted_layers_stay_two() -> None:
    first = dense(IMAGE, "one", bias=True)
    assert len(folded(program(first, dense(first.output, "two", bias=True))).layers) == 2
