"""Sweep, sensitivity and search on a small network: which cells they ask, and what they make of them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from tiny_float import LAYERS, PER_CLASS, numbers

from resnet8.data.calibration import draw
from resnet8.data.cifar10 import read_split
from resnet8.errors import DataError, ModelError, QuantizationError, Resnet8Error
from resnet8.network.onnx_write import to_onnx
from resnet8.quantization.scheme import Scheme
from resnet8.results import Search, Sensitivity, Sweep, load, save
from resnet8.sweeps import cells as measuring
from resnet8.sweeps import search as searching
from resnet8.sweeps.cells import Cell, measure_all
from resnet8.sweeps.places import Here
from resnet8.sweeps.search import search
from resnet8.sweeps.sensitivity import sensitivity
from resnet8.sweeps.sweep import sweep

if TYPE_CHECKING:
    from pathlib import Path

    from resnet8.sweeps.ground import Material

QUICK: dict[str, Any] = {"samples_per_class": PER_CLASS, "jobs": 1}
SWEPT: dict[str, Any] = {"weights": [2, 8], "activations": [4, 8], "seeds": [42, 43], "per_channel": [True, False]}


@pytest.fixture(scope="session")
def swept(small: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    return sweep(*small, tmp_path_factory.mktemp("cells"), **SWEPT, **QUICK)


@pytest.fixture(scope="session")
def searched(small: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Search:
    return search(*small, tmp_path_factory.mktemp("cells"), max_drop=5, held_out_images=90, **QUICK)


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What each cell that is measured is asked about."""
    found: list[Any] = []
    measure = measuring.measure
    monkeypatch.setattr(measuring, "measure", lambda *about, **asked: found.append(asked) or measure(*about, **asked))
    return found


# --- the map ---


def test_a_sweep_has_every_combination(swept: Sweep, material: Material, tmp_path: Path) -> None:
    assert len({replace(one, measured=swept.cells[0].measured) for one in swept.cells}) == len(swept.cells) == 16
    (one,) = [
        cell
        for cell in swept.cells
        if (cell.weight_bits, cell.activation_bits, cell.per_channel, cell.seed) == (2, 4, False, 43)
    ]
    scheme = Scheme(weight_bits=2, activation_bits=4, per_channel=False)
    (alone,) = measure_all(material, [Cell(scheme, 43)], Here(1), tmp_path)
    assert replace(one.measured, seconds=0) == replace(alone, seconds=0)


def test_a_sweep_says_what_it_was_about(swept: Sweep, material: Material, tmp_path: Path) -> None:
    assert swept.ground.seeds == (42, 43)
    assert swept.ground.model == material.model
    assert (swept.ground.data.split, swept.ground.baseline.total) == ("test", 60)
    assert "weight_bits" not in swept.ground.settings
    assert swept.ground.settings["edge_bits"] == 8
    save(swept, tmp_path / "sweep.json")
    assert load(Sweep, tmp_path / "sweep.json") == swept
    maps = swept.maps()
    assert set(maps) == {(True, False, True, "nearest"), (False, False, True, "nearest")}
    assert {len(measured) for cells in maps.values() for measured in cells.values()} == {2}


def test_settings_are_asked_about_on_training_images_that_do_not_calibrate(
    small: tuple[Path, Path], tmp_path: Path, seen: list[Any]
) -> None:
    found = sweep(*small, tmp_path, weights=[8], activations=[8], held_out_images=90, **QUICK)
    assert (found.ground.data.split, found.ground.data.subset) == ("train", "held-out-90-seed-42")
    train = read_split(small[1], "train")
    left = np.delete(np.arange(300), draw(train.labels, PER_CLASS, 42))
    expected = train.images[np.sort(np.random.RandomState(42).choice(left, 90, replace=False))]
    np.testing.assert_array_equal(seen[0]["images"], expected)
    with pytest.raises(QuantizationError, match="held-out images and test images exclude each other"):
        sweep(*small, tmp_path, held_out_images=90, max_samples=9, **QUICK)


