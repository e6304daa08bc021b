"""A network as a picture: boxes and arrows, as Mermaid text (for Markdown) and as DOT text (for Graphviz)."""

from __future__ import annotations

import html
import json
from collections import Counter
from dataclasses import dataclass


@dataclass(frozen=True)
class Look:
    """How boxes of a kind are shown: what the legend calls them, their fill and their border."""

    name: str
    fill: str
    border: str


# Pale fills with dark text read alike on a white and on a dark page; all else is the grey that stands out against
# either by more than 4 : 1 (WCAG 2.1, contrast ratio), for the pictures' background is transparent.
KINDS = {
    "input": Look("input", "#e6eaef", "#57606a"),
    "conv": Look("convolution", "#cfe2ff", "#1f6feb"),
    "dense": Look("dense layer", "#dcd2ff", "#6639ba"),
    "mul": Look("factor per channel", "#fff1c2", "#9a6700"),
    "add": Look("addend per channel", "#ffe1c7", "#bc4c00"),
    "residual": Look("residual add", "#ffcfd2", "#cf222e"),
    "pool": Look("pooling", "#c9f0d3", "#1a7f37"),
    "rescale": Look("other scale", "#c8eef0", "#0f7b83"),
    "softmax": Look("softmax, float", "#f5d0ec", "#99286e"),
}
"""The kinds of boxes, in the legend's order."""

_TEXT = "#1f2328"
_GREY = "#767676"
_LEGEND_COLUMNS = 4


@dataclass(frozen=True)
class Box:
    """An operation.

    Attributes:
        key: Names the box in arrows: a letter, then letters and digits.
        kind: Decides its colour: one of :data:`KINDS`.
        title: Its first line.
        lines: The others.
    """

    key: str
    kind: str
    title: str
    lines: tuple[str, ...] = ()


@dataclass(frozen=True)
class Edge:
    """A tensor on its way from box to box, by their keys."""

    source: str
    target: str
    label: str = ""


@dataclass(frozen=True)
class Drawing:
    """A network.

    Attributes:
        title: Above it.
        boxes: In the order of computation.
        edges: Between them.
        note: In the legend: what the letters in boxes and on arrows mean.
    """

    title: str
    boxes: tuple[Box, ...]
    edges: tuple[Edge, ...]
    note: str = ""

    @property
    def legend(self) -> tuple[tuple[str, str], ...]:
        """Each kind that occurs, and in words what and how often."""
        counts = Counter(box.kind for box in self.boxes)
        return tuple((kind, f"{look.name} ({counts[kind]})") for kind, look in KINDS.items() if counts[kind])


def mermaid(drawing: Drawing, *, legend: bool = True) -> str:
    """A Mermaid flowchart, for a code block of that name in Markdown; with a box for its legend, or without."""
    lines = ["---", f"title: {json.dumps(_plain(drawing.title), ensure_ascii=False)}", "---", "flowchart TB"]
    for box in drawing.boxes:
        label = "<br/>".join((f"<b>{_entities(box.title)}</b>", *map(_entities, box.lines)))
        opening, closing = ("([", "])") if box.kind == "residual" else ("[", "]")
        lines.append(f'    {box.key}{opening}"{label}"{closing}:::{box.kind}')
    for edge in drawing.edges:
        label = f'|"{_entities(edge.label)}"|' if edge.label else ""
        lines.append(f"    {edge.source} -->{label} {edge.target}")
    if legend:
        lines.append(f'    subgraph legend["{_entities(_legend_title(drawing))}"]')
        lines += [f'        legend_{kind}["{_entities(words)}"]:::{kind}' for kind, words in drawing.legend]
        lines.append("    end")
    for kind, _ in drawing.legend:
        look = KINDS[kind]
        lines.append(f"    classDef {kind} fill:{look.fill},stroke:{look.border},color:{_TEXT}")
    return "\n".join(lines) + "\n"


