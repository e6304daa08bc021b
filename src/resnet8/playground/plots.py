"""The playground's charts: numbers in, Altair charts out.

Each chart names its units, shows numbers under the pointer, and has colours that can be read on light and on dark.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import altair as alt
import numpy as np

from resnet8.playground.codes import code_counts
from resnet8.playground.flow import CHANGED, Answers

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from resnet8.numeric.grid import QParams

COLOURS = (
    "#c96a12", "#3f83cf", "#d64f6c", "#2f8f78", "#9270cc", "#8f7d1e", "#74808b", "#bf5fa8", "#b5754c", "#5f8f2f",
)  # fmt: skip
"""Middle tones: the float model's, the quantized model's, the changed model's, and others; each stands out against a
white and against a dark page by more than 3 : 1 (WCAG 2.2, success criterion 1.4.11)."""

FLOAT, QUANTIZED, DEQUANTIZED = "FP32", "quantized", "dequantized"
"""What a series is; it has the same colour in every chart."""

ACCUMULATED, ISOLATED = "accumulated", "isolated"

WIDTH, HEIGHT = 250, 220

CLICKED = "clicked"
"""Name of the selection in the charts where a click chooses a layer; its field ``layer`` is the layer's number."""

CHOSEN_COLOUR, CHANGED_COLOUR, GREY = COLOURS[0], COLOURS[2], COLOURS[6]

_OWN = {
    FLOAT: COLOURS[0],
    QUANTIZED: COLOURS[1],
    DEQUANTIZED: COLOURS[1],
    CHANGED: CHANGED_COLOUR,
    ACCUMULATED: COLOURS[1],
    ISOLATED: COLOURS[3],
}
_MANY = 2**16
_BEYOND = 64
"""Bins drawn beyond either end of a grid; what lies farther is counted in the outermost."""

_BINS = 96
"""Of a histogram, at most."""

_NEARLY = 1e-3
"""Of a step."""

Chart = Any  # Altair's own annotations do not survive its method chains


def over(rows: Iterable[Mapping[str, Any]], **encodings: Any) -> Chart:
    """A chart of ``rows``, to be given a mark."""
    # As text: Altair checks every number of a list against its schema, half a second for the codes of a layer.
    return alt.Chart(alt.InlineData(values=json.dumps(list(rows)), format={"type": "json"})).encode(**encodings)


_OUTERMOST: dict[str, Any] = {"background": "transparent", "usermeta": {"embedOptions": {"actions": False}}}
"""Of every chart: the page's own background, and no menu, which has no name that is read aloud."""


def described(chart: Chart, description: str, **properties: Any) -> Chart:
    """``chart`` as the page shows it, with words for those who do not see it."""
    return chart.properties(description=description, **_OUTERMOST, **properties)


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
    rules = over(grid_ends, x="at:Q", tooltip=[alt.Tooltip("what:N")]).mark_rule(strokeDash=[4, 3], color=GREY)
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
        bars = over(rows, x=x, x2=alt.X2("right:Q"), y=y, color=_colour(series), tooltip=tips)
        steps_up = bars.mark_bar(orient="vertical", binSpacing=0)
        charts.append(alt.layer(steps_up, rules, width=WIDTH, height=HEIGHT / len(series)))
    # All at once: each method of a chart copies it, with all that is in it.
    return alt.vconcat(
        *charts,
        spacing=6,
        resolve=alt.Resolve(scale=alt.ScaleResolveMap(x="shared", color="shared")),
        description=f"Histograms in steps of the scale: {', '.join(series)}",
        **_OUTERMOST,
    )


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
        x=alt.X("channel:O", title="output channel", axis=alt.Axis(labelOverlap=True, labelAngle=0)),
        tooltip=[
            alt.Tooltip("channel:O"),
            alt.Tooltip("scale:Q", format=".6g"),
            alt.Tooltip("zero_point:Q", title="zero point"),
        ],
    )
    scale = alt.Y("scale:Q", title="scale (real units per step)")
    zero = alt.Y("zero_point:Q", title="zero point (code)", axis=alt.Axis(format="d", tickMinStep=1))
    charts = [base.mark_bar(color=COLOURS[1]).encode(y=scale).properties(width=WIDTH, height=130)]
    if params.zero_point.any():
        charts.append(base.mark_point(color=COLOURS[0], filled=True).encode(y=zero).properties(width=WIDTH, height=70))
    return described(alt.vconcat(*charts).resolve_scale(x="shared"), "Scale and zero point of each output channel")


