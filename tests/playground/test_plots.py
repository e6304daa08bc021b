"""The charts: what they say is what went in, and they are valid Vega-Lite."""

from __future__ import annotations

import numpy as np
import pytest

from resnet8.numeric.grid import QParams, dequantize, qparams
from resnet8.playground.flow import Answers

pytest.importorskip("altair")

from charts import rows, specified

from resnet8.playground import plots
from resnet8.playground.plots import Series, bins


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
    chart = specified(plots.in_steps(np.array([500.0]), {"quantized": np.array([255], np.uint8)}, grid, (0, 255)))
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
    assert [(row["channel"], row["scale"]) for row in rows(plots.channels(grid))] == [(0, 1.0), (1, 0.5)]
    zeros = QParams(grid.scale, np.array([0, -1], np.int32), "int8")
    assert [row["zero_point"] for row in rows(plots.channels(zeros))] == [0, -1]
    assert len(specified(plots.channels(zeros))["vconcat"]) == 2
    assert len(specified(plots.channels(grid))["vconcat"]) == 1  # zeros alone need no chart
    assert len(rows(plots.in_steps(None, {"changed": np.array([3], np.int8)}, grid, (-4, 3)))) == 3


def test_accumulators_are_shown_where_there_are_some() -> None:
    codes = np.array([-300, 0, 0, 7000], np.int32)
    grid = qparams(0.01, 0, "int32")
    counted = rows(plots.in_steps(np.array([1.0]), {"quantized": codes}, grid, (-(2**31), 2**31 - 1)))
    found = [(row["series"], row["code"], row["count"]) for row in counted if "series" in row]
    assert found == [("FP32", 100, 1), ("quantized", -300, 1), ("quantized", 0, 2), ("quantized", 7000, 1)]


def test_histograms_share_their_bins() -> None:
    found = {"a": Series(np.array([0.0, 1.0])), "b": Series(np.array([2.0, 2.0, 2.0]))}
    assert bins(found.values(), 2).tolist() == [0.0, 1.0, 2.0]
    assert found["a"].shares(np.array([0.0, 1.0, 2.0])).tolist() == [50.0, 50.0]
    assert found["b"].shares(np.array([0.0, 1.0, 2.0])).tolist() == [0.0, 100.0]
    shown = rows(plots.values(found, "unit"))
    assert len(shown) == 2 * (96 + 1)  # the last line goes down to 0
    assert sum(row["share"] for row in shown if row["series"] == "a") == pytest.approx(100)
    assert bins([Series(np.ones(3))], 2).tolist() == [0.5, 1.0, 1.5]


def test_bins_are_of_whole_steps() -> None:
    """Weights spread evenly over 203 codes: bins of 2.1 steps would hold two codes here and three there."""
    grid = qparams(0.01, 0, "int8")
    codes = np.arange(-101, 102).repeat(4)
    series = Series(dequantize(codes, grid), grid)
    edges = bins([series], 96)
    assert edges[:2] == pytest.approx([-1.015, -0.985])  # three steps, from between two codes on
    shares = series.shares(edges)
    np.testing.assert_allclose(shares[:-1], 100 * 3 / 203, rtol=1e-4)
    assert shares.sum() == pytest.approx(100)
    assert bins([Series(np.array([0.0, 0.02])), Series(dequantize(np.array([0, 2]), grid), grid)], 96) == pytest.approx(
        [-0.005, 0.005, 0.015, 0.025]
    )


def test_codes_of_channels_are_spread_over_their_own_steps() -> None:
    grid = QParams(np.array([1.0, 0.5], np.float32), np.zeros(2, np.int32), "int8")
    series = Series(dequantize(np.array([[1, 0]], np.int8), grid), grid)  # 0.5 to 1.5, and -0.25 to 0.25
    assert bins([series], 7)[[0, -1]].tolist() == [-0.25, 1.5]
    np.testing.assert_allclose(series.shares(np.array([-0.25, 0, 0.25, 0.5, 1, 1.5])), [25, 25, 0, 25, 25])


