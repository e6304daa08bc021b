"""What ``inspect graph`` draws, and the files it writes."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import pytest
import tiny
from onnx import helper

from resnet8.cli import app
from resnet8.errors import MissingExtraError, ModelError, Resnet8Error, StorageError
from resnet8.inspection import graph
from resnet8.inspection.graph import SUFFIXES, inspect_graph, writer
from resnet8.inspection.picture import KINDS, Box, Drawing, Edge
from resnet8.inspection.source import read_onnx
from resnet8.network.layers import AnyLayer

if TYPE_CHECKING:
    import onnx

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
    return inspect_graph(read_onnx(tiny.written(model, folder / "tiny.onnx")))


def graphviz() -> str:
    program = shutil.which("dot")
    if program is None:
        pytest.skip("Graphviz's program «dot» is not installed")
    return program


def run(*arguments: object) -> None:
    app(["inspect", "graph", *map(str, arguments)], standalone_mode=False)


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
    assert found.title.startswith("tiny.onnx: uint8/uint8+int8, ")
    assert found.note == "real = s · (code − z)"


def test_operators_on_codes_draw_the_same(tmp_path: Path) -> None:
    qdq, qlinear = drawn(tiny.qdq(), tmp_path), drawn(tiny.qlinear(), tmp_path)
    assert [box.lines for box in qlinear.boxes] == [box.lines for box in qdq.boxes]
    assert qlinear.edges == qdq.edges


def test_a_float_network_by_its_layers(tmp_path: Path) -> None:
    found = drawn(tiny.real(), tmp_path)
    assert found.boxes == FLOAT
    assert found.edges == tuple(
        Edge(*ends) for ends in (("n0", "n1"), ("n1", "n2"), ("n1", "n3"), ("n2", "n3"), ("n3", "n4"), ("n4", "n5"))
    )
    assert found.note == ""


def test_a_float_softmax_is_drawn_with_its_name(tmp_path: Path) -> None:
    model = tiny.real()
    model.graph.node[-1].output[0] = "scores"
    model.graph.node.append(helper.make_node("Softmax", ["scores"], ["output"], name="model/classes/Softmax"))
    found = drawn(model, tmp_path)
    assert found.boxes[-1] == Box("n6", "softmax", "softmax", ("classes/Softmax", "10 float32"))
    assert found.edges[-1] == Edge("n5", "n6")


def test_a_relu_that_two_layers_are_read_around_is_a_box(tmp_path: Path) -> None:
    model = tiny.real()
    relu = next(node for node in model.graph.node if node.op_type == "Relu")
    join = next(node for node in model.graph.node if node.op_type == "Add")
    join.input[0] = relu.input[0]
    boxes = drawn(model, tmp_path).boxes
    assert [(box.kind, box.title) for box in boxes[1:3]] == [("conv", "conv 1×1"), ("rescale", "rescale, ReLU")]


def test_in_brief_only_names_and_what_is_written(tmp_path: Path) -> None:
    source = read_onnx(tiny.written(tiny.qdq(), tmp_path / "tiny.onnx"))
    whole, brief = (graph.drawn(source.program, source.description, brief=short) for short in (False, True))
    assert whole == inspect_graph(source)
    for full, short in zip(whole.boxes, brief.boxes, strict=True):
        assert (short.key, short.kind, short.title) == (full.key, full.kind, full.title)
        assert short.lines == ((full.lines[0], full.lines[-1]) if full.kind != "input" else full.lines)
    assert brief.edges == tuple(Edge(edge.source, edge.target) for edge in whole.edges)


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
    found = inspect_graph(read_onnx(path))
    kinds = Counter(box.kind for box in found.boxes)
    assert (kinds["input"], kinds["conv"], kinds["residual"], kinds["pool"]) == (1, 9, 3, 1)
    assert (kinds["dense"], kinds["softmax"]) == (1, 1)
    arrivals = Counter(edge.target for edge in found.edges)
    assert all(arrivals[box.key] == {"input": 0, "residual": 2}.get(box.kind, 1) for box in found.boxes)
    assert writer(Path("x.mmd"))(found).count(b":::") == len(found.boxes) + len(found.legend)


@pytest.mark.parametrize("name", ["resnet8", "resnet8_uint8", "resnet8_ort-7bit-weights"])
def test_the_demo_models(name: str) -> None:
    check_resnet8(tiny.RUN / f"models/{name}.onnx")


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


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = tiny.written(tiny.qdq(), tmp_path / "tiny.onnx")
    output = tmp_path / "new" / "x.mmd"
    for _ in range(2):  # an existing file is replaced
        run(model, "--output", output)
        assert "6 boxes, 6 arrows" in " ".join(capsys.readouterr().out.split())
        assert output.read_bytes() == writer(output)(inspect_graph(read_onnx(model)))
        output.write_text("old")


def test_the_command_refuses_and_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny.written(tiny.with_unknown_operator(), tmp_path / "tiny.onnx")
    for name, path, match in (
        ("x.mmd", os.environ["PATH"], "«squash», operator Sigmoid"),
        ("x.svg", "", "«dot»"),
        ("x.jpg", "", "suffix .jpg"),
    ):
        monkeypatch.setenv("PATH", path)
        (tmp_path / name).write_text("old")
        with pytest.raises(Resnet8Error, match=match):
            run(model, "-o", tmp_path / name)
        assert (tmp_path / name).read_text() == "old"


def test_a_network_that_is_not_known_is_refused(tmp_path: Path) -> None:
    real = tiny.real()
    real.graph.node[-1].output[0] = "scores"
    real.graph.node.append(helper.make_node("Sigmoid", ["scores"], ["output"], name="squash"))
    for model in (tiny.with_unknown_operator(), real):
        with pytest.raises(ModelError, match="«squash», operator Sigmoid"):
            drawn(model, tmp_path)


def test_every_kind_of_layer_has_a_box_of_its_own() -> None:
    assert {kind.kind.removeprefix("average-") for kind in get_args(AnyLayer)} <= set(KINDS)
