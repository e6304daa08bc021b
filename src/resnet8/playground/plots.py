"""The playground's charts: results in, Altair charts and pictures out.

Each chart names its units, shows numbers under the pointer, and has colours that can be read on light and on dark.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import altair as alt
import numpy as np

from resnet8.inspection.picture import KIND_COLOURS, KIND_NAMES
from resnet8.playground.drawing import places, way
from resnet8.playground.weights import code_counts, histogram

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from resnet8.inspection.picture import Drawing
    from resnet8.numeric.grid import QParams
    from resnet8.playground.activations import Noise, Sensitivity
    from resnet8.playground.compare import Difference

COLOURS = ("#e8862e", "#4c8fd6", "#d64f6c", "#3ea58c", "#9a77cf", "#b39b2d", "#7d8894", "#c46bb0")
"""Middle tones: the float model's, the quantized model's, the changed model's, and others."""

FLOAT, QUANTIZED, DEQUANTIZED, CHANGED = "FP32", "quantized", "dequantized", "changed"
"""What a series is; it has the same colour in every chart."""

WIDTH, LAYERS_WIDTH, HEIGHT = 250, 600, 220
GAP = 128
"""Grey level between the pictures of a mosaic."""

_BEYOND = 64
"""Bins drawn beyond either end of a grid; what lies farther is counted in the outermost."""

Rows = list[dict[str, Any]]
Chart = Any  # Altair's own annotations do not survive its method chains


def _data(rows: Rows) -> alt.InlineData:
    # As text: Altair checks every number of a list against its schema, half a second for the codes of a layer.
    return alt.InlineData(values=json.dumps(rows), format={"type": "json"})


def _colour(series: Sequence[str]) -> alt.Color:
    own = {FLOAT: COLOURS[0], QUANTIZED: COLOURS[1], DEQUANTIZED: COLOURS[1], CHANGED: COLOURS[2]}
    colours = [own.get(name, COLOURS[place % len(COLOURS)]) for place, name in enumerate(series)]
    scale = alt.Scale(domain=list(series), range=colours)
    return alt.Color("series:N", title="", scale=scale, legend=alt.Legend(orient="top"))


def _finite(value: float | None) -> float | None:
    return None if value is None or not np.isfinite(value) else float(value)


# Grids


def in_steps(
    reals: NDArray[Any] | None, codes: Mapping[str, NDArray[Any]], params: QParams, limits: tuple[int, int]
) -> Chart:
    """Histograms on the quantization grid, one bin for each code: float values in steps of the scale, below them codes.

    Args:
        reals: Float values, channels last; none where they are not known.
        codes: Codes on this grid, by what they are.
        params: The grid.
        limits: The least and the greatest code; what the float values have beyond them is clipped.
    """
    low, high = limits
    series = {name: (low, code_counts(one, limits)) for name, one in codes.items()}
    ends = limits
    if reals is not None:
        steps = np.rint(reals.astype(np.float64) / params.scale + params.zero_point)
        steps = np.clip(steps, low - _BEYOND, high + _BEYOND).astype(np.int64)
        ends = min(int(steps.min()), low), max(int(steps.max()), high)
        series = {FLOAT: (ends[0], code_counts(steps, ends)), **series}
    most = max(int(counts.max()) for _, counts in series.values())
    ticks = [0, *(10**power for power in range(8) if 10**power <= most)]
    shown = [alt.Tooltip("series:N", title="what"), alt.Tooltip("code:Q")]
    shown += [] if params.per_channel else [alt.Tooltip("real:Q", title="real value", format=".5g")]
    ends_of_grid: Rows = [
        {"at": low - 0.5, "what": f"least code {low}"},
        {"at": high + 0.5, "what": f"greatest code {high}"},
    ]
    rules = (
        alt.Chart(_data(ends_of_grid))
        .mark_rule(strokeDash=[4, 3], color=COLOURS[6])
        .encode(x="at:Q", tooltip=["what:N"])
    )
    charts, lowest = [], list(series)[-1]
    for name, (first, counts) in series.items():
        rows: Rows = [
            {"series": name, "code": code, "left": code - 0.5, "right": code + 0.5, "count": count}
            | ({} if params.per_channel else {"real": (code - int(params.zero_point)) * float(params.scale)})
            for code, count in enumerate(counts.tolist(), first)
            if count
        ]
        bars = (
            alt.Chart(_data(rows))
            .mark_bar(orient="vertical", binSpacing=0)
            .encode(
                x=alt.X(
                    "left:Q",
                    bin="binned",
                    title="code (steps of the scale + zero point)" if name == lowest else "",
                    scale=alt.Scale(nice=False, domain=[ends[0] - 0.5, ends[1] + 0.5]),
                ),
                x2="right:Q",
                y=alt.Y(
                    "count:Q",
                    title="elements",
                    stack=None,
                    scale=alt.Scale(type="symlog", domain=[0, most]),
                    axis=alt.Axis(values=ticks, labelExpr="format(datum.value, '~s')"),
                ),
                color=_colour(list(series)),
                tooltip=[*shown, alt.Tooltip("count:Q", title="elements")],
            )
        )
        charts.append(alt.layer(bars, rules).properties(width=WIDTH, height=HEIGHT / len(series)))
    return alt.vconcat(*charts, spacing=6).resolve_scale(x="shared", color="shared")


