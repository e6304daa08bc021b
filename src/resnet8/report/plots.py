"""Sweeps, sensitivities, searches and comparisons as pictures, by Matplotlib: the same bytes each time with one version of it."""

from __future__ import annotations

import io
import statistics
from typing import TYPE_CHECKING, Any

from resnet8.errors import StorageError, missing_extra
from resnet8.report import choice
from resnet8.report import cim as arrays
from resnet8.report.sweeps import variant

try:
    import matplotlib as mpl
    from matplotlib.figure import Figure
except ModuleNotFoundError as error:
    raise missing_extra(error.name or "matplotlib", "plots") from error

if TYPE_CHECKING:
    from pathlib import Path

    from resnet8.results import CimAudit, Comparison, Search, Sensitivity, Sweep

SUFFIXES = (".svg", ".png")
_STYLE = {"svg.hashsalt": "resnet8", "font.size": 9, "axes.titlesize": 9}
_METADATA: dict[str, dict[str, Any]] = {".svg": {"Date": None, "Creator": None}, ".png": {"Software": None}}


def require_suffix(path: Path) -> None:
    """Check that a picture can be drawn under this name.

    Raises:
        StorageError: when not.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise StorageError(
            f"cannot draw {path}",
            found=f"the suffix «{path.suffix}»",
            expected=" or ".join(SUFFIXES),
            remedy="choose a name that ends so",
        )


def content(picture: Figure, suffix: str, about: str | None = None) -> bytes:
    """The file of a picture, ``.svg`` or ``.png``, with words ``about`` it in its description."""
    buffer = io.BytesIO()
    kind = suffix.lower()
    metadata = _METADATA[kind] | ({} if about is None else {"Description": about})
    with mpl.rc_context(_STYLE):
        picture.savefig(buffer, format=kind[1:], dpi=144, metadata=metadata)
    return buffer.getvalue()


def sweep(result: Sweep) -> Figure:
    """A heat map of the accuracy for each variant: weight bits down, activation bits across."""
    maps = result.maps()
    across = min(2, len(maps))
    down = -(-len(maps) // across)
    with mpl.rc_context(_STYLE):
        picture = Figure(figsize=(5.2 * across, 4.4 * down), layout="constrained")
        axes = picture.subplots(down, across, squeeze=False)
        for place in axes.flat[len(maps) :]:
            place.set_axis_off()
        total, best = result.ground.baseline.total, 100 * result.ground.baseline.accuracy
        for place, (of, cells) in zip(axes.flat, maps.items(), strict=False):
            weights, activations = (sorted({key[i] for key in cells}) for i in (0, 1))
            values = [
                [100 * statistics.fmean(one.overall.correct for one in cells[w, a]) / total for a in activations]
                for w in weights
            ]
            shown = place.imshow(
                values, cmap="viridis", vmin=min(80.0, best - 1), vmax=best, origin="lower", aspect="auto"
            )
            for row, line in enumerate(values):
                for column, value in enumerate(line):
                    dark = value < (min(80.0, best - 1) + best) / 2
                    place.text(column, row, f"{value:.2f}", ha="center", va="center", color="w" if dark else "k")
            place.set_xticks(range(len(activations)), activations)
            place.set_yticks(range(len(weights)), weights)
            place.set(xlabel="activation bits", ylabel="weight bits", title=variant(of))
            picture.colorbar(shown, ax=place, label=f"top-1 (%), float {best:.2f}", extend="min")
    return picture


def cim(result: CimAudit) -> Figure:
    """A heat map of the accuracy for each variant of arrays: rows down, bits of the ADC across."""
    maps = list(result.maps().values())
    best = 100 * result.exact.accuracy
    with mpl.rc_context(_STYLE):
        picture = Figure(figsize=(6.4, 3.6 * len(maps)), layout="constrained")
        for place, of in zip(picture.subplots(len(maps), 1, squeeze=False).flat, maps, strict=True):
            rows, bits = (sorted({key[i] for key in of}) for i in (0, 1))
            values = [[arrays.accuracy(of[r, b]) if (r, b) in of else float("nan") for b in bits] for r in rows]
            shown = place.imshow(values, cmap="viridis", vmin=0, vmax=best, origin="lower", aspect="auto")
            for row, column in of:
                value = arrays.accuracy(of[row, column])
                told = arrays.TOLD if arrays.told(result, of[row, column]) else ""
                at = bits.index(column), rows.index(row)
                place.text(*at, f"{value:.2f}{told}", ha="center", va="center", color="w" if value < best / 2 else "k")
            place.set_xticks(range(len(bits)), bits)
            place.set_yticks(range(len(rows)), rows)
            title = arrays.variant(next(iter(of.values()))).replace(", ", "\n", 1)
            place.set(xlabel="bits of the ADC", ylabel="rows of an array", title=title)
            picture.colorbar(shown, ax=place, label=f"top-1 (%) of {result.exact.total:,} images, exact {best:.2f}")
    return picture


def sensitivity(result: Sensitivity) -> Figure:
    """What each layer alone costs, and what all but it cost, in percentage points."""
    names = list(dict.fromkeys(one.layer for one in result.layers))
    total = result.ground.baseline.total
    with mpl.rc_context(_STYLE):
        picture = Figure(figsize=(9, 4.4), layout="constrained")
        for place, which, title in zip(
            picture.subplots(1, 2, sharey=True),
            ("alone", "spared"),
            ("few bits in this layer alone", "few bits in all layers but this one"),
            strict=True,
        ):
            width = 0.8 / len(result.coarse)
            for number, bits in enumerate(result.coarse):
                drops = [
                    100 * (result.fine.overall.correct - getattr(one, which).overall.correct) / total
                    for one in result.layers
                    if one.bits == bits
                ]
                places = [index + width * number for index in range(len(names))]
                place.barh(places, drops, width, label=f"{bits} bits")
            middle = width * (len(result.coarse) - 1) / 2
            place.set_yticks([index + middle for index in range(len(names))], names)
            place.set(xlabel="drop (percentage points)", title=title)
            place.legend()
        place.invert_yaxis()
    return picture


def search(result: Search) -> Figure:
    """Size against drop: what was measured of the front, the limit, and the choice."""
    with mpl.rc_context(_STYLE):
        picture = Figure(figsize=(6.4, 4.4), layout="constrained")
        place = picture.subplots()
        measured = [(one.size_bytes, drop) for one in result.front if (drop := result.drop(one)) is not None]
        place.plot(*zip(*measured, strict=True), "o-", label="measured on held-out images")
        chosen = result.choice
        place.plot(
            [chosen.size_bytes], [result.drop(chosen)], "*", markersize=14, label=f"chosen: {chosen.size_bytes:,} bytes"
        )
        place.axhline(result.max_drop, linestyle="--", color="k", label=f"allowed drop: {result.max_drop:g} points")
        place.set(xlabel="bytes of all numbers", ylabel="drop (percentage points)")
        place.set_yscale("symlog", linthresh=1)
        place.legend()
    return picture


def accuracy_size(result: Comparison) -> Figure:
    """Top-1 against the bytes of the file, of every quantized model; those that cannot be told from the baseline filled."""
    found, best = choice.points(result), choice.baseline(result)
    with mpl.rc_context(_STYLE):
        picture = Figure(figsize=(8, 4.8), layout="constrained")
        place = picture.subplots()
        place.axhline(best, linestyle="--", color="k", linewidth=1, label=f"float: {best:.2f} %")
        for equal, face, label in ((True, "C0", "not told from float (p ≥ 0.05)"), (False, "none", "told from float")):
            chosen = [(size, top) for size, top, _, same in found if same == equal]
            if chosen:
                place.scatter(*zip(*chosen, strict=True), facecolors=face, edgecolors="C0", label=label, zorder=3)
        for (size, top), names in _labels(found).items():
            place.annotate(
                ", ".join(names), (size, top), xytext=(6, 3), textcoords="offset points", fontsize=7, rotation=20
            )
        place.set(xlabel="bytes of the file", ylabel="top-1 (%)", title=f"{result.rows[0].overall.total:,} images")
        place.set_xscale("log")
        ticks = [20_000, 30_000, 40_000, 60_000, 80_000, 100_000, 150_000, 200_000]
        place.set_xticks(ticks, [f"{size:,}" for size in ticks])
        place.minorticks_off()
        sizes = [size for size, *_ in found] or ticks
        place.set_xlim(0.85 * min(sizes), 1.35 * max(sizes))
        place.margins(y=0.15)
        place.grid(alpha=0.3)
        picture.legend(loc="outside lower center", ncols=3)
    return picture


def _labels(found: list[tuple[int, float, str, bool]]) -> dict[tuple[int, float], list[str]]:
    """The names at each point; those of points that are next to one another stand together."""
    labels: dict[tuple[int, float], list[str]] = {}
    for size, top, name, _ in found:
        near = next((one for one in labels if abs(size / one[0] - 1) < 0.03 and abs(top - one[1]) < 0.08), (size, top))
        labels.setdefault(near, []).append(name)
    return labels
