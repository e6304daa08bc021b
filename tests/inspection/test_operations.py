"""What ``inspect operations`` finds: worked out by hand for a tiny network, counted with ONNX for real ones."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import tiny
from onnx import numpy_helper
from quantized import network, retyped

from resnet8.cli import app
from resnet8.errors import ModelError, ResultError, StorageError
from resnet8.inspection.operations import ROLES, inspect_operations
from resnet8.inspection.records import (
    Accumulator,
    Codes,
    GraphTensor,
    Grid,
    Layer,
    Node,
    Operations,
    Parameter,
    Weights,
)
from resnet8.inspection.source import read_onnx
from resnet8.network.onnx_write import to_onnx
from resnet8.report import tables
from resnet8.results import from_json, load, save, to_json

ROOT = Path(__file__).resolve().parents[2]
REAL = (
    "resnet8_int8.onnx",
    "resnet8_uint8.onnx",
    "resnet8_ort-per-channel.onnx",
    "resnet8_ort-portable.onnx",
)

X = Codes("x_q", (32, 32, 3), 1.0, 0, "uint8", nchw=True)
A = Codes("a_q", (32, 32, 2), 2.0, 0, "uint8", nchw=True)
B = Codes("b_q", (32, 32, 2), 4.0, 128, "uint8", nchw=True)
SUM = Codes("sum_q", (32, 32, 2), 4.0, 10, "uint8", nchw=True)
MEAN = Codes("mean_q", (1, 1, 2), 4.0, 10, "uint8", nchw=True)
SCORES = Codes("scores_q", (10,), 1.0, 0, "uint8", nchw=False)


@pytest.fixture
def qdq(tmp_path: Path) -> Operations:
    return inspect_operations(read_onnx(tiny.written(tiny.qdq(), tmp_path / "tiny.onnx")))


@pytest.fixture
def qlinear(tmp_path: Path) -> Operations:
    return inspect_operations(read_onnx(tiny.written(tiny.qlinear(), tmp_path / "tiny.onnx")))


def run(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "resnet8", "inspect", *map(str, arguments)],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


# --- layers ---


def test_the_layers_of_the_tiny_network(qdq: Operations) -> None:
    facts = [replace(layer, nodes=(), parameters={}) for layer in qdq.layers]
    common: dict[str, Any] = {"form": "qdq", "nodes": (), "parameters": {}}
    one_by_one: dict[str, Any] = {"strides": (1, 1), "pads": (0, 0, 0, 0)}
    plain: dict[str, Any] = {"strides": None, "pads": None, "bias": False, "relu": False, "scale_ratio": None}
    assert facts == [
        Layer(
            name="first/Conv",
            kind="conv",
            residual=False,
            relu=True,
            inputs=(X,),
            output=A,
            weights=Weights((1, 1, 3, 2), Grid((0.5, 0.25), (0, 0), "int8", 3), codes_used=6, codes_unused=250),
            bias=True,
            multipliers=((0.25, 0.125),),
            scale_ratio=None,
            accumulator=Accumulator(-4 * 255 - 8, 6 * 255 + 4, bits=12),
            macs=32 * 32 * 6,
            **common,
            **one_by_one,
        ),
        Layer(
            name="second/Conv",
            kind="conv",
            residual=False,
            relu=False,
            inputs=(A,),
            output=B,
            weights=Weights((1, 1, 2, 2), Grid(0.5, 0, "int8", None), codes_used=2, codes_unused=254),
            bias=False,
            multipliers=(0.25,),
            scale_ratio=None,
            accumulator=Accumulator(0, 255, bits=9),
            macs=32 * 32 * 4,
            **common,
            **one_by_one,
        ),
        Layer(
            name="join/Add",
            kind="add",
            residual=True,
            inputs=(A, B),
            output=SUM,
            weights=None,
            multipliers=(0.5, 1.0),
            accumulator=None,
            macs=0,
            **common,
            **plain | {"scale_ratio": 0.5},
        ),
        Layer(
            name="pool",
            kind="average-pool",
            residual=False,
            inputs=(SUM,),
            output=MEAN,
            weights=None,
            multipliers=(1 / 1024,),
            accumulator=Accumulator(-10 * 1024, 245 * 1024, bits=19),
            macs=0,
            **common,
            **plain,
        ),
        Layer(
            name="dense/MatMul",
            kind="dense",
            residual=False,
            inputs=(replace(MEAN, shape=(2,), nchw=False),),
            output=SCORES,
            weights=Weights((1, 1, 2, 10), Grid(0.125, 128, "uint8", None), codes_used=3, codes_unused=253),
            multipliers=(0.5,),
            accumulator=Accumulator(-10 - 2 * 245, 245 + 2 * 10, bits=10),
            macs=20,
            **common,
            **plain,
        ),
    ]
    assert (qdq.input, qdq.logits, qdq.softmax, qdq.probabilities) == (X, "scores_q", False, None)


def test_the_nodes_that_make_up_a_layer(qdq: Operations, qlinear: Operations) -> None:
    first, second, join, *_ = qdq.layers
    assert [(node.index, node.name, node.op_type) for node in first.nodes] == [
        (2, "x_real_dequantize", "DequantizeLinear"),
        (3, "w1_real_dequantize", "DequantizeLinear"),
        (4, "b1_real_dequantize", "DequantizeLinear"),
        (5, "model/first/Conv", "Conv"),
        (6, "relu", "Relu"),
        (7, "a_quantize", "QuantizeLinear"),
    ]
    assert first.parameters == {
        "weights": Parameter("w1_q", "int8", (2, 3, 1, 1), 6),
        "bias": Parameter("b1_q", "int32", (2,), 8),
    }
    shared = {node.name for node in second.nodes} & {node.name for node in join.nodes}
    assert shared == {"a_real_dequantize"}
    assert [[node.name for node in layer.nodes] for layer in qlinear.layers] == [
        ["model/first/Conv_quant"],
        ["model/second/Conv_quant"],
        ["model/join/Add_quant"],
        ["model/pool_quant"],
        ["model/dense/MatMul_quant"],
    ]


def test_both_forms_of_a_network_have_the_same_layers(qdq: Operations, qlinear: Operations) -> None:
    def facts(found: Operations, *, relu: bool) -> list[Layer]:
        return [
            replace(one, nodes=(), form="qdq", relu=one.relu or (relu and i == 0)) for i, one in enumerate(found.layers)
        ]

    # A QLinearConv has no Relu: its output's zero point is its least code, which is the same.
    assert facts(qlinear, relu=True) == facts(qdq, relu=False)
    assert {layer.form for layer in qlinear.layers} == {"qlinear"}


# --- nodes ---


def test_a_node_of_the_tiny_network(qdq: Operations) -> None:
    assert qdq.nodes[2] == Node(
        index=3,
        name="w1_real_dequantize",
        op_type="DequantizeLinear",
        domain="ai.onnx",
        inputs=(
            GraphTensor("w1_q", "int8", (2, 3, 1, 1)),
            GraphTensor("w1_scale", "float32", (2,)),
            GraphTensor("w1_zero_point", "int8", (2,)),
        ),
        outputs=(GraphTensor("w1_real", "float32", (2, 3, 1, 1)),),
        attributes={"axis": 0},
        grids={"x": Grid((0.5, 0.25), (0, 0), "int8", 0)},
        parameters={
            "x": Parameter("w1_q", "int8", (2, 3, 1, 1), 6),
            "x_scale": Parameter("w1_scale", "float32", (2,), 8),
            "x_zero_point": Parameter("w1_zero_point", "int8", (2,), 2),
        },
    )
    assert qdq.nodes[0].outputs == (GraphTensor("x_q", "uint8", ("batch", 3, 32, 32)),)


def test_roles_of_the_operators_on_codes(qlinear: Operations) -> None:
    nodes = {node.op_type: node for node in reversed(qlinear.nodes)}
    conv, add, pool, matmul = (nodes[f"QLinear{kind}"] for kind in ("Conv", "Add", "GlobalAveragePool", "MatMul"))
    assert conv.grids == {
        "x": Grid(1.0, 0, "uint8", None),
        "w": Grid((0.5, 0.25), (0, 0), "int8", 0),
        "y": Grid(2.0, 0, "uint8", None),
    }
    assert conv.parameters["bias"] == Parameter("b1_q", "int32", (2,), 8)
    assert "x" not in conv.parameters  # it is computed
    assert {role: grid.scale for role, grid in add.grids.items()} == {"a": 2.0, "b": 4.0, "y": 4.0}
    assert (add.domain, conv.domain) == ("com.microsoft", "ai.onnx")
    # ONNX infers nothing about another domain's operators; the integer program knows.
    assert add.outputs == (GraphTensor("sum_q", "uint8", ("batch", 2, 32, 32)),)
    assert pool.outputs == (GraphTensor("mean_q", "uint8", ("batch", 2, 1, 1)),)
    assert {role: (grid.scale, grid.zero_point) for role, grid in matmul.grids.items()} == {
        "x": (4.0, 10),
        "w": (0.125, 128),
        "y": (1.0, 0),
    }


def test_a_zero_point_that_is_left_out_is_zero(tmp_path: Path) -> None:
    model = tiny.qdq()
    quantize = next(node for node in model.graph.node if node.name == "scores_quantize")
    dequantize = next(node for node in model.graph.node if node.name == "output_dequantize")
    del quantize.input[2], dequantize.input[2]
    found = inspect_operations(read_onnx(tiny.written(model, tmp_path / "tiny.onnx")))
    for name, tensor in (("scores_quantize", "y"), ("output_dequantize", "x")):
        node = next(node for node in found.nodes if node.name == name)
        assert node.grids == {tensor: Grid(1.0, 0, "uint8", None)}
        assert f"{tensor}_zero_point" not in node.parameters


# --- as a result ---


@pytest.mark.parametrize("form", ["qdq", "qoperator"])
def test_codes_of_few_bits_are_told_as_they_are_stored(tmp_path: Path, form: Any) -> None:
    path, program = tmp_path / "narrow.onnx", retyped(network(per_channel=True), ("int4", "int2", "uint8"))
    onnx.save(to_onnx(program, form, compact=True), path)
    found = inspect_operations(read_onnx(path))
    first, second = (one for one in found.layers if one.kind == "conv")
    assert first.parameters["weights"] == Parameter("w1", "int4", (4, 3, 3, 3), 54)
    assert second.parameters["weights"] == Parameter("w2", "int2", (4, 4, 3, 3), 36)
    assert first.weights is not None
    assert first.weights.grid.dtype == "int4"
    assert first.weights.codes_used + first.weights.codes_unused == 16
    if form == "qdq":
        (bias,) = (one for one in found.nodes if one.inputs[0].name == "b1")
        steps = program.weighted[0].x.scale * program.weighted[0].weights.params.scale
        assert bias.grids["x"].scale == tuple(steps.tolist())


def test_the_result_is_read_back_as_it_was(qdq: Operations, qlinear: Operations, tmp_path: Path) -> None:
    for result in (qdq, qlinear):
        save(result, tmp_path / "out.json")
        assert load(Operations, tmp_path / "out.json") == result
    text = to_json(qdq)
    assert json.loads(text)["kind"] == "operations"
    assert '"scale": [0.5, 0.25]' in text
    with pytest.raises(ResultError, match="kind"):
        from_json(Operations, text.replace('"kind": "operations"', '"kind": "evaluation"'), "it")
    with pytest.raises(ResultError, match="surprise"):
        from_json(Operations, text.replace('"softmax"', '"surprise": 1,\n  "softmax"'), "it")


def test_the_summary_has_a_row_for_each_layer(qdq: Operations) -> None:
    table = tables.operations(qdq)
    assert "5 integer layers" in table.title
    rows = {cells[0]: cells for cells in table.rows}
    assert rows["first/Conv"][1:5] == ("conv", "1×1×3×2 int8", "0.25 … 0.5 per channel", "32×32×2 uint8")
    assert rows["first/Conv"][7:] == ("6 of 256", "12 bits", "6,144")
    assert rows["join/Add"][1:4] == ("residual add", "–", "–")
    assert all(len(cells) == len(table.headings) for cells in table.rows)


# --- on networks of the real size ---


def check_against_onnx(path: Path) -> Operations:
    """Counts, places and values against what ONNX itself reads."""
    found, model = inspect_operations(read_onnx(path)), onnx.load(path)
    theirs = Counter(node.op_type for node in model.graph.node if node.op_type in ROLES)
    assert Counter(node.op_type for node in found.nodes) == theirs
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    for node in found.nodes:
        proto = model.graph.node[node.index]
        assert (node.name, node.op_type) == (proto.name, proto.op_type)
        assert [one.name for one in node.inputs] == list(proto.input)
        for tensor, grid in node.grids.items():
            scale = constants[node.parameters[f"{tensor}_scale"].initializer]
            assert np.array_equal(np.ravel(grid.scale), scale.ravel())
            assert (grid.axis is not None) == (scale.size > 1)
        for parameter in node.parameters.values():
            assert parameter.size_bytes == constants[parameter.initializer].nbytes
    assert sum(layer.residual for layer in found.layers) == 3
    kinds = Counter(layer.kind for layer in found.layers)
    assert (kinds["conv"], kinds["dense"], kinds["average-pool"]) == (9, 1, 1)
    assert sum(layer.macs for layer in found.layers) == 12_501_632  # MLPerf Tiny's 12.5 M
    for layer in found.layers:
        if layer.kind in ("conv", "dense"):
            codes = constants[layer.parameters["weights"].initializer]
            assert layer.weights is not None
            assert layer.weights.codes_used == len(set(codes.ravel().tolist()))
            assert layer.weights.codes_used + layer.weights.codes_unused == 256
    assert from_json(Operations, to_json(found), "it") == found
    return found


def test_the_demo_models() -> None:
    found = check_against_onnx(tiny.RUN / "models/resnet8_ort-7bit-weights.onnx")
    assert all(isinstance(one.weights.grid.scale, tuple) for one in found.layers if one.weights is not None)
    assert {layer.form for layer in found.layers} == {"qdq"}
    assert (found.softmax, found.probabilities is not None) == (True, True)
    check_against_onnx(tiny.RUN / "models/resnet8_uint8.onnx")


@pytest.mark.real
@pytest.mark.parametrize("name", REAL)
def test_the_real_models(name: str) -> None:
    path = ROOT / "models" / name
    if not path.is_file():
        pytest.skip(f"{path} is not there: «resnet8 reproduce» makes it")
    check_against_onnx(path)


# --- refusals ---


def refused(path: Path, match: str) -> None:
    with pytest.raises(ModelError, match=match):
        inspect_operations(read_onnx(path))


def test_what_is_refused(tmp_path: Path) -> None:
    refused(tiny.written(tiny.real(), tmp_path / "float.onnx"), r"float\.onnx is not quantized")
    refused(
        tiny.written(tiny.with_unknown_operator(), tmp_path / "u.onnx"),
        r"u\.onnx cannot be run in integers.*«squash», operator Sigmoid.*supported: QuantizeLinear",
    )
    whole = tiny.written(tiny.qdq(), tmp_path / "whole.onnx").read_bytes()
    for size in (len(whole) // 2, len(whole) - 7):
        (tmp_path / "part.onnx").write_bytes(whole[:size])
        refused(tmp_path / "part.onnx", r"part\.onnx is no valid ONNX model.*truncated")
    with pytest.raises(StorageError, match="does not exist"):
        read_onnx(tmp_path / "none.onnx")


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"\x89HDF\r\n\x1a\n" + bytes(100), "keras-h5"),
        (b"\x00\x00\x00\x00TFL3" + bytes(100), "tflite"),
        (b"\x80\x04\x95", "pickle"),
        (b"PK\x03\x04", "zip archive"),
        (b"words", "5 bytes"),
        (b"", "an empty file"),
    ],
)
def test_another_kind_of_file_is_told_that_onnx_is_expected(tmp_path: Path, content: bytes, found: str) -> None:
    (tmp_path / "model").write_bytes(content)
    with pytest.raises(ModelError, match=f"model is no ONNX file: found .*{found}.*expected an ONNX file"):
        read_onnx(tmp_path / "model")


# --- the command ---


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = str(tiny.written(tiny.qdq(), tmp_path / "tiny.onnx"))
    app(["inspect", "operations", model], standalone_mode=False)
    printed = capsys.readouterr().out
    assert from_json(Operations, printed, "stdout").layers[0].name == "first/Conv"
    app(["inspect", "operations", model, "-o", str(tmp_path / "out/o.json")], standalone_mode=False)
    assert "residual add" in capsys.readouterr().out
    assert len(load(Operations, tmp_path / "out" / "o.json").layers) == 5


def test_the_command_refuses_in_one_line_and_writes_nothing(tmp_path: Path) -> None:
    model = tiny.written(tiny.with_unknown_operator(), tmp_path / "u.onnx")
    done = run("operations", model, "-o", tmp_path / "o.json")
    assert (done.returncode, done.stdout) == (1, "")
    assert "«squash», operator Sigmoid" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["u.onnx"]
