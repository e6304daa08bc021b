"""The playground's charts: numbers in, Altair charts out.

Each chart names its units, shows numbers under the pointer, and has colours that can be read on light and on dark.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import altair as alt
import numpy as np

from resnet8.playground.codes import code_counts

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from resnet8.numeric.grid import QParams
    from resnet8.playground.flow import Answers

COLOURS = ("#e8862e", "#4c8fd6", "#d64f6c", "#3ea58c", "#9a77cf", "#b39b2d", "#7d8894", "#c46bb0")
"""Middle tones: the float model's, the quantized model's, the changed model's, and others."""

FLOAT, QUANTIZED, DEQUANTIZED, CHANGED = "FP32", "quantized", "dequantized", "changed"
"""What a series is; it has the same colour in every chart."""

WIDTH, LAYERS_WIDTH, HEIGHT = 250, 600, 220

_OWN = {FLOAT: COLOURS[0], QUANTIZED: COLOURS[1], DEQUANTIZED: COLOURS[1], CHANGED: COLOURS[2]}
_MANY = 2**16
_BEYOND = 64
"""Bins drawn beyond either end of a grid; what lies farther is counted in the outermost."""

Chart = Any  # Altair's own annotations do not survive its method chains


def over(rows: Iterable[Mapping[str, Any]], **encodings: Any) -> Chart:
    """A chart of ``rows``, to be given a mark."""
    # As text: Altair checks every number of a list against its schema, half a second for the codes of a layer.
    return alt.Chart(alt.InlineData(values=json.dumps(list(rows)), format={"type": "json"})).encode(**encodings)


def _colour(series: Iterable[str]) -> alt.Color:
    colours = {name: _OWN.get(name, COLOURS[place % len(COLOURS)]) for place, name in enumerate(series)}
    scale = alt.Scale(domain=list(colours), range=list(colours.values()))
    return alt.Color("series:N", title="", scale=scale, legend=alt.Legend(orient="top"))


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
    low, high = limits = _shown(limits, codes)
    series = {name: (low, code_counts(one, limits)) for name, one in codes.items()}
    ends = limits
    if reals is not None:
        steps = np.rint(reals.astype(np.float64) / params.scale + params.zero_point)
        steps = np.clip(steps, low - _BEYOND, high + _BEYOND).astype(np.int64)
        ends = min(int(steps.min()), low), max(int(steps.max()), high)
        series = {FLOAT: (ends[0], code_counts(steps, ends)), **series}
    most = max(int(counts.max()) for _, counts in series.values())
    ticks = [0, *(10**power for power in range(8) if 10**power <= most)]
    tips = [alt.Tooltip("series:N", title="what"), alt.Tooltip("code:Q")]
    tips += [] if params.per_channel else [alt.Tooltip("real:Q", title="real value", format=".5g")]
    tips += [alt.Tooltip("count:Q", title="elements")]
    y = alt.Y(
        "count:Q",
        title="elements",
        stack=None,
        scale=alt.Scale(type="symlog", domain=[0, most]),
        axis=alt.Axis(values=ticks, labelExpr="format(datum.value, '~s')"),
    )
    grid_ends = ({"at": low - 0.5, "what": f"least code {low}"}, {"at": high + 0.5, "what": f"greatest code {high}"})
    rules = over(grid_ends, x="at:Q", tooltip=["what:N"]).mark_rule(strokeDash=[4, 3], color=COLOURS[6])
    scale = alt.Scale(nice=False, domain=[ends[0] - 0.5, ends[1] + 0.5])
    charts, lowest = [], list(series)[-1]
    for name, (first, counts) in series.items():
        rows = (
            {"series": name, "code": code, "left": code - 0.5, "right": code + 0.5, "count": count}
            | ({} if params.per_channel else {"real": (code - int(params.zero_point)) * float(params.scale)})
            for code, count in enumerate(counts.tolist(), first)
            if count
        )
        title = "code (steps of the scale + zero point)" if name == lowest else ""
        x = alt.X("left:Q", bin="binned", title=title, scale=scale)
        bars = over(rows, x=x, x2="right:Q", y=y, color=_colour(series), tooltip=tips)
        layers = alt.layer(bars.mark_bar(orient="vertical", binSpacing=0), rules)
        charts.append(layers.properties(width=WIDTH, height=HEIGHT / len(series)))
    return alt.vconcat(*charts, spacing=6).resolve_scale(x="shared", color="shared")


def _shown(limits: tuple[int, int], codes: Mapping[str, NDArray[Any]]) -> tuple[int, int]:
    """The least and the greatest code; of the billions that accumulators may be, those that there are."""
    if limits[1] - limits[0] < _MANY:
        return limits
    return min(int(one.min()) for one in codes.values()), max(int(one.max()) for one in codes.values())


