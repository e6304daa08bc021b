"""Elements that the sections have in common, outside of a browser."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

pytest.importorskip("marimo")
pytest.importorskip("altair")

import marimo

from resnet8.inspection.graph import drawn
from resnet8.playground import page, plots
from resnet8.playground.opened import open_file

if TYPE_CHECKING:
    from pathlib import Path

    from resnet8.inspection.picture import Drawing


def drawing(demo_run: Path) -> Drawing:
    opened = open_file(demo_run / "models" / "resnet8_int8.onnx")
    return drawn(opened.network, opened.description, brief=True)


def test_a_message_is_text_that_breaks_where_the_page_ends() -> None:
    shown = page.message(f"{'n' * 300} <b>broken</b>").text
    assert "<b>broken</b>" not in shown
    assert "overflow-wrap: anywhere" in shown


def test_tables_escape_and_align_and_hold_elements() -> None:
    shown = page.table(("name", "size"), [("a_b/<i>", 3)]).text
    assert "a_<wbr>b/<wbr>&lt;i&gt;" in shown
    assert "<i>" not in shown
    assert shown.count("text-align: left") == shown.count("text-align: right") == 2
    assert "overflow-x: auto" in shown  # wider than the page, it scrolls by itself
    assert "marimo-button" in page.table(("undo",), [(marimo.ui.button(label="✕"),)]).text


def test_a_picture_keeps_its_size_and_its_words() -> None:
    shown = page.picture(np.zeros((2, 3), np.uint8), 4, "<a>", "b").text
    assert 'width="12"' in shown
    assert "flex: none" in shown
    assert "<figcaption" in shown
    assert 'alt="b"' in shown
    assert "<a>" not in shown


def test_rows_and_columns_leave_out_what_there_is_not() -> None:
    one, two = marimo.md("# one"), marimo.md("two")
    for element in (page.row(one, None, two), page.column(one, None, two)):
        assert element.text.index(one.text) < element.text.index(two.text)
        assert "None" not in element.text


def test_a_sketch_marks_its_box_and_has_no_legend(demo_run: Path) -> None:
    shown = page.sketch(drawing(demo_run), "n4").text
    assert "style n4 stroke:" in shown
    assert "legend" not in shown


def test_a_click_names_its_layer() -> None:
    clicked: list[int] = []
    chart = page.clickable(plots.decibels(["input", "conv"], {"accumulated": [1.0, 2.0]}), clicked.append)
    for selection in (
        {"clicked": {"layer": [4], "vlPoint": {"or": [{"layer": 4}]}}},
        {"clicked": {"layer": [0]}},  # the input is no layer
        {},
        {"clicked": {}},
    ):
        chart._update(selection)
    assert clicked == [4]


def test_two_buttons_go_back_and_on() -> None:
    gone: list[int] = []
    back, on = page.steps(gone.append)
    for button in (on, on, back):
        button._update(1)
    assert gone == [1, 1, -1]


class Address(dict[str, str]):
    """Marimo's query parameters; what is set goes into the browser's history."""

    def __init__(self, **now: str) -> None:
        super().__init__(now)
        self.history: list[str] = []

    def set(self, key: str, value: str) -> None:
        self[key] = value
        self.history.append(key)


def test_the_address_says_what_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    now = Address(model="a.onnx")
    monkeypatch.setattr(marimo, "query_params", lambda: now)
    page.address(model="a.onnx", layer=4, image=17)
    page.address(model="a.onnx", layer=4, image=17)
    assert now == {"model": "a.onnx", "layer": "4", "image": "17"}
    assert now.history == ["layer", "image"]
    assert page.asked() == {"model": "a.onnx", "number": 4, "image": 17}


@pytest.mark.parametrize("wrong", [{"layer": "x", "image": "-3"}, {"layer": "9" * 40}, {}])
def test_an_address_that_asks_for_nothing_sensible_asks_for_nothing(
    wrong: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(marimo, "query_params", lambda: Address(**wrong))
    assert page.asked() == {}
