"""``audit cim``: computed in blocks it is what one pass computes, and it says what differs from the exact engine."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import builders
import numpy as np
import pytest
import quantized

from resnet8.comparison import mcnemar
from resnet8.data import demo
from resnet8.data.cifar10 import Split, read_split
from resnet8.errors import QuantizationError, WorkerError
from resnet8.execute import cim, engine
from resnet8.execute.cim import Array
from resnet8.report import cim as tables
from resnet8.results import CimAudit, KeptArrays, from_json, load, to_json
from resnet8.runtimes.integer import open_integer
from resnet8.sweeps import cells, places
from resnet8.sweeps.cim import BLOCK, audit_cim, measure, ranges

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from resnet8.data.assets import Assets
    from resnet8.network.layers import Weighted
    from resnet8.network.program import Program

MODEL = builders.model("q.onnx", "uint8", "int8")
COARSE, FINE = Array(rows=16, adc_bits=2), Array(rows=16, adc_bits=5)
RUN = Path(demo.__file__).parent / "run"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return builders.cifar_folder(tmp_path_factory.mktemp("data") / "cifar", per_class=12)


@pytest.fixture(scope="module")
def split(folder: Path) -> Split:
    return read_split(folder, "test")


@pytest.fixture(scope="module")
def train(folder: Path) -> Split:
    return read_split(folder, "train").first(12)


@pytest.fixture(scope="module")
def network() -> Program:
    return quantized.network(seed=5)


def ask(network: Program, split: Split, folder: Path, *arrays: Array, **options: Any) -> CimAudit:
    return audit_cim(MODEL, network, split, folder, arrays=arrays, jobs=1, **options)


def directly(network: Program, images: NDArray[Any], array: Array, run: int = 0) -> tuple[str, dict[str, int]]:
    """Predictions and clipped sums of one pass over all images."""
    clipped = {}

    def accumulators(layer: Weighted, codes: NDArray[Any]) -> NDArray[Any]:
        number = [one.name for one in network.weighted].index(layer.name)
        found, clipped[layer.name] = cim.accumulate(layer, codes, cim.program(layer, array, None, run, number))
        return found

    logits = engine.run(network, engine.input_codes(network, images), accumulators=accumulators)
    classes = engine.probabilities(network, logits).argmax(axis=1)
    return "".join(map(str, classes)), clipped


# --- what is asked ---


def test_blocks_of_images_are_one_pass(network: Program, split: Split, tmp_path: Path) -> None:
    noisy = Array(rows=16, adc_bits=4, variation=0.2, read_noise=0.3, seed=9)
    assert BLOCK < len(split) == 120
    result = ask(network, split, tmp_path, COARSE, noisy, runs=2)
    assert len(list(tmp_path.iterdir())) == 2 * (1 + 2)
    for cell, array in zip(result.cells, (COARSE, noisy), strict=True):
        assert [run.run for run in cell.runs] == [0, 1][: len(cell.runs)]
        wanted = [directly(network, split.images, array, run.run) for run in cell.runs]
        assert [run.predictions for run in cell.runs] == [one for one, _ in wanted]
        for layer in cell.layers:
            assert layer.clipped == sum(clipped[layer.layer] for _, clipped in wanted)
    assert len(result.cells[0].runs) == 1
    assert result.cells[1].runs[0].predictions != result.cells[1].runs[1].predictions
    assert 0 < result.cells[1].clipped < 1


def test_the_exact_limit_and_what_is_compared_with_it(network: Program, split: Split, tmp_path: Path) -> None:
    result = ask(network, split, tmp_path, FINE, COARSE, FINE)
    fine, coarse = result.cells
    codes = engine.run(network, engine.input_codes(network, split.images))
    exact = engine.probabilities(network, codes).argmax(axis=1)
    assert result.predictions == fine.runs[0].predictions == "".join(map(str, exact))
    assert result.exact == fine.runs[0].overall
    assert (result.agreement(fine.runs[0]), result.discordant(fine.runs[0])) == (120, (0, 0))
    run, labels = coarse.runs[0], split.labels.tolist()
    found = [int(one) for one in run.predictions]
    lost = sum(a == c != b for a, b, c in zip(exact.tolist(), found, labels, strict=True))
    gained = sum(b == c != a for a, b, c in zip(exact.tolist(), found, labels, strict=True))
    assert result.discordant(run) == (lost, gained)
    assert run.overall.correct == result.exact.correct - lost + gained
    assert result.agreement(run) == sum(a == b for a, b in zip(exact.tolist(), found, strict=True)) < 120
    assert from_json(CimAudit, to_json(result), "memory") == result


def test_facts_of_layers(network: Program, split: Split, tmp_path: Path) -> None:
    (cell,) = ask(network, split.first(3), tmp_path, Array(rows=16, adc_bits=3, signed="offset")).cells
    assert [(one.layer, one.operator, one.depth, one.arrays) for one in cell.layers] == [
        ("first_conv", "conv", 27, 2),
        ("second_conv", "conv", 36, 3),
        ("dense", "dense", 4, 1),
    ]
    assert {(one.top, one.step) for one in cell.layers} == {(16, 2.0)}
    assert [one.columns for one in cell.layers] == [8 * 4, 8 * 4, 8 * 10]
    outputs = [np.prod(layer.output.shape[:-1], dtype=int) for layer in network.weighted]
    assert [one.conversions for one in cell.layers] == [
        positions * 8 * one.arrays * one.columns for positions, one in zip(outputs, cell.layers, strict=True)
    ]


def test_a_model_of_the_demo_is_exact_in_every_layer_and_logit(demo_assets: Assets) -> None:
    images = read_split(demo_assets.data_dir, "test").first(2).images
    for name in ("resnet8_int8.onnx", "resnet8_uint8.onnx", "resnet8_ort-7bit-weights.onnx"):
        program = open_integer(RUN / "models" / name).program
        values = engine.activations(program, engine.input_codes(program, images))
        for array in (Array(64, adc_bits=7), Array(48, 2, 4, 12, "offset")):
            for layer in program.weighted:
                codes = values[layer.x.name]
                found, clipped = cim.accumulate(layer, codes, cim.program(layer, array))
                np.testing.assert_array_equal(found, engine.accumulate(layer, codes))
                assert clipped == 0
        made = {layer.name: cim.program(layer, array) for layer in program.weighted}
        logits = engine.run(
            program,
            engine.input_codes(program, images),
            accumulators=lambda layer, codes, made=made: cim.accumulate(layer, codes, made[layer.name])[0],  # type: ignore[misc]
        )
        np.testing.assert_array_equal(logits, values[program.logits.name].reshape(2, -1))


# --- calibrated ranges ---


def test_ranges_are_the_percentiles_of_all_sums(network: Program, train: Split) -> None:
    layout = Array(rows=12, signed="offset").layout
    found = ranges(network, layout, train.images, [100, 99.9, 50, 1e-9])
    values = engine.activations(network, engine.input_codes(network, train.images))
    for layer in network.weighted:
        counts = cim.tally(layer, values[layer.x.name], cim.program(layer, cim.ideal(layout)))
        sums = np.repeat(np.arange(len(counts)), counts)
        for percentile, tops in found.items():
            wanted = next(
                top for top in range(1, 13) if (sums <= top).sum() >= Fraction(str(percentile)) / 100 * len(sums)
            )
            assert tops[layer.name] == wanted


def test_a_calibrated_range_is_that_of_the_layer(network: Program, split: Split, train: Split, tmp_path: Path) -> None:
    array = Array(rows=27, adc_bits=3, adc_range="calibrated", percentile=99)
    result = ask(network, split.first(20), tmp_path, array, calibration=train)
    assert (result.calibration, result.calibration_images) == (train.source, 12)
    (cell,) = result.cells
    tops = ranges(network, array.layout, train.images, [99])[99]
    assert {one.layer: one.top for one in cell.layers} == tops
    assert len(set(tops.values())) > 1
    assert [one.step for one in cell.layers] == [max(1, top / 8) for top in tops.values()]
    assert cell.clipped > 0
    wanted = measure(network, array, tops, split.images[:20])
    assert (cell.runs[0].predictions, {one.layer: one.clipped for one in cell.layers}) == (
        wanted.predictions,
        wanted.clipped,
    )


def test_full_ranges_need_no_calibration(network: Program, split: Split, train: Split, tmp_path: Path) -> None:
    result = ask(network, split.first(2), tmp_path, FINE, calibration=train)
    assert (result.calibration, result.calibration_images) == (None, 0)


# --- what is kept ---


def test_an_interrupted_run_goes_on_and_more_images_go_further(
    network: Program, split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(done: int, _: int) -> None:
        if done == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ask(network, split.first(BLOCK), tmp_path, COARSE, FINE, progress=stop)
    (kept,) = tmp_path.iterdir()
    assert load(KeptArrays, kept).facts["array"]["adc_bits"] in {2, 5}
    told: list[tuple[int, int]] = []
    whole = ask(network, split, tmp_path, COARSE, FINE, progress=lambda *now: told.append(now))
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]

    def gone(*_: object, **__: object) -> None:
        raise WorkerError("nothing is left to compute")

    monkeypatch.setattr(places, "_measured", gone)
    again = ask(network, split, tmp_path, COARSE, FINE)
    assert replace(again, created=whole.created) == whole
    monkeypatch.setattr(cells, "code_digest", lambda: "other")
    with pytest.raises(WorkerError):  # other code computes anew
        ask(network, split, tmp_path, COARSE)


def test_several_processes_compute_the_same(network: Program, split: Split, tmp_path: Path) -> None:
    one = ask(network, split, tmp_path / "one", COARSE)
    two = audit_cim(MODEL, network, split, tmp_path / "two", arrays=[COARSE], jobs=2)
    assert replace(two, created=one.created) == one


def test_what_cannot_be_asked(network: Program, split: Split, tmp_path: Path) -> None:
    calibrated = Array(adc_range="calibrated")
    for arrays, options, words in (
        ((), {}, "nothing to compute in memory: found 0 kinds of arrays"),
        ((COARSE,), {"runs": 0}, "1 kinds of arrays, 0 runs"),
        ((calibrated,), {}, "nothing to calibrate the ADC's range on"),
    ):
        with pytest.raises(QuantizationError, match=words):
            ask(network, split, tmp_path, *arrays, **options)
    with pytest.raises(QuantizationError, match="number of processes"):
        audit_cim(MODEL, network, split, tmp_path, arrays=[COARSE], jobs=0)
    assert list(tmp_path.iterdir()) == []


# --- tables ---


def test_tables(network: Program, split: Split, tmp_path: Path) -> None:
    arrays = [Array(rows=rows, adc_bits=bits) for rows in (8, 16) for bits in (1, 5)]
    result = ask(network, split, tmp_path, *arrays)
    rows = tables.arrays(result)
    assert rows.headings[:3] == ("rows", "ADC", "runs")
    assert "differential cells of 1 bit, bit-serial inputs, full ADC range; exact engine" in rows.title
    (found,) = tables.maps(result)
    assert found.headings == ("correct / as exact", "ADC 1 bit", "ADC 5 bits")
    for cell, array in zip(result.cells, arrays, strict=True):
        run = cell.runs[0]
        p = mcnemar(*result.discordant(run))
        assert tables.p_values(result, cell) == (p,)
        shown = found.rows[(8, 16).index(array.rows)][1 + (1, 5).index(array.adc_bits)]
        told = "*" if p < 0.05 else ""
        assert shown == f"{run.overall.correct} / {result.agreement(run)}{told}"
    assert [row[1:3] for row in tables.layers(result, result.cells[0]).rows] == [
        ("conv", "27"),
        ("conv", "36"),
        ("dense", "4"),
    ]
    blocks = tables.blocks("int8", result)
    assert set(blocks) == {"cim-int8", "cim-layers-int8"}
    assert "4 comparisons, not corrected for their number" in blocks["cim-int8"]


def test_runs_are_shown_as_mean_and_deviation(network: Program, split: Split, tmp_path: Path) -> None:
    noisy = Array(rows=16, adc_bits=4, read_noise=1.0)
    result = ask(network, split.first(40), tmp_path, noisy, COARSE, runs=2)
    counts = [run.overall.correct for run in result.cells[0].runs]
    row, other = tables.arrays(result).rows
    assert row[0] == "differential cells of 1 bit, bit-serial inputs, full ADC range, read noise 1"
    mean, deviation = np.mean(counts), np.std(counts, ddof=1)
    assert row[4] == f"{mean:.1f} ± {deviation:.1f}"
    assert "±" not in other[4]
    assert tables.maps(result) == ()
    assert "deviation of 2 programmings" in tables.blocks("x", result)["cim-x"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"cell_bits": 2, "dac_bits": 4, "signed": "offset"}, "offset cells of 2 bits, inputs by 4 bits at once, full"),
        ({"adc_range": "calibrated"}, "ADC range to the largest sum of each layer"),
        ({"adc_range": "calibrated", "percentile": 99.9}, "ADC range to 99.9 % of each layer's sums"),
        ({"variation": 0.1, "spread": "additive"}, "additive variation 0.1"),
    ],
)
def test_words_for_arrays(network: Program, train: Split, tmp_path: Path, options: dict[str, Any], words: str) -> None:
    result = ask(network, train.first(2), tmp_path, Array(rows=8, **options), calibration=train, runs=1)
    assert words in tables.variant(result.cells[0])
