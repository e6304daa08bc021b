"""Sections of the page: a layer, its parameters, and those of the same layer in other models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import marimo as mo
import numpy as np

from resnet8 import words
from resnet8.numeric.grid import limits
from resnet8.playground import page, plots
from resnet8.playground.codes import Statistics, clipped, use

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from resnet8.network.layers import AnyLayer
    from resnet8.network.tensors import Activation, Constant


def layer(shown: AnyLayer) -> Any:
    """Operator, tensors, and where the parameters are in the graph."""
    facts = [f"**{shown.operator}**" + (" of two activations" if shown.residual else "")]
    if (window := shown.window) is not None:
        facts.append(f"strides {window.strides[0]}, {window.strides[1]}")
        facts.append("pads {} {} {} {} (top, left, bottom, right)".format(*window.pads))
    if shown.relu:
        facts.append("ReLU")
    if shown.macs:
        facts.append(f"{shown.macs:,} multiply-accumulates for one image")
    headings = ("tensor", "name in the file", "shape", "type", "scale", "zero point", "codes", "real range")
    tensors: list[tuple[str, Activation | Constant]] = [
        (f"input {at}" if shown.residual else "input", one) for at, one in enumerate(shown.reads, 1)
    ]
    tensors += [("weights", shown.parameter)] if shown.parameter is not None else []
    tensors += [("output", shown.output)]
    parameters = [f"- {role}: <code>{page.plain(name)}</code>" for role, name in shown.parameters.items()]
    nodes = [f"- <code>{page.plain(name)}</code>" for name in shown.nodes]
    places = "\n".join(("Parameters\n", *(parameters or ["- none"]), "\nNodes\n", *nodes))
    views = [
        mo.md(f"## Layer {page.plain(shown.name)}\n\n" + " · ".join(facts)),
        page.table(headings, [_tensor(*one) for one in tensors], left=4),
        mo.accordion({"Where the parameters are in the graph": mo.md(places)}),
    ]
    grid = None if shown.parameter is None else shown.parameter.grid
    if grid is not None and grid.per_channel:
        numbers = zip(grid.scale, grid.zero_point.tolist(), strict=True)
        rows = [(at, words.exact(one), int(zero)) for at, (one, zero) in enumerate(numbers)]
        views += [
            mo.md("### Scales of the output channels"),
            plots.channels(grid),
            mo.accordion({"As a table": page.table(("channel", "scale", "zero point"), rows)}),
        ]
    return page.column(*views)


def _tensor(role: str, tensor: Activation | Constant) -> tuple[object, ...]:
    """The row of a tensor: its grid, and what that can hold."""
    grid, shape = tensor.grid, words.shape(tensor.shape)
    if grid is None:
        return role, tensor.name, shape, tensor.dtype, *[words.NONE] * 4
    low, high = limits(grid.dtype)
    scale: str = "per channel"
    zero_point: object = "per channel" if grid.zero_point.any() else 0
    reals = words.NONE
    if not grid.per_channel:
        scale, zero_point = words.exact(grid.scale), int(grid.zero_point)
        reals = " to ".join(f"{(end - int(grid.zero_point)) * float(grid.scale):.4g}" for end in (low, high))
    return role, tensor.name, shape, tensor.dtype, scale, zero_point, f"{low} to {high}", reals


# Its parameters


def parameters(shown: AnyLayer, behind: AnyLayer | None) -> Any:
    """Weights and bias: their numbers, of the file and of the float layer behind it, and how the codes are used.

    Args:
        shown: The layer.
        behind: The float network's, where ``shown`` is quantized and it is known.
    """
    weights = shown.parameter
    if weights is None:
        return mo.md("### Weights\n\nThis layer has none.")
    real = weights if weights.grid is None else None if behind is None else behind.parameter
    series = {} if real is None else {plots.FLOAT: plots.Series(real.real)}
    name = "weights" if shown.added is not None else "constant"
    rows = [] if real is None else [numbers(f"{name}, FP32", "float32", words.NONE, real.real)]
    views = [mo.md("### Weights")]
    if weights.grid is not None:
        codes, ends = weights.codes, limits(weights.grid.dtype)
        series[plots.DEQUANTIZED] = plots.Series(weights.real, weights.grid)
        rows.append(numbers(f"{name}, dequantized", "float32", words.NONE, weights.real))
        rows.append(numbers(f"{name}, codes", weights.params.dtype, words.scale(weights.params.scale), codes))
        used = use(codes, ends)
        said = f"{used} · {used.at_lowest} at the least code {ends[0]}, {used.at_highest} at the greatest {ends[1]}"
        if real is not None:
            said += f" · {clipped(real.real, weights.grid):,} were beyond them and are clipped"
        views.append(mo.md(said))
    charts = [plots.values(series, "weight")]
    if weights.grid is not None:
        own = None if real is None else real.real
        charts.append(plots.in_steps(own, {plots.QUANTIZED: weights.codes}, weights.grid, limits(weights.grid.dtype)))
    views.append(page.row(*charts, align="start"))
    bias_rows, bias_view = _bias(shown, behind)
    return page.column(*views, *bias_view, page.table(NUMBERS, [*rows, *bias_rows], left=2))


NUMBERS = ("numbers of", "type", "scale", "how many", "least", "greatest", "mean", "standard deviation")
"""Headings of the rows of :func:`numbers`."""


def numbers(what: str, dtype: str, scale: str, values: NDArray[Any]) -> tuple[object, ...]:
    """What a tensor is and the least, greatest and middle of its numbers."""
    found = Statistics.of(values)
    ends = (found.least, found.greatest, found.mean, found.deviation)
    return what, dtype, scale, f"{found.count:,}", *(f"{one:.6g}" for one in ends)


def _bias(shown: AnyLayer, behind: AnyLayer | None) -> tuple[list[tuple[object, ...]], list[Any]]:
    """Rows of numbers for the bias; its histogram and its values. Nothing where there is none."""
    reals = shown.added_real
    if shown.bias is None or reals is None:
        return [], []
    known = shown if shown.step is None else behind
    real = None if known is None else known.added_real
    columns: dict[str, Sequence[object]] = {"channel": range(reals.size)}
    rows, series = [], {}
    if real is not None:
        rows.append(numbers("bias, FP32", "float32", words.NONE, real))
        series[plots.FLOAT] = plots.Series(real)
        columns["FP32"] = [f"{one:.6g}" for one in real.tolist()]
    if shown.step is not None:
        steps = np.broadcast_to(shown.step, reals.shape)
        codes = shown.bias.codes
        of_file = "as the file has it" if shown.real_bias is not None else "dequantized"
        rows.append(numbers(f"bias, {of_file}", "float32", words.NONE, reals))
        rows.append(numbers("bias, codes", codes.dtype.name, words.scale(shown.step), codes))
        series[plots.DEQUANTIZED] = plots.Series(reals)
        columns |= {
            "code": [f"{one:,}" for one in codes.tolist()],
            "scale": [f"{one:.6g}" for one in steps.tolist()],
            of_file: [f"{one:.6g}" for one in reals.tolist()],
        }
    values = page.table(tuple(columns), zip(*columns.values(), strict=True))
    return rows, [mo.md("### Bias"), plots.values(series, "bias"), mo.accordion({"Its values": values})]


def same_layer(name: str, found: Mapping[str, AnyLayer | None]) -> Any:
    """The weights of a layer in several models, by the name of the file; none where it has no such layer."""
    weights = {file: one.parameter for file, one in found.items() if one is not None and one.parameter is not None}
    missing = ", ".join(file for file in found if file not in weights)
    said = [mo.md(page.plain(f"No weights under the name {name} in: {missing}."))] if missing else []
    if not weights:
        return page.column(*said, mo.md("Choose a model that has it."))
    series = {file: plots.Series(one.real, one.grid) for file, one in weights.items()}
    return page.column(*said, plots.values(series, "weight (as a real number)"))
