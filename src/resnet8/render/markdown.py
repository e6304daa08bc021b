"""Results as Markdown: tables, and the analysis document."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resnet8.comparison import name_of
from resnet8.render import tables

if TYPE_CHECKING:
    from collections.abc import Sequence

    from resnet8.render.tables import Table
    from resnet8.results import Comparison, Evaluation, Parity


def table(content: Table) -> str:
    """A Markdown table."""
    rule = ["---" if i < content.left else "---:" for i in range(len(content.headings))]
    return "\n".join(
        "| " + " | ".join(_line(cell).replace("|", "\\|") for cell in cells) + " |"
        for cells in (content.headings, rule, *content.rows)
    )


def _line(words: str) -> str:
    """Words from elsewhere, without line breaks that would begin something new."""
    return " ".join(words.split())


def comparison(result: Comparison) -> str:
    """The comparison: table, flags, refusals, recommendation."""
    flagged = [row.name for row in result.rows if row.flagged]
    lines = [
        f"**{tables.comparison(result).title}**",
        "",
        table(tables.comparison(result)),
        "",
        "p: exact McNemar test against the baseline, on the same images. KB: 1,024 bytes."
        + (" Published: the numbers published for the original scripts." if _published(result) else ""),
        "",
        f"Flagged for their drop: {', '.join(flagged)}." if flagged else "No model drops by more than the limit.",
        *(f"\n**{name}** could not be made: {_line(words)}" for name, words in result.refused.items()),
        "",
        "**Recommendation**",
        "",
        *(f"- For {one.target}: **{one.choice or 'none'}**. {one.reason}" for one in result.recommendations),
        "",
        f"*The rule.* {result.rule}",
    ]
    return "\n".join(lines) + "\n"


def _published(result: Comparison) -> bool:
    return any(row.published_correct is not None for row in result.rows)


def analysis(result: Comparison, parity: Parity, evaluations: Sequence[Evaluation]) -> str:
    """``QUANTIZATION_ANALYSIS.md``: the whole story of one run, from its results alone."""
    first = evaluations[0]
    data = first.data
    parts = [
        "# Quantization analysis",
        "<!-- Written by «resnet8 reproduce» from the results of one run; do not edit. -->",
        *(
            []
            if data.dataset == "CIFAR-10"
            else [
                f"> **Not a CIFAR-10 result.** Images: {tables.source(data)}. No number here is comparable to published ones."
            ]
        ),
        "## Result",
        comparison(result).rstrip(),
        "## What was measured, and on what",
        _conditions(first),
        "## The conversion is equivalent",
        _conversion(parity),
        "## What quantization costs, class by class",
        table(tables.per_class(tuple(evaluations), tuple(_label(one) for one in evaluations))),
        "## Is the difference real?",
        _significance(result),
        "## Calibration: the same images for all, and how much they matter",
        _calibration(evaluations, result),
        "## The CPU is part of the result",
        _cpu(result),
        "## Reproduce it",
        _commands(data.dataset),
    ]
    return "\n\n".join(parts) + "\n"


def _label(evaluation: Evaluation) -> str:
    name = name_of(evaluation)
    return f"{name} ({evaluation.backend})" if name == "fp32" else name


def _conditions(first: Evaluation) -> str:
    environment = first.environment
    versions = ", ".join(f"{name} {version}" for name, version in environment.libraries.items())
    return "\n".join(
        (
            f"- Images: {first.overall.total:,}, {tables.source(first.data)}, fed as raw pixels 0 to 255 (float32, NHWC).",
            f"  Fingerprint of the split: `{first.data_fingerprint}`.",
            f"- CPU: {environment.cpu.model}; {', '.join(environment.cpu.flags)}.",
            f"- Python {environment.python}, resnet8 {environment.resnet8}, {versions}.",
        )
    )


def _conversion(parity: Parity) -> str:
    found = parity.structure
    verdict = "passed" if parity.passed else "**FAILED**"
    return "\n\n".join(
        (
            f"Certificate: {verdict} (limit: {parity.tolerance:.0e} on every probability, and no different prediction "
            "but ties).",
            table(tables.parity(parity)),
            f"The ONNX graph (opset {found.opset}, IR {found.ir_version}) has {found.nodes} nodes: "
            f"{found.convolutions} convolutions, {found.dense_layers} dense layer, {found.residual_adds} residual adds; "
            f"{found.parameters:,} parameters in Keras, {found.graph_parameters:,} in the graph (each batch normalization "
            "is a factor and an addend there). "
            f"Input {_shape(found.input_shape)}, output {_shape(found.output_shape)}.",
        )
    )


def _shape(shape: tuple[int | str, ...]) -> str:
    return f"({', '.join('batch' if i == 0 else str(axis) for i, axis in enumerate(shape))})"


def _significance(result: Comparison) -> str:
    rows = tuple(
        (
            row.name,
            f"{100 * row.accuracy_interval[0]:.2f} – {100 * row.accuracy_interval[1]:.2f} %",
            f"{row.lost:,}",
            f"{row.gained:,}",
            f"{row.delta_points:+.2f}",
            f"{row.delta_interval[0]:+.2f} … {row.delta_interval[1]:+.2f}",
            tables.p_value(row.p_value),
        )
        for row in result.rows
        if row.dtype != "float32"
    )
    headings = ("model", "accuracy, 95 %", "lost", "gained", "delta", "delta, 95 %", "p")
    return (
        f"Each model against {result.baseline}, image by image: «lost» are images that only the baseline has right, "
        "«gained» those that only the quantized model has right. Accuracy: Wilson interval. Delta: interval for paired "
        "proportions. p: exact two-sided McNemar test.\n\n" + table(tables.Table("", headings, rows))
    )


def _calibration(evaluations: Sequence[Evaluation], result: Comparison) -> str:
    rows = tuple(
        (
            name_of(one),
            drawn.method,
            str(drawn.seed),
            f"{len(drawn.indices):,}",
            f"{min(drawn.per_class.values())} – {max(drawn.per_class.values())}",
            f"{one.overall.correct:,}",
        )
        for one in evaluations
        if one.quantization and (drawn := one.quantization.calibration)
    )
    text = (
        "Calibration images come from the training batches, stratified by class. «first» and «second» are consecutive "
        "draws of one seeded generator: the published int8 model was calibrated on the first, the published uint8 model "
        "on the second, so those two differ in their images as well as in their type. All other recipes share the "
        "first.\n\n"
        + table(tables.Table("", ("model", "draw", "seed", "images", "per class", "correct"), rows, left=2))
    )
    counts = {row.name: row.overall.correct for row in result.rows}
    if {"published-uint8", "ort-uint8"} <= counts.keys():
        text += (
            f"\n\nThe draw alone moves the uint8 model from {counts['ort-uint8']:,} (first) to "
            f"{counts['published-uint8']:,} (second) correct images: with the same settings, "
            f"{abs(counts['published-uint8'] - counts['ort-uint8'])} images."
        )
    return text


def _cpu(result: Comparison) -> str:
    words = {True: "yes", False: "no: can lose accuracy without VNNI", None: "not known"}
    rows = tuple(
        (row.name, row.framework, row.dtype, words[row.portable]) for row in result.rows if row.dtype != "float32"
    )
    return (
        f"Measured on {result.cpu}, {'with' if result.vnni else 'without'} VNNI. On x86 CPUs without it, ONNX Runtime "
        "multiplies 8-bit activations with signed 8-bit weights by VPMADDUBSW, which adds two neighbouring products in a "
        "saturating int16; files with signed weights then lose accuracy that no quantization caused. Unsigned weights take "
        "another kernel. PyTorch's fbgemm keeps activations to 7 bits by default, whose sums fit.\n\n"
        + table(tables.Table("", ("model", "framework", "dtype", "same result on every x86-64 CPU"), rows, left=4))
    )


def _commands(dataset: str) -> str:
    option = " --demo" if dataset == "demo digits" else ""
    return f"```\npip install -q uv && uv run resnet8 reproduce{option}\n```"
