"""What ways to requantize change on everything that any input can give, as tables and as blocks of documents."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resnet8.numeric.variants import MULTIPLIERS
from resnet8.report.document import Table, markdown, table
from resnet8.report.tables import named

if TYPE_CHECKING:
    from collections.abc import Mapping

    from resnet8.results import ExhaustiveRow, ExhaustiveStudy

EQUAL = "equal everywhere"


def variants(result: ExhaustiveStudy) -> Table:
    """Each way to requantize: equal to the exact rule everywhere, or where it is not."""
    return table(
        result.rows,
        {
            "multiplier": lambda row: row.multiplier,
            "rounding": lambda row: row.rounding,
            "other code than the exact multiplier": lambda row: row.differing or EQUAL,
            "share": lambda row: f"{100 * row.differing / result.cases:.2g} %" if row.differing else None,
            "layers": lambda row: len(row.layers) or None,
            "channels": lambda row: sum(sum(map(bool, one.channels)) for one in row.layers) or None,
            "largest (LSB)": lambda row: max((one.largest for one in row.layers), default=None),
            "smallest example": _example,
            "other code than exact half-even": lambda row: row.from_half_even or EQUAL,
        },
        title=f"{result.model.path}: {_covered(result)}",
        left=2,
    )


def layers(result: ExhaustiveStudy) -> Table:
    """Each layer: how much was covered, and how many codes each multiplier changes, all rounded half to even."""
    columns = {
        row.multiplier: {one.layer: one.differing for one in row.layers}
        for row in result.rows
        if row.rounding == "half-even"
    }
    rows = tuple(
        (
            one.layer,
            one.operator,
            f"{one.channels:,}",
            f"{one.cases:,}",
            *(f"{columns[kind].get(one.layer, 0):,}" for kind in MULTIPLIERS if kind in columns),
        )
        for one in result.layers
    )
    headings = ("layer", "operator", "channels", "cases", *(kind for kind in MULTIPLIERS if kind in columns))
    return Table("other codes than the exact rule, half-even, by layer", headings, rows, left=2)


def blocks(name: str, result: ExhaustiveStudy) -> dict[str, str]:
    """``exhaustive-NAME``: every variant; ``exhaustive-layers-NAME``: every layer."""
    model = f"Model {named(result.model)}"
    return {
        f"exhaustive-{name}": markdown(f"{model}, {_covered(result)}.", variants(result)),
        f"exhaustive-layers-{name}": markdown(
            f"{model}, other codes than the exact rule, all half-even.", layers(result)
        ),
    }


def summary(studies: Mapping[str, ExhaustiveStudy]) -> str:
    """``exhaustive``: of each model the cases, and how many of them each multiplier changes, whatever the rounding."""

    def most(study: ExhaustiveStudy, kind: str) -> str:
        counts = [row.differing for row in study.rows if row.multiplier == kind]
        return EQUAL if not any(counts) else f"{max(counts):,}"

    rows = tuple(
        (
            name,
            f"{sum(one.channels for one in study.layers):,}",
            f"{study.cases:,}",
            *(most(study, kind) for kind in MULTIPLIERS),
        )
        for name, study in studies.items()
    )
    return markdown(Table("", ("model", "channels", "cases", *MULTIPLIERS), rows))


def _covered(result: ExhaustiveStudy) -> str:
    channels, filled = (sum(getattr(one, which) for one in result.layers) for which in ("channels", "filled"))
    words = f"all {result.cases:,} cases of {channels:,} channels in {len(result.layers)} layers"
    if result.without:
        words += f" ({', '.join(result.without)} requantizes nothing)"
    return f"{words}; in {filled:,} channels input codes are known to give every one"


def _example(row: ExhaustiveRow) -> str | None:
    if not row.layers:
        return None
    one = min(row.layers, key=lambda of: sum(map(abs, of.smallest.at)))
    where = "" if one.smallest.channel is None else f", channel {one.smallest.channel}"
    at = ", ".join(f"{number:,}" for number in one.smallest.at)
    return f"{one.layer}{where}: {at} → {one.smallest.code}, exact {one.smallest.exact}"
