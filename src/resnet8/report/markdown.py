"""Results as Markdown: tables, and the analysis document."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from resnet8 import words
from resnet8.comparison import name_of
from resnet8.environment import has_vnni
from resnet8.facts import PUBLISHED_SIZES
from resnet8.report import tables

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from resnet8.report.tables import Table
    from resnet8.results import Comparison, ComparisonRow, Evaluation, NoiseStudy, Parity


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
        + (
            " Noise: the least and the greatest count when the last bit of the float constants moves."
            if any(row.noise for row in result.rows)
            else ""
        )
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


def analysis(
    result: Comparison,
    parity: Parity,
    evaluations: Sequence[Evaluation],
    *,
    noise: Sequence[NoiseStudy] = (),
    exact: Mapping[str, Evaluation] = MappingProxyType({}),
    saturated: Mapping[str, Evaluation] = MappingProxyType({}),
) -> str:
    """``QUANTIZATION_ANALYSIS.md``: the whole story of one run, from its results alone.

    Args:
        result: The comparison.
        parity: The certificate of the conversion.
        evaluations: One for each row of the comparison, in its order.
        noise: The studies whose spread the comparison has.
        exact: The same files by recipe, added up exactly, as CPUs with VNNI do.
        saturated: The same files by recipe, with the saturation of CPUs without VNNI.
    """
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
        *(["## The noise floor", _noise(result, noise)] if noise else []),
        "## Calibration: the same images for all, and how much they matter",
        _calibration(evaluations, result),
        "## The CPU is part of the result",
        _cpu(result, evaluations),
        *(
            ["## The published numbers", _published_counts(result, exact, saturated), _published_sizes(evaluations)]
            if _published(result)
            else []
        ),
        "## Reproduce it",
        _commands(data.dataset),
    ]
    return "\n\n".join(parts) + "\n"


def _label(evaluation: Evaluation) -> str:
    name = name_of(evaluation)
    return f"{name} ({evaluation.runtime})" if name == "fp32" else name


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
            _KNOWN_FILE[parity.known_file],
            "TensorFlow computes these factors and addends with vector instructions whose last bits depend on the CPU; the "
            "file holds their correctly rounded values. How far off this machine's were, in ulp (steps of float32):",
            table(tables.folding(parity)),
        )
    )


_KNOWN_FILE = {
    True: "The ONNX file is, byte for byte, the one that this Keras file makes on every machine.",
    False: "**The ONNX file is another one** than this Keras file makes with the tested versions of the libraries. Its "
    "constants are the same; names and order may differ, and with them the bytes of every file made from it.",
    None: "Which ONNX file this Keras file makes on other machines is not known.",
}


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
            words.p_value(row.p_value),
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


def _noise(result: Comparison, studies: Sequence[NoiseStudy]) -> str:
    widest = max(studies, key=lambda one: one.spread.greatest - one.spread.least)
    spread = widest.spread
    published = [
        f"{row.name} ({row.published_correct:,}) "
        f"{'within' if row.noise.least <= row.published_correct <= row.noise.greatest else 'outside'} its range"
        for row in result.rows
        if row.noise is not None and row.published_correct is not None
    ]
    return (
        "Each recipe was carried out with the float constants as they are («correct»), and again with every one of them "
        "moved by −1, 0 or +1 ulp, the last bit of a float32, at random by a seed for each run: same settings, same "
        "calibration images, same test images. «As unperturbed» and «between runs»: the share of images with the same "
        "prediction in two runs.\n\n"
        + table(tables.noise(studies))
        + "\n\nA converter, a compiler or another CPU may round these constants the other way: a count is one of many "
        "that the same network and settings give. Counts that differ by less than the spread are not "
        f"different results. It is widest for {widest.recipe}: {spread.greatest - spread.least:,} images, from "
        f"{spread.least:,} to {spread.greatest:,}."
        + (f" Published counts: {', '.join(published)}." if published else "")
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
            f"{counts['published-uint8']:,} (second) correct images: with the same settings (but for the last bits of the "
            f"ranges), {abs(counts['published-uint8'] - counts['ort-uint8'])} images."
        )
    return text


def _cpu(result: Comparison, evaluations: Sequence[Evaluation]) -> str:
    cpus = dict.fromkeys(
        f"{one.environment.cpu.model}, {'with' if has_vnni(one.environment.cpu) else 'without'} VNNI"
        for one in evaluations
    )
    words = {True: "yes", False: "no: can lose accuracy without VNNI", None: "not known"}
    rows = tuple(
        (row.name, row.framework, row.dtype, words[row.portable]) for row in result.rows if row.dtype != "float32"
    )
    return (
        f"Measured on {'; '.join(cpus)}. On x86 CPUs without VNNI, ONNX Runtime multiplies 8-bit activations with signed 8-bit weights by VPMADDUBSW, which adds two neighbouring products in a "
        "saturating int16; files with signed weights then lose accuracy that no quantization caused. Unsigned weights take "
        "another kernel. PyTorch's fbgemm keeps activations to 7 bits by default, whose sums fit.\n\n"
        + table(tables.Table("", ("model", "framework", "dtype", "same result on every x86-64 CPU"), rows, left=4))
    )


def _published_counts(result: Comparison, exact: Mapping[str, Evaluation], saturated: Mapping[str, Evaluation]) -> str:
    """What lies between each published count and the one here."""
    shown = [row for row in result.rows if row.published_correct is not None and row.dtype != "float32"]
    rows = tuple(
        (
            row.name,
            f"{row.published_correct:,}",
            f"{row.overall.correct:,} ({'VNNI' if row.vnni else 'no VNNI'})",
            f"{exact[row.name].overall.correct:,}" if row.name in exact else "–",
            f"{saturated[row.name].overall.correct:,}" if row.name in saturated else "–",
            tables.counts(row.noise) if row.noise else "–",
        )
        for row in shown
    )
    headings = ("model", "published", "here", "exact sums (VNNI)", "saturating (no VNNI)", "noise")
    lines = [f"- **{row.name}**: {_explained(row, exact, saturated)}" for row in shown]
    return table(tables.Table("", headings, rows)) + "\n\n" + "\n".join(lines)


def _explained(row: ComparisonRow, exact: Mapping[str, Evaluation], saturated: Mapping[str, Evaluation]) -> str:
    published, here = row.published_correct or 0, row.overall.correct
    words = "the published count, to the image." if here == published else f"{here - published:+} here."
    left, vnni = here - published, row.vnni
    if row.name in exact and row.name in saturated:
        full, cut = exact[row.name].overall.correct, saturated[row.name].overall.correct
        if full != cut:
            words += (
                f" The saturation of CPUs without VNNI costs this file {full - cut:,} images: {cut:,} where sums of two "
                f"products are cut to int16, {full:,} where they are not."
            )
            vnni = abs(full - published) < abs(cut - published)
            left = (full if vnni else cut) - published
            words += f" A CPU {'with' if vnni else 'without'} VNNI comes closest to the published count: {left:+}."
    if left and row.noise is not None and vnni == row.vnni:
        inside = row.noise.least <= published <= row.noise.greatest
        words += (
            f" The last bit of the float constants moves the count from {row.noise.least:,} to {row.noise.greatest:,}: the "
            f"published {published:,} is {'within' if inside else 'outside'} that range."
        )
    return words


def _published_sizes(evaluations: Sequence[Evaluation]) -> str:
    rows = []
    for one in evaluations:
        known = PUBLISHED_SIZES.get((name_of(one), one.runtime))
        if known is None:
            continue
        whole = next((f for f in evaluations if not f.model.quantized and f.runtime == one.runtime), one)
        kilobytes, reduction = known
        rows.append(
            (
                _label(one),
                f"{one.model.size_bytes:,}",
                words.kilobytes(one.model.size_bytes),
                f"{kilobytes} KB",
                f"{one.model.size_bytes / 1024 - kilobytes:+.1f} KB",
                "–" if whole is one else f"{1 - one.model.size_bytes / whole.model.size_bytes:.0%}",
                "–" if reduction is None else f"{reduction}%",
            )
        )
    headings = ("model", "bytes", "size", "published size", "difference", "reduction", "published reduction")
    return table(tables.Table("", headings, tuple(rows)))


def _commands(dataset: str) -> str:
    option = " --demo" if dataset == "demo digits" else ""
    return f"```\npip install -q uv && uv run resnet8 reproduce{option}\n```"
