"""Results as tables: one source for the terminal and for Markdown."""

from __future__ import annotations

from pathlib import PurePath
from typing import TYPE_CHECKING

from resnet8 import results, words
from resnet8.report.arithmetic import grid, span
from resnet8.report.document import Table, cells, table
from resnet8.words import percent

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from resnet8.inspection.records import Layer, Operations, Weights
    from resnet8.quantization.recipes import Recipe
    from resnet8.report.document import Cell


def source(data: results.DataSource) -> str:
    """What the images are, in words; says so when they are not the official ones."""
    kind = {
        "CIFAR-10": "CIFAR-10 (official)",
        "demo digits": "demo digits (handwritten digits, not CIFAR-10)",
        "unofficial": "NOT the official CIFAR-10 (other checksum)",
    }.get(data.dataset, data.dataset)
    subset = "" if data.subset == "all" else f", subset {data.subset}"
    return f"{kind}, {data.split} split{subset}"


def named(model: results.ModelDescription) -> str:
    """A model's file, and which one of that name: the beginning of its SHA-256."""
    return f"`{PurePath(model.path).name}` (SHA-256 `{model.sha256[:16]}…`)"


def images(count: int, data: results.DataSource) -> str:
    """How many images, and what they are."""
    return f"{count:,} images: {source(data)}"


def comparison(result: results.Comparison) -> Table:
    """Framework x dtype x accuracy x delta x size x reduction; noise and the published count where there are any."""
    baseline = next(
        (row for row in result.rows if row.dtype == "float32" and f"{row.framework} {row.name}" == result.baseline),
        None,
    )
    columns: dict[str, Callable[[results.ComparisonRow], Cell]] = {
        "model": lambda row: row.name,
        "framework": lambda row: row.framework,
        "dtype": lambda row: row.dtype,
        "correct": lambda row: row.overall.correct,
    }
    if any(row.noise for row in result.rows):
        columns["noise"] = lambda row: counts(row.noise)
    if any(row.seeds for row in result.rows):
        columns["seeds"] = lambda row: counts(row.seeds)
    if len({row.vnni for row in result.rows}) > 1:
        columns["CPU"] = lambda row: "VNNI" if row.vnni else "no VNNI"
    columns |= {
        "accuracy": lambda row: percent(row.overall.accuracy),
        "delta (points)": lambda row: (
            "baseline" if row is baseline else f"{row.delta_points:+.2f}{' ⚠ drop' if row.flagged else ''}"
        ),
        "p": lambda row: None if row.dtype == "float32" else words.p_value(row.p_value),
    }
    if any(row.agreement is not None for row in result.rows):
        columns["agreement"] = lambda row: None if row is baseline else row.agreement
    columns |= {
        "size": lambda row: words.kilobytes(row.size_bytes),
        "reduction": lambda row: None if row.dtype == "float32" else f"{row.reduction:.0%}",
    }
    if any(row.published_correct is not None for row in result.rows):
        columns["published"] = lambda row: row.published_correct
        columns["difference"] = lambda row: (
            None if row.published_correct is None else f"{row.overall.correct - row.published_correct:+d}"
        )
    title = images(result.rows[0].overall.total, result.data)
    return table(result.rows, columns, title=title, left=3)


def counts(spread: results.NoiseSpread | None) -> str | None:
    """The least and the greatest count, where there are some."""
    return None if spread is None else f"{spread.least:,} – {spread.greatest:,}"


def folding(result: results.Parity) -> Table:
    """How far off the converter's folded constants were, before they were rounded correctly."""
    return table(
        result.folding,
        {
            "constant": lambda one: one.name,
            "values": lambda one: str(len(one.ulps)),
            "not correctly rounded": lambda one: str(one.off),
            "largest difference (ulp)": lambda one: str(one.largest),
        },
        title="constants folded out of batch normalizations, as this machine computed them",
    )


def noise(studies: Sequence[results.NoiseStudy]) -> Table:
    """Of each recipe: the count, and what becomes of it when the last bit of the float constants moves."""
    first = studies[0]

    def same(study: results.NoiseStudy, which: int) -> str:
        """The share of images with the same prediction in two runs."""
        images, share = study.agreements[which], 100 / len(study.labels)
        mean = share * sum(images) / len(images)
        return f"{share * min(images):.2f} – {share * max(images):.2f}, mean {mean:.2f} %"

    return table(
        studies,
        {
            "recipe": lambda one: one.recipe,
            "correct": lambda one: one.runs[0].overall.correct,
            "runs": lambda one: str(one.spread.runs),
            "mean ± sd": lambda one: f"{one.spread.mean:,.1f} ± {one.spread.deviation:.1f}",
            "range": lambda one: counts(one.spread),
            "as unperturbed": lambda one: same(one, 0),
            "between runs": lambda one: same(one, 1),
        },
        title=f"every float constant moved by −1, 0 or +1 ulp; {images(len(first.labels), first.data)}",
    )


