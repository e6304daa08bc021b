"""Drawings as Mermaid and DOT: whole, declared, escaped, whatever names a file holds."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import replace
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resnet8.inspection.picture import KINDS, Box, Drawing, Edge, dot, mermaid

DRAWING = Drawing(
    title="tiny.onnx: uint8",
    boxes=(
        Box("n0", "input", "input", ("32×32×3 uint8, s 1, z 0",)),
        Box("n1", "conv", "conv 3×3", ("first", "32×32×16 uint8, s 0.5, z 0")),
        Box("n2", "conv", "conv 3×3", ("second",)),
        Box("n3", "residual", "+", ("join",)),
    ),
    edges=(Edge("n0", "n1"), Edge("n1", "n2"), Edge("n1", "n3", "s 0.5, z 0"), Edge("n2", "n3", "s 4, z −128")),
    note="real = s · (code − z)",
)
NASTY = 'a "b" <c> & #d; `e` \\f |g| [h] {i} %%j\nk\tl\x00m\u2028n --> o'
WORDS = st.text(max_size=30)


def drawings(words: str) -> Drawing:
    return Drawing(
        title=words,
        boxes=(Box("n0", "conv", words, (words, words)), Box("n1", "residual", words)),
        edges=(Edge("n0", "n1", words),),
        note=words,
    )


def check_mermaid(text: str, drawing: Drawing) -> None:
    """Every line is one of the forms that are written; arrows join what is declared."""
    lines = text.splitlines()
    assert lines[0] == lines[2] == "---"
    assert isinstance(json.loads(lines[1].removeprefix("title: ")), str)
    assert lines[3] == "flowchart TB"
    label = r'"[^"`\\]*"'
    declared, joined, styled = set(), [], set()
    for line in lines[4:]:
        if box := re.fullmatch(rf"\s+(\w+)(?:\[{label}\]|\(\[{label}\]\)):::(\w+)", line):
            declared.add(box[1])
            assert f"classDef {box[2]} " in text
        elif arrow := re.fullmatch(rf"\s+(\w+) -->(?:\|{label}\|)? (\w+)", line):
            joined.append((arrow[1], arrow[2]))
        elif style := re.fullmatch(r"    classDef (\w+) fill:#\w{6},stroke:#\w{6},color:#\w{6}", line):
            styled.add(style[1])
        else:
            assert re.fullmatch(rf"    subgraph legend\[{label}\]|    end", line), line
    assert joined == [(edge.source, edge.target) for edge in drawing.edges]
    assert {end for ends in joined for end in ends} <= declared
    assert {box.key for box in drawing.boxes} <= declared
    assert styled == {box.kind for box in drawing.boxes}


def check_dot(text: str, drawing: Drawing) -> None:
    """Every label is well-formed markup, every line one of the forms that are written."""
    lines = text.splitlines()
    assert (lines[0], lines[-1]) == ("digraph network {", "}")
    for line in lines[1:-1]:
        assert re.match(r"    (graph|node|edge|n\d+( -> n\d+)?)( \[.*\])?$", line), line
    labels = [label[1] for line in lines if (label := re.search(r"label=<(.*)>(?:, fillcolor=.*)?\]$", line))]
    assert len(labels) == len(drawing.boxes) + 1 + sum(bool(edge.label) for edge in drawing.edges)
    for label in labels:
        ET.fromstring(f"<x>{label}</x>")  # noqa: S314 - made here
    arrows = re.findall(r"^    (n\d+) -> (n\d+)", text, re.MULTILINE)
    assert arrows == [(edge.source, edge.target) for edge in drawing.edges]
    boxes = re.findall(r"^    (n\d+) \[", text, re.MULTILINE)
    assert boxes == [box.key for box in drawing.boxes]


def laid_out(text: str) -> tuple[int, int]:
    """How many boxes and arrows Graphviz reads."""
    program = shutil.which("dot")
    if program is None:
        pytest.skip("Graphviz's program «dot» is not installed")
    done = subprocess.run([program, "-Tjson"], input=text.encode(), capture_output=True, check=True, timeout=60)
    assert done.stderr == b""
    read = json.loads(done.stdout)
    return len(read.get("objects", ())), len(read.get("edges", ()))


def test_mermaid_of_a_drawing() -> None:
    assert (
        mermaid(DRAWING)
        == """---
