"""Results on the terminal."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from builders import CIFAR10, evaluation, model, parity, wrong_on
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console, RenderableType

from resnet8.comparison import compare
from resnet8.report import tables, text
from resnet8.report.document import Table
from resnet8.results import PairParity

LABELS = "0123456789" * 100
FP32 = evaluation(LABELS, wrong_on(LABELS, range(100)))
INT8 = evaluation(
    LABELS, wrong_on(LABELS, range(151)), described=model("q.onnx", "int8", "int8", 123_456), recipe="ort-int8"
)


def shown(content: RenderableType, *, width: int = 160, color: bool = False) -> str:
    console = Console(width=width, force_terminal=color, no_color=not color, color_system="standard" if color else None)
    with console.capture() as capture:
        console.print(content)
    return capture.get()


def test_table_is_aligned() -> None:
    lines = shown(text.table(Table("title", ("model", "correct"), (("a", "8,719"), ("long", "1"))))).splitlines()
    assert lines[0].strip() == "title"
    rows = [line for line in lines if line.split()[:1] in (["a"], ["long"])]
    assert rows[0].rstrip().endswith("8,719")
    assert len(rows[0].rstrip()) == len(rows[1].rstrip())  # numbers to the right


WORDS = st.text(st.sampled_from("[]/\\ab=#@{}|:_-"), min_size=1, max_size=10)


@settings(derandomize=True, deadline=None)
@given(title=WORDS, heading=WORDS, cell=WORDS)
def test_words_are_shown_as_they_are(title: str, heading: str, cell: str) -> None:
    """A path may hold square brackets: they are not rich's markup."""
    out = shown(text.table(Table(title, (heading + " " * 20, "n"), ((cell, "1"),))))
    for words in (title, heading, cell):
        assert words in out


@pytest.mark.parametrize("path", ["models[/bold]/x.onnx", "models/[red]x.onnx", "a[/].onnx"])
def test_evaluation_of_a_path_with_brackets(path: str) -> None:
    assert path in shown(text.table(tables.evaluation(evaluation(LABELS, LABELS, described=model(path)))))


def test_comparison() -> None:
    out = shown(text.comparison(compare([FP32, INT8], refused={"torch-uint8": "[/no] uint8"})))
    assert "1,000 images: CIFAR-10 (official), test split" in out
    assert "-5.10 ⚠ drop" in out
    assert "8,719" in out  # the published count beside the measured
    assert "torch-uint8 could not be made: [/no] uint8" in out
    assert "Recommended for this CPU (Example CPU): none" in out
    assert "Recommended for any x86-64 CPU: none" in out
    within = shown(text.comparison(compare([FP32, INT8], max_drop_points=6)))
    assert "Recommended for this CPU (Example CPU): ort-int8\n  849 of 1,000 correct in 123,456 bytes" in within
    assert "⚠" not in within


def test_a_drop_is_red() -> None:
    out = shown(text.comparison(compare([FP32, INT8])), color=True)
    assert re.search(r"\x1b\[1;31m *-5.10 ⚠ drop\x1b\[0m", out)
    assert "\x1b" not in shown(text.comparison(compare([FP32, INT8])))


def test_demo_is_announced() -> None:
    data = replace(CIFAR10, dataset="demo digits")
    out = shown(text.comparison(compare([replace(FP32, data=data)])))
    assert "demo digits (handwritten digits, not CIFAR-10)" in out


@pytest.mark.parametrize(("passed", "verdict"), [(True, "are equivalent."), (False, "are NOT equivalent.")])
def test_parity(passed: bool, verdict: str) -> None:
    out = shown(text.parity(parity(PairParity("keras", "pytorch", 2e-6, 3, 0, 0), passed=passed)))
    assert f"The models {verdict}" in out
    assert "keras – pytorch" in out
    assert "2.00e-06" in out
