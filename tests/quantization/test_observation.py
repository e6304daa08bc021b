"""What a float network writes on calibration images, and that schemes may share it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from reals import pictures, residual

from resnet8.errors import QuantizationError
from resnet8.execute import real
from resnet8.quantization.equalization import equalized
from resnet8.quantization.native import carried_out, fold, observe, quantized
from resnet8.quantization.observation import Observation, magnitudes
from resnet8.quantization.observers import activation_grid, logit_grid
from resnet8.quantization.scheme import Scheme

if TYPE_CHECKING:
    from resnet8.numeric.grid import QParams

NETWORK = residual()
IMAGES = pictures(100)


def told(grid: QParams) -> tuple[float, int, str]:
    return float(grid.scale), int(grid.zero_point), grid.dtype


def test_activations_are_those_of_the_float_network() -> None:
    shown, plain = Observation(fold(NETWORK), IMAGES), fold(NETWORK)
    seen: dict[str, np.ndarray] = {}
    real.run(plain, IMAGES, seen.__setitem__)
    for layer in plain.layers:
        name = layer.output.name
        np.testing.assert_allclose(shown.written(name), seen[name], atol=2e-3)
        if layer.relu:
            assert (shown.unclipped(name) < 0).any()
            np.testing.assert_array_equal(np.maximum(shown.unclipped(name), 0), shown.written(name))


def test_values_are_multiples_of_a_power_of_two_whatever_is_asked_first() -> None:
    shown, other = Observation(fold(NETWORK), IMAGES), Observation(fold(NETWORK), IMAGES)
    last = shown.network.logits.name
    for name in (last, *(layer.output.name for layer in shown.network.layers)):
        values = shown.unclipped(name)
        np.testing.assert_array_equal(values * 2**real.VALUE_BITS, np.rint(values * 2**real.VALUE_BITS))
    for layer in other.network.layers:
        np.testing.assert_array_equal(other.unclipped(layer.output.name), shown.unclipped(layer.output.name))


def test_grids_are_the_observers() -> None:
    shown = Observation(fold(NETWORK), IMAGES)
    for layer in shown.network.layers:
        name = layer.output.name
        observed = logit_grid if name == shown.network.logits.name else activation_grid
        for dtype in ("uint8", "uint4"):
            for observer in ("mse", "minmax", "mse"):
                expected = observed(name, shown.written(name), dtype, observer)  # type: ignore[arg-type]
                assert told(shown.grid(name, dtype, observer)) == told(expected)  # type: ignore[arg-type]


@pytest.mark.parametrize("equalization", ["none", "activations", "balanced"])
@pytest.mark.parametrize("mirrored", [False, True])
def test_schemes_that_share_an_observation_find_what_each_finds_alone(equalization: str, mirrored: bool) -> None:
    same = Scheme(equalization=equalization, mirrored=mirrored)  # type: ignore[arg-type]
    shown = observe(NETWORK, IMAGES, same)
    for scheme in (
        replace(same, weight_bits=3, rounding="reconstruct"),
        replace(same, activation_bits=4, observer="percentile"),
        replace(same, weights_signed=False),
        same,
    ):
        one, other = carried_out(shown, scheme), quantized(NETWORK, IMAGES, scheme)
        for layer, twin in zip(one.layers, other.layers, strict=True):
            assert told(layer.output.params) == told(twin.output.params)
            if layer.parameter is not None and twin.parameter is not None:
                np.testing.assert_array_equal(layer.parameter.codes, twin.parameter.codes)
                np.testing.assert_array_equal(layer.added, twin.added)


def test_a_layer_that_is_not_there_is_refused_of_a_shared_observation_too() -> None:
    shown = observe(NETWORK, IMAGES, Scheme())
    with pytest.raises(QuantizationError, match="bits of the layer"):
        carried_out(shown, Scheme(layer_bits=(("nowhere", 4),)))


def test_values_that_were_dropped_are_computed_anew() -> None:
    shown = Observation(fold(NETWORK), IMAGES)
    name = shown.network.layers[0].output.name
    before = shown.unclipped(name).copy()
    shown.forget(len(shown.network.layers))
    np.testing.assert_array_equal(shown.unclipped(name), before)


def test_magnitudes_are_of_what_layers_write() -> None:
    plain = fold(NETWORK)
    heard: list[tuple[int, int]] = []
    found = magnitudes(plain, IMAGES, lambda *now: heard.append(now))
    shown = Observation(plain, IMAGES)
    for name, one in found.items():
        rows = np.abs(shown.written(name).astype(np.float64)).reshape(-1, one.mean.size)
        np.testing.assert_array_equal(one.greatest, rows.max(axis=0))
        np.testing.assert_allclose(one.mean, rows.mean(axis=0), rtol=1e-12)
    assert heard == [(done, len(plain.layers)) for done in range(1, len(plain.layers) + 1)]
    balanced = observe(NETWORK, IMAGES, Scheme(equalization="balanced")).network
    np.testing.assert_allclose(
        balanced.weighted[1].weights.codes, equalized(plain, found, "balanced").weighted[1].weights.codes, atol=2.0**-22
    )
