"""The tables, as headings and cells: one source for the terminal and for Markdown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from resnet8.report import arithmetic

if TYPE_CHECKING:
    from collections.abc import Sequence

    from resnet8.quantization.recipes import Recipe
    from resnet8.results import (
        AccumulatorAudit,
        Calibration,
        Comparison,
        ComparisonRow,
        DataSource,
        Evaluation,
        GraphAgreement,
        NoiseSpread,
        NoiseStudy,
        Parity,
        RequantizationStudy,
        WorkedArithmetic,
    )

from resnet8.words import kilobytes, p_value, percent


@dataclass(frozen=True)
class Table:
    """Headings and rows of cells; ``left`` counts the leading columns that hold words, the others hold numbers."""

    title: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    left: int = 1


def source(data: DataSource) -> str:
    """What the images are, in words; says so when they are not the official ones."""
    kind = {
        "CIFAR-10": "CIFAR-10 (official)",
        "demo digits": "demo digits (handwritten digits, not CIFAR-10)",
        "unofficial": "NOT the official CIFAR-10 (other checksum)",
    }.get(data.dataset, data.dataset)
    subset = "" if data.subset == "all" else f", subset {data.subset}"
    return f"{kind}, {data.split} split{subset}"


def comparison(result: Comparison) -> Table:
    """Framework x dtype x accuracy x delta x size x reduction; noise and the published count where there are any."""
    noise = any(row.noise is not None for row in result.rows)
    mixed = len({row.vnni for row in result.rows}) > 1
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
        *(("noise",) if noise else ()),
        *(("CPU",) if mixed else ()),
        "accuracy",
        "delta (points)",
        "p",
        "size",
        "reduction",
    )
    return Table(
        title=f"{result.rows[0].overall.total:,} images: {source(result.data)}",
        headings=headings + (("published", "difference") if published else ()),
        rows=tuple(_cells(row, noise, mixed, published, is_baseline=row is baseline) for row in result.rows),
        left=3,
    )


def _cells(row: ComparisonRow, noise: bool, mixed: bool, published: bool, *, is_baseline: bool) -> tuple[str, ...]:
    is_float = row.dtype == "float32"
    cells = (
        row.name,
        row.framework,
        row.dtype,
        f"{row.overall.correct:,}",
        *((counts(row.noise) if row.noise else "–",) if noise else ()),
        *(("VNNI" if row.vnni else "no VNNI",) if mixed else ()),
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


def counts(spread: NoiseSpread) -> str:
    """The least and the greatest count."""
    return f"{spread.least:,} – {spread.greatest:,}"


def folding(result: Parity) -> Table:
    """How far off the converter's folded constants were, before they were rounded correctly."""
    return Table(
        title="constants folded out of batch normalizations, as this machine computed them",
        headings=("constant", "values", "not correctly rounded", "largest difference (ulp)"),
        rows=tuple((one.name, f"{len(one.ulps)}", f"{one.off}", f"{one.largest}") for one in result.folding),
    )


def noise(studies: Sequence[NoiseStudy]) -> Table:
    """Of each recipe: the count, and what becomes of it when the last bit of the float constants moves."""
    first = studies[0]
    return Table(
        title=f"every float constant moved by −1, 0 or +1 ulp; {len(first.labels):,} images: {source(first.data)}",
        headings=("recipe", "correct", "runs", "mean ± sd", "range", "as unperturbed", "between runs"),
        rows=tuple(_noise_cells(one) for one in studies),
    )


def _noise_cells(study: NoiseStudy) -> tuple[str, ...]:
    spread, share = study.spread, 100 / len(study.labels)
    return (
        study.recipe,
        f"{study.runs[0].overall.correct:,}",
        str(spread.runs),
        f"{spread.mean:,.1f} ± {spread.deviation:.1f}",
        counts(spread),
        *(
            f"{share * min(same):.2f} – {share * max(same):.2f}, mean {share * sum(same) / len(same):.2f} %"
            for same in study.agreements
        ),
    )


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
        title=f"{result.model_path} ({result.runtime}, {result.model.dtype}) on {source(result.data)}",
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


def agreement(result: GraphAgreement) -> Table:
    """Differing codes of each layer by cause; layers without any are counted in the last row only."""
    causes = tuple(result.layers[0].causes)
    rows = [
        (
            one.layer,
            one.operator,
            one.kernel,
            f"{one.codes:,}",
            f"{one.differing:,}",
            *(f"{one.causes[cause]:,}" for cause in causes),
            str(one.largest_difference),
        )
        for one in result.layers
        if one.differing
    ]
    layers = result.layers
    rows.append(
        (
            "all layers",
            f"{len(layers)}",
            f"{result.integer_layers} integer",
            f"{sum(one.codes for one in layers):,}",
            f"{sum(one.differing for one in layers):,}",
            *(f"{sum(one.causes[cause] for one in layers):,}" for cause in causes),
            str(max(one.largest_difference for one in layers)),
        )
    )
    return Table(
        title=f"graph {result.graph}: integer engine against {result.runtime}, each layer fed the same codes",
        headings=("layer", "operator", "kernel", "codes", "differ", *causes, "largest (LSB)"),
        rows=tuple(rows),
        left=3,
    )


