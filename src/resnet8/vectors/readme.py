"""The guide that lies in an exported folder."""

from __future__ import annotations

import math
import textwrap
from string import Template
from typing import TYPE_CHECKING

from resnet8.environment import has_vnni
from resnet8.numeric.variants import FIXED_BITS
from resnet8.vectors.csource import template

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from resnet8.vectors.formats import Field
    from resnet8.vectors.manifest import LayerRecord, VectorSet

ROUNDING_WORDS = {
    "half-even": "to the nearest whole number, exact halves to the even one",
    "half-away": "to the nearest whole number, exact halves away from zero",
    "half-up": "to the nearest whole number, exact halves upwards (add one half, drop the fraction)",
    "truncate": "down (an arithmetic shift to the right drops the fraction)",
}


_NORMALIZED = (
    "`multiplier` is `M * 2^shift` rounded half to even, `shift` the number for which `2^{least} <= M * 2^shift < "
    "2^{bits}`: {bits} bits. Rounded up to `2^{bits}` it is halved, and the shift is one less; where the shift would "
    "be below 0 it is 0, and the multiplier is larger. Of a sum, the larger of `M_a` and `M_b` is held so, and the "
    "other with the same shift."
)
_HELD = {
    **{kind: _NORMALIZED.format(least=bits - 2, bits=bits - 1) for kind, bits in FIXED_BITS.items()},
    "power-of-two": "`multiplier / 2^shift` is the power of two nearest to `M` on the logarithmic scale, "
    "`2^round(log2(M))`, with a multiplier of 1 or a shift of 0. Of a sum, both have the larger of their shifts.",
}

_INSIDE = {
    "partial-sums": "| `partial_sums` | int32 | of conv and dense: sums of $rows products each, without the bias, in "
    "the order kernel row, kernel column, channel; the last tile has what is left (`tiles` in the manifest). All tiles "
    "and the bias are the accumulator |",
    "sums": "| `sums` | int32 | of conv and dense: the sum of all products, without the bias |",
    "products": "| `products` | int64 | what is shifted: accumulator times multiplier; of a sum both products, added |",
    "unclamped": "| `unclamped` | int32 | what was shifted and rounded, plus the zero point, before the clamp; int64 "
    "where int32 is too narrow |",
}


def readme(vectors: VectorSet, tables: Mapping[str, Sequence[Field]]) -> str:
    """The guide, with this folder's own facts in it.

    Args:
        vectors: What is there.
        tables: The tables of the arithmetic alone, by their folders' names.
    """
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
        held=textwrap.fill(_HELD[multiplier], 120, break_on_hyphens=False),
        saturated="; ".join(
            f"`{name}/{one.name}` is {one.note}" for name, of in tables.items() for one in of if one.note
        ),
        per_channel="one for each output channel" if vectors.broadcast else "one, or one for each output channel",
        inside="\n".join(_inside(word) for word in vectors.intermediates),
        **_widths(vectors),
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
        f"| {one.folder} | {one.kind} | {_window(one)} | {_shape(one.inputs[0].shape)} → {_shape(one.output.shape)} | "
        f"{', '.join(dict.fromkeys(tensor.source for tensor in one.inputs))} | {one.accumulator_bits or '-'} | "
        f"{one.multiplier_bits} | {one.product_bits} | {_ends(one.shift)} | "
        f"{one.coverage.saturated_low:,} / {one.coverage.saturated_high:,} | {one.coverage.ties:,} | "
        f"{_differing(one)} of {one.codes:,} |"
        for one in records
    )


def _window(record: LayerRecord) -> str:
    if record.kind != "conv" or record.weights_shape is None or record.strides is None or record.pads is None:
        return "-"
    return f"{_shape(record.weights_shape[1:3])} / {_shape(record.strides)}, {' '.join(map(str, record.pads))}"


def _inside(word: str) -> str:
    name, _, rows = word.partition(":")
    return Template(_INSIDE[name]).safe_substitute(rows=rows)


def _ends(numbers: Iterable[int]) -> str:
    least, greatest = min(found := tuple(numbers)), max(found)
    return str(least) if least == greatest else f"{least} to {greatest}"


def _widths(vectors: VectorSet) -> dict[str, str]:
    """The registers that hold everything in this folder."""
    sums = [one.product_bits for one in vectors.layers if one.accumulator_bounds is None]
    found = {
        "multiplier_bits": max(one.multiplier_bits for one in vectors.layers),
        "shifts": _ends(shift for one in vectors.layers for shift in one.shift),
        "product_bits": max((one.product_bits for one in vectors.layers if one.accumulator_bounds), default=1),
        "sum_bits": f"; what a sum shifts needs {max(sums)}" if sums else "",
        "edge_shifts": _ends(shift for one in vectors.edges for shift in one.shift),
        "edge_multiplier_bits": max(one.multiplier_bits for one in vectors.edges),
        "edge_product_bits": max(one.product_bits for one in vectors.edges),
    }
    return {name: str(value) for name, value in found.items()}


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
