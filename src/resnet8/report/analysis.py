"""The comparison as Markdown, and the analysis document."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from resnet8 import words
from resnet8.comparison import name_of
from resnet8.environment import has_vnni
from resnet8.facts import PUBLISHED_SIZES
from resnet8.report import tables
from resnet8.report.cpus import versions
from resnet8.report.document import Table, line, markdown, table
from resnet8.report.limit import Limits, limit

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from resnet8.results import Comparison, ComparisonRow, Evaluation, NoiseStudy, Parity

Parts = tuple[str | Table, ...]


def comparison(result: Comparison) -> Parts:
    """The comparison: table, flags, refusals, recommendation."""
    content = tables.comparison(result)
    flagged = [row.name for row in result.rows if row.flagged]
    notes = ["p: exact McNemar test against the baseline, on the same images. KB: 1,024 bytes."]
    if any(row.noise for row in result.rows):
        notes.append("Noise: the least and the greatest count when the last bit of the float constants moves.")
    if any(row.agreement is not None for row in result.rows):
        notes.append("Agreement: images on which a model predicts what the baseline predicts.")
    if any(row.seeds for row in result.rows):
        notes.append("Seeds: the least and the greatest count with other calibration images, in exact integers.")
    if _published(result):
        notes.append("Published: the numbers published for the original scripts.")
    return (
        f"**{content.title}**",
        content,
        " ".join(notes),
        f"Flagged for their drop: {', '.join(flagged)}." if flagged else "No model drops by more than the limit.",
        *(f"Notice: **{row.name}** – {line(row.notice)}." for row in result.rows if row.notice),
        *(f"**{name}** could not be made: {line(words)}" for name, words in result.refused.items()),
        "**Recommendation**",
        recommendations(result),
        f"*The rule.* {result.rule}",
    )


def recommendations(result: Comparison) -> str:
    """The choices of the comparison, and why, as a list."""
    return "\n".join(f"- For {one.target}: **{one.choice or 'none'}**. {one.reason}" for one in result.recommendations)


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
    limits: Limits = Limits(),  # noqa: B008 - frozen
) -> str:
    """``QUANTIZATION_ANALYSIS.md``: the whole story of one run, from its results alone.

    Args:
        result: The comparison.
        parity: The certificate of the conversion.
        evaluations: One for each row of the comparison, in its order.
        noise: The studies whose spread the comparison has.
        exact: The same files by recipe, added up exactly, as CPUs with VNNI do.
        saturated: The same files by recipe, with the saturation of CPUs without VNNI.
        limits: Studies of draws, sweeps and searches of the same float model.
    """
    first = evaluations[0]
    data = first.data
    sections: dict[str, Parts] = {
        "Result": comparison(result),
        "Quantization at the limit": limit(result, evaluations, limits),
        "What was measured, and on what": (_conditions(first),),
        "The conversion is equivalent": _conversion(parity),
        "What quantization costs, class by class": (
            tables.per_class(evaluations, [_label(one) for one in evaluations]),
        ),
        "Is the difference real?": _significance(result),
        "The noise floor": _noise(result, noise) if noise else (),
        "Calibration: the same images for all, and how much they matter": _calibration(evaluations, result),
        "The CPU is part of the result": _cpu(result, evaluations),
        "The published numbers": (
            (*_published_counts(result, exact, saturated), _published_sizes(evaluations)) if _published(result) else ()
        ),
        "Reproduce it": (_commands(data.dataset),),
    }
    warning = (
        f"> **Not a CIFAR-10 result.** Images: {tables.source(data)}. No number here is comparable to published ones."
    )
    return markdown(
        "# Quantization analysis",
        "<!-- Written by «resnet8 reproduce» from the results of one run; do not edit. -->",
        *([warning] if data.dataset != "CIFAR-10" else []),
        *(part for title, parts in sections.items() if parts for part in (f"## {title}", *parts)),
    )


def _label(evaluation: Evaluation) -> str:
    name = name_of(evaluation)
    return f"{name} ({evaluation.runtime})" if name == "fp32" else name


def _conditions(first: Evaluation) -> str:
    environment = first.environment
    return (
        f"- Images: {first.overall.total:,}, {tables.source(first.data)}, fed as raw pixels 0 to 255 (float32, NHWC).\n"
        f"  Fingerprint of the split: `{first.data_fingerprint}`.\n"
        f"- CPU: {environment.cpu.model}; {', '.join(environment.cpu.flags)}.\n"
        f"- Python {environment.python}, resnet8 {environment.resnet8}, {versions(environment)}."
    )


def _conversion(parity: Parity) -> Parts:
    found = parity.structure
    verdict = "passed" if parity.passed else "**FAILED**"
    return (
        f"Certificate: {verdict} (limit: {parity.tolerance:.0e} on every probability, and no different prediction "
        "but ties).",
        tables.parity(parity),
        f"The ONNX graph (opset {found.opset}, IR {found.ir_version}) has {found.nodes} nodes: "
        f"{found.convolutions} convolutions, {found.dense_layers} dense layer, {found.residual_adds} residual adds; "
        f"{found.parameters:,} parameters in Keras, {found.graph_parameters:,} in the graph (each batch normalization "
        "is a factor and an addend there). "
        f"Input {_shape(found.input_shape)}, output {_shape(found.output_shape)}.",
        _KNOWN_FILE[parity.known_file],
        "TensorFlow computes these factors and addends with vector instructions whose last bits depend on the CPU; the "
        "file holds their correctly rounded values. How far off this machine's were, in ulp (steps of float32):",
        tables.folding(parity),
    )


_KNOWN_FILE = {
    True: "The ONNX file is, byte for byte, the one that this Keras file makes on every machine.",
    False: "**The ONNX file is another one** than this Keras file makes with the tested versions of the libraries. Its "
    "constants are the same; names and order may differ, and with them the bytes of every file made from it.",
    None: "Which ONNX file this Keras file makes on other machines is not known.",
}


def _shape(shape: tuple[int | str, ...]) -> str:
    return f"({', '.join('batch' if i == 0 else str(axis) for i, axis in enumerate(shape))})"


def _significance(result: Comparison) -> Parts:
    return (
        f"Each model against {result.baseline}, image by image: «lost» are images that only the baseline has right, "
        "«gained» those that only the quantized model has right. Accuracy: Wilson interval. Delta: interval for paired "
        "proportions. p: exact two-sided McNemar test.",
        table(
            _quantized(result),
            {
                "model": lambda row: row.name,
                "accuracy, 95 %": lambda row: " – ".join(f"{100 * end:.2f}" for end in row.accuracy_interval) + " %",
                "lost": lambda row: row.lost,
                "gained": lambda row: row.gained,
                "delta": lambda row: f"{row.delta_points:+.2f}",
                "delta, 95 %": lambda row: " … ".join(f"{end:+.2f}" for end in row.delta_interval),
                "p": lambda row: words.p_value(row.p_value),
            },
        ),
    )


def _quantized(result: Comparison) -> list[ComparisonRow]:
    return [row for row in result.rows if row.dtype != "float32"]


def _noise(result: Comparison, studies: Sequence[NoiseStudy]) -> Parts:
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
        "prediction in two runs.",
        tables.noise(studies),
        "A converter, a compiler or another CPU may round these constants the other way: a count is one of many "
        "that the same network and settings give. Counts that differ by less than the spread are not "
        f"different results. It is widest for {widest.recipe}: {spread.greatest - spread.least:,} images, from "
        f"{spread.least:,} to {spread.greatest:,}."
        + (f" Published counts: {', '.join(published)}." if published else ""),
    )


def _calibration(evaluations: Sequence[Evaluation], result: Comparison) -> Parts:
    parts: Parts = (
        "Calibration images come from the training batches, stratified by class. «first» and «second» are consecutive "
        "draws of one seeded generator: the published int8 model was calibrated on the first, the published uint8 model "
        "on the second, so those two differ in their images as well as in their type. All other recipes share the "
        "first.",
        table(
            [(one, drawn) for one in evaluations if one.quantization and (drawn := one.quantization.calibration)],
            {
                "model": lambda row: name_of(row[0]),
                "draw": lambda row: row[1].method,
                "seed": lambda row: str(row[1].seed),
                "images": lambda row: len(row[1].indices),
                "per class": lambda row: f"{min(row[1].per_class.values())} – {max(row[1].per_class.values())}",
                "correct": lambda row: row[0].overall.correct,
            },
            left=2,
        ),
    )
    counts = {row.name: row.overall.correct for row in result.rows}
    if not {"published-uint8", "ort-uint8"} <= counts.keys():
        return parts
    first, second = counts["ort-uint8"], counts["published-uint8"]
    return (
        *parts,
        f"The draw alone moves the uint8 model from {first:,} (first) to {second:,} (second) correct images: with the "
        f"same settings (but for the last bits of the ranges), {abs(second - first)} images.",
    )


def _cpu(result: Comparison, evaluations: Sequence[Evaluation]) -> Parts:
    cpus = dict.fromkeys(
        f"{one.environment.cpu.model}, {'with' if has_vnni(one.environment.cpu) else 'without'} VNNI"
        for one in evaluations
    )
    same = {True: "yes", False: "no: can lose accuracy without VNNI", None: "not known"}
    return (
        f"Measured on {'; '.join(cpus)}. On x86 CPUs without VNNI, ONNX Runtime multiplies 8-bit activations with signed 8-bit weights by VPMADDUBSW, which adds two neighbouring products in a "
        "saturating int16; files with signed weights then lose accuracy that no quantization caused. Unsigned weights take "
        "another kernel. PyTorch's fbgemm keeps activations to 7 bits by default, whose sums fit.",
        table(
            _quantized(result),
            {
                "model": lambda row: row.name,
                "framework": lambda row: row.framework,
                "dtype": lambda row: row.dtype,
                "same result on every x86-64 CPU": lambda row: same[row.portable],
            },
            left=4,
        ),
    )


def _published_counts(
    result: Comparison, exact: Mapping[str, Evaluation], saturated: Mapping[str, Evaluation]
) -> Parts:
    """What lies between each published count and the one here."""

    def correct(name: str, of: Mapping[str, Evaluation]) -> int | None:
        return of[name].overall.correct if name in of else None

    shown = [row for row in _quantized(result) if row.published_correct is not None]
    return (
        table(
            shown,
            {
                "model": lambda row: row.name,
                "published": lambda row: row.published_correct,
                "here": lambda row: f"{row.overall.correct:,} ({'VNNI' if row.vnni else 'no VNNI'})",
                "exact sums (VNNI)": lambda row: correct(row.name, exact),
                "saturating (no VNNI)": lambda row: correct(row.name, saturated),
                "noise": lambda row: tables.counts(row.noise),
            },
        ),
        "\n".join(f"- **{row.name}**: {_explained(row, exact, saturated)}" for row in shown),
    )


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


def _published_sizes(evaluations: Sequence[Evaluation]) -> Table:
    def reduction(one: Evaluation) -> str | None:
        whole = next((f for f in evaluations if not f.model.quantized and f.runtime == one.runtime), one)
        return None if whole is one else f"{1 - one.model.size_bytes / whole.model.size_bytes:.0%}"

    known = ((one, PUBLISHED_SIZES.get((name_of(one), one.runtime))) for one in evaluations)
    return table(
        [(one, one.model.size_bytes, *published) for one, published in known if published is not None],
        {
            "model": lambda row: _label(row[0]),
            "bytes": lambda row: row[1],
            "size": lambda row: words.kilobytes(row[1]),
            "published size": lambda row: f"{row[2]} KB",
            "difference": lambda row: f"{row[1] / 1024 - row[2]:+.1f} KB",
            "reduction": lambda row: reduction(row[0]),
            "published reduction": lambda row: None if row[3] is None else f"{row[3]}%",
        },
    )


def _commands(dataset: str) -> str:
    option = " --demo" if dataset == "demo digits" else ""
    return f"```\npip install -q uv && uv run resnet8 reproduce{option}\n```"
