"""The guide that lies in an exported folder."""

from __future__ import annotations

import math
import textwrap
from typing import TYPE_CHECKING

from resnet8.environment import has_vnni
from resnet8.vectors.csource import template

if TYPE_CHECKING:
    from collections.abc import Iterable

    from resnet8.vectors.manifest import LayerRecord, VectorSet

ROUNDING_WORDS = {
    "half-even": "to the nearest whole number, exact halves to the even one",
    "half-away": "to the nearest whole number, exact halves away from zero",
    "half-up": "to the nearest whole number, exact halves upwards (add one half, drop the fraction)",
    "truncate": "down (an arithmetic shift to the right drops the fraction)",
}


def readme(vectors: VectorSet) -> str:
    """The guide, with this folder's own facts in it."""
    multiplier, rounding = vectors.requantization.split("/")
    example = next((one for one in vectors.layers if one.kind == "conv"), vectors.layers[0])
    return template(
        "README.md",
        model=vectors.model.path,
        sha256=vectors.model.sha256,
        images=", ".join(map(str, vectors.images)),
        images_count=len(vectors.images),
        dataset=f"{vectors.data.dataset}, {vectors.data.split} split",
        multiplier=multiplier,
        rounding=rounding,
        rounding_words=ROUNDING_WORDS[rounding],
        layers=_layers(vectors.layers),
        edges=_edges(vectors.edges),
        differences=textwrap.fill(_differences(vectors), 120),
        example=example.folder,
        example_accumulators=example.codes // len(vectors.images),
        example_input=next(iter(example.operands)),
        example_size=math.prod(example.inputs[0].shape),
        logits=vectors.logits,
    )


def _layers(records: Iterable[LayerRecord]) -> str:
    return "\n".join(
        f"| {one.folder} | {one.kind} | {_shape(one.inputs[0].shape)} → {_shape(one.output.shape)} | "
        f"{', '.join(dict.fromkeys(tensor.source for tensor in one.inputs))} | {one.accumulator_bits or '-'} | "
        f"{one.coverage.saturated_low:,} / {one.coverage.saturated_high:,} | {one.coverage.ties:,} | "
        f"{_differing(one)} of {one.codes:,} |"
        for one in records
    )


def _differing(record: LayerRecord) -> str:
    return "-" if record.differing_from_ort is None else f"{record.differing_from_ort:,}"


def _edges(records: Iterable[LayerRecord]) -> str:
    return "\n".join(
        f"| {one.folder} | {one.name} | {one.coverage.ties:,} | "
        f"{one.coverage.saturated_low:,} / {one.coverage.saturated_high:,} |"
        for one in records
    )


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def _differences(vectors: VectorSet) -> str:
    if vectors.ort is None:
        return "They were not compared with ONNX Runtime."
    ort = vectors.ort
    here, there = (", ".join(map(str, classes)) for classes in (vectors.predictions, ort.predictions))
    classes = "the same class for every image" if ort.predictions_agree else f"classes {there}, where these give {here}"
    runtime = f"ONNX Runtime {vectors.environment.libraries.get('onnxruntime', '')} on this CPU"
    if not ort.differing:
        return f"{runtime} gives the same codes, all {ort.codes:,} in {ort.layers} layers, and {classes}."
    vnni = has_vnni(vectors.environment.cpu)
    saturates = "" if vnni else " and, without VNNI, may saturate sums of two products"
    return (
        f"{runtime}, which multiplies in float32{saturates}, gives other codes at {ort.differing:,} of {ort.codes:,} "
        f"places in {ort.layers} layers, by at most {ort.largest_difference}, and {classes}. Each layer here reads "
        "what the layers before it wrote, so a difference goes on; with each layer fed with ONNX Runtime's codes, the "
        f"count is {ort.arising:,}."
    )
