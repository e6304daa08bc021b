"""The drawing from left to right: which boxes it has, and where they go."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from resnet8.inspection.graph import drawn
from resnet8.inspection.picture import Box, Drawing, Edge
from resnet8.playground.opened import open_file

if TYPE_CHECKING:
    from pathlib import Path

    from resnet8.playground.opened import Opened

pytest.importorskip("altair")

from charts import rows, specified

from resnet8.playground.plots import CHOSEN_COLOUR, CLICKED, GREY
from resnet8.playground.strip import around, places, strip, way


def drawing_of(path: Path) -> tuple[Opened, Drawing]:
    opened = open_file(path)
    return opened, drawn(opened.network, opened.description, brief=True)


@pytest.mark.parametrize("name", ["resnet8.onnx", "resnet8_int8.onnx"])
def test_the_drawing_has_a_box_for_each_layer(name: str, demo_run: Path) -> None:
    opened, drawing = drawing_of(demo_run / "models" / name)
    assert [box.key for box in drawing.boxes] == [f"n{number}" for number in range(len(opened.network.layers) + 1)]
    for box, layer in zip(drawing.boxes[1:], opened.network.layers, strict=True):
        assert layer.name in box.lines
        assert len([edge for edge in drawing.edges if edge.target == box.key]) == len(layer.inputs)
    assert sum(box.kind == "residual" for box in drawing.boxes) == 3
    assert name in drawing.title


def test_a_drawing_from_left_to_right(demo_run: Path) -> None:
    _, drawing = drawing_of(demo_run / "models" / "resnet8_ort-7bit-weights.onnx")
    at = places(drawing)
    # Three blocks; the second and the third have a convolution beside their two. In the order of computation:
    beside = [at[box.key] for box in drawing.boxes[:15]]
    assert [column for column, _ in beside] == [0, 1, 2, 3, 4, 5, 5, 6, 7, 8, 8, 9, 10, 11, 12][: len(beside)]
    assert {place for place in beside if place[1]} == {(5, 1), (8, 1)}
    assert len(set(at.values())) == len(at)
    for edge in drawing.edges:
        between = set(way(at[edge.source], at[edge.target])[1:-1])
        assert not between & set(at.values())  # no edge goes through a box


def test_the_way_of_an_edge() -> None:
    assert way((1, 0), (2, 1)) == [(1, 0), (2, 1)]
    assert way((1, 0), (4, 0)) == [(1, 0), (1.5, 1), (3.5, 1), (4, 0)]
    assert way((2, 2), (4, 0)) == [(2, 2), (2.5, 2), (3.5, 2), (4, 0)]


def test_the_neighbours_of_a_box(demo_run: Path) -> None:
    opened, drawing = drawing_of(demo_run / "models" / "resnet8_int8.onnx")
    layers = opened.network.layers
    number, layer = next((at, one) for at, one in enumerate(layers, 1) if one.residual)
    part = around(drawing, f"n{number}")
    assert part.title == ""
    assert len(part.edges) == 4
    readers = [one.name for one in layers if layer.output.name in one.inputs]
    writers = [opened.network.writers[name].name for name in layer.inputs]
    assert {box.lines[0] for box in part.boxes} == {layer.name, *readers, *writers}


def test_the_strip_has_a_square_for_each_layer_and_marks_one() -> None:
    boxes = (Box("n0", "input", "input", ("image",)), Box("n1", "conv", "conv 3×3", ("first", "4×4×2 int8")))
    boxes += (Box("n2", "residual", "+", ("sum", "4×4×2 int8")),)
    edges = (Edge("n0", "n1"), Edge("n0", "n2"), Edge("n1", "n2"))
    chart = strip(Drawing("", boxes, edges), "n1")
    squares = [row for row in rows(chart) if "number" in row and "title" in row][:3]
    assert [(row["layer"], row["number"], row["column"], row["lane"]) for row in squares] == [
        (0, "in", 0, 0),
        (1, "1", 1, 0),
        (2, "2", 2, 0),
    ]
    assert [row["thickness"] for row in squares] == [1, 4, 1]
    assert [row["border"] for row in squares] == [GREY, CHOSEN_COLOUR, GREY]
    corners = [row for row in rows(chart) if row.get("edge") == 1]
    assert [(row["column"], row["lane"]) for row in corners] == [(0, 0), (0.5, 1), (1.5, 1), (2, 0)]
    specification = specified(chart)
    assert [one["name"] for one in specification["params"]] == [CLICKED]
    assert specification["params"][0]["select"]["fields"] == ["layer"]
    assert len(specification["layer"]) == 3
    assert specification["width"] == "container"  # it shrinks with the page: no box is outside
    marked = strip(Drawing("", boxes, edges), "n1", {"n2"})
    assert [row["number"] for row in rows(marked) if row.get("changed")] == ["2", "2", "2"]
    assert len(specified(marked)["layer"]) == 4
