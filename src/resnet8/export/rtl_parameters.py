"""What a layer's modules are built with: shapes, signs, zero points, and widths that are proved from its numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resnet8.numeric.grid import limits, signed_bits, width
from resnet8.vectors.manifest import CONSTANT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from resnet8.vectors.golden import Golden
    from resnet8.vectors.manifest import CodesRecord, LayerRecord

UNITS = {
    "conv": "resnet8_pe",
    "dense": "resnet8_pe",
    "add": "resnet8_add",
    "mul": "resnet8_mul",
    "rescale": "resnet8_mul",
    "average-pool": "resnet8_pool",
}
"""The module that computes a layer, by its kind."""

BODIES = {
    "resnet8_pe": "weighted_layer",
    "resnet8_add": "add_layer",
    "resnet8_mul": "mul_layer",
    "resnet8_pool": "pool_layer",
}
"""What the testbench includes for a layer, by the module that computes it."""

OF_UNIT = {
    "resnet8_pe": ("X_SIGNED", "X_ZERO_POINT", "W_SIGNED", "PRODUCT_WIDTH", "ACCUMULATOR_WIDTH"),
    "resnet8_add": ("A_SIGNED", "A_ZERO_POINT", "B_SIGNED", "B_ZERO_POINT"),
    "resnet8_mul": ("X_SIGNED", "X_ZERO_POINT", "FACTOR_SIGNED", "FACTOR_ZERO_POINT", "ACCUMULATOR_WIDTH"),
    "resnet8_pool": ("X_SIGNED", "X_ZERO_POINT", "ACCUMULATOR_WIDTH"),
}
"""Parameters that a module takes, beside those of its requantization."""

OF_REQUANTIZATION = (
    *("MULTIPLIER_WIDTH", "SHIFT_WIDTH", "NUMERATOR_WIDTH", "SCALED_WIDTH"),
    *("Y_ZERO_POINT", "Y_LOWEST", "Y_HIGHEST"),
)


def shape(codes: CodesRecord) -> tuple[int, int, int]:
    """Rows, columns and channels; a vector is a map of one position."""
    return codes.shape if len(codes.shape) == 3 else (1, 1, codes.shape[-1])


def parameters(one: Golden, word: int) -> dict[str, int]:
    """The parameters of a layer, by name; every one stands in its header.

    Widths hold whatever codes the layer reads. The accumulator's is that of
    :meth:`resnet8.network.layers.Layer.partial_sums`, the numerator's (accumulator times multiplier) and the scaled
    number's (shifted and rounded) follow from it and from the multiplier and shift of each channel.

    Args:
        one: The layer.
        word: Bytes of a word.
    """
    record = one.record
    found: dict[str, int] = {}
    for name, read in record.operands.items():
        found |= _tensor(name.upper(), read, word)
    if "B_ROWS" in found:
        found["B_CONSTANT"] = int(record.inputs[1].source == CONSTANT)
    found |= _tensor("Y", record.output, word)
    found |= {"Y_LOWEST": record.lowest, "Y_HIGHEST": int(one.parameters["output_highest"].values)}
    if record.weights_shape is not None:
        found |= _kernel(record, word)
    if UNITS[record.kind] == "resnet8_mul":
        found |= _factor(one)
    return found | _requantization(one)


def _tensor(name: str, codes: CodesRecord, word: int) -> dict[str, int]:
    rows, columns, channels = shape(codes)
    return {
        f"{name}_ROWS": rows,
        f"{name}_COLUMNS": columns,
        f"{name}_CHANNELS": channels,
        f"{name}_GROUPS": -(-channels // word),
        f"{name}_SIGNED": int(limits(codes.dtype)[0] < 0),
        f"{name}_BITS": width(codes.dtype),
        f"{name}_ZERO_POINT": codes.zero_point,
    }


def _kernel(record: LayerRecord, word: int) -> dict[str, int]:
    kernel, dtype, zeros = record.weights_shape, record.weights_dtype, record.weights_zero_point
    if kernel is None or dtype is None or zeros is None or record.strides is None or record.pads is None:
        raise ValueError(f"{record.folder} has no kernel")
    out, rows, columns, channels = kernel
    size = rows * columns * channels
    (x_low, x_high), (w_low, w_high) = limits(record.inputs[0].dtype), limits(dtype)
    from_zero = [code - record.inputs[0].zero_point for code in (x_low, x_high)]
    weights = [w_low - max(zeros), w_high - min(zeros)]
    products = [x * w for x in from_zero for w in weights]
    positions = shape(record.output)[0] * shape(record.output)[1]
    return {
        "K_ROWS": rows,
        "K_COLUMNS": columns,
        "STRIDE_ROWS": record.strides[0],
        "STRIDE_COLUMNS": record.strides[1],
        **{f"PAD_{side}": pad for side, pad in zip(("TOP", "LEFT", "BOTTOM", "RIGHT"), record.pads, strict=True)},
        "W_SIGNED": int(w_low < 0),
        "PRODUCT_WIDTH": signed_bits(min(products), max(products)),
        "WORDS": rows * columns * -(-channels // word),
        "DEPTH": size,
        "MACS": positions * out * size,
    }


def _factor(one: Golden) -> dict[str, int]:
    """A rescale is a product with 1."""
    if "factor" not in one.parameters:
        return {"FACTOR_SIGNED": 0, "FACTOR_ZERO_POINT": 0}
    codes, zero_point = (one.parameters[name].values for name in ("factor", "factor_zero_point"))
    return {"FACTOR_SIGNED": int(codes.dtype.kind == "i"), "FACTOR_ZERO_POINT": int(zero_point[0])}


def _requantization(one: Golden) -> dict[str, int]:
    multipliers = [int(value) for field in _multipliers(one) for value in field]
    shifts = [int(value) for value in one.parameters["shift"].values]
    numerators = list(_numerators(one))
    scaled = [
        bound
        for (low, high), shift in zip(numerators, shifts * (len(numerators) // len(shifts)), strict=True)
        for bound in (low >> shift, (high >> shift) + 1)
    ]
    scaled_width = signed_bits(min(scaled), max(scaled))
    numerator_width = signed_bits(min(low for low, _ in numerators), max(high for _, high in numerators))
    bounds, bits = one.record.accumulator_bounds, one.record.accumulator_bits
    return {
        "HAS_ACCUMULATOR": int(bounds is not None),
        "ACCUMULATOR_WIDTH": bits or 1,
        "ACCUMULATOR_LEAST": 0 if bounds is None else bounds[0],
        "ACCUMULATOR_GREATEST": 0 if bounds is None else bounds[1],
        "MULTIPLIER_WIDTH": max(1, max(multipliers).bit_length()),
        "SHIFT_WIDTH": max(1, max(shifts).bit_length()),
        "SHIFT_LEAST": min(shifts),
        "SHIFT_GREATEST": max(shifts),
        "NUMERATOR_WIDTH": max(numerator_width, scaled_width),
        "SCALED_WIDTH": scaled_width,
    }


def _multipliers(one: Golden) -> Iterator[list[int]]:
    for name in ("multiplier", "multiplier_a", "multiplier_b"):
        if name in one.parameters:
            yield one.parameters[name].values.tolist()


def _numerators(one: Golden) -> Iterator[tuple[int, int]]:
    """Least and greatest numerator, for each multiplier, or for each pair of them; Python's own integers."""
    bounds = one.record.accumulator_bounds
    if bounds is not None:
        for multiplier in one.parameters["multiplier"].values.tolist():
            yield bounds[0] * multiplier, bounds[1] * multiplier
        return
    ends = [[code - read.zero_point for code in limits(read.dtype)] for read in one.record.inputs]
    for pair in zip(*_multipliers(one), strict=True):
        low, high = (sum(end[side] * multiplier for end, multiplier in zip(ends, pair, strict=True)) for side in (0, 1))
        yield low, high


