"""The integer layers of a quantized model as a table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resnet8 import words
from resnet8.report.tables import Table

if TYPE_CHECKING:
    from resnet8.inspection.records import Layer, Operations


def operations(result: Operations) -> Table:
    """The layers, a row for each."""
    macs = sum(layer.macs for layer in result.layers)
    return Table(
        title=f"{result.model.path} ({result.model.dtype}): {len(result.nodes)} quantized nodes, "
        f"{len(result.layers)} integer layers, {macs:,} multiply-accumulates",
        headings=(
            *("layer", "kind", "weights", "weight scale", "output", "scale", "zero point", "codes used"),
            *("accumulator", "MACs"),
        ),
        rows=tuple(_cells(layer) for layer in result.layers),
        left=4,
    )


def _cells(layer: Layer) -> tuple[str, ...]:
    weights, output, accumulator = layer.weights, layer.output, layer.accumulator
    return (
        layer.name,
        "residual add" if layer.residual else layer.kind,
        words.NONE if weights is None else f"{words.shape(weights.shape)} {weights.grid.dtype}",
        words.NONE if weights is None else words.scale(weights.grid.scale),
        f"{words.shape(output.shape)} {output.dtype}",
        words.scale(output.scale),
        str(output.zero_point),
        words.NONE if weights is None else f"{weights.codes_used} of {weights.codes_used + weights.codes_unused}",
        words.NONE if accumulator is None else f"{accumulator.bits} bits",
        f"{layer.macs:,}" if layer.macs else words.NONE,
    )