def channels(params: QParams) -> Chart:
    """The scale and the zero point of each output channel."""
    rows: Rows = [
        {"channel": number, "scale": float(scale), "zero_point": int(zero)}
        for number, (scale, zero) in enumerate(
            zip(np.atleast_1d(params.scale), np.atleast_1d(params.zero_point), strict=True)
        )
    ]
    base = alt.Chart(_data(rows)).encode(x=alt.X("channel:O", title="output channel", axis=alt.Axis(labelOverlap=True)))
    tips = ["channel:O", alt.Tooltip("scale:Q", format=".6g"), alt.Tooltip("zero_point:Q", title="zero point")]
    scales = base.mark_bar(color=COLOURS[1]).encode(
        y=alt.Y("scale:Q", title="scale (real units per step)"), tooltip=tips
    )
    zeros = base.mark_point(color=COLOURS[0], filled=True).encode(
        y=alt.Y("zero_point:Q", title="zero point (code)", axis=alt.Axis(format="d", tickMinStep=1)), tooltip=tips
    )
    return alt.vconcat(
        scales.properties(width=LAYERS_WIDTH, height=130), zeros.properties(width=LAYERS_WIDTH, height=70)
    ).resolve_scale(x="shared")


# Values


def values(tensors: Mapping[str, NDArray[Any]], unit: str, bins: int = 96) -> Chart:
    """Histograms of several tensors on each other, each as shares of its own elements, as steps.

    Args:
        tensors: By the name in the legend.
        unit: Of the horizontal axis.
        bins: Over the range of them all.
    """
    low = min(float(one.min()) for one in tensors.values())
    high = max(float(one.max()) for one in tensors.values())
    span = (low, high) if high > low else (low - 0.5, high + 0.5)
    rows: Rows = []
    for name, one in tensors.items():
        counts, edges = histogram(one, bins, span)
        rows += [
            {"series": name, "value": float((left + right) / 2), "share": 100 * int(count) / one.size}
            for count, left, right in zip(counts, edges[:-1], edges[1:], strict=True)
        ]
    return (
        alt.Chart(_data(rows))
        .mark_line(interpolate="step", strokeWidth=1.8)
        .encode(
            x=alt.X("value:Q", title=unit),
            y=alt.Y("share:Q", title="share of the elements (%)"),
            color=_colour(list(tensors)),
            tooltip=["series:N", alt.Tooltip("value:Q", format=".4g"), alt.Tooltip("share:Q", format=".2f")],
        )
        .properties(width=WIDTH, height=HEIGHT)
        .interactive()
    )


