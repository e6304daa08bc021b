"""Marimo's elements around values of this package: what several sections of the page have in common."""

from __future__ import annotations

import base64
import html
import json
import re
from typing import TYPE_CHECKING, Any, Literal

import altair as alt
import marimo as mo

from resnet8.inspection.picture import mermaid
from resnet8.playground import plots
from resnet8.playground.images import feature_maps, grey, mosaic, png

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from resnet8.inspection.picture import Drawing


NARROW = "<style>@media (max-width: 1023px) { #App { padding-top: 3rem } h2, h3 { scroll-margin-top: 3rem } }</style>"
"""Where the page is narrow, the menu is behind a button of Marimo's, which would lie on the title."""


CONTENTS = " · ".join(
    f"[{title}](#{title.lower().replace(' ', '-')})"
    for title in ("The network", "The image", "What flows", "Noise of all layers", "Change it")
)
"""Links to the sections, by the anchors that Marimo gives to headings."""


def plain(name: object) -> str:
    """A name out of a file, for Markdown, which would take it for more: tags, scripts, emphasis."""
    return re.sub(r"[^\w ]|_", lambda found: f"&#{ord(found[0])};", str(name))


def message(text: str, kind: Literal["danger", "warn", "success", "neutral"] = "danger") -> Any:
    """A text to be read as it is, which breaks where the page ends."""
    return mo.callout(mo.Html(f'<p style="overflow-wrap: anywhere; margin: 0">{html.escape(text)}</p>'), kind=kind)


def sketch(drawn: Drawing, key: str) -> Any:
    """A drawing without its legend, the box with that key marked."""
    text = mermaid(drawn, legend=False)
    return mo.mermaid(f"{text}    style {key} stroke:{plots.CHOSEN_COLOUR},stroke-width:5px\n")


def clickable(chart: plots.Chart, go: Callable[[int], object]) -> Any:
    """A chart of layers; ``go`` is called with the number of one that is clicked, from 1, not with the input's 0."""

    def changed(_: object) -> None:
        for number in element.selections.get(plots.CLICKED, {}).get("layer", ())[:1]:
            if int(number):
                go(int(number))

    element = mo.ui.altair_chart(chart, chart_selection=False, legend_selection=False, on_change=changed)
    return element


def picture(pixels: NDArray[np.uint8], factor: int, caption: str, alt: str = "") -> Any:
    """Pixels, (H, W) or (H, W, 3), each ``factor`` wide, with a caption."""
    # As text in the page: Marimo may drop a file before the browser has asked for it.
    source = f"data:image/png;base64,{base64.b64encode(png(pixels, factor)).decode()}"
    width = pixels.shape[1] * factor
    return mo.Html(
        f'<figure style="flex: none; margin: 0; width: {width}px; max-width: 100%"><img src="{source}" width="{width}" '
        f'style="image-rendering: pixelated; max-width: 100%" alt="{html.escape(alt or caption)}">'
        f'<figcaption style="font-size: 0.875rem">{html.escape(caption)}</figcaption></figure>'
    )


def code(text: str) -> Any:
    """Code to be read and copied; its lines break where the page ends."""
    return mo.Html(
        f'<pre style="white-space: pre-wrap; overflow-wrap: anywhere"><code>{html.escape(text)}</code></pre>'
    )


def maps(values: NDArray[Any], span: tuple[float, float] | None, caption: str) -> Any:
    """The feature maps of an activation as one picture; ``span`` is black to white."""
    levels, factor = mosaic(grey(feature_maps(values), span))
    return picture(levels, factor, caption)


class Drawn:
    """A chart that is only looked at, for Marimo: written once, without its check against Vega-Lite's schema.

    Tests check that. Marimo itself writes and checks a chart twice, a tenth of a second each.
    """

    def __init__(self, chart: plots.Chart) -> None:
        self._chart = chart

    def _mime_(self) -> tuple[str, str]:
        """What Marimo asks of what it shows."""
        version = alt.SCHEMA_VERSION.partition(".")[0]
        return f"application/vnd.vegalite.{version}+json", json.dumps(self._chart.to_dict(validate=False))


def _html(element: Any) -> str:
    """What Marimo makes of an element."""
    text: str = mo.as_html(Drawn(element) if isinstance(element, alt.TopLevelMixin) else element).text
    return text


def row(*elements: Any, align: Literal["start", "center", "end"] = "end", gap: float = 1) -> Any:
    """Elements beside each other, the next below where the page ends; none are left out."""
    # Not Marimo's own, which grow in a column and shrink pictures.
    shown = "".join(f"<div>{_html(one)}</div>" for one in elements if one is not None)
    return mo.Html(
        f'<div style="display: flex; flex-wrap: wrap; align-items: {align}; gap: {gap}rem; max-width: 100%">{shown}'
        "</div>"
    )


def table(headings: Sequence[str], rows: Iterable[Sequence[object]], left: int = 1) -> Any:
    """A table to read; the first ``left`` columns hold words, the others numbers. Long names break behind / and _.

    A cell may be an element of Marimo's.
    """

    def cell(one: object) -> str:
        return one.text if isinstance(one, mo.Html) else re.sub("([/_])", r"\1<wbr>", html.escape(str(one)))

    def line(tag: str, cells: Sequence[object]) -> str:
        sides = ("left" if number < left else "right" for number in range(len(cells)))
        return "".join(
            f'<{tag} style="text-align: {side}">{cell(one)}</{tag}>' for side, one in zip(sides, cells, strict=True)
        )

    body = "".join(f"<tr>{line('td', one)}</tr>" for one in rows)
    head = f"<thead><tr>{line('th', headings)}</tr></thead>"
    whole = f'<table style="display: table; overflow: visible">{head}<tbody>{body}</tbody></table>'
    name = html.escape(", ".join(filter(None, headings)))
    # A wide one scrolls in the page, by keys too.
    return mo.Html(
        '<div class="markdown prose dark:prose-invert text-foreground" style="overflow-x: auto; max-width: 100%" '
        f'tabindex="0" role="region" aria-label="{name}">{whole}</div>'
    )


def address(**places: object) -> None:
    """Write into the page's address what is shown, so that a reload or a link comes back to it."""
    now = mo.query_params()
    for name, value in places.items():
        if now.get(name) != str(value):
            now.set(name, str(value))


def asked() -> dict[str, Any]:
    """What the page's address asks for: a ``model`` by its file name, the ``number`` of a layer, an ``image``."""
    now, found = mo.query_params(), {}
    for name, key in (("model", "model"), ("layer", "number"), ("image", "image")):
        value = now.get(name)
        if isinstance(value, str) and (key == "model" or (value.isdecimal() and len(value) < 10)):
            found[key] = value if key == "model" else int(value)
    return found


def steps(go: Callable[[int], object]) -> Any:
    """Two buttons, to the one before and the one behind; ``go`` is called with -1 or 1."""
    back, on = ((label, lambda _, by=by: go(by)) for label, by in (("← Previous", -1), ("Next →", 1)))
    return mo.ui.array([mo.ui.button(label=label, on_click=click) for label, click in (back, on)])


def column(*elements: Any) -> Any:
    """Elements below each other; none are left out."""
    shown = "".join(f'<div style="min-width: 0">{_html(one)}</div>' for one in elements if one is not None)
    return mo.Html(f'<div style="display: flex; flex-direction: column; gap: 0.5rem">{shown}</div>')