# Values


@dataclass(frozen=True, eq=False)
class Series:
    """Numbers of one kind.

    Attributes:
        real: float32, any shape, channels last.
        grid: What they are codes of; none of real numbers.
    """

    real: NDArray[Any]
    grid: QParams | None = None

    @property
    def half(self) -> NDArray[np.float64]:
        """Half a step of the grid, to be broadcast to the last axis; 0 without one."""
        return np.asarray(0.0 if self.grid is None else self.grid.scale.astype(np.float64) / 2)

    def shares(self, edges: NDArray[np.float64]) -> NDArray[np.float64]:
        """The share of the numbers in each bin, per cent; a code is spread over the step that it stands for.

        Else bins that hold two steps, then three, then two again would draw teeth that no number has.
        """
        if self.grid is None:
            return np.asarray(100 * np.histogram(np.clip(self.real, *edges[[0, -1]]), edges)[0] / self.real.size)
        channels = self.grid.scale.size
        below = np.zeros(len(edges))
        for column, half in zip(self.real.reshape(-1, channels).T, np.atleast_1d(self.half), strict=True):
            middles, counts = np.unique(column, return_counts=True)
            left = middles.astype(np.float64)[:, None] - half
            below += counts @ np.clip((edges - left) / (2 * half), 0, 1)
        return 100 * np.diff(below) / self.real.size


def bins(series: Iterable[Series], most: int = _BINS) -> NDArray[np.float64]:
    """Edges over the range of all ``series``: of whole steps, between two codes, where one of them has one scale."""
    series = tuple(series)
    low = min(float((one.real - one.half).min()) for one in series)
    high = max(float((one.real + one.half).max()) for one in series)
    low, high = (low, high) if high > low else (low - 0.5, high + 0.5)
    grids = [one.grid for one in series if one.grid is not None and not one.grid.per_channel]
    if not grids:
        return np.linspace(low, high, most + 1)
    step = max(float(grid.scale) for grid in grids)
    # Codes, counted from real 0; the ends are float32 numbers, which may be off by the last bit.
    first, last = np.floor(low / step + 0.5 + _NEARLY), np.ceil(high / step - 0.5 - _NEARLY)
    width = max(1, int(np.ceil((last - first + 1) / most)))
    return np.asarray((np.arange(first, last + width + 1, width) - 0.5) * step)


def values(tensors: Mapping[str, Series], unit: str) -> Chart:
    """Histograms of several tensors on each other, each as shares of its own elements, as steps.

    Args:
        tensors: By the name in the legend.
        unit: Of the horizontal axis.
    """
    edges, (first, *others) = bins(tensors.values()), tensors

    def drawn(names: Iterable[str], **encodings: Any) -> Chart:
        outlines = (
            (name, zip(edges.tolist(), [*tensors[name].shares(edges).tolist(), 0.0], strict=True)) for name in names
        )
        return over(
            [{"series": name, "value": at, "share": share} for name, outline in outlines for at, share in outline],
            x=alt.X("value:Q", title=unit, scale=alt.Scale(nice=False, zero=False), axis=alt.Axis(tickCount=5)),
            y=alt.Y("share:Q", title="share of the elements (%)"),
            tooltip=[
                alt.Tooltip("series:N"),
                alt.Tooltip("value:Q", title="from", format=".4g"),
                alt.Tooltip("share:Q", format=".2f"),
            ],
            color=_colour(tensors),
            **encodings,
        )

    # The first as an area: a line that is the same, as of weights and their codes, would hide it.
    charts = [drawn([first]).mark_area(interpolate="step-after", opacity=0.45)]
    if others:
        dashes = {} if len(others) < 3 else {"strokeDash": _dashes(others)}
        charts.append(drawn(others, **dashes).mark_line(interpolate="step-after", strokeWidth=1.8))
    return described(alt.layer(*charts), f"Histogram of {unit}: {', '.join(tensors)}", width=WIDTH, height=HEIGHT)


def _dashes(series: Iterable[str]) -> alt.StrokeDash:
    """Every second line broken: many are told apart by more than their colours."""
    names = list(series)
    patterns = [[1, 0] if place % 2 == 0 else [5, 3] for place in range(len(names))]
    return alt.StrokeDash("series:N", title="", scale=alt.Scale(domain=names, range=patterns))


