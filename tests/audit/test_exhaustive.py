"""The proof about requantization, against the computation of every single accumulator and pair of codes."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from itertools import product
from typing import TYPE_CHECKING, Any

import builders
import numpy as np
import pytest
import quantized
from roundings import rounded

from resnet8.audit.exhaustive import audit_exhaustively
from resnet8.audit.requantization import VARIANTS
from resnet8.execute import engine
from resnet8.network.layers import Sum, Weighted
from resnet8.network.program import Program
from resnet8.network.tensors import Constant
from resnet8.numeric.grid import qparams
from resnet8.numeric.variants import ROUNDINGS, Requantization
from resnet8.report import exhaustive
from resnet8.results import ExhaustiveStudy, from_json, to_json

if TYPE_CHECKING:
    from resnet8.network.layers import AnyLayer

MODEL = builders.model("q.onnx", "uint8", "int8")


def small(layer: AnyLayer) -> Program:
    """A program of one layer: only its arithmetic is asked for."""
    return Program(layer.reads[0], (layer,), layer.output, softmax=False, probabilities=None)


def dense(*, per_channel: bool = True, relu: bool = False, weights: str = "int8") -> Weighted:
    rng = np.random.default_rng(7)
    out = quantized.activation("y", (3,), 1.9, 3, "int8")
    x = quantized.activation("x", (3,), 0.25, 10, "uint8")
    options: dict[str, Any] = {"dtype": weights, "per_channel": per_channel, "largest": 40}
    layer = quantized.weighted(rng, x, out, bias=300, dense=True, scale=0.3, **options)
    return replace(layer, relu=relu)


def factor() -> AnyLayer:
    x, out = (
        quantized.activation("x", (2, 2, 4), 0.5, 100, "uint8"),
        quantized.activation("y", (2, 2, 4), 1.7, -9, "int8"),
    )
    return quantized.product(x, out, np.array([-100, 0, 3, 127], np.int8), qparams(0.031, 0, "int8"))


def pool() -> AnyLayer:
    x, out = (
        quantized.activation("x", (4, 4, 2), 1.0, -3, "int8"),
        quantized.activation("y", (1, 1, 2), 1.0, 5, "uint8"),
    )
    return quantized.pool(x, out)


def rescale() -> AnyLayer:
    x, out = quantized.activation("x", (4,), 1.0, -3, "int8"), quantized.activation("y", (4,), 2.0, 5, "int8")
    return quantized.rescale(x, out)


WITH_ACCUMULATORS = {
    "dense": dense(),
    "per tensor, ReLU": dense(per_channel=False, relu=True),
    "unsigned weights": dense(weights="uint8"),
    "factor": factor(),
    "pool": pool(),
    "rescale": rescale(),
}


def residual() -> Sum:
    a, b = (
        quantized.activation(n, (2, 2, 3), s, z, t) for n, s, z, t in (("a", 0.7, 5, "int8"), ("b", 0.3, 9, "uint8"))
    )
    return quantized.addition(a, b, quantized.activation("y", (2, 2, 3), 1.1, -4, "int8"))


def bias_add() -> Sum:
    a = quantized.activation("a", (2, 2, 3), 1.0, 129, "uint8")
    b = Constant("b", np.array([-128, -1, 127], np.int8), qparams(0.5, 1, "int8"))
    return quantized.addition(a, b, quantized.activation("y", (2, 2, 3), 1.0, 3, "uint8"))


def twice() -> Sum:
    a = quantized.activation("a", (2, 2, 3), 0.5, 7, "int8")
    return quantized.addition(a, a, quantized.activation("y", (2, 2, 3), 1.5, 0, "int8"))


def real(layer: AnyLayer, channel: int) -> list[Fraction]:
    """From the scales, one after the other."""
    weight = Fraction(1)
    if layer.multiplied is not None:
        scales = layer.multiplied.params.scale
        weight = Fraction(float(scales if scales.ndim == 0 else scales[channel]))
    out = Fraction(float(layer.output.scale)) * layer.count
    return [Fraction(float(one.scale)) * weight / out for _, one in layer.sources]


def every_accumulator(layer: AnyLayer, channel: int) -> list[int]:
    """All of the channel, from the layer's own constants."""
    low, high = layer.reads[0].codes_from_zero
    steps = range(low, high + 1)
    if layer.kind == "mul":
        code = int(layer.parameter.codes[channel])  # type: ignore[union-attr]
        return sorted({code * step for step in steps})
    if isinstance(layer, Weighted):
        weights = [int(w) for w in layer.matrix[:, channel]]
        ends = [sum(of(w * low, w * high) for w in weights) + int(layer.added[channel]) for of in (min, max)]
        return list(range(ends[0], ends[1] + 1))
    return list(range(low * layer.count, high * layer.count + 1))


