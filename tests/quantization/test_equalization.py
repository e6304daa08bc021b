"""Equalization: the network computes the same, its channels are alike; factors of small networks by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from reals import pictures, residual

from resnet8.execute import real
from resnet8.execute.walk import walk
from resnet8.network.layers import Weighted
from resnet8.network.program import Program
from resnet8.network.tensors import Activation, Constant
from resnet8.quantization.equalization import ChannelMagnitudes, equalized
from resnet8.quantization.native import fold

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from resnet8.quantization.equalization import Equalization

NETWORK = real.on_a_grid(fold(residual()))
IMAGES = pictures(40, 7)
GROUPS = (
    ("shifted_relu", "conv3_out", "joining_out_relu"),
    ("conv2_out_relu",),
    ("conv4_out_relu",),
    ("conv5_out", "conv6_out", "rejoining_out_relu", "mean"),
)


def values(network: Program) -> dict[str, NDArray[np.float64]]:
    """Every activation on the images, in float64."""
    seen: dict[str, NDArray[np.float64]] = {}
    walk(network, IMAGES.astype(np.float64), real.step, seen.__setitem__)
    return seen


def magnitudes(seen: dict[str, NDArray[np.float64]]) -> dict[str, ChannelMagnitudes]:
    rows = {name: np.abs(one).reshape(-1, one.shape[-1]) for name, one in seen.items()}
    return {name: ChannelMagnitudes(one.max(axis=0), one.mean(axis=0)) for name, one in rows.items()}


def factors(found: dict[str, NDArray[np.float64]], before: dict[str, NDArray[np.float64]], name: str) -> list[float]:
    one, other = (seen[name].reshape(-1, seen[name].shape[-1]) for seen in (found, before))
    return (np.abs(one).sum(axis=0) / np.abs(other).sum(axis=0)).tolist()


@pytest.mark.parametrize("how", ["activations", "balanced"])
def test_the_network_computes_the_same(how: Equalization) -> None:
    before = values(NETWORK)
    other = equalized(NETWORK, magnitudes(before), how)
    found = values(other)
    np.testing.assert_allclose(found["logits"], before["logits"], rtol=1e-10, atol=1e-10)
    assert not np.allclose(found["mean"], before["mean"], rtol=0.1)
    for one, was in zip(other.layers, NETWORK.layers, strict=True):
        assert (one.name, one.inputs, one.output, one.relu) == (was.name, was.inputs, was.output, was.relu)


@pytest.mark.parametrize("how", ["activations", "balanced"])
def test_what_additions_and_averages_tie_together_shares_its_factors(how: Equalization) -> None:
    before = values(NETWORK)
    found = values(equalized(NETWORK, magnitudes(before), how))
    for group in GROUPS:
        shared = factors(found, before, group[0])
        assert max(shared) > 1.1 * min(shared)
        for name in group[1:]:
            np.testing.assert_allclose(factors(found, before, name), shared, rtol=1e-9)
        # Through a ReLU, each value is multiplied by its channel's factor.
        np.testing.assert_allclose(found[group[0]], before[group[0]] * shared, rtol=1e-9, atol=1e-9)
    np.testing.assert_array_equal(found["image"], before["image"])


def test_channels_reach_the_same_greatest_value() -> None:
    before = magnitudes(values(NETWORK))
    after = magnitudes(values(equalized(NETWORK, before, "activations")))
    for group in GROUPS:
        reach = [after[name].greatest / before[name].greatest.max() for name in group]
        np.testing.assert_allclose(np.max(reach, axis=0), 1, rtol=1e-9)


def test_none_changes_nothing() -> None:
    assert equalized(NETWORK, {}, "none") is NETWORK


# --- by hand ---


def two_layers(first: list[list[float]], second: list[list[float]], bias: list[float]) -> Program:
    """An image of one pixel and one channel -> two channels -> two class scores."""
    x, a, b = Activation("x", (1,), None), Activation("a", (2,), None), Activation("b", (2,), None)

    def dense(name: str, source: Activation, output: Activation, weights: list[list[float]]) -> Weighted:
        held = Constant(f"{name}_w", np.float32(weights)[None, None], None)
        return Weighted(name=name, output=output, x=source, weights=held, dense=True)

    made = replace(dense("a", x, a, first), relu=True, bias=Constant("a_b", np.float32(bias), None))
    return Program(x, (made, dense("b", a, b, second)), b, softmax=False, probabilities=None)


def weights(network: Program) -> list[list[list[float]]]:
    return [layer.weights.columns.tolist() for layer in network.weighted]


def of(greatest: list[float], mean: list[float]) -> dict[str, ChannelMagnitudes]:
    return {"a": ChannelMagnitudes(np.float64(greatest), np.float64(mean))}


def test_factors_of_activations_by_hand() -> None:
    """The greatest values 8 and 2: the second channel is multiplied by 4."""
    network = two_layers([[1, 3]], [[5, 6], [8, -4]], [0.5, -2])
    found = equalized(network, of([8, 2], [1, 1]), "activations")
    assert weights(found) == [[[1, 12]], [[5, 6], [2, -1]]]
    assert found.weighted[0].added.tolist() == [0.5, -8]
    assert found.weighted[1].bias is None


def test_balanced_factors_by_hand() -> None:
    """Columns have the mean magnitudes 5 and 2: rows weigh (2/5 + 2/2) / 2 = 0.7 and (8/5 + 2/2) / 2 = 1.3.

    Values are 1 and 1/4 of the greatest: the factors are the roots of 0.7 and of 5.2.
    """
    network = two_layers([[1, 3]], [[2, -2], [8, 2]], [1, 1])
    found = equalized(network, of([9, 9], [4, 1]), "balanced")
    wanted = np.sqrt([0.7, 5.2])
    first, second = (np.array(one) for one in weights(found))
    np.testing.assert_allclose(first, [[1, 3]] * wanted, rtol=1e-14)
    np.testing.assert_allclose(second, np.array([[2, -2], [8, 2]]) / wanted[:, None], rtol=1e-14)
    np.testing.assert_allclose(found.weighted[0].added, wanted, rtol=1e-14)


@pytest.mark.parametrize("how", ["activations", "balanced"])
def test_a_channel_that_is_always_zero_keeps_a_finite_factor(how: Equalization) -> None:
    network = two_layers([[1, 3]], [[2, -2], [8, 2]], [1, 1])
    dead = equalized(network, of([8, 0], [4, 0]), how)
    assert np.isfinite(np.concatenate([np.ravel(one) for one in weights(dead)])).all()
    assert weights(dead)[0][0][1] <= 3000


def test_a_channel_that_nothing_reads_keeps_a_factor() -> None:
    network = two_layers([[1, 3]], [[2, -2], [0, 0]], [1, 1])
    unread = equalized(network, of([8, 2], [4, 1]), "balanced")
    assert weights(unread)[1][1] == [0, 0]
    assert 0 < weights(unread)[0][0][1] < 3


@pytest.mark.parametrize("how", ["activations", "balanced"])
def test_an_activation_that_is_always_zero_or_not_read_at_all_stays_finite(how: Equalization) -> None:
    network = two_layers([[1, 3]], [[0, 0], [0, 0]], [1, 1])
    for seen in (of([0, 0], [0, 0]), of([8, 2], [4, 1])):
        assert np.isfinite(np.concatenate([np.ravel(one) for one in weights(equalized(network, seen, how))])).all()
