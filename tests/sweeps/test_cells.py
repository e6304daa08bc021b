"""Cells: what is measured, and what is kept of it."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np
import pytest
from scipy.stats import entropy
from tiny_float import LAYERS, numbers

from resnet8.errors import QuantizationError, WorkerError
from resnet8.execute import engine
from resnet8.quantization.native import quantized
from resnet8.quantization.scheme import Scheme
from resnet8.results import KeptCell, load
from resnet8.sweeps import cells
from resnet8.sweeps.cells import Cell, measure_all
from resnet8.sweeps.places import Here, Place

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping
    from pathlib import Path

    from resnet8.results import Measured
    from resnet8.sweeps.ground import Material

ASKED = [Cell(Scheme(weight_bits=bits, edge_bits=None), seed) for bits in (2, 8) for seed in (42, 43)]


class Failing(Place):
    """A place that computes some cells and then gives out."""

    def __init__(self, after: int) -> None:
        self.after = after

    def measured(self, material: Material, waiting: Mapping[int, Cell]) -> Generator[tuple[int, Measured]]:
        yield from Here(1).measured(material, dict(list(waiting.items())[: self.after]))
        if self.after < len(waiting):
            raise WorkerError("the power is gone")

    def _attempt(self, material: Material, waiting: Mapping[int, Cell]) -> Generator[tuple[int, Measured]]:
        raise NotImplementedError

    def _gone(self, error: BaseException, left: int) -> WorkerError:
        raise NotImplementedError


# --- measuring ---


@pytest.mark.parametrize("scheme", [Scheme(weight_bits=4, activation_bits=5), Scheme(per_channel=False)])
def test_a_cell_is_what_the_engine_answers(material: Material, scheme: Scheme, tmp_path: Path) -> None:
    (found,) = measure_all(material, [Cell(scheme, 43)], Here(1), tmp_path)
    program = quantized(material.network, material.calibrations[43], scheme).as_integer()
    codes = engine.run(program, engine.input_codes(program, material.asked.images))
    predicted, labels = codes.argmax(axis=1).tolist(), material.asked.labels.tolist()
    assert found.overall.correct == sum(a == b for a, b in zip(predicted, labels, strict=True))
    assert found.overall.total == 60
    wanted = material.reference.argmax(axis=1).tolist()
    assert found.agreement == sum(a == b for a, b in zip(predicted, wanted, strict=True))
    assert found.codes_sha256 == hashlib.sha256(codes.tobytes()).hexdigest()


def test_divergence() -> None:
    rng = np.random.default_rng(5)
    reference, logits = rng.normal(0, 3, (2, 40, 10)).astype(np.float32)
    # SciPy makes both add up to 1 by itself.
    wanted = [entropy(np.exp(p.astype(float)), np.exp(q.astype(float))) for p, q in zip(reference, logits, strict=True)]
    assert cells.divergence(reference, logits) == pytest.approx(np.mean(wanted))
    assert cells.divergence(reference, reference) == 0


@pytest.mark.parametrize(
    ("scheme", "bits"),
    [
        (Scheme(), (8, 8, 8)),
        (Scheme(weight_bits=3), (8, 3, 8)),
        (Scheme(weight_bits=3, edge_bits=None), (3, 3, 3)),
        (Scheme(weight_bits=4, edge_bits=5, layer_bits=(("dense", 2),)), (5, 4, 2)),
        (Scheme(weight_bits=4, float_layers=("conv2",)), (8, 16, 8)),
    ],
)
def test_sizes_are_those_of_all_numbers(
    material: Material, scheme: Scheme, bits: tuple[int, ...], tmp_path: Path
) -> None:
    assert cells.weight_bits(scheme, LAYERS) == dict(zip(LAYERS, bits, strict=True))
    (found,) = measure_all(material, [Cell(scheme, 42)], Here(1), tmp_path)
    assert found.size_bytes == numbers(bits)


def test_a_layer_that_is_not_there_is_refused(material: Material, tmp_path: Path) -> None:
    with pytest.raises(QuantizationError, match=r"conv9.*conv1, conv2, dense"):
        measure_all(material, [Cell(Scheme(layer_bits=(("conv9", 4),)), 42)], Here(1), tmp_path)
    assert list(tmp_path.iterdir()) == []


# --- keeping ---


def test_an_interrupted_run_goes_on(material: Material, tmp_path: Path) -> None:
    whole = measure_all(material, ASKED, Here(1), tmp_path / "whole")
    told: list[tuple[int, int]] = []
    with pytest.raises(WorkerError, match="power"):
        measure_all(material, ASKED, Failing(3), tmp_path / "kept", lambda *now: told.append(now))
    assert told == [(0, 4), (1, 4), (2, 4), (3, 4)]
    kept = sorted((tmp_path / "kept").iterdir())
    assert len(kept) == 3
    told.clear()
    found = measure_all(material, ASKED, Failing(1), tmp_path / "kept", lambda *now: told.append(now))
    assert told == [(3, 4), (4, 4)]
    assert [one.codes_sha256 for one in found] == [one.codes_sha256 for one in whole]
    assert measure_all(material, ASKED, Failing(0), tmp_path / "kept") == found


def test_what_is_kept_says_what_it_is(material: Material, tmp_path: Path) -> None:
    (found,) = measure_all(material, ASKED[:1], Here(1), tmp_path)
    (file,) = tmp_path.iterdir()
    kept = load(KeptCell, file)
    assert kept.measured == found
    assert kept.facts["model"] == material.model.sha256
    assert kept.facts["scheme"]["weight_bits"] == 2
    assert set(kept.facts["versions"]) == {"numpy", "resnet8's code"}


@pytest.mark.parametrize("damage", ["", "{}", "half"])
def test_a_damaged_cell_is_computed_anew(material: Material, tmp_path: Path, damage: str) -> None:
    found = measure_all(material, ASKED[:1], Here(1), tmp_path)
    (file,) = tmp_path.iterdir()
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2] if damage == "half" else damage.encode())
    again = measure_all(material, ASKED[:1], Here(1), tmp_path)
    assert again[0].codes_sha256 == found[0].codes_sha256
    assert load(KeptCell, file).measured == again[0]


def test_other_code_computes_anew(material: Material, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measure_all(material, ASKED[:1], Here(1), tmp_path)
    monkeypatch.setattr(cells, "code_digest", lambda: "other")
    with pytest.raises(WorkerError, match="power"):
        measure_all(material, ASKED[:1], Failing(0), tmp_path)
    measure_all(material, ASKED[:1], Here(1), tmp_path)
    assert len(list(tmp_path.iterdir())) == 2
