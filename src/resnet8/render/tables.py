"""The tables, as headings and cells: one source for the terminal and for Markdown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from resnet8.recipes import Recipe
    from resnet8.results import Calibration, Comparison, ComparisonRow, DataSource, Evaluation, Parity


@dataclass(frozen=True)
class Table:
    """Headings and rows of cells; ``left`` counts the leading columns that hold words, the others hold numbers."""

    title: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    left: int = 1


def percent(fraction: float) -> str:
    """A fraction as per cent with two decimals."""
    return f"{100 * fraction:.2f} %"


def kilobytes(size: int) -> str:
    """A size in KB of 1,024 bytes, as the published sizes are."""
    return f"{size / 1024:.1f} KB"


def source(data: DataSource) -> str:
    """What the images are, in words; says so when they are not the official ones."""
    kind = {
        "CIFAR-10": "CIFAR-10 (official)",
        "demo digits": "demo digits (handwritten digits, not CIFAR-10)",
        "unofficial": "NOT the official CIFAR-10 (other checksum)",
    }.get(data.dataset, data.dataset)
    subset = "" if data.subset == "all" else f", subset {data.subset}"
    return f"{kind}, {data.split} split{subset}"


def p_value(value: float) -> str:
    """A p-value to three decimals, or that it is below."""
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def comparison(result: Comparison) -> Table:
    """Framework x dtype x accuracy x delta x size x reduction, and the published count where there is one."""
    published = any(row.published_correct is not None for row in result.rows)
    baseline = next(
        (row for row in result.rows if row.dtype == "float32" and f"{row.framework} {row.name}" == result.baseline),
        None,
    )
    headings = (
        "model",
        "framework",
        "dtype",
        "correct",
        "accuracy",
        "delta (points)",
        "p",
        "size",
        "reduction",
    )
    return Table(
        title=f"{result.rows[0].overall.total:,} images: {source(result.data)}",
        headings=headings + (("published", "difference") if published else ()),
        rows=tuple(_cells(row, published, is_baseline=row is baseline) for row in result.rows),
        left=3,
    )


def _cells(row: ComparisonRow, published: bool, *, is_baseline: bool) -> tuple[str, ...]:
    is_float = row.dtype == "float32"
    cells = (
        row.name,
        row.framework,
        row.dtype,
        f"{row.overall.correct:,}",
        percent(row.overall.accuracy),
        "baseline" if is_baseline else f"{row.delta_points:+.2f}" + (" ⚠ drop" if row.flagged else ""),
        "–" if is_float else p_value(row.p_value),
        kilobytes(row.size_bytes),
        "–" if is_float else f"{row.reduction:.0%}",
    )
    if not published:
        return cells
    if row.published_correct is None:
        return (*cells, "–", "–")
    return (*cells, f"{row.published_correct:,}", f"{row.overall.correct - row.published_correct:+d}")


def per_class(evaluations: tuple[Evaluation, ...], names: tuple[str, ...]) -> Table:
    """Accuracy of each class, a column for each evaluation."""
    classes = evaluations[0].per_class
    return Table(
        title="correct by class",
        headings=("class", "images", *names),
        rows=tuple(
            (
                one.class_name,
                f"{one.total:,}",
                *(f"{result.per_class[i].correct:,}" for result in evaluations),
            )
            for i, one in enumerate(classes)
        ),
    )


def evaluation(result: Evaluation) -> Table:
    """Overall and per class."""
    rows = [(one.class_name, f"{one.correct:,}", f"{one.total:,}", percent(one.accuracy)) for one in result.per_class]
    overall = result.overall
    rows.append(("overall", f"{overall.correct:,}", f"{overall.total:,}", percent(overall.accuracy)))
    return Table(
        title=f"{result.model_path} ({result.backend}, {result.model.dtype}) on {source(result.data)}",
        headings=("class", "correct", "total", "accuracy"),
        rows=tuple(rows),
    )


def parity(result: Parity) -> Table:
    """The certificate's pairs."""
    return Table(
        title=f"{result.images:,} images: {source(result.data)}",
        headings=("pair", "largest |Δp|", "worst image", "different predictions", "of these ties"),
        rows=tuple(
            (
                f"{pair.a} – {pair.b}",
                f"{pair.max_abs_difference:.2e}",
                str(pair.worst_image),
                str(pair.differing_predictions),
                str(pair.ties),
            )
            for pair in result.pairs
        ),
    )


def calibration(result: Calibration) -> Table:
    """How many images of each class were drawn."""
    return Table(
        title=f"calibration set: {source(result.data)}; draw «{result.method}», seed {result.seed}",
        headings=("class", "images"),
        rows=tuple((name, f"{count:,}") for name, count in result.per_class.items()),
    )


def recipes(known: tuple[Recipe, ...]) -> Table:
    """All recipes with their settings."""
    return Table(
        title="recipes",
        headings=("recipe", "framework", "activations", "weights", "scales", "folded", "draw", "what it is"),
        rows=tuple(
            (
                one.name,
                one.framework,
                one.activations,
                one.weights,
                "per channel" if one.per_channel else "per tensor",
                "yes" if one.fold else "no",
                one.draw,
                one.summary,
            )
            for one in known
        ),
        left=8,
    )