title: "tiny.onnx: uint8"
---
flowchart TB
    n0["<b>input</b><br/>32×32×3 uint8, s 1, z 0"]:::input
    n1["<b>conv 3×3</b><br/>first<br/>32×32×16 uint8, s 0.5, z 0"]:::conv
    n2["<b>conv 3×3</b><br/>second"]:::conv
    n3(["<b>+</b><br/>join"]):::residual
    n0 --> n1
    n1 --> n2
    n1 -->|"s 0.5, z 0"| n3
    n2 -->|"s 4, z −128"| n3
    subgraph legend["legend: real = s · (code − z)"]
        legend_input["input (1)"]:::input
        legend_conv["convolution (2)"]:::conv
        legend_residual["residual add (1)"]:::residual
    end
    classDef input fill:#e6eaef,stroke:#57606a,color:#1f2328
    classDef conv fill:#cfe2ff,stroke:#1f6feb,color:#1f2328
    classDef residual fill:#ffcfd2,stroke:#cf222e,color:#1f2328
"""
    )
    check_mermaid(mermaid(DRAWING), DRAWING)


def test_dot_of_a_drawing() -> None:
    text = dot(DRAWING)
    check_dot(text, DRAWING)
    lines = [line.strip() for line in text.splitlines()]
    assert 'n2 [label=<<b>conv 3×3</b><br/>second>, fillcolor="#cfe2ff", color="#1f6feb", group="trunk"]' in lines
    assert "n1 -> n2" in lines
    assert "n2 -> n3 [label=< s 4, z −128>]" in lines
    assert 'bgcolor="transparent"' in text


def test_graphviz_reads_it() -> None:
    assert laid_out(dot(DRAWING)) == (4, 4)
    assert laid_out(dot(drawings(NASTY))) == (2, 1)


def test_the_longest_way_through_stands_in_one_column() -> None:
    shortcut = Box("n9", "conv", "conv 1×1")
    edges = (Edge("n0", "n9"), Edge("n9", "n3"), *DRAWING.edges[:2], DRAWING.edges[3])
    text = dot(replace(DRAWING, boxes=(*DRAWING.boxes[:1], shortcut, *DRAWING.boxes[1:]), edges=edges))
    column = {line.split()[0] for line in text.splitlines() if 'group="trunk"' in line}
    assert column == {"n0", "n1", "n2", "n3"}


def test_names_cannot_break_out() -> None:
    drawing = drawings(NASTY)
    check_mermaid(mermaid(drawing), drawing)
    check_dot(dot(drawing), drawing)
    assert "a #quot;b#quot; #lt;c#gt; #amp; #35;d; #96;e#96; #92;f" in mermaid(drawing)
    assert "a &quot;b&quot; &lt;c&gt; &amp; #d; `e` \\f" in dot(drawing)


@given(WORDS)
def test_no_words_break_the_text(words: str) -> None:
    drawing = drawings(words)
    check_mermaid(mermaid(drawing), drawing)
    check_dot(dot(drawing), drawing)


def test_every_kind_has_a_colour_and_a_name() -> None:
    boxes = tuple(Box(f"n{i}", kind, kind) for i, kind in enumerate(KINDS))
    drawing = Drawing("all", boxes, ())
    check_mermaid(mermaid(drawing), drawing)
    check_dot(dot(drawing), drawing)
    assert [kind for kind, _ in drawing.legend] == list(KINDS)
    assert len({words for _, words in drawing.legend}) == len(boxes)
    assert "legend: " not in mermaid(drawing)


def test_a_drawing_of_nothing() -> None:
    drawing = Drawing("", (), ())
    check_mermaid(mermaid(drawing), drawing)
    assert "digraph" in dot(drawing)
