"""The generated parts of the pages on the integer arithmetic, as Markdown."""

from __future__ import annotations

from math import floor
from typing import TYPE_CHECKING

import numpy as np

from resnet8.numeric.grid import limits
from resnet8.numeric.rounding import fixed_point
from resnet8.report import arithmetic, tables
from resnet8.report.cpus import joined, processor
from resnet8.report.markdown import table
from resnet8.report.tables import Table

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from resnet8.results import (
        AccumulatorAudit,
        Agreement,
        Comparison,
        GraphAgreement,
        LayerFacts,
        PlaygroundUse,
        RequantizationStudy,
        WorkedArithmetic,
        WorkedExample,
    )


def recommendations(result: Comparison) -> str:
    """``recommendations``: the choices of the comparison, and why."""
    return (
        "\n".join(f"- For {one.target}: **{one.choice or 'none'}**. {one.reason}" for one in result.recommendations)
        + "\n"
    )


def agreement(name: str, result: Agreement) -> dict[str, str]:
    """``agreement-NAME``: both graphs, layer by layer; ``kernels-NAME``: which layers run in integers."""
    parts = [f"{_conditions(result)} {result.graphs[0].runtime} on {processor(result.environment.cpu)}."]
    for graph in result.graphs:
        content = tables.agreement(graph)
        parts += [f"**Graph {graph.graph}.** {_predictions(graph, result.images)}", table(content)]
    return {f"agreement-{name}": joined(parts), f"kernels-{name}": _kernels(result)}


def _kernels(result: Agreement) -> str:
    """The layers of the optimized graph, by the kernel that computes them."""
    optimized = result.graphs[0]
    rows = tuple(
        (kernel, f"{len(names)}", ", ".join(f"`{name}`" for name in names) or "–")
        for kernel in ("integer", "float")
        for names in [[one.layer for one in optimized.layers if one.kernel == kernel]]
    )
    content = Table(title="", headings=("kernel", "layers", "which"), rows=rows, left=3)
    return joined([f"Model `{_file(result.model.path)}`, graph {optimized.graph}.", table(content)])


def _predictions(graph: GraphAgreement, images: int) -> str:
    differences = graph.prediction_differences
    words = (
        f"{graph.runtime} computes {graph.integer_layers} of {len(graph.layers)} layers with integer kernels. "
        f"Top-1: engine {graph.engine_correct:,}, {graph.runtime} {graph.ort_correct:,}. "
    )
    if not differences:
        return words + f"All {images:,} predictions are equal."
    causes = sorted({one.cause for one in differences})
    where = sorted({one.layer for one in differences})
    return words + (
        f"{len(differences):,} of {images:,} predictions differ; the first differing code of each of these images is in "
        f"{', '.join(f'`{layer}`' for layer in where)}, its cause: {', '.join(causes)}."
    )


def requantization(name: str, result: RequantizationStudy) -> dict[str, str]:
    """``requantization-NAME``: every variant."""
    note = (
        f"«Codes changed» are counted layer by layer on the first {result.isolated_images:,} images, each layer fed the "
        "same codes in both. Logits, predictions and top-1 are those of whole runs, each variant fed its own codes."
    )
    return {f"requantization-{name}": joined([_conditions(result), table(tables.requantization(result)), note])}


def accumulators(name: str, result: AccumulatorAudit) -> dict[str, str]:
    """``accumulators-NAME`` and ``widths-NAME``."""
    return {
        f"accumulators-{name}": joined([_conditions(result), table(tables.accumulators(result))]),
        f"widths-{name}": joined([_conditions(result), table(tables.widths(result))]),
    }


def worked(name: str, result: WorkedArithmetic) -> dict[str, str]:
    """``layers-NAME``, ``pixels-NAME``, ``logits-NAME``, and ``example-OPERATOR-NAME`` for each operator."""
    pixels = Table(
        title="",
        headings=("row", "column", "channel", "pixel", "pixel / scale", "+ zero point = code"),
        rows=tuple(
            (
                str(one.row),
                str(one.column),
                str(one.channel),
                f"{one.real:g}",
                f"{one.real / result.input.scales[0]:g}",
                str(one.code),
            )
            for one in result.pixels
        ),
    )
    where = f"Model `{_file(result.model.path)}`, test image {result.image}."
    classes = tables.classes(result)
    blocks = {
        f"layers-{name}": joined([where, table(tables.layers(result))]),
        f"pixels-{name}": joined([f"{where} Input grid: {arithmetic.grid(result.input)}.", table(pixels)]),
        f"logits-{name}": joined([f"Model `{_file(result.model.path)}`, test {classes.title}.", table(classes)]),
    }
    for example in result.examples:
        blocks[f"example-{example.operator}-{name}"] = joined([where, _fenced(example)])
    return blocks


