"""The generated parts of the pages on the integer arithmetic, as Markdown: of one result, its blocks by name."""

from __future__ import annotations

from functools import partial
from math import floor
from pathlib import PurePath
from typing import TYPE_CHECKING

import numpy as np

from resnet8 import facts
from resnet8.numeric.grid import limits, saturate
from resnet8.numeric.rounding import fixed_point
from resnet8.report import arithmetic, tables
from resnet8.report.cpus import processor, versions
from resnet8.report.document import Table, markdown, table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from resnet8 import results
    from resnet8.environment import Environment


def agreement(name: str, result: results.Agreement) -> dict[str, str]:
    """``agreement-NAME``: both graphs, layer by layer; ``kernels-NAME``: which layers run in integers."""
    parts: list[str | Table] = [
        f"{_conditions(result)} {result.graphs[0].runtime} on {processor(result.environment.cpu)}."
    ]
    for graph in result.graphs:
        parts += [f"**Graph {graph.graph}.** {_predictions(graph, result.images)}", tables.agreement(graph)]
    optimized = result.graphs[0]
    by_kernel = {
        kernel: [f"`{one.layer}`" for one in optimized.layers if one.kernel == kernel]
        for kernel in ("integer", "float")
    }
    kernels = table(
        by_kernel.items(),
        {
            "kernel": lambda one: one[0],
            "layers": lambda one: len(one[1]),
            "which": lambda one: ", ".join(one[1]) or None,
        },
        left=3,
    )
    return {
        f"agreement-{name}": markdown(*parts),
        f"kernels-{name}": markdown(f"Model {tables.named(result.model)}, graph {optimized.graph}.", kernels),
    }


def _predictions(graph: results.GraphAgreement, images: int) -> str:
    differences = graph.prediction_differences
    words = (
        f"{graph.runtime} computes {graph.integer_layers} of {len(graph.layers)} layers with integer kernels. "
        f"Top-1: engine {graph.engine_correct:,}, {graph.runtime} {graph.ort_correct:,}. "
    )
    if not differences:
        return words + f"All {images:,} predictions are equal."
    where = sorted({f"`{one.layer}`" for one in differences})
    return words + (
        f"{len(differences):,} of {images:,} predictions differ; the first differing code of each of these images is in "
        f"{', '.join(where)}, its cause: {', '.join(sorted({one.cause for one in differences}))}."
    )


def requantization(name: str, result: results.RequantizationStudy) -> dict[str, str]:
    """``requantization-NAME``: every variant."""
    note = (
        f"«Codes changed» are counted layer by layer on the first {result.isolated_images:,} images, each layer fed the "
        "same codes in both. Logits, predictions and top-1 are those of whole runs, each variant fed its own codes."
    )
    return {f"requantization-{name}": markdown(_conditions(result), tables.requantization(result), note)}


def accumulators(name: str, result: results.AccumulatorAudit) -> dict[str, str]:
    """``accumulators-NAME`` and ``widths-NAME``."""
    runs = f"Requantization in all runs: `{result.requantization}`."
    return {
        f"accumulators-{name}": markdown(f"{_conditions(result)} {runs}", tables.accumulators(result)),
        f"widths-{name}": markdown(f"{_conditions(result)} {runs}", tables.widths(result)),
    }


def worked(name: str, result: results.WorkedArithmetic) -> dict[str, str]:
    """``layers-NAME``, ``pixels-NAME``, ``logits-NAME``, ``expanded-NAME``, and ``example-OPERATOR-NAME`` for each operator."""
    pixels = table(
        result.pixels,
        {
            "row": lambda one: one.row,
            "column": lambda one: one.column,
            "channel": lambda one: one.channel,
            "pixel": lambda one: f"{one.real:g}",
            "pixel / scale": lambda one: f"{one.real / result.input.scales[0]:g}",
            "+ zero point = code": lambda one: one.code,
        },
    )
    model = f"Model {tables.named(result.model)}"
    where = f"{model}, test image {result.image}."
    classes = tables.classes(result)
    return {
        f"layers-{name}": markdown(where, tables.layers(result)),
        f"pixels-{name}": markdown(f"{where} Input grid: {arithmetic.grid(result.input)}.", pixels),
        f"logits-{name}": markdown(f"{model}, test {classes.title}.", classes),
        f"expanded-{name}": markdown(f"{where[:-1]}, the worked examples.", _expanded(result)),
    } | {
        f"example-{one.operator}-{name}": markdown(where, "\n".join(("```text", *arithmetic.steps(one), "```")))
        for one in result.examples
    }


def _expanded(result: results.WorkedArithmetic) -> Table:
    """The accumulators of the worked examples, multiplied out; none per channel of zero points."""
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
        rows.append((one.layer, str(x), str(w), *(f"{part:,}" for part in (*parts, sum(parts)))))
    headings = ("layer", "z_x", "z_w", "Σ x·w", "− z_x Σ w", "− z_w Σ x", "+ K z_x z_w", "+ bias", "= accumulator")
    return Table("", headings, tuple(rows))


