"""Accumulators: their range, the width they need, and what wrapping and saturating do."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import builders
import numpy as np
import pytest
import quantized
from hypothesis import given
from hypothesis import strategies as st

from resnet8.audit.accumulators import Narrow, audit_accumulators
from resnet8.data.cifar10 import Split, read_split
from resnet8.execute import engine
from resnet8.network.layers import Weighted
from resnet8.results import AccumulatorAudit, from_json, to_json

if TYPE_CHECKING:
    from pathlib import Path

MODEL = builders.model("q.onnx", "uint8", "int8")


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> Split:
    return read_split(builders.cifar_folder(tmp_path_factory.mktemp("data") / "cifar"), "test")


@pytest.mark.parametrize("dtype", ["uint8", "int8"])
def test_observed_ranges_are_those_of_plain_integers_and_within_the_worst_case(split: Split, dtype: str) -> None:
    program = quantized.network(seed=3, dtype=dtype)  # type: ignore[arg-type]
    result = audit_accumulators(MODEL, program, split, widths=(24,))
    values = {program.input.name: engine.input_codes(program, split.images)}
    engine.run(program, values[program.input.name], watch=values.__setitem__)
    weighted = [layer for layer in program.layers if isinstance(layer, Weighted)]
    assert [row.layer for row in result.layers] == [layer.name for layer in weighted]
    for row, layer in zip(result.layers, weighted, strict=True):
        maps = values[layer.x.name].reshape(len(split), *layer.map_shape)
        sums = engine.patches(maps, layer, np.int64, layer.x.zero_point) @ layer.matrix + layer.added
        assert row.observed == (sums.min(), sums.max())
        assert row.worst_case[0] <= row.observed[0] <= row.observed[1] <= row.worst_case[1]
        assert row.observed_bits <= row.safe_bits
        assert row.depth == len(layer.matrix)
    assert from_json(AccumulatorAudit, to_json(result), "memory") == result


def test_the_worst_case_is_reached_by_the_worst_input() -> None:
    program = quantized.network(seed=1)
    layer = program.layers[-1]
    assert isinstance(layer, Weighted)
    low, high = layer.worst_case()
    least, most = layer.x.codes_from_zero
    for channel in range(layer.weights.shape[-1]):
        weights = layer.matrix[:, channel]
        for wanted, best in ((low[channel], least), (high[channel], most)):
            other = least if best == most else most
            x = np.where(weights > 0, best, other) + layer.x.zero_point
            sums = engine.accumulate(layer, x[None].astype(layer.x.params.dtype))
            assert int(sums[0, channel]) == wanted


def test_widths_that_hold_every_sum_change_nothing_and_narrow_ones_do(split: Split) -> None:
    program = quantized.network(seed=2, largest=127)
    result = audit_accumulators(MODEL, program, split, widths=(8, 32))
    narrow, wide = result.widths[:2], result.widths[2:]
    assert {row.overall for row in wide} == {result.exact}
    assert all(row.layers == () for row in wide)
    assert all(len(row.layers) == 3 for row in narrow)
    assert [(row.bits, row.overflow) for row in result.widths] == [
        (8, "wrap"),
        (8, "saturate"),
        (32, "wrap"),
        (32, "saturate"),
    ]


@given(st.integers(2, 20), st.integers(0, 2**16))
def test_wrapping_is_twos_complement_and_saturating_is_clipping(bits: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = quantized.activation("x", (5,), dtype="uint8")
    layer = quantized.weighted(rng, x, quantized.activation("y", (3,)), dense=True, largest=127)
    codes = quantized.random_codes(rng, (4, 5), "uint8")
    exact = engine.accumulate(layer, codes).astype(np.int64)
    half = 2 ** (bits - 1)
    wrapped = Narrow(bits, "wrap")(layer, codes)
    assert ((wrapped - exact) % (2 * half) == 0).all()
    assert wrapped.min() >= -half
    assert wrapped.max() < half
    assert (Narrow(bits, "saturate")(layer, codes) == np.clip(exact, -half, half - 1)).all()


def test_progress_reaches_its_total(split: Split) -> None:
    seen: list[tuple[int, int]] = []
    audit_accumulators(MODEL, quantized.network(), split, widths=(8, 32), progress=lambda *step: seen.append(step))
    assert seen[-1] == (len(split) * 5, len(split) * 5)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


@pytest.mark.real
@pytest.mark.slow
def test_the_published_int8_file_needs_23_bits_for_any_input(real_assets: Path, real_models: dict[str, Path]) -> None:
    from resnet8.runtimes.integer import open_content

    path = real_models["published-int8"]
    predictor = open_content(path, path.read_bytes())
    split = read_split(real_assets, "test").first(300)
    result = audit_accumulators(predictor.model, predictor.program, split, widths=(16, 24))
    assert max(row.safe_bits for row in result.layers) == 23
    assert max(row.observed_bits for row in result.layers) == 19
    wrap, saturate, *wide = result.widths
    assert wrap.overall.correct < 100 < saturate.overall.correct
    assert {row.overall for row in wide} == {result.exact}


def test_the_worst_case_holds_partial_sums_and_the_bias_is_added_last(split: Split) -> None:
    """One weight of 1 and a bias of -100: the sum without it reaches 255, with it never more than 155."""
    program = quantized.network(5)
    dense = program.weighted[-1]
    codes = np.zeros(dense.weights.shape, np.int8)
    codes[0, 0, 0] = 1
    low, high = dense.x.codes_from_zero
    one = quantized.refilled(dense, codes=codes, bias=np.full(10, -100, np.int32))
    result = audit_accumulators(MODEL, replace(program, layers=(*program.layers[:-1], one)), split, widths=())
    assert result.layers[-1].worst_case == (low - 100, high)
    assert result.requantization == "float32/half-even"