def by_exact_rule(layer: AnyLayer, rounding: str) -> list[list[int]]:
    """The codes of every accumulator of each channel."""
    zero, found = layer.output.zero_point, []
    for channel in range(layer.output.shape[-1]):
        (multiplier,) = real(layer, channel)
        whole = (rounded(multiplier * n, rounding) + zero for n in every_accumulator(layer, channel))
        found.append([min(max(code, layer.lowest), layer.highest) for code in whole])
    return found


def differing(layer: AnyLayer, variant: Requantization, exact: list[list[int]]) -> list[list[tuple[int, int, int]]]:
    """Of each channel the accumulators that differ, with the exact code and the engine's."""
    found = []
    for channel, expected in enumerate(exact):
        numbers = every_accumulator(layer, channel)
        columns = np.repeat(np.array(numbers)[:, None], layer.output.shape[-1], axis=1)
        codes = engine.requantize(layer, columns, variant)[:, channel].tolist()
        found.append([(n, e, c) for n, e, c in zip(numbers, expected, codes, strict=True) if e != c])
    return found


@pytest.mark.parametrize("name", WITH_ACCUMULATORS)
def test_every_accumulator_one_by_one(name: str) -> None:
    layer = WITH_ACCUMULATORS[name]
    variants = [one for one in VARIANTS if one.multiplier != "fixed32" or one.rounding == "half-even"]
    study = audit_exhaustively(MODEL, small(layer), variants)
    numbers = [every_accumulator(layer, channel) for channel in range(layer.output.shape[-1])]
    assert study.cases == sum(256 if layer.kind == "mul" and len(of) > 1 else len(of) for of in numbers)
    exact = {rounding: by_exact_rule(layer, rounding) for rounding in ROUNDINGS}
    for row, variant in zip(study.rows, variants, strict=True):
        expected = differing(layer, variant, exact[variant.rounding])
        assert row.differing == sum(map(len, expected)), variant
        even = differing(layer, variant, exact["half-even"])
        assert row.from_half_even == sum(map(len, even))
        if not row.differing:
            assert row.layers == ()
            continue
        (found,) = row.layers
        assert found.channels == tuple(map(len, expected))
        assert found.largest == max(abs(e - c) for of in expected for _, e, c in of)
        first = found.smallest
        assert first.channel is not None
        assert (*first.at, first.exact, first.code) in expected[first.channel]
        assert abs(first.at[0]) == min(abs(n) for of in expected for n, _, _ in of)


def test_some_of_them_differ_and_some_do_not() -> None:
    """What is compared above are not only zeros."""
    rows = audit_exhaustively(MODEL, small(WITH_ACCUMULATORS["dense"])).rows
    by = {(row.multiplier, row.rounding): row.differing for row in rows}
    assert by["fixed32", "half-even"] == 0
    assert 0 < by["fixed16", "half-even"] < by["fixed8", "half-even"] < by["power-of-two", "half-even"]