def test_a_scheme_that_leaves_no_bits_to_ask_about_is_refused(small: tuple[Path, Path], tmp_path: Path) -> None:
    every = Scheme(layer_bits=tuple((name, 4) for name in LAYERS))
    with pytest.raises(QuantizationError, match="change nothing: found a scheme with bits of its own for every layer"):
        sweep(*small, tmp_path, weights=[8], activations=[8], scheme=every, **QUICK)
    some = Scheme(layer_bits=((LAYERS[0], 4),))
    (found,) = sweep(*small, tmp_path, weights=[2], activations=[8], scheme=some, **QUICK).cells
    assert found.measured.size_bytes == numbers((4, 2, 8))


@pytest.mark.slow
def test_processes_find_the_same(swept: Sweep, small: tuple[Path, Path], tmp_path: Path) -> None:
    found = sweep(*small, tmp_path, **SWEPT, **QUICK | {"jobs": 2})
    assert [replace(one.measured, seconds=0) for one in found.cells] == [
        replace(one.measured, seconds=0) for one in swept.cells
    ]


# --- layers ---


def test_sensitivity(small: tuple[Path, Path], material: Material, tmp_path: Path) -> None:
    found = sensitivity(*small, tmp_path, bits=[2, 3], **QUICK)
    assert [(one.layer, one.bits) for one in found.layers] == [(name, bits) for name in LAYERS for bits in (2, 3)]
    one = next(one for one in found.layers if (one.layer, one.bits) == ("conv2", 2))
    assert one.weights == 324
    assert (one.alone.size_bytes, one.spared.size_bytes) == (numbers((16, 2, 16)), numbers((2, 16, 2)))
    asked = [
        Cell(Scheme(layer_bits=(("conv2", 2),), edge_bits=None, float_layers=("conv1", "dense")), 42),
        Cell(Scheme(weight_bits=2, edge_bits=None, float_layers=("conv2",)), 42),
        Cell(Scheme(edge_bits=None, float_layers=LAYERS), 42),
        Cell(Scheme(weight_bits=2, edge_bits=None), 42),
    ]
    wanted = measure_all(material, asked, Here(1), tmp_path / "wanted")
    digests = [one.codes_sha256 for one in (one.alone, one.spared, found.fine, found.coarse[2])]
    assert digests == [one.codes_sha256 for one in wanted]
    save(found, tmp_path / "s.json")
    assert load(Sensitivity, tmp_path / "s.json") == found


# --- mixed precision ---


def test_a_search_follows_its_rule(searched: Search, tmp_path: Path) -> None:
    sizes, costs = [one.size_bytes for one in searched.front], [one.cost for one in searched.front]
    assert sizes == sorted(set(sizes))
    assert costs == sorted(set(costs), reverse=True)
    measured = [i for i, one in enumerate(searched.front) if one.measured is not None]
    good = [i for i in measured if (searched.drop(searched.front[i]) or 0) <= searched.max_drop]
    assert searched.chosen == min(good)
    assert {0, len(sizes) - 1} <= set(measured)
    for one in searched.front:
        assert one.size_bytes == numbers(one.bits)
        assert one.measured is None or one.measured.size_bytes == one.size_bytes
    assert len(searched.costs) == 9
    assert searched.layer_bits == tuple(zip(LAYERS, searched.choice.bits, strict=True))
    save(searched, tmp_path / "s.json")
    assert load(Search, tmp_path / "s.json") == searched


def test_costs_are_what_few_bits_add(searched: Search) -> None:
    most = {one.layer: one.measured.divergence for one in searched.costs if one.bits == 8}
    for one in searched.costs:
        assert one.cost == max(0, one.measured.divergence - most[one.layer])
    point = searched.front[0]
    by_layer = {(one.layer, one.bits): one.cost for one in searched.costs}
    assert point.cost == pytest.approx(sum(by_layer[one] for one in zip(LAYERS, point.bits, strict=True)), abs=1e-8)


def test_a_search_asks_training_images_that_do_not_calibrate(
    small: tuple[Path, Path], tmp_path: Path, seen: list[Any]
) -> None:
    found = search(*small, tmp_path, bits=[4, 8], max_drop=50, **QUICK)
    train = read_split(small[1], "train")
    left = np.delete(np.arange(300), draw(train.labels, PER_CLASS, 42))
    assert (found.ground.data.split, found.ground.baseline.total) == ("train", 100)
    for asked in seen:
        np.testing.assert_array_equal(asked["images"], train.images[left])