def requantization(result: RequantizationStudy) -> Table:
    """Each variant: codes that change, largest difference, logits, predictions, top-1."""
    return Table(
        title=f"{result.model.path}: against float32 multipliers, half even; {result.images:,} images: {source(result.data)}",
        headings=(
            "multiplier",
            "rounding",
            "codes changed",
            "share",
            "largest (LSB)",
            "logits changed",
            "predictions changed",
            "correct",
            "accuracy",
        ),
        rows=tuple(
            (
                one.multiplier,
                one.rounding,
                f"{one.changed:,}",
                f"{100 * one.changed / one.codes:.4f} %",
                str(one.largest_difference),
                f"{one.changed_logits:,}",
                f"{one.changed_predictions:,}",
                f"{one.overall.correct:,}",
                percent(one.overall.accuracy),
            )
            for one in result.rows
        ),
        left=2,
    )


def accumulators(result: AccumulatorAudit) -> Table:
    """Range and width of each layer's accumulator."""
    return Table(
        title=f"{result.model.path}: accumulators on {result.images:,} images: {source(result.data)}",
        headings=("layer", "operator", "depth", "observed", "bits", "worst case", "safe bits"),
        rows=tuple(
            (
                one.layer,
                one.operator,
                f"{one.depth}",
                f"{one.observed[0]:,} … {one.observed[1]:,}",
                str(one.observed_bits),
                f"{one.worst_case[0]:,} … {one.worst_case[1]:,}",
                str(one.safe_bits),
            )
            for one in result.layers
        ),
        left=2,
    )


def widths(result: AccumulatorAudit) -> Table:
    """Top-1 with narrower accumulators."""
    exact = ("exact", "–", "0", f"{result.exact.correct:,}", percent(result.exact.accuracy))
    return Table(
        title=f"narrower accumulators in all {len(result.layers)} layers",
        headings=("bits", "overflow", "layers that overflow", "correct", "accuracy"),
        rows=(
            exact,
            *(
                (
                    str(one.bits),
                    one.overflow,
                    str(len(one.layers)),
                    f"{one.overall.correct:,}",
                    percent(one.overall.accuracy),
                )
                for one in result.widths
            ),
        ),
        left=2,
    )


def layers(result: WorkedArithmetic) -> Table:
    """Every layer with its grids and multipliers."""
    return Table(
        title=f"{result.model.path}: input {arithmetic.grid(result.input)}",
        headings=(
            "layer",
            "operator",
            "output shape",
            "input",
            "weights / second input",
            "output",
            "multiplier",
            "M (32 bit)",
            "shift",
        ),
        rows=tuple(
            (
                one.layer,
                one.operator,
                "x".join(map(str, one.output_shape)),
                arithmetic.grid(one.inputs[0]),
                arithmetic.grid(second) if (second := one.weights or (one.inputs[1:] or (None,))[0]) else "–",
                arithmetic.grid(one.output),
                ", ".join(_span(low, high, ".6g") for low, high in one.multipliers),
                ", ".join(_span(low, high, ",") for low, high in one.fixed_multipliers),
                ", ".join(dict.fromkeys(_span(low, high, "d") for low, high in one.shifts)),
            )
            for one in result.layers
        ),
        left=6,
    )


def classes(result: WorkedArithmetic) -> Table:
    """Each class from the code of its logit to its probability, and back where the file quantizes that."""
    logits = [one.code for one in result.classes]
    predicted = result.classes[logits.index(max(logits))].class_name
    titles = [
        f"image {result.image}, {result.label}; predicted: {predicted}",
        f"logits {arithmetic.grid(result.logits)}",
    ]
    headings = ["class", "code of the logit", "dequantized"]
    columns = [[one.class_name for one in result.classes], [str(code) for code in logits]]
    columns.append([f"{one.real:.6g}" for one in result.classes])
    soft = [one.probability for one in result.classes if one.probability is not None]
    if soft:
        headings.append("softmax")
        columns.append([f"{value:.6f}" for value in soft])
    if soft and (on := result.probabilities) is not None:
        codes = [one.probability_code or 0 for one in result.classes]
        titles.append(f"probabilities {arithmetic.grid(on)}")
        headings += ["code of the probability", "dequantized"]
        columns.append([str(code) for code in codes])
        columns.append([f"{on.scales[0] * (code - on.zero_points[0]):.6f}" for code in codes])
    return Table("; ".join(titles), tuple(headings), tuple(zip(*columns, strict=True)))


def _span(low: float, high: float, form: str) -> str:
    return f"{low:{form}}" if low == high else f"{low:{form}} … {high:{form}}"
