"""Compute-in-memory arrays as tables."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Any

from resnet8 import words
from resnet8.comparison import SIGNIFICANCE, mcnemar
from resnet8.report.document import Table, cells, markdown, table
from resnet8.report.tables import images, named

if TYPE_CHECKING:
    from collections.abc import Sequence

    from resnet8.results import ArrayCell, CimAudit

TOLD = "*"
"""Behind a count that the test tells from the exact engine's."""


def variant(cell: ArrayCell) -> str:
    """What the arrays of one map have in common, in words."""
    parts = [
        f"{cell.signed} cells of {cell.cell_bits} bit{'' if cell.cell_bits == 1 else 's'}",
        "bit-serial inputs" if cell.dac_bits == 1 else f"inputs by {cell.dac_bits} bits at once",
    ]
    if cell.adc_range == "full":
        parts.append("full ADC range")
    elif cell.percentile == 100:
        parts.append("ADC range to the largest sum of each layer in calibration")
    else:
        parts.append(f"ADC range to {cell.percentile:g} % of each layer's sums in calibration")
    if cell.variation:
        parts.append(f"{cell.spread} variation {cell.variation:g}")
    if cell.read_noise:
        parts.append(f"read noise {cell.read_noise:g}")
    return ", ".join(parts)


def p_values(result: CimAudit, cell: ArrayCell) -> tuple[float, ...]:
    """Of each run against the exact engine on the same images: two-sided exact McNemar test."""
    return tuple(mcnemar(*result.discordant(run)) for run in cell.runs)


def told(result: CimAudit, cell: ArrayCell) -> bool:
    """Whether the test tells every run from the exact engine."""
    return all(p < SIGNIFICANCE for p in p_values(result, cell))


def accuracy(cell: ArrayCell) -> float:
    """Mean top-1 of the runs, in per cent."""
    return 100 * statistics.fmean(run.overall.accuracy for run in cell.runs)


def maps(result: CimAudit) -> tuple[Table, ...]:
    """Correct images, and those with the exact engine's prediction, by rows and bits of the ADC.

    A table for each variant of two kinds of arrays or more, called by what these have in common.
    """
    found = []
    for of in result.maps().values():
        if len(of) < 2:
            continue
        rows, bits = (sorted({key[i] for key in of}) for i in (0, 1))
        lines = tuple(
            cells(f"{r} rows", *(_counts(result, of[r, b]) if (r, b) in of else None for b in bits)) for r in rows
        )
        first = next(iter(of.values()))
        headings = ("correct / as exact", *(f"ADC {b} bit{'' if b == 1 else 's'}" for b in bits))
        found.append(Table(variant(first), headings, lines))
    return tuple(found)


def _counts(result: CimAudit, cell: ArrayCell) -> str:
    correct, agreeing = _correct(cell), _agreeing(result, cell)
    return f"{spread(correct)} / {spread(agreeing)}{TOLD if told(result, cell) else ''}"


def _correct(cell: ArrayCell) -> list[int]:
    return [run.overall.correct for run in cell.runs]


def _agreeing(result: CimAudit, cell: ArrayCell) -> list[int]:
    return [result.agreement(run) for run in cell.runs]


def _exact(result: CimAudit) -> str:
    return f"exact engine {result.exact.correct:,} of {images(result.exact.total, result.data)}"


def spread(counts: Sequence[int]) -> str:
    """A count; of several runs mean and standard deviation."""
    if len(counts) == 1:
        return f"{counts[0]:,}"
    return f"{statistics.fmean(counts):,.1f} ± {statistics.stdev(counts):.1f}"


def arrays(result: CimAudit) -> Table:
    """A row for each kind of arrays: what it answers, against the exact engine, and what its ADCs clip."""

    def ends(values: Sequence[Any], form: Any = str) -> str:
        return " … ".join(dict.fromkeys(form(one) for one in (min(values), max(values))))

    def discordant(cell: ArrayCell, which: int) -> str:
        return ends([result.discordant(run)[which] for run in cell.runs])

    alike = len(result.maps()) == 1
    return table(
        result.cells,
        {
            **({} if alike else {"arrays": variant}),
            "rows": lambda one: str(one.rows),
            "ADC": lambda one: f"{one.adc_bits} bits",
            "runs": lambda one: str(len(one.runs)),
            "correct": lambda one: spread(_correct(one)),
            "accuracy": lambda one: words.percent(accuracy(one) / 100),
            "as exact": lambda one: spread(_agreeing(result, one)),
            "lost": lambda one: discordant(one, 0),
            "gained": lambda one: discordant(one, 1),
            "p": lambda one: ends(p_values(result, one), words.p_value),
            "clipped": lambda one: share(one.clipped),
            "conversions": lambda one: sum(layer.conversions for layer in one.layers),
        },
        title=f"{result.model.path}{', ' + variant(result.cells[0]) if alike else ''}; {_exact(result)}",
    )


def share(fraction: float) -> str:
    """A share of sums, that one above nothing is not said to be nothing."""
    return "0" if fraction == 0 else f"{100 * fraction:.2g} %"


def layers(result: CimAudit, cell: ArrayCell) -> Table:
    """The layers in one kind of arrays."""
    read = len(result.labels) * len(cell.runs)
    return table(
        cell.layers,
        {
            "layer": lambda one: one.layer,
            "operator": lambda one: one.operator,
            "depth": lambda one: one.depth,
            "arrays": lambda one: one.arrays,
            "columns": lambda one: one.columns,
            "conversions": lambda one: one.conversions,
            "ADC range": lambda one: one.top,
            "step": lambda one: f"{one.step:.4g}",
            "clipped": lambda one: one.clipped,
            "share": lambda one: share(one.clipped / (read * one.conversions)),
        },
        title=f"{cell.rows} rows, {cell.adc_bits} bits of the ADC, {variant(cell)}: each layer",
        left=2,
    )


def blocks(name: str, result: CimAudit) -> dict[str, str]:
    """``cim-NAME``: the maps of a result; ``cim-layers-NAME``: the layers of its last kind of arrays."""
    parts: list[str | Table] = [
        f"Model {named(result.model)}, {_exact(result)}. Each cell: correct images / images with the exact "
        f"engine's prediction{_repeated(result)}. `{TOLD}`: the exact McNemar test tells the count from the exact engine's "
        f"(p < {SIGNIFICANCE:g}, {len(result.cells)} comparisons, not corrected for their number).{_calibrated(result)}"
    ]
    for one in maps(result):
        parts += [f"{one.title[0].upper()}{one.title[1:]}:", one]
    last = result.cells[-1]
    facts = f"{last.rows} rows, {last.adc_bits} bits of the ADC, {variant(last)}."
    return {f"cim-{name}": markdown(*parts), f"cim-layers-{name}": markdown(facts, layers(result, last))}


def _calibrated(result: CimAudit) -> str:
    if result.calibration is None:
        return ""
    return f" The ADCs' ranges are set on {images(result.calibration_images, result.calibration)}."


def _repeated(result: CimAudit) -> str:
    runs = max(len(cell.runs) for cell in result.cells)
    return "" if runs == 1 else f", mean ± standard deviation of {runs} programmings"
