"""What ``inspect graph`` draws, and the files it writes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import tiny
from onnx import helper

from resnet8.errors import MissingExtraError, ModelError, StorageError
from resnet8.inspection.graph import SUFFIXES, drawing, writer
from resnet8.inspection.picture import Box, Drawing, Edge
from resnet8.inspection.source import read

if TYPE_CHECKING:
    import onnx

    from resnet8.pipeline import Reproduction

ROOT = Path(__file__).resolve().parents[2]

QUANTIZED = (
    Box("n0", "input", "input", ("32×32×3 uint8, s 1, z 0",)),
    Box(
        "n1",
        "conv",
        "conv 1×1, ReLU",
        ("first/Conv", "weights 1×1×3×2 int8", "s 0.25 … 0.5 per channel, z 0", "32×32×2 uint8, s 2, z 0"),
    ),
    Box(
        "n2",
        "conv",
        "conv 1×1",
        ("second/Conv", "weights 1×1×2×2 int8, s 0.5, z 0", "32×32×2 uint8, s 4, z 128"),
    ),
    Box("n3", "residual", "+", ("join/Add", "32×32×2 uint8, s 4, z 10")),
    Box("n4", "pool", "average-pool", ("pool", "1×1×2 uint8, s 4, z 10")),
    Box("n5", "dense", "dense", ("dense/MatMul", "weights 2×10 uint8, s 0.125, z 128", "10 uint8, s 1, z 0")),
)
FLOAT = (
    Box("n0", "input", "input", ("32×32×3 float32",)),
    Box("n1", "conv", "conv 1×1, ReLU", ("first/Conv", "weights 1×1×3×2 float32", "32×32×2 float32")),
    Box("n2", "conv", "conv 1×1", ("second/Conv", "weights 1×1×2×2 float32", "32×32×2 float32")),
    Box("n3", "residual", "+", ("join/Add", "32×32×2 float32")),
    Box("n4", "pool", "average-pool", ("pool", "1×1×2 float32")),
    Box("n5", "dense", "dense", ("dense/MatMul", "weights 2×10 float32", "10 float32")),
)


def drawn(model: onnx.ModelProto, folder: Path) -> Drawing:
    return drawing(read(tiny.written(model, folder / "tiny.onnx")))


def graphviz() -> str:
    program = shutil.which("dot")
    if program is None:
        pytest.skip("Graphviz's program «dot» is not installed")
    return program


def run(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "resnet8", "inspect", "graph", *map(str, arguments)],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


# --- what is drawn ---


def test_a_quantized_network_by_its_layers(tmp_path: Path) -> None:
    found = drawn(tiny.qdq(), tmp_path)
    assert found.boxes == QUANTIZED
    assert found.edges == (
        Edge("n0", "n1"),
        Edge("n1", "n2"),
        Edge("n1", "n3", "s 2, z 0"),
        Edge("n2", "n3", "s 4, z 128"),
        Edge("n3", "n4"),
        Edge("n4", "n5"),
    )
    assert found.title.startswith("tiny.onnx: uint8/mixed, ")
    assert found.note == "real = s · (code − z)"


def test_operators_on_codes_draw_the_same(tmp_path: Path) -> None:
    qdq, qlinear = drawn(tiny.qdq(), tmp_path), drawn(tiny.qlinear(), tmp_path)
    assert [box.lines for box in qlinear.boxes] == [box.lines for box in qdq.boxes]
    assert qlinear.edges == qdq.edges


def test_a_float_network_by_its_nodes(tmp_path: Path) -> None:
    found = drawn(tiny.real(), tmp_path)
    assert found.boxes == FLOAT
    assert found.edges == tuple(
        Edge(*ends) for ends in (("n0", "n1"), ("n1", "n2"), ("n1", "n3"), ("n2", "n3"), ("n3", "n4"), ("n4", "n5"))
    )
    assert found.note == ""


def test_operators_without_a_picture_of_their_own(tmp_path: Path) -> None:
    model = tiny.real()
    nodes = model.graph.node
    nodes[-1].output[0] = "scores"
    nodes.append(helper.make_node("Sigmoid", ["scores"], ["squashed"], name="squash"))
    nodes.append(helper.make_node("Relu", ["squashed"], ["cut"], name="cut"))
    nodes.append(helper.make_node("Add", ["cut", "squashed"], ["output"], name="again"))
    boxes = drawn(model, tmp_path).boxes
    assert [(box.kind, box.title, box.lines) for box in boxes[-3:]] == [
        ("other", "Sigmoid", ("squash", "10 float32")),
        ("other", "Relu", ("cut", "10 float32")),  # what it reads is read elsewhere too
        ("residual", "+", ("again", "10 float32")),
    ]


def test_a_grid_that_changes_on_the_way_is_written_on_the_arrow(tmp_path: Path) -> None:
    model = tiny.qdq()
    reader = next(node for node in model.graph.node if node.name == "mean_real_dequantize")
    reader.input[1], reader.input[2] = "a_scale", "a_zero_point"
    edges = drawn(model, tmp_path).edges
    assert edges[-1] == Edge("n4", "n5", "s 2, z 0")


def test_a_long_name_loses_its_middle(tmp_path: Path) -> None:
    model = tiny.real()
    model.graph.node[1].name = "a" * 30 + "b" * 30
    lines = drawn(model, tmp_path).boxes[1].lines
    assert lines[0] == "a" * 20 + "…" + "b" * 19


def check_resnet8(path: Path) -> None:
    found = drawing(read(path))
    kinds = Counter(box.kind for box in found.boxes)
    assert (kinds["input"], kinds["conv"], kinds["residual"], kinds["pool"]) == (1, 9, 3, 1)
    assert (kinds["dense"], kinds["softmax"], kinds["other"]) == (1, 1, 0)
    arrivals = Counter(edge.target for edge in found.edges)
    assert all(arrivals[box.key] == {"input": 0, "residual": 2}.get(box.kind, 1) for box in found.boxes)
    assert all("not known" not in line for box in found.boxes for line in box.lines)
    assert writer(Path("x.mmd"))(found).count(b":::") == len(found.boxes) + len(found.legend)


def test_the_demo_models(reproduced: Reproduction) -> None:
    for name in ("resnet8", "resnet8_uint8", "resnet8_ort-per-channel"):
        check_resnet8(reproduced.output_dir / f"models/{name}.onnx")


@pytest.mark.real
@pytest.mark.parametrize("name", ["resnet8", "resnet8_int8", "resnet8_uint8", "resnet8_ort-per-channel"])
def test_the_real_models(name: str) -> None:
    path = ROOT / "models" / f"{name}.onnx"
    if not path.is_file():
        pytest.skip(f"{path} is not there: «resnet8 reproduce» makes it")
    check_resnet8(path)


# --- what is written ---


def test_texts_need_no_graphviz(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    found = drawn(tiny.qdq(), tmp_path)
    assert writer(tmp_path / "x.mmd")(found).startswith(b"---\ntitle: ")
    assert writer(tmp_path / "x.DOT")(found).startswith(b"digraph network {\n")


def test_pictures_without_graphviz_are_refused_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    for name in ("x.svg", "x.png"):
        with pytest.raises(MissingExtraError, match=r"«dot».*apt-get install graphviz.*\.mmd or \.dot"):
            writer(Path(name))


@pytest.mark.parametrize("name", ["x.jpg", "x.onnx", "x", "x.svg.gz", ".png"])
def test_an_unknown_suffix_names_the_known_ones(name: str) -> None:
    with pytest.raises(StorageError) as caught:
        writer(Path(name))
    assert all(suffix in str(caught.value) for suffix in SUFFIXES)
    assert name in str(caught.value)


def test_pictures(tmp_path: Path) -> None:
    graphviz()
    found = drawn(tiny.qdq(), tmp_path)
    svg = writer(Path("x.svg"))(found).decode()
    assert "<svg" in svg
    for box in found.boxes:
        assert all(f">{line}<" in svg for line in box.lines)
    assert writer(Path("x.png"))(found).startswith(b"\x89PNG\r\n\x1a\n")


def test_graphviz_that_fails_is_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "dot"
    program.write_text("#!/bin/sh\necho 'Error: out of paper' >&2\nexit 3\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    found = drawn(tiny.qdq(), tmp_path)
    with pytest.raises(Exception, match="Graphviz cannot draw this as png: found Error: out of paper"):
        writer(Path("x.png"))(found)


def test_the_command(tmp_path: Path) -> None:
    model = tiny.written(tiny.qdq(), tmp_path / "tiny.onnx")
    output = tmp_path / "new" / "x.mmd"
    for _ in range(2):  # an existing file is replaced
        done = run(model, "--output", output)
        assert done.returncode == 0, done.stderr
        assert "6 boxes, 6 arrows" in " ".join(done.stdout.split())
        assert output.read_bytes() == writer(output)(drawing(read(model)))
        output.write_text("old")


def test_the_command_refuses_in_one_line_and_leaves_what_was_there(tmp_path: Path) -> None:
    model = tiny.written(tiny.with_unknown_operator(), tmp_path / "tiny.onnx")
    for name, path, match in (
        ("x.mmd", os.environ["PATH"], "«squash», operator Sigmoid"),
        ("x.svg", "", "«dot»"),
        ("x.jpg", "", "suffix .jpg"),
    ):
        (tmp_path / name).write_text("old")
        done = run(model, "-o", tmp_path / name, PATH=path)
        assert (done.returncode, done.stdout) == (1, "")
        assert match in done.stderr
        assert len(done.stderr.splitlines()) == 1
        assert (tmp_path / name).read_text() == "old"


def test_a_quantized_network_that_is_not_known_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="operator Sigmoid"):
        drawn(tiny.with_unknown_operator(), tmp_path)
