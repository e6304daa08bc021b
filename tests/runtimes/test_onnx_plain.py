"""ONNX files that could do more than compute a small network."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from resnet8.data.demo import RUN_FILES
from resnet8.errors import ModelError
from resnet8.runtimes.onnx_plain import require_plain

if TYPE_CHECKING:
    from collections.abc import Sequence

IT = Path("it.onnx")


def model(
    nodes: Sequence[onnx.NodeProto], constants: dict[str, np.ndarray] | None = None, **more: object
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "it",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 32, 32, 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in (constants or {}).items()],
    )
    opsets = [helper.make_opsetid("", 13), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, ir_version=8, opset_imports=opsets, **more)


def refused(found: onnx.ModelProto, words: str) -> None:
    with pytest.raises(ModelError, match=re.escape(words)):
        require_plain(IT, found)


def body(name: str = "z") -> onnx.GraphProto:
    same = helper.make_node("Identity", ["x"], [name])
    return helper.make_graph([same], "body", [], [helper.make_tensor_value_info(name, TensorProto.FLOAT, None)])


def test_a_plain_graph() -> None:
    require_plain(IT, model([helper.make_node("Relu", ["x"], ["y"])]))


@pytest.mark.parametrize("name", [name for name in RUN_FILES if name.endswith(".onnx")])
def test_the_demo(name: str) -> None:
    from resnet8.data import demo

    require_plain(IT, onnx.load(Path(demo.__file__).parent / "run" / name))


@pytest.mark.parametrize(
    ("node", "found"),
    [
        (helper.make_node("Loop", ["", "", "x"], ["y"], body=body()), "the operator Loop"),
        (helper.make_node("If", ["c"], ["y"], then_branch=body(), else_branch=body()), "the operator If"),
        (helper.make_node("Scan", ["x"], ["y"], body=body(), num_scan_inputs=1), "the operator Scan"),
        (helper.make_node("Expand", ["x", "c"], ["y"]), "the operator Expand"),
        (helper.make_node("Relu", ["x"], ["y"], domain="evil"), "the operator evil:Relu"),
        (helper.make_node("Attention", ["x"], ["y"], domain="com.microsoft"), "com.microsoft:Attention"),
        (helper.make_node("Relu", ["x"], ["y"], body=body()), "a graph within Relu"),
    ],
)
def test_operators(node: onnx.NodeProto, found: str) -> None:
    refused(model([node], {"c": np.asarray(True)}), found)


def test_functions() -> None:
    function = helper.make_function(
        "mine", "f", ["x"], ["y"], [helper.make_node("Relu", ["x"], ["y"])], [helper.make_opsetid("", 13)]
    )
    refused(model([helper.make_node("f", ["x"], ["y"], domain="mine")], functions=[function]), "functions")


def test_too_many_nodes() -> None:
    refused(model([helper.make_node("Relu", ["x"], ["y"])] * 5_001), "5,001 nodes")


@pytest.mark.parametrize("within", ["initializer", "constant"])
def test_numbers_in_another_file(within: str) -> None:
    tensor = numpy_helper.from_array(np.ones(3, np.float32), "w")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="elsewhere.bin")
    add = helper.make_node("Add", ["x", "w"], ["y"])
    if within == "initializer":
        found = model([add])
        found.graph.initializer.append(tensor)
    else:
        found = model([helper.make_node("Constant", [], ["w"], value=tensor), add])
    refused(found, "the tensor w in another file")


def test_sparse_tensors() -> None:
    found = model([helper.make_node("Relu", ["x"], ["y"])])
    found.graph.sparse_initializer.add()
    refused(found, "sparse")


def test_maps_that_would_fill_the_memory() -> None:
    pads = np.array([0, 30_000, 30_000, 0, 0, 0, 0, 0])
    refused(model([helper.make_node("Pad", ["x", "p"], ["y"])], {"p": pads}), "the tensor y of shape")


def test_constants_that_say_to_be_larger_than_memory() -> None:
    found = model([helper.make_node("Relu", ["x"], ["y"])], {"c": np.ones(3, np.float32)})
    found.graph.initializer[0].dims[:] = [2**40]
    refused(found, "the tensor c of shape [1099511627776]")


def test_fewer_numbers_than_the_shape_says() -> None:
    found = model([helper.make_node("Relu", ["x"], ["y"])], {"c": np.ones(3, np.float32)})
    found.graph.initializer[0].raw_data = b""
    refused(found, "the tensor c: ")
