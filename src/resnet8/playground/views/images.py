"""Sections of the page: a test image, what flows through a layer, and the errors of all layers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import marimo as mo
import numpy as np

from resnet8 import words
from resnet8.numeric.grid import limits
from resnet8.playground import page, plots
from resnet8.playground.codes import use
from resnet8.playground.noise import as_csv
from resnet8.words import percent

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from resnet8.data.cifar10 import Split
    from resnet8.network.layers import AnyLayer
    from resnet8.playground.flow import Flow
    from resnet8.playground.noise import LayerError


def image(index: int, pixels: NDArray[np.uint8], label: int, flows: Mapping[str, Flow], split: Split) -> Any:
    """A test image and what the models take it for."""
    models = {name: one.probabilities[0] for name, one in flows.items()}
    said = " · ".join(
        f"{name}: **{page.plain(split.class_names[int(one.argmax())])}** ({percent(float(one.max()))})"
        for name, one in models.items()
    )
    shown = page.picture(pixels, 9, f"test image {index}", f"test image {index}")
    return page.column(
        mo.md(f"## The image\n\nTest image {index} is a **{page.plain(split.class_names[label])}**. {said}"),
        page.row(shown, plots.probabilities(models, split.class_names, label), align="center", gap=2),
    )


def flowing(
    shown: AnyLayer, flow: Flow, float_flow: Flow | None, error: LayerError | None, names: Sequence[str]
) -> Any:
    """The output of a layer for one image: quantized and in float, the error, and all of it on the grid.

    Args:
        shown: The layer.
        flow: Of the model.
        float_flow: Of the float network; that of the model itself where it is one.
        error: Of this layer; none where there is nothing to compare.
        names: Of the classes.
    """
    output = shown.output
    head = f"## What flows\n\nThe output of **{page.plain(shown.name)}**, {words.shape(output.shape)}, for this image."
    real = None if float_flow is None else float_flow.real(output.name)
    if output.grid is None:
        drawn = activation({plots.FLOAT: flow.real(output.name)}, names)
        return page.column(mo.md(head), page.row(*drawn, _spread(flow.real(output.name)), align="start"))
    codes, ends = flow.values[output.name], limits(output.grid.dtype)
    used = use(codes, ends)
    said = f"{used} · {used.at_lowest:,} at the least code, {used.at_highest:,} at the greatest"
    found = {plots.QUANTIZED: flow.real(output.name)} | ({} if real is None else {plots.FLOAT: real})
    return page.column(
        mo.md(f"{head}\n\n{said}" + ("" if error is None else f"\n\n{in_words(error)}")),
        page.row(
            *activation(found, names, difference="" if real is None else "error"),
            plots.in_steps(real, {plots.QUANTIZED: codes}, output.grid, ends),
            align="start",
        ),
    )


def _spread(values: NDArray[Any]) -> Any:
    return plots.values({plots.FLOAT: plots.Series(values)}, "activation")


def activation(found: Mapping[str, NDArray[Any]], names: Sequence[str], difference: str = "") -> list[Any]:
    """An activation of one image in several networks: feature maps, or bars where it has no map.

    Args:
        found: float32 (1, H, W, C) or (1, C), by what they are; the last one's range is black to white.
        names: Of the classes, for an activation with as many features.
        difference: What the difference of the first two is called, to be shown too.
    """
    *_, last = found.values()
    if last[0].size == last.shape[-1]:
        features = names if last.shape[-1] == len(names) else [str(number) for number in range(last.shape[-1])]
        return [plots.bars({name: one.reshape(-1) for name, one in found.items()}, features, "value")]
    span = (float(last.min()), float(last.max()))
    shown = [page.maps(one, span, f"{name}, {span[0]:.4g} to {span[1]:.4g}") for name, one in found.items()]
    if difference:
        first, second, *_ = found.values()
        far = np.abs(first - second)
        shown.append(page.maps(far, (0.0, float(far.max())), f"{difference}, 0 to {far.max():.4g}"))
    return shown


def in_words(error: LayerError) -> str:
    """The error of a layer in a line."""
    return (
        f"Against FP32: mean squared error {error.mse:.4g}, SQNR {error.sqnr:.2f} dB, largest error "
        f"{error.largest:.4g} ({error.steps:.2f} steps), cosine {error.cosine:.6f}, "
        f"{percent(error.clipped)} of the FP32 values clipped."
    )


# Errors of all layers

_ERRORS = {
    "MSE": ("mse", "{:.4g}"),
    "SQNR (dB)": ("sqnr", "{:.2f}"),
    "largest error": ("largest", "{:.4g}"),
    "in steps": ("steps", "{:.2f}"),
    "cosine": ("cosine", "{:.6f}"),
    "clipped": ("clipped", "{:.3%}"),
}
"""Headings of the numbers, where they are, and how they are written."""


def errors(found: Sequence[LayerError], name: str) -> Any:
    """A table of the errors of all layers, to be sorted by a click on a heading and downloaded as CSV.

    Args:
        found: The input's first.
        name: Of the file.
    """
    rows = [
        {"layer": number, "name": one.layer} | {title: getattr(one, field) for title, (field, _) in _ERRORS.items()}
        for number, one in enumerate(found)
    ]
    shown = mo.ui.table(
        rows,
        selection=None,
        pagination=False,
        format_mapping={title: form for title, (_, form) in _ERRORS.items()},
        show_column_summaries=False,
        show_data_types=False,
        show_download=False,
        show_search=False,
    )
    file = mo.download(as_csv(found).encode(), filename=name, mimetype="text/csv", label="Download as CSV")
    return page.column(shown, file)


def series(found: Mapping[str, Sequence[LayerError]]) -> Any:
    """The SQNR of every layer as a chart, a line for each of ``found``."""
    (first, *_) = found.values()
    ratios = {name: [one.sqnr for one in row] for name, row in found.items()}
    return plots.decibels([one.layer for one in first], ratios)
