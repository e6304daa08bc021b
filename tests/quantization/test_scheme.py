"""Schemes: the bits and types that each tensor gets, and what is refused."""

from __future__ import annotations

import re
from dataclasses import FrozenInstanceError
from typing import Any

import pytest

from resnet8.errors import QuantizationError
from resnet8.quantization.scheme import BITS, FINE_BITS, Scheme


def test_bits_of_a_layer() -> None:
    plain = Scheme(weight_bits=3)
    assert [plain.bits_of("a", edge=edge) for edge in (True, False)] == [8, 3]
    alike = Scheme(weight_bits=3, edge_bits=None)
    assert [alike.bits_of("a", edge=edge) for edge in (True, False)] == [3, 3]
    single = Scheme(weight_bits=3, edge_bits=6, layer_bits=(("a", 2), ("b", 5)), float_layers=("b",))
    assert [single.bits_of(name, edge=True) for name in "abc"] == [2, FINE_BITS, 6]
    assert [single.bits_of(name, edge=False) for name in "abc"] == [2, FINE_BITS, 3]


@pytest.mark.parametrize(
    ("scheme", "fewest"),
    [
        (Scheme(), 8),
        (Scheme(weight_bits=5), 5),
        (Scheme(edge_bits=4), 4),
        (Scheme(weight_bits=5, edge_bits=None), 5),
        (Scheme(weight_bits=4, layer_bits=(("a", 6), ("b", 2))), 2),
    ],
)
def test_the_fewest_bits(scheme: Scheme, fewest: int) -> None:
    assert scheme.fewest_bits == fewest


@pytest.mark.parametrize(
    ("scheme", "weights", "activations", "logits"),
    [
        (Scheme(), "int8", "uint8", "uint8"),
        (Scheme(weights_signed=False), "uint8", "uint8", "uint8"),
        (Scheme(weights_signed=False, weight_bits=4, activation_bits=5), "int4", "uint5", "uint8"),
        (Scheme(weight_bits=2, activation_bits=4, activations_signed=True), "int2", "int4", "int8"),
    ],
)
def test_types(scheme: Scheme, weights: str, activations: str, logits: str) -> None:
    assert scheme.weights == weights
    assert scheme.activation_dtype() == activations
    assert scheme.activation_dtype(logits=True) == logits


@pytest.mark.parametrize(
    ("activation_bits", "edge_bits", "bits"), [(4, 8, 8), (4, 6, 6), (4, 3, 4), (8, 4, 8), (4, None, 4)]
)
def test_what_the_last_layer_reads_has_no_fewer_bits_than_its_weights(
    activation_bits: int, edge_bits: int | None, bits: int
) -> None:
    scheme = Scheme(activation_bits=activation_bits, edge_bits=edge_bits)
    assert scheme.activation_dtype(last=True) == f"uint{bits}"


def test_settings_are_plain_values() -> None:
    defaults = {
        "weight_bits": 8,
        "activation_bits": 8,
        "edge_bits": 8,
        "per_channel": True,
        "weights_signed": True,
        "activations_signed": False,
        "equalization": "none",
        "observer": "mse",
        "weight_observer": "mse",
        "mirrored": False,
        "bias_correction": True,
        "rounding": "nearest",
    }
    assert Scheme().settings() == defaults
    given = Scheme(edge_bits=None, layer_bits=(("a", 2), ("b", 5))).settings()
    assert given == {name: value for name, value in defaults.items() if name != "edge_bits"} | {
        "layer_bits": "a: 2, b: 5"
    }


def test_schemes_are_frozen_values() -> None:
    assert Scheme(weight_bits=4) == Scheme(weight_bits=4)
    assert len({Scheme(), Scheme(weight_bits=4), Scheme()}) == 2
    with pytest.raises(FrozenInstanceError):
        Scheme().weight_bits = 4  # type: ignore[misc]


@pytest.mark.parametrize("bits", BITS)
def test_two_to_eight_bits_are_taken(bits: int) -> None:
    Scheme(weight_bits=bits, activation_bits=bits, edge_bits=bits, layer_bits=(("a", bits),))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"weight_bits": 1}, "weight bits: found 1, expected 2 to 8; choose one of these"),
        ({"weight_bits": 9}, "weight bits: found 9, expected 2 to 8"),
        ({"activation_bits": 0}, "activation bits: found 0, expected 2 to 8"),
        ({"edge_bits": 16}, "bits of the first and last layer: found 16, expected 2 to 8"),
        ({"layer_bits": (("a", 4), ("b", 12))}, "bits of the layer b: found 12, expected 2 to 8"),
        ({"observer": "entropy"}, "observer: found entropy, expected minmax, percentile, mse"),
        ({"weight_observer": "percentile"}, "observer of weights: found percentile, expected minmax, mse"),
        ({"equalization": "all"}, "equalization: found all, expected none, activations, balanced"),
        ({"rounding": "up"}, "rounding of weights: found up, expected nearest, reconstruct"),
    ],
)
def test_what_makes_no_sense_is_refused_in_a_line(given: dict[str, Any], words: str) -> None:
    with pytest.raises(QuantizationError, match=f"^a scheme cannot have this: {re.escape(words)}"):
        Scheme(**given)


def test_layers_that_are_not_there_are_refused() -> None:
    names = ("conv1", "dense")
    Scheme(layer_bits=(("dense", 4),), float_layers=("conv1",)).require_layers(names)
    for scheme in (Scheme(layer_bits=(("conv1", 4), ("conv9", 4))), Scheme(float_layers=("conv9",))):
        with pytest.raises(QuantizationError, match=r"bits of the layer: found conv9, expected conv1, dense"):
            scheme.require_layers(names)
