"""A recipe with several calibration draws: the cells it asks, and what it refuses."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from tiny_float import LAYERS, PER_CLASS, numbers

from resnet8.errors import QuantizationError
from resnet8.quantization.recipes import RECIPES, recipe
from resnet8.quantization.scheme import Scheme
from resnet8.results import SeedStudy, load, save
from resnet8.sweeps.cells import Cell, measure_all
from resnet8.sweeps.places import Here
from resnet8.sweeps.seeds import audit_seeds
from resnet8.sweeps.sweep import sweep

if TYPE_CHECKING:
    from pathlib import Path

    from resnet8.sweeps.ground import Material

QUICK: dict[str, Any] = {"samples_per_class": PER_CLASS, "jobs": 1}


def test_a_study_carries_the_recipe_out_with_each_draw(
    small: tuple[Path, Path], material: Material, tmp_path: Path
) -> None:
    model, data = small
    told: list[tuple[int, int]] = []
    found = audit_seeds(
        model, "int8", data, tmp_path / "a", seeds=[42, 43, 42], progress=lambda *n: told.append(n), **QUICK
    )
    scheme = RECIPES["int8"].native_scheme
    wanted = measure_all(material, [Cell(scheme, 42), Cell(scheme, 43)], Here(1), tmp_path / "b")
    assert [run.seed for run in found.runs] == [42, 43]
    assert [replace(run.measured, seconds=0) for run in found.runs] == [replace(one, seconds=0) for one in wanted]
    assert (found.recipe, found.settings) == ("int8", RECIPES["int8"].settings())
    assert (found.ground.seeds, found.ground.baseline.total) == ((42, 43), 60)
    assert found.correct.least == min(one.overall.correct for one in wanted)
    assert found.floor_bytes == numbers((8, 8, 8)) - 5
    assert told[-1] == (2, 2)
    save(found, tmp_path / "s.json")
    assert load(SeedStudy, tmp_path / "s.json") == found


def test_a_recipe_of_ones_own(small: tuple[Path, Path], tmp_path: Path) -> None:
    model, data = small
    own = tmp_path / "mine.toml"
    own.write_text('mode = "native"\n\n[layer_bits]\n"conv2" = 4\n')
    found = audit_seeds(model, str(own), data, tmp_path / "cells", seeds=[1, 2], **QUICK)
    assert (found.recipe, found.settings) == ("mine", recipe(str(own)).settings())
    assert found.floor_bytes == numbers((8, 4, 8)) - 5


@pytest.mark.parametrize(
    ("name", "options", "match"),
    [
        ("ort-uint8", {}, r"recipe ort-uint8 has no scheme: found a recipe that another backend carries out"),
        ("torch-int8", {}, "another backend"),
        ("int9", {}, "the recipe is not known: found int9"),
        ("int8", {"seeds": [42, 42]}, "too few calibration draws to see a spread: found 1"),
        ("int8", {"seeds": []}, "found 0"),
    ],
)
def test_bad_questions(
    small: tuple[Path, Path], tmp_path: Path, name: str, options: dict[str, Any], match: str
) -> None:
    model, data = small
    with pytest.raises(QuantizationError, match=match) as caught:
        audit_seeds(model, name, data, tmp_path, **QUICK | options)
    assert caught.value.remedy
    assert list(tmp_path.iterdir()) == []


def test_sixteen_bits_are_weights_that_stay_fine(small: tuple[Path, Path], material: Material, tmp_path: Path) -> None:
    found = sweep(*small, tmp_path / "a", weights=[16, 8], activations=[8], **QUICK)
    assert [one.weight_bits for one in found.cells] == [16, 8]
    schemes = [Scheme(edge_bits=None, float_layers=LAYERS), Scheme()]
    wanted = measure_all(material, [Cell(one, 42) for one in schemes], Here(1), tmp_path / "b")
    assert [one.measured.codes_sha256 for one in found.cells] == [one.codes_sha256 for one in wanted]
    assert found.cells[0].measured.size_bytes == numbers((16, 16, 16))
