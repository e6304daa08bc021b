"""The charts: what they say is what went in, and they are valid Vega-Lite."""

from __future__ import annotations

import numpy as np
import pytest

from resnet8.numeric.grid import QParams, qparams
from resnet8.playground.flow import Answers

pytest.importorskip("altair")

from charts import rows, specified

from resnet8.playground import plots


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
    assert [(row["channel"], row["scale"]) for row in rows(plots.channels(grid))][:2] == [(0, 1.0), (1, 0.5)]
    assert len(rows(plots.in_steps(None, {"changed": np.array([3], np.int8)}, grid, (-4, 3)))) == 3


def test_accumulators_are_shown_where_there_are_some() -> None:
    codes = np.array([-300, 0, 0, 7000], np.int32)
    grid = qparams(0.01, 0, "int32")
    counted = rows(plots.in_steps(np.array([1.0]), {"quantized": codes}, grid, (-(2**31), 2**31 - 1)))
    found = [(row["series"], row["code"], row["count"]) for row in counted if "series" in row]
    assert found == [("FP32", 100, 1), ("quantized", -300, 1), ("quantized", 0, 2), ("quantized", 7000, 1)]


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
    assert specified(chart)["encoding"]["color"]["scale"]["range"] == list(plots.COLOURS[1:3])


def test_infinite_ratios_have_no_point() -> None:
    infinite = float("inf")
    chart = plots.decibels(["input", "conv"], {"accumulated": [infinite, 30.0], "isolated": [-infinite, 40.0]})
    assert [(row["layer"], row["series"], row["db"]) for row in rows(chart)] == [
        ("input", "accumulated", None),
        ("conv", "accumulated", 30.0),
        ("input", "isolated", None),
        ("conv", "isolated", 40.0),
    ]
    assert specified(chart)["layer"][0]["encoding"]["x"]["sort"] == ["input", "conv"]


def test_what_a_layer_alone_costs_is_in_points() -> None:
    labels = np.arange(200) % 10
    reference, alone = labels.copy(), labels.copy()
    reference[:20] += 1
    alone[:22] += 1
    (row,) = rows(plots.sensitivity(Answers(labels, reference, {"conv": alone})))
    assert row["points"] == pytest.approx(-1.0)
    assert (row["correct"], row["changed"]) == (178, 2)