def expanded(name: str, result: WorkedArithmetic) -> dict[str, str]:
    """``expanded-NAME``: the accumulators of the worked examples, multiplied out; none per channel of zero points."""
    facts = {layer.layer: layer for layer in result.layers}
    rows = []
    for one in result.examples:
        weights = facts[one.layer].weights
        if weights is None or one.accumulator is None:
            continue
        x, w = facts[one.layer].inputs[0].zero_points[0], weights.zero_points[0]
        pairs = [(term.a + x, (term.b or 0) + w) for term in one.terms]
        parts = (
            sum(a * b for a, b in pairs),
            -x * sum(b for _, b in pairs),
            -w * sum(a for a, _ in pairs),
            len(pairs) * x * w,
            one.bias or 0,
        )
        rows.append((one.layer, str(x), str(w), *(f"{part:,}" for part in parts), f"{sum(parts):,}"))
    headings = (
        *("layer", "z_x", "z_w", "Σ x·w", "− z_x Σ w", "− z_w Σ x", "+ K z_x z_w", "+ bias"),
        "= accumulator",
    )
    content = Table(title="", headings=headings, rows=tuple(rows))
    where = f"Model `{_file(result.model.path)}`, test image {result.image}, the worked examples."
    return {f"expanded-{name}": joined([where, table(content)])}


def pitfalls(name: str, result: WorkedArithmetic, sums: AccumulatorAudit | None) -> dict[str, str]:
    """What common mistakes make of a model's own numbers.

    ``mistakes-NAME``: the worked examples with one mistake each. ``zeros-NAME``: what code 0 stands for in what padded
    convolutions read, where it is not real 0. ``channels-NAME``: how far the multipliers of one layer are apart.
    ``clipping-NAME``: the codes of the extreme accumulators without saturation, where ``sums`` has them.
    """
    facts = {layer.layer: layer for layer in result.layers}
    where = f"Model `{_file(result.model.path)}`"
    mistakes = Table(
        title="",
        headings=("layer", "mistake", "right code", "wrong code", "difference (LSB)"),
        rows=tuple(
            (example.layer, mistake, str(example.code), str(code), f"{code - example.code:+d}")
            for example in result.examples
            for mistake, code in _mistakes(example, facts[example.layer])
        ),
        left=2,
    )
    zeros = Table(
        title="",
        headings=("layer", "input", "code 0 stands for", "in code steps"),
        rows=tuple(
            (one.layer, arithmetic.grid(x), f"{-zero * x.scales[0]:.6g}", f"{-zero:+d}")
            for one in result.layers
            for x in one.inputs[:1]
            for zero in x.zero_points[:1]
            if one.weight_shape is not None and one.weight_shape[0] > 1 and zero
        ),
        left=2,
    )
    channels = Table(
        title="",
        headings=("layer", "channels", "least multiplier", "greatest", "ratio"),
        rows=tuple(
            (one.layer, str(one.weights.channels), f"{low:.6g}", f"{high:.6g}", f"{high / low:.3g}")
            for one in result.layers
            for low, high in one.multipliers[:1]
            if one.weights is not None and one.weights.channels
        ),
    )
    blocks = {f"mistakes-{name}": joined([f"{where}, test image {result.image}.", table(mistakes)])}
    if zeros.rows:
        blocks[f"zeros-{name}"] = joined([f"{where}.", table(zeros)])
    if channels.rows:
        blocks[f"channels-{name}"] = joined([f"{where}.", table(channels)])
    if sums is not None and not channels.rows:
        blocks[f"clipping-{name}"] = joined([_conditions(sums), table(_clipping(facts, sums))])
    return blocks


