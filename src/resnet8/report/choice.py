"""Which recipe for which need, and what each comes to: parts of the README and of the page of recipes."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

from resnet8 import words
from resnet8.comparison import SIGNIFICANCE, seeds_of
from resnet8.report import tables
from resnet8.report.document import markdown, table

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from resnet8.report.limit import Limits
    from resnet8.results import Comparison, ComparisonRow, Evaluation

    Pair = tuple[ComparisonRow, Evaluation]

RECIPES = ("int8", "int8-vnni", "int8-per-tensor", "int4", "mixed", "torch-pt2e-int8", "torch-pt2e-uint8")
"""Those that the page of recipes is about."""


def needs(result: Comparison, evaluations: Sequence[Evaluation]) -> str:
    """``needs``: for each need the recipe that serves it best, among the candidates of the comparison."""
    candidates = [pair for pair in zip(result.rows, evaluations, strict=True) if pair[0].candidate]
    anywhere = [pair for pair in candidates if pair[0].portable]
    faithful: Callable[[Pair], tuple[int, ...]] = lambda pair: (pair[0].agreement or 0, -pair[0].size_bytes)  # noqa: E731
    small: Callable[[Pair], tuple[int, ...]] = lambda pair: (-pair[0].size_bytes, pair[0].overall.correct)  # noqa: E731
    asked = {
        "the smallest": (anywhere, small),
        "the smallest that cannot be told from FP32": (
            [pair for pair in anywhere if pair[0].p_value >= SIGNIFICANCE],
            small,
        ),
        "the most faithful": (anywhere, faithful),
        "the fastest here": (candidates, lambda pair: (pair[0].images_per_second,)),
        "PyTorch": ([pair for pair in candidates if pair[1].runtime == "pytorch"], faithful),
        "hardware with one scale for a tensor": (
            [pair for pair in anywhere if _per_tensor(pair[1])],
            faithful,
        ),
    }
    chosen = [(need, max(pairs, key=by, default=None)) for need, (pairs, by) in asked.items()]

    def cell(of: Callable[[ComparisonRow], str | int | None]) -> Callable[[tuple[str, Pair | None]], str | int | None]:
        return lambda one: None if one[1] is None else of(one[1][0])

    cpus = ", ".join(dict.fromkeys(one.environment.cpu.model for _, one in candidates))
    return markdown(
        table(
            chosen,
            {
                "I need": lambda one: one[0],
                "recipe": cell(lambda row: f"`{row.name}`"),
                "framework": cell(lambda row: row.framework),
                "bytes": cell(lambda row: row.size_bytes),
                "correct": cell(lambda row: row.overall.correct),
                "p": cell(lambda row: words.p_value(row.p_value)),
                "agreement": cell(lambda row: row.agreement),
                "images/s": cell(lambda row: round(row.images_per_second)),
                "same on every x86-64 CPU": cell(lambda row: "yes" if row.portable else "no"),
            },
            left=3,
        ),
        "Of the candidates of the recommendation; all but the fastest among those whose result is the same on every "
        f"x86-64 CPU. Agreement: images with the prediction of the float model. Images/s: measured on {cpus or words.NONE}.",
    )


def _per_tensor(one: Evaluation) -> bool:
    return one.quantization is not None and one.quantization.settings.get("per_channel") is False


def recipes(result: Comparison, evaluations: Sequence[Evaluation], known: Limits) -> dict[str, str]:
    """``recipe-NAME`` for each of :data:`RECIPES`: what its file comes to, in a sentence or two."""
    found = {row.name: (row, one) for row, one in zip(result.rows, evaluations, strict=True)}
    return {f"recipe-{name}": markdown(_measured(found.get(name), known)) for name in RECIPES}


def _measured(pair: Pair | None, known: Limits) -> str:
    if pair is None:
        return "*Not measured here yet.*"
    row, one = pair
    text = (
        f"*Measured:* {row.size_bytes:,} bytes, {row.overall.correct:,} of {row.overall.total:,} correct "
        f"({row.lost:,} lost, {row.gained:,} gained, p = {words.p_value(row.p_value)})"
    )
    if row.agreement is not None:
        text += f", the float model's prediction on {row.agreement:,}"
    text += f"; {row.images_per_second:,.0f} images/s {'with' if row.vnni else 'without'} VNNI"
    if one.quantization is not None:
        text += f"; made in {one.quantization.seconds:.0f} s"
    text += "."
    if (study := seeds_of(one, known.seeds)) is not None:
        text += (
            f" Over {study.correct.runs} calibration draws: correct {tables.spread(study.correct)}, agreement "
            f"{tables.spread(study.agreement)}."
        )
    return text


# The picture of accuracy against size


def points(result: Comparison) -> list[tuple[int, float, str, bool]]:
    """Of each quantized model: bytes, top-1 in per cent, name, and whether the test cannot tell it from the baseline."""
    found = {
        (row.size_bytes, round(100 * row.overall.accuracy, 4), row.name, row.p_value >= SIGNIFICANCE)
        for row in result.rows
        if row.dtype != "float32"
    }
    return sorted(found)


def baseline(result: Comparison) -> float:
    """Top-1 of the baseline, in per cent."""
    row = next(row for row in result.rows if f"{row.framework} {row.name}" == result.baseline)
    return round(100 * row.overall.accuracy, 4)


def fingerprint(result: Comparison) -> str:
    """Of all that the picture shows: it stands in its file, so that one that is out of date is known as such."""
    return hashlib.sha256(json.dumps([baseline(result), points(result)]).encode()).hexdigest()