def probabilities(models: Mapping[str, NDArray[np.floating[Any]]], class_names: Sequence[str], label: int) -> Chart:
    """The class probabilities of some models side by side; the true class bears a mark.

    Args:
        models: Probabilities (10,) by the name in the legend.
        class_names: By label.
        label: The image's class.
    """
    shown = [f"{name} ✓" if number == label else name for number, name in enumerate(class_names)]
    rows: Rows = [
        {"series": model, "class": name, "probability": 100 * float(value)}
        for model, row in models.items()
        for name, value in zip(shown, row, strict=True)
    ]
    return (
        alt.Chart(_data(rows))
        .mark_bar()
        .encode(
            y=alt.Y("class:N", title="class (✓ the image's)", sort=shown),
            yOffset=alt.YOffset("series:N", sort=list(models)),
            x=alt.X("probability:Q", title="probability (%)", scale=alt.Scale(domain=[0, 100])),
            color=_colour(list(models)),
            tooltip=["series:N", "class:N", alt.Tooltip("probability:Q", format=".3f")],
        )
        .properties(width=WIDTH - 30, height=240)
    )


# Layers

CLICKED = "clicked"
"""Name of the selection in :func:`strip`; the number of the layer is its field ``layer``."""

_COLUMN, _LANE, _BOX = 25, 34, 21  # pixels


def strip(drawn: Drawing, chosen: str) -> Chart:
    """A network from left to right, its layers numbered; a click selects one (:data:`CLICKED`).

    Args:
        drawn: The network; its first box is the input, the layers follow.
        chosen: Key of the box that is marked.
    """
    at = places(drawn)
    kinds = list(dict.fromkeys(box.kind for box in drawn.boxes))
    boxes: Rows = [
        {"column": at[box.key][0], "lane": at[box.key][1], "kind": KIND_NAMES[box.kind], "title": box.title}
        | {"layer": number, "number": str(number) if number else "in", "chosen": box.key == chosen}
        | {"name": box.lines[0], "writes": box.lines[-1]}
        for number, box in enumerate(drawn.boxes)
    ]
    corners: Rows = [
        {"edge": number, "corner": corner, "column": column, "lane": lane}
        for number, edge in enumerate(drawn.edges)
        for corner, (column, lane) in enumerate(way(at[edge.source], at[edge.target]))
    ]
    last = max(column for column, _ in at.values())
    lanes = max(lane for _, lane in at.values())
    x = alt.X("column:Q", axis=None, scale=alt.Scale(domain=[-0.5, last + 0.5], nice=False))
    y = alt.Y("lane:Q", axis=None, scale=alt.Scale(domain=[lanes + 0.5, -0.5], nice=False))
    edges = (
        alt.Chart(_data(corners))
        .mark_line(color=COLOURS[6], strokeWidth=1.5)
        .encode(x=x, y=y, detail="edge:N", order="corner:Q")
    )
    clicked = alt.selection_point(name=CLICKED, fields=["layer"], empty=False)
    squares = (
        alt.Chart(_data(boxes))
        .mark_square(size=_BOX**2, opacity=1, cursor="pointer")
        .encode(
            x=x,
            y=y,
            fill=alt.Fill(
                "kind:N",
                title="",
                scale=alt.Scale(
                    domain=[KIND_NAMES[kind] for kind in kinds], range=[KIND_COLOURS[kind][0] for kind in kinds]
                ),
                legend=alt.Legend(orient="top", symbolType="square", symbolStrokeWidth=0, columns=0),
            ),
            stroke=alt.condition("datum.chosen", alt.value(COLOURS[0]), alt.value(COLOURS[6])),
            strokeWidth=alt.condition("datum.chosen", alt.value(4), alt.value(1)),
            tooltip=[alt.Tooltip("number:N", title="layer"), "title:N", "name:N", "writes:N"],
        )
        .add_params(clicked)
    )
    numbers = (
        alt.Chart(_data(boxes))
        .mark_text(fontSize=10, color="#1f2328", cursor="pointer")
        .encode(x=x, y=y, text="number:N")
    )
    return alt.layer(edges, squares, numbers).properties(width=_COLUMN * (last + 1), height=_LANE * (lanes + 1))