def bars(vectors: Mapping[str, NDArray[Any]], names: Sequence[str], unit: str) -> Chart:
    """A number for each feature: the class scores, or the channels of what was pooled.

    Args:
        vectors: (C,) by the name in the legend.
        names: Of the features, in order.
        unit: Of the numbers.
    """
    few = len(names) <= 16
    base = over(
        (
            {"series": series, "feature": name, "value": float(value)}
            for series, row in vectors.items()
            for name, value in zip(names, row, strict=True)
        ),
        x=alt.X(
            "feature:N", title="", sort=list(names), axis=alt.Axis(labelAngle=-60 if few else 0, labelOverlap=True)
        ),
        y=alt.Y("value:Q", title=unit),
        color=_colour(vectors),
        tooltip=[alt.Tooltip("series:N"), alt.Tooltip("feature:N"), alt.Tooltip("value:Q", format=".5g")],
    )
    if few:
        chart = base.mark_bar().encode(xOffset=alt.XOffset("series:N", sort=list(vectors)))
    else:
        chart = base.mark_point(filled=True, size=30)
    return described(chart, f"{unit} of each feature: {', '.join(vectors)}", width=WIDTH, height=HEIGHT)


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
        tooltip=[alt.Tooltip("series:N"), alt.Tooltip("class:N"), alt.Tooltip("probability:Q", format=".3f")],
    )
    return described(bars.mark_bar(), f"Class probabilities: {', '.join(models)}", width=WIDTH - 30, height=240)


# Layers


def _layers(rows: Iterable[Mapping[str, Any]], y: alt.Y, tooltip: Sequence[Any], **encodings: Any) -> Chart:
    """A chart over the numbers of the layers, 0 the input; the names are under the pointer."""
    axis = alt.Axis(labelExpr="datum.value == 0 ? 'in' : datum.value", labelAngle=0, labelOverlap=True)
    x = alt.X("layer:O", title="number of the layer", axis=axis)
    return over(
        rows, x=x, y=y, tooltip=[alt.Tooltip("layer:O"), alt.Tooltip("name:N", title="layer"), *tooltip], **encodings
    )


def _clickable(description: str, points: Chart, *below: Chart) -> Chart:
    """Charts on each other over the width there is; a click on the uppermost's marks chooses a layer."""
    clicked = alt.selection_point(name=CLICKED, fields=["layer"], empty=False)
    whole = alt.layer(*below, points.add_params(clicked))
    return described(whole, description, width="container", height=HEIGHT)


def decibels(layers: Sequence[str], series: Mapping[str, Sequence[float]]) -> Chart:
    """The SQNR of every layer, a line for each series; without noise, or without signal, there is no point.

    Args:
        layers: Their names, in the order of computation, the input first.
        series: A number for each layer, in dB, by the name in the legend.
    """
    base = _layers(
        (
            {"layer": number, "name": layer, "series": name, "db": one if np.isfinite(one) else None}
            for name, found in series.items()
            for number, (layer, one) in enumerate(zip(layers, found, strict=True))
        ),
        alt.Y("db:Q", title="SQNR (dB)", scale=alt.Scale(zero=False)),
        [alt.Tooltip("series:N"), alt.Tooltip("db:Q", title="SQNR (dB)", format=".2f")],
        color=_colour(series),
    )
    points, lines = base.mark_point(filled=True, size=60, cursor="pointer"), base.mark_line(strokeWidth=1.5)
    return _clickable(f"SQNR of every layer: {', '.join(series)}", points, lines)


def sensitivity(found: Answers) -> Chart:
    """What each layer alone costs: top-1 with it quantized less top-1 of the float network, in points."""
    reference, scores = found.score().accuracy, {layer: found.score(layer) for layer in found.variants}
    bars = _layers(
        (
            {"layer": number, "name": layer, "points": 100 * (one.accuracy - reference)}
            | {"correct": one.correct, "changed": len(found.changed(layer))}
            for number, (layer, one) in enumerate(scores.items())
        ),
        alt.Y("points:Q", title="top-1 against FP32 (points)"),
        [
            alt.Tooltip("points:Q", format="+.2f"),
            alt.Tooltip("correct:Q", title="images right"),
            alt.Tooltip("changed:Q", title="images of another class than FP32's"),
        ],
    )
    return _clickable("What each layer alone costs", bars.mark_bar(color=COLOURS[1], cursor="pointer"))
