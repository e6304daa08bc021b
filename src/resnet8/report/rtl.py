"""What simulators and synthesis say about the networks that are exported for hardware."""

from __future__ import annotations

from pathlib import PurePath
from typing import TYPE_CHECKING

from resnet8.report.document import Table, markdown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from resnet8.results import RtlCheck


def rtl(checks: Sequence[RtlCheck]) -> str:
    """``rtl``: values compared, a row for each model and simulator; cells, a row for each unit."""
    values = tuple(
        (f"`{_file(one)}`", one.requantization, run.simulator, str(one.layers), str(one.images), f"{run.values:,}")
        for one in checks
        for run in one.runs
    )
    cells = tuple(
        (
            f"`{_file(one)}`",
            f"`{unit.unit}`",
            f"`{unit.layer}`",
            "–" if unit.accumulator_width is None else str(unit.accumulator_width),
            str(unit.multiplier_width),
            str(unit.numerator_width),
            f"{unit.cells:,}",
        )
        for one in checks
        for unit in one.units
    )
    lanes = ", ".join(sorted({str(one.word) for one in checks}))
    return markdown(
        Table("", ("model", "multiplier/rounding", "simulator", "layers", "images", "values, none wrong"), values, 3),
        Table("", ("model", "unit", "layer", "accumulator", "multiplier", "numerator", "cells"), cells, 3),
        f"Widths in bits. A `resnet8_pe` has {lanes} lanes; cells are those of {checks[0].synthesizer}.",
    )


def _file(one: RtlCheck) -> str:
    return PurePath(one.model.path).name