def channels(params: QParams) -> Chart:
    """The scale and the zero point of each output channel."""
    numbers = zip(np.atleast_1d(params.scale).tolist(), np.atleast_1d(params.zero_point).tolist(), strict=True)
    base = over(
        ({"channel": at, "scale": scale, "zero_point": zero} for at, (scale, zero) in enumerate(numbers)),
        x=alt.X("channel:O", title="output channel", axis=alt.Axis(labelOverlap=True)),
        tooltip=["channel:O", alt.Tooltip("scale:Q", format=".6g"), alt.Tooltip("zero_point:Q", title="zero point")],
    )
    scale = alt.Y("scale:Q", title="scale (real units per step)")
    zero = alt.Y("zero_point:Q", title="zero point (code)", axis=alt.Axis(format="d", tickMinStep=1))
    return alt.vconcat(
        base.mark_bar(color=COLOURS[1]).encode(y=scale).properties(width=LAYERS_WIDTH, height=130),
        base.mark_point(color=COLOURS[0], filled=True).encode(y=zero).properties(width=LAYERS_WIDTH, height=70),
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
    rows = []
    for name, one in tensors.items():
        counts, edges = np.histogram(one, bins, span)
        middles = (edges[:-1].astype(np.float64) + edges[1:]) / 2
        numbers = zip(middles.tolist(), (100 * counts / one.size).tolist(), strict=True)
        rows += [{"series": name, "value": value, "share": share} for value, share in numbers]
    chart = over(
        rows,
        x=alt.X("value:Q", title=unit),
        y=alt.Y("share:Q", title="share of the elements (%)"),
        color=_colour(tensors),
        tooltip=["series:N", alt.Tooltip("value:Q", format=".4g"), alt.Tooltip("share:Q", format=".2f")],
    )
    lines = chart.mark_line(interpolate="step", strokeWidth=1.8)
    return lines.properties(width=WIDTH, height=HEIGHT).interactive()


def probabilities(models: Mapping[str, NDArray[np.floating[Any]]], class_names: Sequence[str], label: int) -> Chart:
    """The class probabilities of some models side by side; the true class bears a mark.

    Args:
        models: Probabilities (10,) by the name in the legend.
        class_names: By label.
        label: The image's class.
    """
    shown = [f"{name} ✓" if number == label else name for number, name in enumerate(class_names)]
    bars = over(
        (
            {"series": model, "class": name, "probability": 100 * float(value)}
            for model, row in models.items()
            for name, value in zip(shown, row, strict=True)
        ),
        y=alt.Y("class:N", title="class (✓ the image's)", sort=shown),
        yOffset=alt.YOffset("series:N", sort=list(models)),
        x=alt.X("probability:Q", title="probability (%)", scale=alt.Scale(domain=[0, 100])),
        color=_colour(models),
        tooltip=["series:N", "class:N", alt.Tooltip("probability:Q", format=".3f")],
    )
    return bars.mark_bar().properties(width=WIDTH - 30, height=240)


# Layers


def _layer_axis(layers: Sequence[str]) -> alt.X:
    axis = alt.Axis(labelAngle=-60, labelLimit=170)
    return alt.X("layer:N", sort=list(layers), title="layer, in the order of computation", axis=axis)


def decibels(layers: Sequence[str], series: Mapping[str, Sequence[float]]) -> Chart:
    """The SQNR of every layer, a line for each series; without noise, or without signal, there is no point.

    Args:
        layers: Their names, in the order of computation.
        series: A number for each layer, in dB, by the name in the legend.
    """
    base = over(
        (
            {"layer": layer, "series": name, "db": one if np.isfinite(one) else None}
            for name, found in series.items()
            for layer, one in zip(layers, found, strict=True)
        ),
        x=_layer_axis(layers),
        y=alt.Y("db:Q", title="SQNR (dB)", scale=alt.Scale(zero=False)),
        color=_colour(series),
        tooltip=["layer:N", "series:N", alt.Tooltip("db:Q", title="SQNR (dB)", format=".2f")],
    )
    lines, points = base.mark_line(strokeWidth=1.5), base.mark_point(filled=True, size=45)
    return alt.layer(lines, points).properties(width=LAYERS_WIDTH, height=HEIGHT)


def sensitivity(found: Answers) -> Chart:
    """What each layer alone costs: top-1 with it quantized less top-1 of the float network, in points."""
    reference, scores = found.score().accuracy, {layer: found.score(layer) for layer in found.variants}
    bars = over(
        (
            {"layer": layer, "points": 100 * (one.accuracy - reference)}
            | {"correct": one.correct, "changed": len(found.changed(layer))}
            for layer, one in scores.items()
        ),
        x=_layer_axis(list(scores)),
        y=alt.Y("points:Q", title="top-1 against FP32 (points)"),
        tooltip=[
            "layer:N",
            alt.Tooltip("points:Q", format="+.2f"),
            alt.Tooltip("correct:Q", title="images right"),
            alt.Tooltip("changed:Q", title="images of another class than FP32's"),
        ],
    )
    return bars.mark_bar(color=COLOURS[1]).properties(width=LAYERS_WIDTH, height=HEIGHT)
