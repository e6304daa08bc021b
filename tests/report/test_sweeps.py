"""Tables and pictures of sweeps, sensitivities and searches."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from builders import CIFAR10, ENVIRONMENT, model

from resnet8.errors import MissingExtraError, StorageError
from resnet8.report import plots, sweeps
from resnet8.results import (
    FrontPoint,
    Ground,
    LayerCost,
    LayerSensitivity,
    Measured,
    Search,
    Sensitivity,
    Sweep,
    SweepCell,
    score,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from matplotlib.figure import Figure

CREATED = "2026-01-02T03:04:05+00:00"


def measured(correct: int, size: int = 1000, divergence: float = 0.25) -> Measured:
    return Measured(score(correct, 1000), correct - 1, divergence, size, "c" * 64, 1.5)


def ground(*seeds: int) -> Ground:
    return Ground(model(), CIFAR10, "i" * 64, score(900, 1000), 100, dict.fromkeys(seeds, "s" * 64), {"edge_bits": 8})


def cell(weights: int, activations: int, correct: int, seed: int = 42, *, per_channel: bool = True) -> SweepCell:
    return SweepCell(weights, activations, per_channel, False, True, "nearest", seed, measured(correct))


SWEEP = Sweep(
    ground(42, 43),
    (
        *(cell(2, 8, 500), cell(2, 8, 510, 43), cell(4, 8, 880), cell(4, 8, 880, 43)),
        *(cell(2, 8, 400, per_channel=False), cell(2, 8, 420, 43, per_channel=False)),
    ),
    ENVIRONMENT,
    CREATED,
)
SENSITIVITY = Sensitivity(
    ground(42),
    42,
    measured(899),
    {2: measured(300)},
    (
        LayerSensitivity("stem", 432, 2, measured(700, divergence=0.5), measured(650)),
        LayerSensitivity("dense", 640, 2, measured(898), measured(310)),
    ),
    ENVIRONMENT,
    CREATED,
)
SEARCH = Search(
    ground(42),
    42,
    7,
    0.5,
    (4, 8),
    "nearest",
    ("stem", "dense"),
    (LayerCost("stem", 432, 4, 0.25, measured(890)),),
    (
        FrontPoint((4, 4), 500, 0.75, measured(880)),
        FrontPoint((8, 4), 700, 0.5, None),
        FrontPoint((4, 8), 800, 0.25, measured(896)),
        FrontPoint((8, 8), 1000, 0.0, measured(900)),
    ),
    2,
    ENVIRONMENT,
    CREATED,
)


# --- tables ---


def test_a_map_for_each_variant() -> None:
    channel, tensor = sweeps.sweep(SWEEP)
    assert channel.headings == ("weights", "A8")
    assert channel.rows == (("W2", "505.0 ± 7.1"), ("W4", "880.0 ± 0.0"))
    assert tensor.rows == (("W2", "410.0 ± 14.1"),)
    assert channel.title == (
        "correct, per channel, unsigned activations, with bias correction, nearest codes; float 900; "
        "1,000 images: CIFAR-10 (official), test split; mean ± sd of 2 calibration draws"
    )
    assert sweeps.variant((False, True, False, "reconstruct")) == (
        "per tensor, signed activations, without bias correction, reconstructed"
    )


def test_sensitivity() -> None:
    found = sweeps.sensitivity(SENSITIVITY)
    assert found.rows == (
        ("stem", "432", "2", "700", "-199", "0.50000", "650", "+350"),
        ("dense", "640", "2", "898", "-1", "0.25000", "310", "+10"),
    )
    assert found.title.startswith("float 900; fine weights 899; all layers with 2 bits 300; 1,000 images")


def test_the_front_shows_what_was_measured() -> None:
    assert sweeps.front(SEARCH).rows == (
        ("", "4 4", "500", "0.75000", "0.25000", "880", "+2.00"),
        ("chosen", "4 8", "800", "0.25000", "0.25000", "896", "+0.40"),
        ("", "8 8", "1,000", "0.00000", "0.25000", "900", "+0.00"),
    )
    assert SEARCH.layer_bits == (("stem", 4), ("dense", 8))


# --- pictures ---

PICTURES: dict[str, tuple[Callable[[], Figure], tuple[str, ...]]] = {
    "sweep": (lambda: plots.sweep(SWEEP), ("weight bits", "activation bits", "50.50", "88.00", "41.00")),
    "sensitivity": (lambda: plots.sensitivity(SENSITIVITY), ("stem", "dense", "2 bits", "drop (percentage points)")),
    "search": (lambda: plots.search(SEARCH), ("chosen: 800 bytes", "allowed drop: 0.5 points")),
}


@pytest.mark.parametrize("name", PICTURES)
def test_pictures_are_the_same_each_time(name: str) -> None:
    draw, words = PICTURES[name]
    svg = plots.content(draw(), ".svg")
    assert svg == plots.content(draw(), ".svg")
    text = svg.decode()
    assert text.startswith("<?xml")
    assert "<dc:date>" not in text
    assert all(f"<!-- {one} -->" in text for one in words)  # letters are drawn, with the text beside them
    png = plots.content(draw(), ".PNG")
    assert png.startswith(b"\x89PNG")
    assert png == plots.content(draw(), ".png")


def test_other_pictures_are_refused() -> None:
    plots.require_suffix(Path("map.SVG"))
    with pytest.raises(StorageError, match=r"cannot draw map\.jpg: found the suffix «\.jpg», expected \.svg or \.png"):
        plots.require_suffix(Path("map.jpg"))


def test_without_matplotlib(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.delitem(sys.modules, "resnet8.report.plots")
    monkeypatch.delattr("resnet8.report.plots")
    with pytest.raises(MissingExtraError, match="plots"):
        from resnet8.report import plots as _  # noqa: F401