def dot(drawing: Drawing) -> str:
    """A DOT digraph (graphviz.org/doc/info/lang.html), from top to bottom."""
    lines = [
        "digraph network {",
        f'    graph [bgcolor="transparent", fontname="Helvetica", fontsize=14, fontcolor="{_GREY}", labelloc="t", '
        f"nodesep=0.3, ranksep=0.28, label=<{_head(drawing)}>]",
        f'    node [shape="box", style="rounded,filled", fontname="Helvetica", fontsize=11, fontcolor="{_TEXT}", '
        'margin="0.12,0.05", height=0.3]',
        f'    edge [color="{_GREY}", fontname="Helvetica", fontsize=10, fontcolor="{_GREY}", arrowsize=0.7]',
    ]
    trunk = _trunk(drawing)
    for box in drawing.boxes:
        look = KINDS[box.kind]
        label = "<br/>".join((f"<b>{_xml(box.title)}</b>", *map(_xml, box.lines)))
        join = ', shape="ellipse", style="filled", penwidth=2, margin="0.02,0.02"' if box.kind == "residual" else ""
        group = ', group="trunk"' if box.key in trunk else ""
        lines.append(f'    {box.key} [label=<{label}>, fillcolor="{look.fill}", color="{look.border}"{join}{group}]')
    for edge in drawing.edges:
        label = f" [label=<{_xml(' ' + edge.label)}>]" if edge.label else ""
        lines.append(f"    {edge.source} -> {edge.target}{label}")
    lines.append("}")
    return "\n".join(lines) + "\n"


def _head(drawing: Drawing) -> str:
    """Title and legend, above the picture: a box of its own would push the network's apart."""
    cells = [
        f'<td bgcolor="{KINDS[kind].fill}" color="{KINDS[kind].border}" border="1">'
        f'<font color="{_TEXT}" point-size="10">{_xml(words)}</font></td>'
        for kind, words in drawing.legend
    ]
    rows = ["".join(cells[start : start + _LEGEND_COLUMNS]) for start in range(0, len(cells), _LEGEND_COLUMNS)]
    heads = (f"<b>{_xml(drawing.title)}</b>", f'<font point-size="10">{_xml(_legend_title(drawing))}</font>')
    wide = "".join(f'<tr><td colspan="{_LEGEND_COLUMNS}">{head}</td></tr>' for head in heads)
    return (
        f'<table border="0" cellspacing="3" cellpadding="3">{wide}{"".join(f"<tr>{row}</tr>" for row in rows)}</table>'
    )


def _trunk(drawing: Drawing) -> set[str]:
    """The boxes of the longest way through, which stand below one another; shortcuts run beside them."""
    before: dict[str, str] = {}
    length = dict.fromkeys((box.key for box in drawing.boxes), 0)
    for edge in sorted(drawing.edges, key=lambda edge: list(length).index(edge.source)):
        if length[edge.source] + 1 > length[edge.target]:
            length[edge.target], before[edge.target] = length[edge.source] + 1, edge.source
    trunk = [max(length, key=lambda key: length[key])] if length else []
    while trunk and trunk[-1] in before:
        trunk.append(before[trunk[-1]])
    return set(trunk)


def _legend_title(drawing: Drawing) -> str:
    return f"legend: {drawing.note}" if drawing.note else "legend"


def _plain(words: str) -> str:
    """Words from a file as one line, without what cannot be shown."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in words)


def _xml(words: str) -> str:
    return html.escape(_plain(words))


def _entities(words: str) -> str:
    """Mermaid's own escapes (mermaid.js.org/syntax/flowchart.html), which hold inside its quotes, HTML's do not."""
    codes = {"#": "#35;", "&": "#amp;", '"': "#quot;", "<": "#lt;", ">": "#gt;", "`": "#96;", "\\": "#92;"}
    return "".join(codes.get(letter, letter) for letter in _plain(words))