@pytest.mark.parametrize("layer", [residual(), bias_add(), twice()], ids=["residual", "constant", "with itself"])
def test_every_pair_of_codes_one_by_one(layer: Sum) -> None:
    variants = [Requantization(kind, way) for kind in ("fixed8", "fixed16", "float32") for way in ROUNDINGS]
    study = audit_exhaustively(MODEL, small(layer), variants)
    pairs = {"residual": 65_536, "constant": 256 * 3, "with itself": 256}
    constant = layer.parameter is not None
    same = len(set(layer.inputs)) < len(layer.inputs)
    assert study.cases == pairs["constant" if constant else "with itself" if same else "residual"]
    m_a, m_b = real(layer, 0)
    cases: list[tuple[int, int]] = []
    (low, high), others = layer.a.codes_from_zero, layer.b
    if constant:
        cases = [(a, int(b) - others.zero_point) for a, b in product(range(low, high + 1), layer.b.codes)]  # type: ignore[union-attr]
    elif same:
        cases = [(a, a) for a in range(low, high + 1)]
    else:
        least, most = layer.b.codes_from_zero  # type: ignore[union-attr]
        cases = list(product(range(low, high + 1), range(least, most + 1)))
    codes: dict[str, Any] = {"a": np.array([a + layer.a.zero_point for a, _ in cases])}
    if not constant and not same:
        codes["b"] = np.array([b + layer.b.zero_point for _, b in cases])
    whole = {way: [rounded(m_a * a + m_b * b, way) + layer.output.zero_point for a, b in cases] for way in ROUNDINGS}
    for row, variant in zip(study.rows, variants, strict=True):
        exact = [min(max(code, layer.lowest), layer.highest) for code in whole[variant.rounding]]
        shape = (-1, 1, 1, 3) if constant else (-1, 1, 1, 1)
        values = {name: of.reshape(shape) for name, of in codes.items()}
        one = layer.on(lambda activation, last=shape[-1]: replace(activation, shape=(1, 1, last)))
        found = engine.step(one, values, variant).reshape(-1)
        assert row.differing == int((found != exact).sum())
        if row.differing:
            (of,) = row.layers
            assert sum(of.channels) == row.differing
            assert of.smallest.at in cases
            index = cases.index((of.smallest.at[0], of.smallest.at[1]))
            assert (of.smallest.exact, of.smallest.code) == (exact[index], found[index])


def test_a_layers_own_rounding_is_the_rule() -> None:
    layer = replace(WITH_ACCUMULATORS["rescale"], rounding="half-up")
    study = audit_exhaustively(MODEL, small(layer), [Requantization("fixed32", "half-even")])
    assert study.rows[0].differing == 0


def test_channels_are_filled_where_small_weights_are() -> None:
    layer = dense()
    for weights, filled in ((1, True), (2, False), (-1, True)):
        one = quantized.refilled(layer, codes=np.full(layer.weights.shape, weights, np.int8))
        covered = audit_exhaustively(MODEL, small(one), []).layers[0]
        assert covered.filled == (3 if filled else 0)
        low, high = layer.x.codes_from_zero
        sums = {sum(d) for d in product(range(weights * low, weights * high, weights), repeat=1)}
        assert (max(sums) - min(sums) + 1 == len(sums)) == filled


def test_scores_that_are_accumulators_are_requantized_nowhere() -> None:
    program = quantized.network(3).with_float_logits()
    study = audit_exhaustively(MODEL, program, [Requantization("fixed32")])
    assert study.without == ("dense",)
    assert "dense" not in {one.layer for one in study.layers}
    assert "dense requantizes nothing" in exhaustive.variants(study).title


def test_it_comes_back_from_json_and_says_what_it_found() -> None:
    seen: list[tuple[int, int]] = []
    study = audit_exhaustively(MODEL, quantized.network(5), progress=lambda *step: seen.append(step))
    assert seen[-1] == (7, 7)
    assert from_json(ExhaustiveStudy, to_json(study), "memory") == study
    blocks = exhaustive.blocks("x", study) | {"exhaustive": exhaustive.summary({"x": study})}
    assert set(blocks) == {"exhaustive-x", "exhaustive-layers-x", "exhaustive"}
    assert f"all {study.cases:,} cases" in blocks["exhaustive-x"]
    assert "SHA-256" in blocks["exhaustive-x"]
    for row in study.rows:
        words = f"{row.differing:,}" if row.differing else "equal everywhere"
        assert f"| {row.multiplier} | {row.rounding} | {words} |" in blocks["exhaustive-x"]
    for one in study.layers:
        assert f"| {one.layer} | {one.operator} | {one.channels:,} | {one.cases:,} |" in blocks["exhaustive-layers-x"]
    assert f"| x | {sum(one.channels for one in study.layers)} | {study.cases:,} |" in blocks["exhaustive"]