def pitfalls(name: str, result: results.WorkedArithmetic, sums: results.AccumulatorAudit | None) -> dict[str, str]:
    """What common mistakes make of a model's own numbers.

    ``mistakes-NAME``: the worked examples with one mistake each. ``zeros-NAME``: what code 0 stands for in what padded
    convolutions read, where it is not real 0. ``channels-NAME``: how far the multipliers of one layer are apart.
    ``clipping-NAME``: the codes of the extreme accumulators without saturation, where ``sums`` has them.
    """
    facts = {layer.layer: layer for layer in result.layers}
    model = f"Model {tables.named(result.model)}"
    mistakes = table(
        [(one, *found) for one in result.examples for found in _mistakes(one, facts[one.layer])],
        {
            "layer": lambda row: row[0].layer,
            "mistake": lambda row: row[1],
            "right code": lambda row: row[0].code,
            "wrong code": lambda row: row[2],
            "difference (LSB)": lambda row: f"{row[2] - row[0].code:+d}",
        },
        left=2,
    )
    zeros = table(
        [
            (one.layer, one.inputs[0], -one.inputs[0].zero_points[0])
            for one in result.layers
            if one.weight_shape is not None and one.weight_shape[0] > 1 and one.inputs[0].zero_points[0]
        ],
        {
            "layer": lambda row: row[0],
            "input": lambda row: arithmetic.grid(row[1]),
            "code 0 stands for": lambda row: f"{row[2] * row[1].scales[0]:.6g}",
            "in code steps": lambda row: f"{row[2]:+d}",
        },
        left=2,
    )
    channels = table(
        [
            (one.layer, one.weights.channels, *one.multipliers[0])
            for one in result.layers
            if one.weights is not None and one.weights.channels
        ],
        {
            "layer": lambda row: row[0],
            "channels": lambda row: row[1],
            "least multiplier": lambda row: f"{row[2]:.6g}",
            "greatest": lambda row: f"{row[3]:.6g}",
            "ratio": lambda row: f"{row[3] / row[2]:.3g}",
        },
    )
    blocks = {f"mistakes-{name}": markdown(f"{model}, test image {result.image}.", mistakes)}
    if zeros.rows:
        blocks[f"zeros-{name}"] = markdown(f"{model}.", zeros)
    if channels.rows:
        blocks[f"channels-{name}"] = markdown(f"{model}.", channels)
    elif sums is not None:
        blocks[f"clipping-{name}"] = markdown(_conditions(sums), _clipping(facts, sums))
    return blocks


def _mistakes(example: results.WorkedExample, facts: results.LayerFacts) -> Iterator[tuple[str, int]]:
    """Each mistake that can be made in this example, and the code that comes of it."""

    def code(real: float, zero: int = example.zero_point) -> int:
        return int(saturate(np.asarray(round(real) + zero), facts.output.dtype))

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


def _wrong_sums(example: results.WorkedExample, right: int, facts: results.LayerFacts) -> Iterator[tuple[str, int]]:
    if zero := facts.inputs[0].zero_points[0]:
        others = sum(1 if one.b is None else one.b for one in example.terms)
        yield "zero point of the input forgotten", right + zero * others
    if facts.weights is not None and (zero := facts.weights.zero_points[0]):
        yield "zero point of the weights forgotten", right + zero * sum(one.a for one in example.terms)
    if example.bias:
        yield "bias forgotten", right - example.bias


def _clipping(facts: Mapping[str, results.LayerFacts], sums: results.AccumulatorAudit) -> Table:
    rows = []
    for one in sums.layers:
        layer = facts[one.layer]
        low, high = limits(layer.output.dtype)
        codes = [round(value * layer.multipliers[0][0]) + layer.output.zero_points[0] for value in one.observed]
        wrapped = [str((value - low) % (high - low + 1) + low) for value in codes if not low <= value <= high]
        rows.append((one.layer, f"{codes[0]:,} … {codes[1]:,}", f"{low} … {high}", ", ".join(wrapped) or "–"))
    headings = ("layer", "extreme codes without saturation", "codes there are", "what wrapping makes of them")
    return Table("", headings, tuple(rows))