_MEANINGS = {
    "_GROUPS": "words of one position: channels over bytes of a word, rounded up",
    "_SIGNED": "whether codes have a sign",
    "_BITS": "of a code; it lies in a byte",
    "_ZERO_POINT": "the code of real 0",
    "B_CONSTANT": "whether b is a constant of each channel",
    "Y_LOWEST": "the least code it writes",
    "WORDS": "of the sum at one output position and channel",
    "DEPTH": "products of that sum, channel padding left out",
    "MACS": "products of one image, channel padding left out, padding of the map included",
    "PRODUCT_WIDTH": "signed, of (x - zero point) * (w - zero point)",
    "HAS_ACCUMULATOR": "a sum of two activations has none",
    "ACCUMULATOR_WIDTH": "signed; whatever the input, partial sums included",
    "ACCUMULATOR_LEAST": "the least that any input gives",
    "MULTIPLIER_WIDTH": "unsigned",
    "SHIFT_WIDTH": "unsigned; to the right",
    "NUMERATOR_WIDTH": "signed, of accumulator * multiplier",
    "SCALED_WIDTH": "signed, of the numerator shifted and rounded",
}


def header(title: str, values: dict[str, int]) -> str:
    """SystemVerilog localparams, to be included in a module or package, one a line."""
    lines = [
        f"localparam int {name} = {value};" + (f"  // {meaning}" if (meaning := _meaning(name)) else "")
        for name, value in values.items()
    ]
    off, on = "/* verilator lint_off UNUSED */", "/* verilator lint_on UNUSED */"  # nobody needs them all
    return "\n".join([f"// {title}", off, *lines, on, ""])


def _meaning(name: str) -> str:
    return next((text for end, text in _MEANINGS.items() if name == end or (end[0] == "_" and name.endswith(end))), "")
