"""A network from left to right: a chart of which a click chooses a layer, and where its boxes go."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import altair as alt

from resnet8.inspection.picture import KINDS
from resnet8.playground.plots import CHANGED_COLOUR, CHOSEN_COLOUR, CLICKED, GREY, Chart, described, over

if TYPE_CHECKING:
    from collections.abc import Collection

    from resnet8.inspection.picture import Drawing

_LANE = 34  # pixels
_BOX, _TEXT = 21, 10  # at most: where the page is narrow, boxes and numbers are as small as their columns


def strip(drawing: Drawing, chosen: str, changed: Collection[str] = ()) -> Chart:
    """A network from left to right over the width there is, its layers numbered; a click selects one (:data:`CLICKED`).

    Args:
        drawing: The network; its first box is the input, the layers follow.
        chosen: Key of the box that is marked.
        changed: Keys of the boxes that bear a dot.
    """
    at = places(drawing)
    boxes = [
        {"column": at[box.key][0], "lane": at[box.key][1], "kind": KINDS[box.kind].name, "title": box.title}
        | {"layer": number, "number": str(number) if number else "in"}
        | {"border": CHOSEN_COLOUR if box.key == chosen else GREY, "thickness": 4 if box.key == chosen else 1}
        | {"name": box.lines[0], "writes": box.lines[-1], "changed": box.key in changed}
        for number, box in enumerate(drawing.boxes)
    ]
    corners = [
        {"edge": number, "corner": corner, "column": column, "lane": lane}
        for number, edge in enumerate(drawing.edges)
        for corner, (column, lane) in enumerate(way(at[edge.source], at[edge.target]))
    ]
    last, lanes = (max(place[axis] for place in at.values()) for axis in (0, 1))
    x = alt.X("column:Q", axis=None, scale=alt.Scale(domain=[-0.5, last + 0.5], nice=False))
    y = alt.Y("lane:Q", axis=None, scale=alt.Scale(domain=[lanes + 0.5, -0.5], nice=False))
    colours = {KINDS[box.kind].name: KINDS[box.kind].fill for box in drawing.boxes}
    fill = alt.Fill(
        "kind:N",
        title="",
        scale=alt.Scale(domain=list(colours), range=list(colours.values())),
        legend=alt.Legend(orient="bottom", symbolType="square", symbolStrokeWidth=0, columns=3),
    )
    squares = over(
        boxes,
        x=x,
        y=y,
        fill=fill,
        stroke=alt.Stroke("border:N", scale=None, legend=None),
        strokeWidth=alt.StrokeWidth("thickness:Q", scale=None, legend=None),
        tooltip=[alt.Tooltip("number:N", title="layer"), *map(alt.Tooltip, ("title:N", "name:N", "writes:N"))],
    )
    column = f"width / {last + 1}"
    size = alt.ExprRef(f"pow(min({_BOX}, 0.85 * {column}), 2)")
    text = alt.ExprRef(f"min({_TEXT}, 0.5 * {column})")
    layers = [
        over(corners, x=x, y=y, detail=alt.Detail("edge:N"), order=alt.Order("corner:Q")).mark_line(
            color=GREY, strokeWidth=1.5
        ),
        squares.mark_square(size=size, opacity=1, cursor="pointer").add_params(
            alt.selection_point(name=CLICKED, fields=["layer"], empty=False)
        ),
        over(boxes, x=x, y=y, text=alt.Text("number:N")).mark_text(fontSize=text, color="#1f2328", cursor="pointer"),
    ]
    if dots := [one for one in boxes if one["changed"]]:
        layers.append(over(dots, x=x, y=y).mark_circle(color=CHANGED_COLOUR, size=45, opacity=1, yOffset=-_BOX / 2))
    whole = alt.layer(*layers)
    return described(whole, "The network from left to right", width="container", height=_LANE * (lanes + 1))


def around(drawing: Drawing, key: str) -> Drawing:
    """The box with that key and those that it has an edge with; without a title."""
    edges = tuple(one for one in drawing.edges if key in (one.source, one.target))
    keys = {key, *(one.source for one in edges), *(one.target for one in edges)}
    return replace(drawing, title="", boxes=tuple(one for one in drawing.boxes if one.key in keys), edges=edges)


def places(drawing: Drawing) -> dict[str, tuple[int, int]]:
    """Column and lane of each box by its key, for a drawing from left to right.

    The column is the longest way from the input. Lane 0 has the boxes on a longest way through the network, the lanes
    beside it, 1 and on, those of shorter branches.
    """
    columns = dict.fromkeys((one.key for one in drawing.boxes), 0)
    rest = dict(columns)
    for edge in drawing.edges:  # those into a box come before those out of it
        columns[edge.target] = max(columns[edge.target], columns[edge.source] + 1)
    for edge in reversed(drawing.edges):
        rest[edge.source] = max(rest[edge.source], rest[edge.target] + 1)
    longest = max(columns.values(), default=0)
    found: dict[str, tuple[int, int]] = {}
    for key, column in columns.items():
        lane = 0 if column + rest[key] == longest else 1
        while (column, lane) in found.values():
            lane += 1
        found[key] = (column, lane)
    return found


def way(source: tuple[int, int], target: tuple[int, int]) -> list[tuple[float, float]]:
    """The corners of an edge: straight to the next column, else in a lane beside the boxes between."""
    if target[0] - source[0] <= 1:
        return [source, target]
    lane = max(source[1], target[1], 1)
    return [source, (source[0] + 0.5, lane), (target[0] - 0.5, lane), target]