def spread(of: results.NoiseSpread) -> str:
    """Mean, standard deviation, least and greatest."""
    return f"{of.mean:,.1f} ± {of.deviation:.1f} ({counts(of)})"


def seeds(studies: Sequence[results.SeedStudy]) -> Table:
    """Of each recipe: what becomes of its numbers when other images calibrate it."""
    ground = studies[0].ground
    return table(
        studies,
        {
            "recipe": lambda one: one.recipe,
            "draws": lambda one: str(len(one.runs)),
            "seeds": lambda one: ", ".join(str(run.seed) for run in one.runs),
            "correct: mean ± sd (range)": lambda one: spread(one.correct),
            "agreement: mean ± sd (range)": lambda one: spread(one.agreement),
        },
        title=f"other calibration images, computed in exact integers; {images(ground.baseline.total, ground.data)}",
    )


def per_class(evaluations: Sequence[results.Evaluation], names: Sequence[str]) -> Table:
    """Correct of each class, a column for each evaluation."""
    return Table(
        title="correct by class",
        headings=("class", "images", *names),
        rows=tuple(
            (of[0].class_name, f"{of[0].total:,}", *(f"{one.correct:,}" for one in of))
            for of in zip(*(result.per_class for result in evaluations), strict=True)
        ),
    )


def evaluation(result: results.Evaluation) -> Table:
    """Overall and per class."""
    overall = result.overall
    return table(
        (*result.per_class, results.ClassScore("overall", overall.correct, overall.total, overall.accuracy)),
        {
            "class": lambda one: one.class_name,
            "correct": lambda one: one.correct,
            "total": lambda one: one.total,
            "accuracy": lambda one: percent(one.accuracy),
        },
        title=f"{result.model_path} ({result.runtime}, {result.model.dtype}) on {source(result.data)}",
    )


def parity(result: results.Parity) -> Table:
    """The certificate's pairs."""
    return table(
        result.pairs,
        {
            "pair": lambda pair: f"{pair.a} – {pair.b}",
            "largest |Δp|": lambda pair: f"{pair.max_abs_difference:.2e}",
            "worst image": lambda pair: str(pair.worst_image),
            "different predictions": lambda pair: str(pair.differing_predictions),
            "of these ties": lambda pair: str(pair.ties),
        },
        title=images(result.images, result.data),
    )


def calibration(result: results.Calibration) -> Table:
    """How many images of each class were drawn."""
    return table(
        result.per_class.items(),
        {"class": lambda one: one[0], "images": lambda one: one[1]},
        title=f"calibration set: {source(result.data)}; draw «{result.method}», seed {result.seed}",
    )


def recipes(known: Sequence[Recipe]) -> Table:
    """All recipes with their settings."""
    return table(
        known,
        {
            "recipe": lambda one: one.name,
            "framework": lambda one: one.framework,
            "activations": lambda one: one.activations,
            "weights": lambda one: one.weights,
            "scales": lambda one: "per channel" if one.per_channel else "per tensor",
            "folded": lambda one: "yes" if one.fold else "no",
            "draw": lambda one: one.draw,
            "what it is": lambda one: one.summary,
        },
        title="recipes",
        left=8,
    )


def agreement(result: results.GraphAgreement) -> Table:
    """Differing codes of each layer by cause; layers without any are counted in the last row only."""
    every = result.layers
    causes = tuple(every[0].causes)

    def sums(*layers: results.LayerAgreement) -> tuple[int, ...]:
        return (
            sum(one.codes for one in layers),
            sum(one.differing for one in layers),
            *(sum(one.causes[cause] for one in layers) for cause in causes),
            max(one.largest_difference for one in layers),
        )

    rows = [cells(one.layer, one.operator, one.kernel, *sums(one)) for one in every if one.differing]
    return Table(
        title=f"graph {result.graph}: integer engine against {result.runtime}, each layer fed the same codes",
        headings=("layer", "operator", "kernel", "codes", "differ", *causes, "largest (LSB)"),
        rows=(*rows, cells("all layers", f"{len(every)}", f"{result.integer_layers} integer", *sums(*every))),
        left=3,
    )


def requantization(result: results.RequantizationStudy) -> Table:
    """Each variant: codes that change, largest difference, logits, predictions, top-1."""
    return table(
        result.rows,
        {
            "multiplier": lambda one: one.multiplier,
            "rounding": lambda one: one.rounding,
            "codes changed": lambda one: one.changed,
            "share": lambda one: f"{100 * one.changed / one.codes:.4f} %",
            "largest (LSB)": lambda one: one.largest_difference,
            "logits changed": lambda one: one.changed_logits,
            "predictions changed": lambda one: one.changed_predictions,
            "correct": lambda one: one.overall.correct,
            "accuracy": lambda one: percent(one.overall.accuracy),
        },
        title=f"{result.model.path}: against float32 multipliers, half even; {images(result.images, result.data)}",
        left=2,
    )