def _mistakes(example: WorkedExample, facts: LayerFacts) -> Iterator[tuple[str, int]]:
    """Each mistake that can be made in this example, and the code that comes of it."""
    low, high = limits(facts.output.dtype)

    def code(real: float, zero: int = example.zero_point) -> int:
        return min(max(round(real) + zero, low), high)

    exact = example.before_rounding
    yield "rounded down", code(floor(exact))
    if example.accumulator is None:
        (a, b), (m_a, m_b) = example.terms, example.multipliers
        yield "added without rescaling", code(a.a + b.a)
        yield "each addend rounded", code(round(m_a * a.a) + round(m_b * b.a))
        return
    (multiplier,) = example.multipliers
    for mistake, sums in _wrong_sums(example, example.accumulator, facts):
        yield mistake, code(multiplier * sums)
    if example.zero_point:
        yield "zero point of the output forgotten", code(exact, 0)
    for kind in ("fixed8", "power-of-two"):
        held = float(fixed_point(np.float64(multiplier), kind).real)  # type: ignore[arg-type]
        yield f"multiplier {kind}", code(held * example.accumulator)
    least, greatest = facts.multipliers[0]
    if least != greatest:
        other = greatest if greatest - multiplier > multiplier - least else least
        yield "multiplier of another channel", code(other * example.accumulator)


def _wrong_sums(example: WorkedExample, right: int, facts: LayerFacts) -> Iterator[tuple[str, int]]:
    zero = facts.inputs[0].zero_points[0]
    if zero:
        yield (
            "zero point of the input forgotten",
            right + zero * sum(1 if one.b is None else one.b for one in example.terms),
        )
    if facts.weights is not None and (zero := facts.weights.zero_points[0]):
        yield "zero point of the weights forgotten", right + zero * sum(one.a for one in example.terms)
    if example.bias:
        yield "bias forgotten", right - example.bias


def _clipping(facts: Mapping[str, LayerFacts], sums: AccumulatorAudit) -> Table:
    rows = []
    for one in sums.layers:
        layer = facts[one.layer]
        low, high = limits(layer.output.dtype)
        codes = [round(value * layer.multipliers[0][0]) + layer.output.zero_points[0] for value in one.observed]
        wrapped = [(value - low) % (high - low + 1) + low for value in codes]
        rows.append(
            (
                one.layer,
                f"{codes[0]:,} … {codes[1]:,}",
                f"{low} … {high}",
                ", ".join(str(there) for value, there in zip(codes, wrapped, strict=True) if value != there) or "–",
            )
        )
    headings = ("layer", "extreme codes without saturation", "codes there are", "what wrapping makes of them")
    return Table(title="", headings=headings, rows=tuple(rows))


def _fenced(example: WorkedExample) -> str:
    return "\n".join(("```text", *arithmetic.steps(example), "```"))


def playground(results: Sequence[PlaygroundUse]) -> str:
    """``playground``: how long the page takes, how much memory; one column for each model."""

    def spread(seconds: Sequence[float]) -> str:
        return f"{np.median(seconds):.2f} (at most {max(seconds):.2f})"

    measured = {
        "open the page, in a fresh server (s)": [f"{one.opening_seconds:.1f}" for one in results],
        "show another layer (s)": [spread(one.layer_seconds) for one in results],
        "change a scale and see what becomes of one image (s)": [spread(one.change_seconds) for one in results],
        "SQNR of every layer (s)": [f"{one.sqnr_seconds:.1f}" for one in results],
        "top-1 with each layer alone quantized (s)": [f"{one.alone_seconds:.1f}" for one in results],
        "top-1 and SQNR, original and changed (s)": [f"{one.compared_seconds:.1f}" for one in results],
        "memory of server and kernel after 10, 20, 30, 40, 50 changes (MB)": [
            ", ".join(map(str, one.resident_mb)) for one in results
        ],
    }
    content = Table(
        title="",
        headings=("measured", *(f"`{_file(one.model.path)}`" for one in results)),
        rows=tuple((what, *cells) for what, cells in measured.items()),
    )
    first = results[0]
    note = (
        f"Median and largest of {len(first.change_seconds)} changes and as many layers, from the click until the text is "
        f"there; SQNR and top-1 over {first.images} images. {first.browser}, "
        + ", ".join(f"{name} {version}" for name, version in first.environment.libraries.items())
        + f"; {first.environment.cpu.logical_cpus} CPUs ({first.environment.cpu.model}), shared by server and browser; "
        f"load before: {', '.join(f'{one.load:.1f}' for one in results)}."
    )
    return joined([table(content), note])


def _conditions(result: Agreement | RequantizationStudy | AccumulatorAudit) -> str:
    return f"Model `{_file(result.model.path)}`, {result.images:,} images: {tables.source(result.data)}."


def _file(path: str) -> str:
    return path.rpartition("/")[2]