def _layer_axis(rows: Rows) -> alt.X:
    order = [row["layer"] for row in rows]
    return alt.X("layer:N", sort=order, title="layer, in the order of computation", axis=_slanted())


def _slanted() -> alt.Axis:
    return alt.Axis(labelAngle=-60, labelLimit=170)


def _decibels(rows: Rows, series: Sequence[str]) -> Chart:
    base = alt.Chart(_data(rows)).encode(
        x=_layer_axis(rows),
        y=alt.Y("db:Q", title="SQNR (dB)", scale=alt.Scale(zero=False)),
        color=_colour(series),
        tooltip=["layer:N", "series:N", alt.Tooltip("db:Q", title="SQNR (dB)", format=".2f")],
    )
    lines = base.mark_line(strokeWidth=1.5)
    return alt.layer(lines, base.mark_point(filled=True, size=45)).properties(width=LAYERS_WIDTH, height=HEIGHT)


def noise(found: Sequence[Noise]) -> Chart:
    """The SQNR of every layer, accumulated and in isolation; layers without noise have no point."""
    rows: Rows = [
        {"layer": one.layer, "series": name, "db": _finite(value)}
        for name in ("accumulated", "isolated")
        for one, value in ((one, getattr(one, name)) for one in found)
    ]
    return _decibels(rows, ("accumulated", "isolated"))


def noise_of(networks: Mapping[str, Sequence[Noise]]) -> Chart:
    """The accumulated SQNR of every layer in several networks, by the name in the legend."""
    rows: Rows = [
        {"layer": one.layer, "series": name, "db": _finite(one.accumulated)}
        for name, found in networks.items()
        for one in found
    ]
    return _decibels(rows, list(networks))


def differences(found: Sequence[Difference]) -> Chart:
    """The SQNR of every layer in the original and in the changed network, against the float network.

    Without a float network: the changed values against the original ones.
    """
    fields = {QUANTIZED: "original", CHANGED: "changed"}
    if all(one.original is None for one in found):
        fields = {"changed against original": "change"}
    rows: Rows = [
        {"layer": one.layer, "series": name, "db": _finite(getattr(one, attribute))}
        for name, attribute in fields.items()
        for one in found
    ]
    return _decibels(rows, list(fields))


def sensitivity(found: Sensitivity) -> Chart:
    """What each layer alone costs: top-1 with it quantized less top-1 of the float network, in points."""
    rows: Rows = [
        {
            "layer": one.layer,
            "points": 100 * (one.score.accuracy - found.reference.accuracy),
            "correct": one.score.correct,
            "changed": one.changed,
        }
        for one in found.layers
    ]
    return (
        alt.Chart(_data(rows))
        .mark_bar(color=COLOURS[1])
        .encode(
            x=_layer_axis(rows),
            y=alt.Y("points:Q", title="top-1 against FP32 (points)"),
            tooltip=[
                "layer:N",
                alt.Tooltip("points:Q", format="+.2f"),
                alt.Tooltip("correct:Q", title="images right"),
                alt.Tooltip("changed:Q", title="images of another class than FP32's"),
            ],
        )
        .properties(width=LAYERS_WIDTH, height=HEIGHT)
    )


# Pictures


def mosaic(levels: NDArray[np.uint8], side: int = 320) -> tuple[NDArray[np.uint8], int]:
    """Feature maps, uint8 (C, H, W), as one picture with lines between them, and how to enlarge it.

    Returns:
        The picture, uint8 (rows, columns), and the whole factor that makes it about ``side`` wide, at least 1.
    """
    count, height, width = levels.shape
    columns = int(np.ceil(np.sqrt(count)))
    rows = -(-count // columns)
    picture = np.full((rows * (height + 1) - 1, columns * (width + 1) - 1), GAP, np.uint8)
    for number, one in enumerate(levels):
        row, column = divmod(number, columns)
        top, left = row * (height + 1), column * (width + 1)
        picture[top : top + height, left : left + width] = one
    return picture, max(1, side // picture.shape[1])
