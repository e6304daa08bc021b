"""The texts that are written for one network: the testbench around its layers, scripts for synthesis, the guide."""

from __future__ import annotations

import math
from importlib import resources
from string import Template
from typing import TYPE_CHECKING

from resnet8.export.rtl_parameters import OF_REQUANTIZATION, OF_UNIT, shape
from resnet8.vectors.manifest import CONSTANT, NETWORK

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from resnet8.vectors.manifest import CodesRecord, LayerRecord


def _template(name: str, **values: object) -> str:
    text = (resources.files("resnet8.export") / "templates" / "rtl" / "made" / name).read_text("utf-8")
    return Template(text).substitute({key: str(value) for key, value in values.items()})


def testbench(layers: Sequence[LayerRecord], network_input: CodesRecord, logits: str) -> str:
    """``tb/resnet8_tb.sv``: every layer alone, then all of them from the images to the class scores.

    Args:
        layers: In order.
        network_input: The images' codes.
        logits: Folder of the layer that writes the class scores.
    """
    records = {one.folder: one for one in layers}
    return _template(
        "resnet8_tb.sv",
        input_size=math.prod(network_input.shape),
        logits_size=math.prod(records[logits].output.shape),
        logits_signed=int(records[logits].output.dtype.startswith("i")),
        logits=f"u_{logits}",
        instances="\n".join(f"    {one.folder} u_{one.folder} ();" for one in layers),
        alone="\n".join(f"        u_{one.folder}.rows = rows;\n{_asked(one, 1, 8)}" for one in layers),
        chained="\n".join(line for one in layers for line in _chained(one)),
    )


def _chained(one: LayerRecord) -> Iterator[str]:
    """A layer reads what others wrote."""
    for name, read in one.operands.items():
        if read.source == CONSTANT:
            continue
        source = "network_input" if read.source == NETWORK else f"u_{read.source}.y"
        size = math.prod(read.shape)
        yield f"            for (i = 0; i < IMAGES * {size}; i = i + 1) u_{one.folder}.{name}[i] = {source}[i];"
    yield _asked(one, 2, 12)


def _asked(one: LayerRecord, request: int, indent: int) -> str:
    name = f"u_{one.folder}"
    lines = (f"{name}.request = {request};", f"wait ({name}.request == 0);", f"count({name}.compared, {name}.wrong);")
    return "\n".join(f"{' ' * indent}{line}" for line in lines)


def synthesis(folder: str, unit: str, parameters: Mapping[str, int], word: int, rounding: int) -> str:
    """A script for Yosys: the layer's unit, with its widths, as generic cells."""
    names = (*OF_UNIT[unit], *OF_REQUANTIZATION)
    values = {"ROUNDING": rounding, **{name: parameters[name] for name in names}}
    if unit == "resnet8_pe":
        values = {"LANES": word, **values}
    chosen = " ".join(f"-chparam {name} {_constant(value)}" for name, value in values.items())
    return (
        f"# The unit of {folder}: yosys synth/{folder}.ys, in the folder above.\n"
        "read_verilog -sv rtl/resnet8_requantize.sv"
        f" rtl/{unit}.sv\nhierarchy -top {unit} {chosen}\nsynth -flatten -auto-top\n"
        f"tee -q -o build/synth/{folder}.txt stat\n"
    )


def _constant(value: int) -> str:
    """A number for Yosys, whose options know no sign."""
    return str(value) if value >= 0 else f"32'sh{value & (2**32 - 1):08x}"


def makefile_units(units: Mapping[str, str], parameters: Mapping[str, Mapping[str, int]]) -> str:
    """``units.mk``: the layers, and those whose units «make synth» takes: of each module the widest."""
    widest: dict[str, str] = {}
    for folder, unit in units.items():
        best = widest.setdefault(unit, folder)
        if parameters[folder]["NUMERATOR_WIDTH"] > parameters[best]["NUMERATOR_WIDTH"]:
            widest[unit] = folder
    return f"LAYERS = {' '.join(units)}\nWIDEST = {' '.join(sorted(widest.values()))}\n"


def readme(
    layers: Sequence[LayerRecord],
    units: Mapping[str, str],
    parameters: Mapping[str, Mapping[str, int]],
    *,
    word: int,
    requantization: str,
) -> str:
    """The guide that lies in the folder."""
    rows = "\n".join(
        f"| {one.folder} | {units[one.folder]} | {_shapes(one)} | {_width(one, found, 'ACCUMULATOR_WIDTH')} | "
        f"{found['MULTIPLIER_WIDTH']} | {found['SHIFT_LEAST']} … {found['SHIFT_GREATEST']} | "
        f"{found['NUMERATOR_WIDTH']} |"
        for one in layers
        for found in (parameters[one.folder],)
    )
    return _template("README.md", word=word, requantization=requantization, layers=rows)


def _shapes(one: LayerRecord) -> str:
    read, written = ("x".join(map(str, shape(codes))) for codes in (one.inputs[0], one.output))
    return f"{read} → {written}"


def _width(one: LayerRecord, found: Mapping[str, int], name: str) -> str:
    return "-" if one.accumulator_bounds is None else str(found[name])