def playground(uses: Sequence[results.PlaygroundUse]) -> str:
    """``playground``: how long the page takes, how much memory; one column for each model."""

    def spread(seconds: Sequence[float]) -> str:
        return f"{np.median(seconds):.2f} (at most {max(seconds):.2f})"

    measured: dict[str, Callable[[results.PlaygroundUse], str]] = {
        "open the page, in a fresh server (s)": lambda one: f"{one.opening_seconds:.1f}",
        "show another layer (s)": lambda one: spread(one.layer_seconds),
        "change a scale and see what becomes of one image (s)": lambda one: spread(one.change_seconds),
        "errors of every layer (s)": lambda one: f"{one.sqnr_seconds:.1f}",
        "top-1 with each layer alone quantized (s)": lambda one: f"{one.alone_seconds:.1f}",
        "top-1 and errors, original and changed (s)": lambda one: f"{one.compared_seconds:.1f}",
        "memory of server and kernel after 10, 20, 30, 40, 50 changes (MB)": lambda one: ", ".join(
            map(str, one.resident_mb)
        ),
    }
    rows = tuple((what, *map(cell, uses)) for what, cell in measured.items())
    first = uses[0]
    cpu = first.environment.cpu
    return markdown(
        Table("", ("measured", *(f"`{_file(one)}`" for one in uses)), rows),
        f"Median and largest of {len(first.change_seconds)} changes and as many layers, from the click until the text is "
        f"there; SQNR and top-1 over {first.images} images. {first.browser}, {versions(first.environment)}; "
        f"{cpu.logical_cpus} CPUs ({cpu.model}), shared by server and browser; "
        f"load before: {', '.join(f'{one.load:.1f}' for one in uses)}.",
    )


def reliability(result: results.Reliability) -> str:
    """``reliability``: what became of the damaged inputs and interrupted runs, one column for each outcome."""
    met = dict.fromkeys(outcome for counts in result.outcomes.values() for outcome in counts)
    good = [outcome for outcome in met if outcome not in result.failures]
    columns: dict[str, Callable[[tuple[str, Mapping[str, int]]], int]] = {
        "tried": lambda one: sum(one[1].values()),
        **{outcome: partial(_count, outcome) for outcome in good},
        "not allowed": lambda one: sum(one[1].get(outcome, 0) for outcome in result.failures),
    }
    total: dict[str, int] = {
        outcome: sum(counts.get(outcome, 0) for counts in result.outcomes.values()) for outcome in met
    }
    rows = [*result.outcomes.items(), ("**all**", total)]
    elsewhere: dict[str, list[str]] = {}
    for kind, environment in result.elsewhere.items():
        elsewhere.setdefault(_where(environment), []).append(kind)
    return markdown(
        table(rows, {"what": lambda one: one[0], **columns}),
        f"Not allowed, and met {sum(total.get(one, 0) for one in result.failures):,} times: {', '.join(result.failures)}. "
        f"{_where(result.environment)}.",
        *(f"Tried elsewhere: {', '.join(what)} ({where})." for where, what in elsewhere.items()),
    )


def firmware(study: results.FirmwareStudy) -> dict[str, str]:
    """``firmware``: what the exported C libraries take, and what is published of another on real hardware."""
    columns: dict[str, Callable[[results.FirmwareLibrary], str | int]] = {
        "recipe": lambda one: f"`{one.recipe}`",
        "flash (bytes)": lambda one: one.flash,
        "of it constants": lambda one: one.constants,
        "RAM (bytes)": lambda one: one.ram,
        "stack (bytes)": lambda one: one.stack,
        "instructions": lambda one: one.instructions,
        "in plain C": lambda one: one.plain_instructions,
        "logits that differ": lambda one: one.wrong,
    }
    cycles = facts.CMSIS_NN_SECONDS / facts.CMSIS_NN_INFERENCES * facts.CMSIS_NN_HERTZ
    seconds = facts.CMSIS_NN_SECONDS / facts.CMSIS_NN_INFERENCES
    first = study.libraries[0]
    text = markdown(
        table(study.libraries, columns),
        f"Requantization {first.requantization}; {tables.images(study.images, study.data)}, each with every logit compared; "
        f"instructions and stack are the most that one prediction took. {study.compiler}, `{study.flags}`; {study.emulator}.",
        f"**CMSIS-NN, published**: {seconds * 1000:.1f} ms a prediction on a Cortex-M4 at "
        f"{facts.CMSIS_NN_HERTZ // 1_000_000} MHz, which is {cycles / 1e6:.1f} million cycles, for the benchmark's image "
        f"classification in microTVM with CMSIS-NN's kernels ([MLPerf Tiny v1.0, closed division]({facts.CMSIS_NN_SOURCE}), OctoML). "
        "Cycles are not instructions: a load takes more than one, flash makes the processor wait, and the emulator knows "
        "neither. The file says nothing of flash and RAM.",
    )
    return {"firmware": text}


def _where(environment: Environment) -> str:
    return f"{environment.cpu.model}, {versions(environment)}"


def _count(outcome: str, one: tuple[str, Mapping[str, int]]) -> int:
    return one[1].get(outcome, 0)


def _conditions(result: results.Agreement | results.RequantizationStudy | results.AccumulatorAudit) -> str:
    return f"Model {tables.named(result.model)}, {tables.images(result.images, result.data)}."


def _file(
    result: results.Agreement
    | results.RequantizationStudy
    | results.AccumulatorAudit
    | results.WorkedArithmetic
    | results.PlaygroundUse,
) -> str:
    return PurePath(result.model.path).name
