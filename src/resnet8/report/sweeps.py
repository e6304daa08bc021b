"""Sweeps, sensitivities and searches as tables."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

from resnet8.report.document import Table, cells, table
from resnet8.report.tables import images

if TYPE_CHECKING:
    from collections.abc import Sequence

    from resnet8.results import Measured, Search, Sensitivity, Sweep

Variant = tuple[bool, bool, bool, str]


def variant(of: Variant) -> str:
    """What the cells of one map have in common, in words."""
    per_channel, signed, corrected, rounding = of
    return ", ".join(
        (
            "per channel" if per_channel else "per tensor",
            f"{'signed' if signed else 'unsigned'} activations",
            f"{'with' if corrected else 'without'} bias correction",
            "reconstructed" if rounding == "reconstruct" else "nearest codes",
        )
    )


def sweep(result: Sweep) -> tuple[Table, ...]:
    """Correct images by weight bits and activation bits, a table for each variant; over seeds mean ± deviation."""
    ground = result.ground
    found = []
    for of, cells_of in result.maps().items():
        weights, activations = (tuple(dict.fromkeys(key[i] for key in cells_of)) for i in (0, 1))
        rows = tuple(cells(f"W{w}", *(_counts(cells_of[w, a]) for a in activations)) for w in weights)
        title = (
            f"correct, {variant(of)}; float {ground.baseline.correct:,}; {images(ground.baseline.total, ground.data)}"
        )
        if len(ground.seeds) > 1:
            title += f"; mean ± sd of {len(ground.seeds)} calibration draws"
        found.append(Table(title, ("weights", *(f"A{a}" for a in activations)), rows))
    return tuple(found)


def _counts(measured: Sequence[Measured]) -> str:
    counts = [one.overall.correct for one in measured]
    if len(counts) == 1:
        return f"{counts[0]:,}"
    return f"{statistics.fmean(counts):,.1f} ± {statistics.stdev(counts):.1f}"


def sensitivity(result: Sensitivity) -> Table:
    """Each layer alone with few bits, and all but it."""
    ground = result.ground
    return table(
        result.layers,
        {
            "layer": lambda one: one.layer,
            "weights": lambda one: one.weights,
            "bits": lambda one: one.bits,
            "alone: correct": lambda one: one.alone.overall.correct,
            "change": lambda one: f"{one.alone.overall.correct - result.fine.overall.correct:+,}",
            "divergence": lambda one: f"{one.alone.divergence:.5f}",
            "all others: correct": lambda one: one.spared.overall.correct,
            "regained": lambda one: f"{one.spared.overall.correct - result.coarse[one.bits].overall.correct:+,}",
        },
        title=f"float {ground.baseline.correct:,}; fine weights {result.fine.overall.correct:,}; all layers "
        + ", ".join(f"with {bits} bits {one.overall.correct:,}" for bits, one in result.coarse.items())
        + f"; {images(ground.baseline.total, ground.data)}",
    )


def front(result: Search) -> Table:
    """The measured points of the front, the smallest first."""
    measured = [(one, found) for one in result.front if (found := one.measured) is not None]
    return table(
        measured,
        {
            "": lambda one: "chosen" if one[0] is result.choice else "",
            "bits of the layers": lambda one: " ".join(map(str, one[0].bits)),
            "bytes": lambda one: one[0].size_bytes,
            "predicted divergence": lambda one: f"{one[0].cost:.5f}",
            "measured": lambda one: f"{one[1].divergence:.5f}",
            "correct": lambda one: one[1].overall.correct,
            "drop (points)": lambda one: f"{result.drop(one[0]):+.2f}",
        },
        title=f"{len(result.front)} points on the front; measured on "
        f"{images(result.ground.baseline.total, result.ground.data)}; "
        f"float {result.ground.baseline.correct:,}; allowed drop {result.max_drop:g}",
        left=2,
    )
