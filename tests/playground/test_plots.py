"""The charts: what they say is what went in, and they are valid Vega-Lite."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from resnet8 import results
from resnet8.inspection.picture import Box, Drawing, Edge
from resnet8.numeric.grid import QParams, qparams
from resnet8.playground.activations import Alone, Noise, Sensitivity
from resnet8.playground.compare import Difference

if TYPE_CHECKING:
    from collections.abc import Iterator

pytest.importorskip("altair")

from resnet8.playground import plots


def drawn(chart: Any) -> dict[str, Any]:
    """The chart's specification; Altair checks it against Vega-Lite's schema."""
    return chart.to_dict()  # type: ignore[no-any-return]


def rows(chart: Any) -> list[dict[str, Any]]:
    """The rows of all data in a chart."""

    def found(node: Any) -> Iterator[dict[str, Any]]:
        for key, value in node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ():
            if key == "data":
                yield from json.loads(stored[value["name"]])
            else:
                yield from found(value)

    specification = drawn(chart)
    stored = specification.pop("datasets")
    return list(found(specification))


def test_codes_and_clipped_floats_are_counted_on_the_grid() -> None:
    grid = qparams(0.5, 10, "uint8")
    codes = np.array([0, 10, 10, 255], np.uint8)
    reals = np.array([-50.0, 0.0, 0.2, 126.0], np.float32)  # codes -90, 10, 10, 262
    counted = [row for row in rows(plots.in_steps(reals, {"quantized": codes}, grid, (0, 255))) if "series" in row]
    assert [(row["series"], row["code"], row["real"], row["count"]) for row in counted] == [
        ("FP32", -64, -37.0, 1),  # what lies farther is counted in the outermost bin
        ("FP32", 10, 0.0, 2),
        ("FP32", 262, 126.0, 1),
        ("quantized", 0, -5.0, 1),
        ("quantized", 10, 0.0, 2),
        ("quantized", 255, 122.5, 1),
    ]


def test_a_series_for_each_kind_of_numbers_shares_its_axes() -> None:
    grid = qparams(0.5, 10, "uint8")
    chart = drawn(plots.in_steps(np.array([500.0]), {"quantized": np.array([255], np.uint8)}, grid, (0, 255)))
    bars = [one["layer"][0]["encoding"] for one in chart["vconcat"]]
    assert [one["x"]["scale"]["domain"] for one in bars] == [[-0.5, 319.5], [-0.5, 319.5]]
    assert [one["y"]["scale"]["domain"] for one in bars] == [[0, 1], [0, 1]]
    assert chart["resolve"]["scale"]["x"] == "shared"


def test_channels_with_scales_of_their_own_are_counted_in_steps() -> None:
    grid = QParams(np.array([1.0, 0.5], np.float32), np.array([0, 0], np.int32), "int8")
    chart = plots.in_steps(np.array([[2.0, 1.0]]), {"quantized": np.array([[2, 2]], np.int8)}, grid, (-128, 127))
    counted = [row for row in rows(chart) if "series" in row]
    assert [(row["series"], row["code"], row["count"]) for row in counted] == [("FP32", 2, 2), ("quantized", 2, 2)]
    assert "real" not in counted[0]
    assert [(row["channel"], row["scale"]) for row in rows(plots.channels(grid))][:2] == [(0, 1.0), (1, 0.5)]
    assert len(rows(plots.in_steps(None, {"changed": np.array([3], np.int8)}, grid, (-4, 3)))) == 3


def test_histograms_share_their_bins() -> None:
    chart = plots.values({"a": np.array([0.0, 1.0]), "b": np.array([2.0, 2.0, 2.0])}, "unit", bins=2)
    assert [(row["series"], row["value"], row["share"]) for row in rows(chart)] == [
        ("a", 0.5, 50.0),
        ("a", 1.5, 50.0),
        ("b", 0.5, 0.0),
        ("b", 1.5, 100.0),
    ]
    assert len(rows(plots.values({"one": np.ones(3)}, "unit", bins=3))) == 3


def test_the_true_class_bears_a_mark_and_series_keep_their_colours() -> None:
    chart = plots.probabilities({"quantized": np.eye(3)[0], "changed": np.eye(3)[2]}, ("a", "b", "c"), 2)
    assert [row["class"] for row in rows(chart)] == ["a", "b", "c ✓"] * 2
    assert [row["probability"] for row in rows(chart)] == [100, 0, 0, 0, 0, 100]
    assert drawn(chart)["encoding"]["color"]["scale"]["range"] == list(plots.COLOURS[1:3])


def test_infinite_ratios_have_no_point() -> None:
    found = (Noise("input", "x", float("inf"), float("inf")), Noise("conv", "y", 30.0, 40.0))
    assert [row["db"] for row in rows(plots.noise(found))] == [None, 30.0, None, 40.0]
    assert [row["series"] for row in rows(plots.noise_of({"quantized": found[1:], "changed": found[1:]}))] == [
        "quantized",
        "changed",
    ]
    compared = (Difference("conv", "y", 0.5, 20.0, 30.0, float("-inf")),)
    assert [row["db"] for row in rows(plots.differences(compared))] == [30.0, None]
    alone = (Difference("conv", "y", 0.5, 20.0, None, None),)
    assert [row["db"] for row in rows(plots.differences(alone))] == [20.0]


def test_what_a_layer_alone_costs_is_in_points() -> None:
    found = Sensitivity(results.score(180, 200), (Alone("conv", "y", results.score(178, 200), 3),))
    (row,) = rows(plots.sensitivity(found))
    assert row["points"] == pytest.approx(-1.0)
    assert (row["correct"], row["changed"]) == (178, 3)


def test_feature_maps_make_one_picture() -> None:
    maps = np.arange(3 * 2 * 2, dtype=np.uint8).reshape(3, 2, 2)
    picture, factor = plots.mosaic(maps, side=50)
    gap = plots.GAP
    assert picture.tolist() == [
        [0, 1, gap, 4, 5],
        [2, 3, gap, 6, 7],
        [gap, gap, gap, gap, gap],
        [8, 9, gap, gap, gap],
        [10, 11, gap, gap, gap],
    ]
    assert factor == 10
    assert plots.mosaic(np.zeros((1, 64, 64), np.uint8), side=10)[1] == 1


def test_the_strip_has_a_square_for_each_layer_and_marks_one() -> None:
    boxes = (Box("n0", "input", "input", ("image",)), Box("n1", "conv", "conv 3×3", ("first", "4×4×2 int8")))
    boxes += (Box("n2", "residual", "+", ("sum", "4×4×2 int8")),)
    edges = (Edge("n0", "n1"), Edge("n0", "n2"), Edge("n1", "n2"))
    chart = plots.strip(Drawing("", boxes, edges), "n1")
    squares = [row for row in rows(chart) if "number" in row and "title" in row][:3]
    assert [(row["layer"], row["number"], row["column"], row["lane"]) for row in squares] == [
        (0, "in", 0, 0),
        (1, "1", 1, 0),
        (2, "2", 2, 0),
    ]
    assert [row["chosen"] for row in squares] == [False, True, False]
    corners = [row for row in rows(chart) if row.get("edge") == 1]
    assert [(row["column"], row["lane"]) for row in corners] == [(0, 0), (0.5, 1), (1.5, 1), (2, 0)]
    specification = drawn(chart)
    assert [one["name"] for one in specification["params"]] == [plots.CLICKED]
    assert specification["params"][0]["select"]["fields"] == ["layer"]