def accumulators(result: results.AccumulatorAudit) -> Table:
    """Range and width of each layer's accumulator."""
    return table(
        result.layers,
        {
            "layer": lambda one: one.layer,
            "operator": lambda one: one.operator,
            "depth": lambda one: str(one.depth),
            "observed": lambda one: " … ".join(f"{end:,}" for end in one.observed),
            "bits": lambda one: one.observed_bits,
            "worst case": lambda one: " … ".join(f"{end:,}" for end in one.worst_case),
            "safe bits": lambda one: one.safe_bits,
        },
        title=f"{result.model.path}: accumulators on {images(result.images, result.data)}",
        left=2,
    )


def widths(result: results.AccumulatorAudit) -> Table:
    """Top-1 with narrower accumulators."""
    exact = ("exact", None, 0, result.exact)
    return table(
        (exact, *((str(one.bits), one.overflow, len(one.layers), one.overall) for one in result.widths)),
        {
            "bits": lambda one: one[0],
            "overflow": lambda one: one[1],
            "layers that overflow": lambda one: one[2],
            "correct": lambda one: one[3].correct,
            "accuracy": lambda one: percent(one[3].accuracy),
        },
        title=f"narrower accumulators in all {len(result.layers)} layers",
        left=2,
    )


def layers(result: results.WorkedArithmetic) -> Table:
    """Every layer with its grids and multipliers."""
    return table(
        result.layers,
        {
            "layer": lambda one: one.layer,
            "operator": lambda one: one.operator,
            "output shape": lambda one: "x".join(map(str, one.output_shape)),
            "kernel / strides, pads": _window,
            "input": lambda one: grid(one.inputs[0]),
            "weights / second input": lambda one: next(map(grid, filter(None, (one.weights, *one.inputs[1:]))), None),
            "output": lambda one: grid(one.output),
            "multiplier": lambda one: ", ".join(span(ends, ".6g") for ends in one.multipliers),
            "M (32 bit)": lambda one: ", ".join(span(ends, ",") for ends in one.fixed_multipliers),
            "shift": lambda one: ", ".join(dict.fromkeys(span(ends, "d") for ends in one.shifts)),
        },
        title=f"{result.model.path}: input {grid(result.input)}",
        left=7,
    )


def _window(one: results.LayerFacts) -> str | None:
    """``3x3 / 2x2, 0 0 1 1``: pads are top, left, bottom, right."""
    if one.weight_shape is None or one.strides is None or one.pads is None:
        return None
    return f"{words.shape(one.weight_shape[:2])} / {words.shape(one.strides)}, {' '.join(map(str, one.pads))}"


def classes(result: results.WorkedArithmetic) -> Table:
    """Each class from the code of its logit to its probability, and back where the file quantizes that."""
    predicted = max(result.classes, key=lambda one: one.code).class_name
    title = f"image {result.image}, {result.label}; predicted: {predicted}; logits {grid(result.logits)}"
    headings = ["class", "code of the logit", "dequantized"]
    columns = [
        [one.class_name for one in result.classes],
        [str(one.code) for one in result.classes],
        [f"{one.real:.6g}" for one in result.classes],
    ]
    soft = [one.probability for one in result.classes if one.probability is not None]
    if soft:
        headings.append("softmax")
        columns.append([f"{value:.6f}" for value in soft])
    if soft and (on := result.probabilities) is not None:
        codes = [one.probability_code or 0 for one in result.classes]
        title += f"; probabilities {grid(on)}"
        headings += ["code of the probability", "dequantized"]
        columns.append([str(code) for code in codes])
        columns.append([f"{on.scales[0] * (code - on.zero_points[0]):.6f}" for code in codes])
    return Table(title, tuple(headings), tuple(zip(*columns, strict=True)))


def operations(result: Operations) -> Table:
    """The integer layers of a quantized model, a row for each."""

    def of_weights(cell: Callable[[Weights], str]) -> Callable[[Layer], Cell]:
        return lambda one: None if one.weights is None else cell(one.weights)

    macs = sum(layer.macs for layer in result.layers)
    return table(
        result.layers,
        {
            "layer": lambda one: one.name,
            "kind": lambda one: "residual add" if one.residual else one.kind,
            "weights": of_weights(lambda one: f"{words.shape(one.shape)} {one.grid.dtype}"),
            "weight scale": of_weights(lambda one: words.scale(one.grid.scale)),
            "output": lambda one: f"{words.shape(one.output.shape)} {one.output.dtype}",
            "scale": lambda one: words.scale(one.output.scale),
            "zero point": lambda one: str(one.output.zero_point),
            "codes used": of_weights(lambda one: f"{one.codes_used} of {one.codes_used + one.codes_unused}"),
            "accumulator": lambda one: None if one.accumulator is None else f"{one.accumulator.bits} bits",
            "MACs": lambda one: one.macs or None,
        },
        title=f"{result.model.path} ({result.model.dtype}): {len(result.nodes)} quantized nodes, "
        f"{len(result.layers)} integer layers, {macs:,} multiply-accumulates",
        left=4,
    )
