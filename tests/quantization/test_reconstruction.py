"""Reconstruction: against every assignment of codes to small layers, and a dense OPTQ; biases by hand."""

from __future__ import annotations

from fractions import Fraction
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from resnet8.errors import QuantizationError
from resnet8.quantization import reconstruction
from resnet8.quantization.reconstruction import Moments, reconstructed, require_exact

if TYPE_CHECKING:
    from numpy.typing import NDArray


def layer(seed: int, depth: int, channels: int, count: int = 200) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Inputs that depend on each other, codes 0 to 255; targets on multiples of 2**-12; the weights behind them."""
    rng = np.random.default_rng(seed)
    mixed = rng.integers(0, 60, (count, depth)) @ rng.integers(0, 3, (depth, depth))
    x = (mixed * 255 // mixed.max()).astype(np.float64)
    weights = rng.integers(-1024, 1025, (depth, channels)) / 2**14
    y = x @ weights + rng.integers(-2000, 2001, channels) / 512 + rng.integers(-800, 801, (count, channels)) / 4096
    return x, np.rint(y * 4096) / 4096, weights


def covariances(x: NDArray[Any], y: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    return x.T @ x, x.T @ y


def squared_errors(x: NDArray[Any], y: NDArray[Any], codes: NDArray[Any], a: NDArray[Any]) -> NDArray[Any]:
    """Of each channel when the bias takes the mean, position by position."""
    missing = y - a * (x @ codes)
    result: NDArray[Any] = ((missing - missing.mean(axis=0)) ** 2).sum(axis=0)
    return result


def largest(weights: NDArray[Any], bits: int, *, per_channel: bool) -> NDArray[Any]:
    greatest = np.abs(weights).max(axis=0) / (2 ** (bits - 1) - 1)
    return greatest if per_channel else np.full_like(greatest, greatest.max())


def all_codes(bits: int, depth: int, zero: int = 0) -> NDArray[Any]:
    every = range(-(2 ** (bits - 1)) - zero, 2 ** (bits - 1) - zero)
    return np.array(list(product(every, repeat=depth)), np.float64).T


def least_error(x: NDArray[Any], y: NDArray[Any], bits: int, zero: int = 0) -> NDArray[Any]:
    """Of each channel, over all codes, each with its best step above zero."""
    codes = all_codes(bits, x.shape[1], zero)
    c, d = covariances(x, y)
    square = np.einsum("ik,ij,jk->k", codes, c, codes)
    along = np.maximum(codes.T @ d, 0)
    gained = along**2 / np.where(square > 0, square, 1)[:, None]
    result: NDArray[Any] = ((y - y.mean(axis=0)) ** 2).sum(axis=0) - gained.max(axis=0)
    return result


@pytest.mark.parametrize(
    ("count", "x", "y", "exact"),
    [(2**21, 255, 2**11 - 1, True), (2**23, 255, 2**11 - 1, False), (2**28, 255, 30.0, True), (2**37, 255, 0.0, True)],
)
def test_sums_that_could_be_rounded_are_refused(count: int, x: float, y: float, exact: bool) -> None:
    if exact:
        require_exact("conv", count, x, y)
        return
    with pytest.raises(QuantizationError, match=r"too large to be exact at «conv»: .*; calibrate with fewer images"):
        require_exact("conv", count, x, y)


# --- codes ---


@pytest.mark.parametrize(("bits", "depth"), [(2, 3), (2, 4), (2, 5), (3, 3), (3, 4)])
def test_codes_are_near_the_best_of_all(bits: int, depth: int) -> None:
    best = 0
    for seed in range(10):
        x, y, weights = layer(seed, depth, 3)
        moments = Moments.of(x, y, products=True)
        codes, a, _ = reconstructed(moments, largest(weights, bits, per_channel=True), bits, per_channel=True)
        assert set(np.unique(codes)) <= set(range(-(2 ** (bits - 1)), 2 ** (bits - 1)))
        found, least = squared_errors(x, y, codes, a), least_error(x, y, bits)
        assert (found >= least * (1 - 1e-9)).all()
        best += int((found <= least * (1 + 1e-9)).sum())
    assert best >= 15  # of 30


@pytest.mark.parametrize(("bits", "depth", "seed"), [(2, 3, 2), (2, 4, 3), (2, 5, 9), (3, 3, 0), (3, 4, 9), (3, 5, 4)])
def test_codes_reach_the_best_of_all(bits: int, depth: int, seed: int) -> None:
    x, y, weights = layer(seed, depth, 3)
    moments = Moments.of(x, y, products=True)
    codes, a, _ = reconstructed(moments, largest(weights, bits, per_channel=True), bits, per_channel=True)
    np.testing.assert_allclose(squared_errors(x, y, codes, a), least_error(x, y, bits), rtol=1e-9)


@pytest.mark.parametrize(("bits", "depth"), [(2, 3), (2, 5), (3, 4)])
def test_each_channel_has_the_better_zero_point(bits: int, depth: int) -> None:
    """By the best codes of all around either; where both are as good, 0."""
    told_apart = 0
    for seed in range(10):
        x, y, weights = layer(seed, depth, 6)
        most = largest(weights, bits, per_channel=True)
        codes, a, zeros = reconstructed(Moments.of(x, y, products=True), most, bits, per_channel=True, zeros=(0, -1))
        assert set(zeros.tolist()) <= {0, -1}
        stored = codes + zeros
        assert stored.min() >= -(2 ** (bits - 1))
        assert stored.max() <= 2 ** (bits - 1) - 1
        alone = [
            squared_errors(
                x, y, *reconstructed(Moments.of(x, y, products=True), most, bits, per_channel=True, zeros=(zero,))[:2]
            )
            for zero in (0, -1)
        ]
        np.testing.assert_allclose(squared_errors(x, y, codes, a), np.minimum(*alone), rtol=1e-9)
        best = np.array([least_error(x, y, bits, zero) for zero in (0, -1)])
        clear = np.abs(best[0] - best[1]) > 0.1 * best.max(axis=0)
        told_apart += int((zeros[clear] == np.where(best[1] < best[0], -1, 0)[clear]).mean() >= 0.8)
    assert told_apart >= 8


def test_a_shared_scale_has_a_shared_zero_point() -> None:
    x, y, weights = layer(3, 5, 4)
    _, a, zeros = reconstructed(
        Moments.of(x, y, products=True), largest(weights, 2, per_channel=False), 2, per_channel=False, zeros=(0, -1)
    )
    assert len(set(a.tolist())) == len(set(zeros.tolist())) == 1


@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize(("bits", "share"), [(2, 0.7), (3, 0.7), (4, 0.8), (8, 0.99)])
def test_better_than_rounding_to_the_nearest(bits: int, share: float, per_channel: bool) -> None:
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    for seed in range(10):
        x, y, weights = layer(seed, 9, 4)
        most = largest(weights, bits, per_channel=per_channel)
        codes, a, _ = reconstructed(Moments.of(x, y, products=True), most, bits, per_channel=per_channel)
        nearest = np.clip(np.rint(weights / most), low, high)
        found, rounded = squared_errors(x, y, codes, a), squared_errors(x, y, nearest, most)
        assert found.sum() <= share * rounded.sum()
        assert len(set(a.tolist())) == (4 if per_channel else 1)


@pytest.mark.parametrize("per_channel", [True, False])
def test_steps_are_the_best_for_the_codes(per_channel: bool) -> None:
    x, y, weights = layer(1, 6, 4)
    most = largest(weights, 3, per_channel=per_channel)
    codes, a, _ = reconstructed(Moments.of(x, y, products=True), most, 3, per_channel=per_channel)
    centred = x - x.mean(axis=0)
    made, wanted = centred @ codes, y - y.mean(axis=0)
    if per_channel:
        expected = [
            np.linalg.lstsq(one[:, None], other, rcond=None)[0][0] for one, other in zip(made.T, wanted.T, strict=True)
        ]
    else:
        expected = np.full(4, np.linalg.lstsq(made.reshape(-1, 1), wanted.ravel(), rcond=None)[0][0]).tolist()
    np.testing.assert_allclose(a, expected, rtol=1e-9)


def dense_optq(c: NDArray[Any], weights: NDArray[Any], a: NDArray[Any], low: int, high: int) -> NDArray[Any]:
    """OPTQ as published: the inverse Hessian, a column after the other, the most variable input first."""
    codes = np.zeros_like(weights)
    left = weights / a
    inverse = np.linalg.inv(c + 1e-6 * np.diag(c).max() * np.eye(len(c)))
    for i in np.argsort(np.diag(c), kind="stable")[::-1]:
        codes[i] = np.clip(np.rint(left[i]), low, high)
        left = left - np.outer(inverse[:, i] / inverse[i, i], left[i] - codes[i])
        inverse = inverse - np.outer(inverse[:, i], inverse[i]) / inverse[i, i]
    return codes


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("depth", [4, 30])
def test_the_first_step_is_optq(bits: int, depth: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconstruction, "_ROUNDS", 0)
    monkeypatch.setattr(reconstruction, "_SHARES", {bits: (1.0,)})
    x, y, weights = layer(bits, depth, 5, count=400)
    most = largest(weights, bits, per_channel=True)
    codes, a, _ = reconstructed(Moments.of(x, y, products=True), most, bits, per_channel=True)
    np.testing.assert_array_equal(a, most)
    c, d = covariances(x, y)
    optimum = np.linalg.solve(c + 1e-6 * np.diag(c).max() * np.eye(depth), d)
    np.testing.assert_array_equal(codes, dense_optq(c, optimum, most, -(2 ** (bits - 1)), 2 ** (bits - 1) - 1))


def test_each_further_step_gains(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y, weights = layer(2, 30, 20, count=400)
    most = largest(weights, 3, per_channel=True)
    errors = []
    for rounds in (0, 1, 3):
        monkeypatch.setattr(reconstruction, "_ROUNDS", rounds)
        errors.append(
            squared_errors(x, y, *reconstructed(Moments.of(x, y, products=True), most, 3, per_channel=True)[:2]).sum()
        )
    assert errors[2] <= errors[1] < errors[0]


def test_inputs_that_never_change_decide_nothing() -> None:
    """Also where two inputs are the same: their codes are chosen, and finite."""
    x, y, weights = layer(3, 5, 3)
    x[:, 1], x[:, 4] = 7, x[:, 0]
    codes, a, _ = reconstructed(
        Moments.of(x, y, products=True), largest(weights, 4, per_channel=True), 4, per_channel=True
    )
    assert np.isfinite(a).all()
    assert (a > 0).all()
    other = codes.copy()
    other[1] = 0
    np.testing.assert_allclose(squared_errors(x, y, other, a), squared_errors(x, y, codes, a))


# --- sums ---


def test_sums_are_exact_in_any_order() -> None:
    rng = np.random.default_rng(4)
    x = rng.integers(0, 256, (5000, 4)).astype(np.float64)
    y = rng.integers(-(2**23) + 1, 2**23, (5000, 2)) / 2**12
    whole = Moments.of(x, y, products=True)
    order = rng.permutation(5000)
    one, other = (Moments.of(x[part], y[part], products=True) for part in (order[:777], order[777:]))
    for parts in (one + other, other + one):
        assert parts.count == 5000
        for name in ("x", "y", "xx", "xy"):
            np.testing.assert_array_equal(getattr(parts, name), getattr(whole, name), strict=True)
    products = zip(x[:, 3].tolist(), y[:, 1].tolist(), strict=True)
    assert Fraction(float(whole.xy[3, 1])) == sum(Fraction(a) * Fraction(b) for a, b in products)


def test_products_are_left_out() -> None:
    few = Moments.of(np.ones((3, 2)), np.ones((3, 1)), products=False)
    assert (few.xx.size, few.xy.size) == (0, 0)
    assert (few + few).count == 6


# --- biases ---


def test_the_bias_gives_each_channel_its_mean() -> None:
    x, y = np.array([[1.0, 2], [3, 4]]), np.array([[10.0, 1], [20, 3]])
    codes = np.array([[1.0, 2], [-1, 0]])
    moments = Moments.of(x, y, products=False)
    # Means of x @ codes: -1 and 4; of y: 15 and 2.
    np.testing.assert_array_equal(moments.bias(codes, np.array([0.5, 0.25])), [15 + 0.5, 2 - 1.0])
    np.testing.assert_array_equal(moments.bias(codes, np.array(0.5)), [15 + 0.5, 2 - 2.0])


def test_what_is_written_has_the_mean_it_should_have() -> None:
    x, y, weights = layer(5, 6, 3)
    steps = largest(weights, 4, per_channel=True)
    codes = np.rint(weights / steps)
    bias = Moments.of(x, y, products=False).bias(codes, steps)
    np.testing.assert_allclose((steps * (x @ codes) + bias).mean(axis=0), y.mean(axis=0), rtol=1e-12)
