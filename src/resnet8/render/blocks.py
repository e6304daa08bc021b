"""The generated parts of the pages on the integer arithmetic, as Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resnet8.render import arithmetic, tables
from resnet8.render.markdown import table
from resnet8.render.tables import Table, percent

if TYPE_CHECKING:
    from collections.abc import Mapping

    from resnet8.results import (
        AccumulatorAudit,
        Agreement,
        Evaluation,
        GraphAgreement,
        RequantizationStudy,
        WorkedArithmetic,
        WorkedExample,
    )


def agreement(name: str, result: Agreement) -> dict[str, str]:
    """``agreement-NAME``: both graphs, layer by layer."""
    parts = [_conditions(result)]
    for graph in result.graphs:
        content = tables.agreement(graph)
        parts += [f"**Graph {graph.graph}.** {_predictions(graph, result.images)}", table(content)]
    return {f"agreement-{name}": _joined(parts)}


def _predictions(graph: GraphAgreement, images: int) -> str:
    differences = graph.prediction_differences
    words = (
        f"ONNX Runtime computes {graph.integer_layers} of {len(graph.layers)} layers with integer kernels. "
        f"Top-1: engine {graph.engine_correct:,}, ONNX Runtime {graph.ort_correct:,}. "
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
    return {f"requantization-{name}": _joined([_conditions(result), table(tables.requantization(result)), note])}


def accumulators(name: str, result: AccumulatorAudit) -> dict[str, str]:
    """``accumulators-NAME`` and ``widths-NAME``."""
    return {
        f"accumulators-{name}": _joined([_conditions(result), table(tables.accumulators(result))]),
        f"widths-{name}": _joined([_conditions(result), table(tables.widths(result))]),
    }


def worked(name: str, result: WorkedArithmetic) -> dict[str, str]:
    """``layers-NAME``, ``pixels-NAME`` and ``example-OPERATOR-NAME`` for each operator."""
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
    blocks = {
        f"layers-{name}": _joined([where, table(tables.layers(result))]),
        f"pixels-{name}": _joined([f"{where} Input grid: {arithmetic.grid(result.input)}.", table(pixels)]),
    }
    for example in result.examples:
        blocks[f"example-{example.operator}-{name}"] = _joined([where, _fenced(example)])
    return blocks


def _fenced(example: WorkedExample) -> str:
    return "\n".join(("```text", *arithmetic.steps(example), "```"))


def portability(emulated: Mapping[str, Evaluation], measured: Mapping[str, Evaluation]) -> str:
    """``portability``: top-1 of each model with VNNI and without.

    Args:
        emulated: By recipe, of the emulation of a CPU without VNNI.
        measured: By recipe, of ONNX Runtime on the CPU of the results.
    """
    rows = []
    for name, one in emulated.items():
        there = measured[name]
        changed = sum(a != b for a, b in zip(one.predictions, there.predictions, strict=True))
        rows.append(
            (
                name,
                there.model.dtype,
                f"{there.overall.correct:,}",
                f"{one.overall.correct:,}",
                f"{one.overall.correct - there.overall.correct:+,}",
                f"{changed:,}",
            )
        )
    first = next(iter(measured.values()))
    content = Table(
        title="",
        headings=(
            "model",
            "dtype",
            "with VNNI (measured)",
            "without VNNI (emulated)",
            "difference",
            "predictions changed",
        ),
        rows=tuple(rows),
        left=2,
    )
    total = f"{first.overall.total:,} images: {tables.source(first.data)}. Measured on {first.environment.cpu.model}."
    accuracy = max(emulated.values(), key=lambda one: one.overall.correct).overall
    return _joined([total, table(content), f"Best without VNNI: {percent(accuracy.accuracy)}."])


def _conditions(result: Agreement | RequantizationStudy | AccumulatorAudit) -> str:
    return f"Model `{_file(result.model.path)}`, {result.images:,} images: {tables.source(result.data)}."


def _file(path: str) -> str:
    return path.rpartition("/")[2]


def _joined(parts: list[str]) -> str:
    return "\n\n".join(parts) + "\n"