def test_many_series_are_told_apart_by_more_than_colours() -> None:
    found = {str(number): Series(np.array([0.0, 1.0])) for number in range(8)}
    area, lines = specified(plots.values(found, "unit"))["layer"]
    assert (area["mark"]["type"], lines["mark"]["type"]) == ("area", "line")  # the same numbers hide nothing
    assert len(set(lines["encoding"]["color"]["scale"]["range"])) == 8
    assert lines["encoding"]["strokeDash"]["scale"]["range"] == [[1, 0], [5, 3], [1, 0], [5, 3], [1, 0], [5, 3], [1, 0]]
    few = specified(plots.values(dict(list(found.items())[:3]), "unit"))["layer"]
    assert "strokeDash" not in few[1]["encoding"]


def luminance(colour: str) -> float:
    """Relative luminance, as WCAG 2.2 defines it."""
    parts = (int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))
    red, green, blue = (one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("colour", plots.COLOURS)
def test_colours_stand_out_on_white_and_on_dark_pages(colour: str) -> None:
    for page in ("#ffffff", "#181c1a"):
        low, high = sorted((luminance(colour), luminance(page)))
        assert (high + 0.05) / (low + 0.05) > 3


def test_features_without_a_map_are_bars_with_names() -> None:
    names = ("cat", "dog")
    found = {"quantized": np.array([1.0, 2.0]), "FP32": np.array([1.5, 2.0])}
    chart = plots.bars(found, names, "value")
    assert [(row["series"], row["feature"], row["value"]) for row in rows(chart)] == [
        ("quantized", "cat", 1.0),
        ("quantized", "dog", 2.0),
        ("FP32", "cat", 1.5),
        ("FP32", "dog", 2.0),
    ]
    assert specified(chart)["mark"]["type"] == "bar"
    many = [str(number) for number in range(64)]
    assert specified(plots.bars({"FP32": np.zeros(64)}, many, "value"))["mark"]["type"] == "point"


def test_the_true_class_bears_a_mark_and_series_keep_their_colours() -> None:
    chart = plots.probabilities({"quantized": np.eye(3)[0], "changed": np.eye(3)[2]}, ("a", "b", "c"), 2)
    assert [row["class"] for row in rows(chart)] == ["a", "b", "c ✓"] * 2
    assert [row["probability"] for row in rows(chart)] == [100, 0, 0, 0, 0, 100]
    assert specified(chart)["encoding"]["color"]["scale"]["range"] == list(plots.COLOURS[1:3])


def test_infinite_ratios_have_no_point() -> None:
    infinite = float("inf")
    chart = plots.decibels(["input", "conv"], {"accumulated": [infinite, 30.0], "isolated": [-infinite, 40.0]})
    assert [(row["layer"], row["name"], row["series"], row["db"]) for row in rows(chart)][:4] == [
        (0, "input", "accumulated", None),
        (1, "conv", "accumulated", 30.0),
        (0, "input", "isolated", None),
        (1, "conv", "isolated", 40.0),
    ]
    lines, points = specified(chart)["layer"]
    assert (lines["mark"]["type"], points["mark"]["type"]) == ("line", "point")
    assert points["encoding"]["x"]["field"] == "layer"  # numbers: names would be cut
    assert points["encoding"]["color"]["scale"]["range"] == [plots.COLOURS[1], plots.COLOURS[3]]  # not FP32's


def test_a_click_on_a_chart_of_layers_selects_one() -> None:
    for chart in (
        plots.decibels(["input"], {"accumulated": [1.0]}),
        plots.sensitivity(Answers(np.arange(3), np.arange(3), {"input": np.arange(3)})),
    ):
        (selection,) = specified(chart)["params"]
        assert (selection["name"], selection["select"]["fields"]) == (plots.CLICKED, ["layer"])


def test_charts_have_words_and_the_background_of_the_page() -> None:
    chart = specified(plots.values({"FP32": Series(np.array([0.0, 1.0]))}, "weight"))
    assert (chart["description"], chart["background"]) == ("Histogram of weight: FP32", "transparent")


def test_no_chart_takes_the_wheel() -> None:
    found = Series(np.array([0.0, 1.0]))
    for chart in (plots.values({"a": found}, "unit"), plots.bars({"a": np.zeros(2)}, ("x", "y"), "value")):
        assert "params" not in specified(chart)


def test_what_a_layer_alone_costs_is_in_points() -> None:
    labels = np.arange(200) % 10
    reference, alone = labels.copy(), labels.copy()
    reference[:20] += 1
    alone[:22] += 1
    (row,) = rows(plots.sensitivity(Answers(labels, reference, {"conv": alone})))
    assert row["points"] == pytest.approx(-1.0)
    assert (row["correct"], row["changed"]) == (178, 2)