def test_the_choice_becomes_a_network_and_a_recipe(small: tuple[Path, Path], searched: Search) -> None:
    scheme = searching.chosen_scheme(searched)
    assert scheme.layer_bits == searched.layer_bits
    network = searching.chosen_network(searched, *small)
    assert to_onnx(replace(network)).ByteSize() > 0
    text = searching.recipe_text(replace(scheme, rounding="reconstruct", activation_bits=6), "found\nhere")
    assert text == (
        '# found here\nmode = "native"\nactivation_bits = 6\nrounding = "reconstruct"\n\n[layer_bits]\n'
        + "".join(f'"{name}" = {bits}\n' for name, bits in searched.layer_bits)
    )
    assert searching.recipe_text(Scheme(edge_bits=4), "x") == '# x\nmode = "native"\nedge_bits = 4\n'
    assert searching.recipe_text(Scheme(), "x", "qdq") == '# x\nmode = "native"\nform = "qdq"\n'
    other = replace(searched, ground=replace(searched.ground, model=replace(searched.ground.model, sha256="0" * 64)))
    with pytest.raises(QuantizationError, match="another model"):
        searching.chosen_network(other, *small)


# --- what cannot be asked ---


@pytest.mark.parametrize(
    ("question", "options", "error", "match"),
    [
        (sweep, {"weights": [1]}, QuantizationError, r"weight bits: found 1, expected 2 to 8"),
        (sweep, {"activations": [9]}, QuantizationError, "activation bits: found 9"),
        (
            sweep,
            {"rounding": ["odd"]},
            QuantizationError,
            "rounding of weights: found odd, expected nearest, reconstruct",
        ),
        (sweep, {"weights": []}, QuantizationError, "nothing to sweep"),
        (sweep, {"seeds": []}, QuantizationError, "nothing to sweep"),
        (sweep, {"samples_per_class": 19}, DataError, "too few calibration samples"),
        (sweep, {"max_samples": 0}, DataError, "number of images"),
        (sweep, {"jobs": 0}, QuantizationError, "number of processes"),
        (sweep, {"jobs": 1, "scheduler": "tcp://x:1"}, QuantizationError, "exclude each other"),
        (sensitivity, {"bits": []}, QuantizationError, "no bits"),
        (sensitivity, {"bits": [0]}, QuantizationError, "bits of the layer conv1: found 0"),
        (search, {"bits": [4]}, QuantizationError, "nothing to choose from: found bits 4"),
        (search, {"bits": [1, 4]}, QuantizationError, "weight bits: found 1"),
        (search, {"max_drop": float("nan")}, QuantizationError, "allowed drop makes no sense"),
        (search, {"max_drop": -1}, QuantizationError, "allowed drop makes no sense"),
        (search, {"held_out_images": 101}, DataError, r"held-out images.*found 101, expected 1 to 100"),
        (search, {"held_out_seed": -1}, DataError, "seed is out of range"),
    ],
)
def test_bad_questions(
    small: tuple[Path, Path],
    tmp_path: Path,
    *,
    question: Any,
    options: dict[str, Any],
    error: type[Resnet8Error],
    match: str,
) -> None:
    with pytest.raises(error, match=match) as caught:
        question(*small, tmp_path, **QUICK | options)
    assert caught.value.found
    assert caught.value.expected
    assert list(tmp_path.iterdir()) == []


def test_no_assignment_is_good_enough(
    small: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(searching, "drop", lambda *_: 1.5)
    with pytest.raises(QuantizationError, match=r"found 1.50 points at the least.*expected at most 0.2"):
        search(*small, tmp_path, bits=[4, 8], **QUICK)


def test_a_quantized_or_other_model_is_refused(small: tuple[Path, Path], searched: Search, tmp_path: Path) -> None:
    made = tmp_path / "made.onnx"
    made.write_bytes(to_onnx(searching.chosen_network(searched, *small)).SerializeToString())
    with pytest.raises(ModelError, match="quantized already"):
        sweep(made, small[1], tmp_path / "cells", **QUICK)
    made.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    with pytest.raises(ModelError, match="expected the float ONNX file"):
        sweep(made, small[1], tmp_path / "cells", **QUICK)
