"""Networks opened to be looked into: layers, weights, drawing; and what is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from quantized import float_network, network, to_onnx

from resnet8.errors import ModelError, StorageError
from resnet8.inspection.picture import mermaid
from resnet8.numeric.grid import dequantize
from resnet8.playground.drawing import around, box_key, drawing, places, way
from resnet8.playground.network import open_network, reference
from resnet8.playground.weights import across, code_counts, histogram, use, weights
from resnet8.quantization.recipes import RECIPES

if TYPE_CHECKING:
    from pathlib import Path

    from resnet8.pipeline import Reproduction


def written(folder: Path, form: Any = "qdq", **how: Any) -> Path:
    path = folder / "network.onnx"
    onnx.save(to_onnx(network(4, **how), form), path)
    return path


@pytest.mark.parametrize("form", ["qdq", "qoperator"])
@pytest.mark.parametrize("per_channel", [False, True], ids=["per-tensor", "per-channel"])
def test_layers_show_what_the_file_holds(tmp_path: Path, form: Any, per_channel: bool) -> None:
    opened = open_network(written(tmp_path, form, per_channel=per_channel))
    program = network(4, per_channel=per_channel)
    assert opened.real is None
    assert opened.key == (str(tmp_path / "network.onnx"), opened.description.sha256)
    assert [layer.operator for layer in opened.layers] == ["conv", "mul", "add", "conv", "add", "average-pool", "dense"]
    assert [layer.residual for layer in opened.layers] == [False] * 4 + [True] + [False] * 2
    first, *_, dense = opened.layers
    assert (first.name, first.strides, first.pads) == ("first_conv", (4, 4), (0, 1, 1, 1))
    assert first.macs == 8 * 8 * 3 * 3 * 3 * 4
    assert first.parameters == {"weights": "first_conv.w", "bias": "first_conv.b"}
    assert (first.inputs[0].name, first.inputs[0].shape) == ("image", (32, 32, 3))
    assert (first.output.shape, first.output.dtype, first.output.limits) == ((8, 8, 4), "uint8", (0, 255))
    assert first.output.params is not None
    assert first.output.params.same_as(program.layers[0].output.params)
    assert (dense.strides, dense.pads, dense.macs) == (None, None, 40)
    for layer, written_as in zip(opened.layers, program.layers, strict=True):
        expected = getattr(written_as, "weight_params", None) or getattr(written_as, "constant_params", None)
        if expected is not None:
            assert layer.weights is not None
            assert layer.weights.params is not None
            assert layer.weights.params.same_as(expected)


def test_a_float_file_is_shown_by_the_same_layers(tmp_path: Path) -> None:
    path = tmp_path / "float.onnx"
    onnx.save(float_network(), path)
    opened = open_network(path)
    assert opened.quantized is None
    conv, _, add, _, dense = opened.layers
    assert (conv.name, conv.operator, conv.relu, conv.strides) == ("conv1", "conv", True, (4, 4))
    assert conv.nodes == ("conv1", "relu1")
    assert (conv.inputs[0].shape, conv.output.shape, conv.output.dtype) == ((32, 32, 3), (8, 8, 6), "float32")
    assert (conv.output.params, conv.output.limits) == (None, None)
    assert conv.weights is not None
    assert (conv.weights.name, conv.weights.shape) == ("w1", (3, 3, 3, 6))
    assert (add.residual, add.relu, add.weights) == (True, True, None)
    assert dense.parameters == {"weights": "w3", "bias": "b3"}
    found = weights(opened, "dense")
    assert found is not None
    stored = {one.name: numpy_helper.to_array(one) for one in float_network().graph.initializer}
    np.testing.assert_array_equal(found.real[0, 0], stored["w3"])
    assert (found.codes, found.reference) == (None, None)


def test_each_kind_of_network_is_asked_for_by_name(tmp_path: Path) -> None:
    quantized = open_network(written(tmp_path))
    onnx.save(float_network(), tmp_path / "float.onnx")
    real = open_network(tmp_path / "float.onnx")
    with pytest.raises(ModelError, match="is no float model"):
        quantized.require_real()
    with pytest.raises(ModelError, match="is not quantized"):
        real.require_quantized()
    with pytest.raises(ModelError, match="is not quantized"):
        reference(real, quantized)
    with pytest.raises(ModelError, match="has no such layer: found nowhere"):
        real.layer("nowhere")


def test_what_cannot_be_opened_is_said_in_a_line(tmp_path: Path, reproduced: Reproduction) -> None:
    with pytest.raises(StorageError, match="does not exist"):
        open_network(tmp_path / "deleted.onnx")
    keras = tmp_path / "model.h5"
    keras.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    with pytest.raises(ModelError, match="a file for Keras, expected an ONNX or a TorchScript file"):
        open_network(keras)
    (tmp_path / "text.onnx").write_text("no model")
    with pytest.raises(ModelError, match="is no model file"):
        open_network(tmp_path / "text.onnx")
    damaged = tmp_path / "damaged.onnx"
    damaged.write_bytes((reproduced.output_dir / "models/resnet8_int8.onnx").read_bytes()[:9000])
    with pytest.raises(ModelError, match="is no valid ONNX model"):
        open_network(damaged)


def test_weights_are_shown_as_codes_as_reals_and_as_what_they_were_made_from(reproduced: Reproduction) -> None:
    models = reproduced.output_dir / "models"
    real = open_network(models / "resnet8.onnx")
    quantized = open_network(models / "resnet8_int8.onnx")
    behind = reference(quantized, real)
    graph = {one.name: numpy_helper.to_array(one) for one in onnx.load(models / "resnet8.onnx").graph.initializer}
    for layer in quantized.layers:
        found = weights(quantized, layer.name, behind)
        if layer.weights is None:
            assert found is None
            continue
        assert found is not None
        assert found.codes is not None
        assert found.reference is not None
        assert found.tensor.params is not None
        np.testing.assert_array_equal(found.real, dequantize(found.codes, found.tensor.params))
        stored = graph[layer.weights.name.removesuffix("_quantized")]
        expected = stored.transpose(2, 3, 1, 0) if layer.operator == "conv" else stored
        np.testing.assert_array_equal(found.reference.reshape(-1), expected.reshape(-1))
        # MinMax covers every weight: no code is further than half a step away.
        assert np.abs(found.reference - found.real).max() <= float(found.tensor.params.scale.max()) * 0.5001


def test_the_same_layer_is_found_in_every_model(reproduced: Reproduction) -> None:
    models = reproduced.output_dir / "models"
    names = ["resnet8.onnx", "resnet8.pt", *(RECIPES[one].output for one in ("published-int8", "torch-int8"))]
    opened = [open_network(models / name) for name in names]
    found = [one for one in across(opened, "conv2d_2_1/BiasAdd") if one is not None]
    assert len(found) == 4
    np.testing.assert_array_equal(found[0].real, found[1].real)
    for one in found[2:]:
        assert one.real.shape == found[0].real.shape
        assert np.corrcoef(one.real.reshape(-1), found[0].real.reshape(-1))[0, 1] > 0.99
    assert across(opened[:1], "add_1/Add") == (None,)
    assert across(opened[:1], "nowhere") == (None,)


def test_use_of_codes_counts_ends_and_gaps() -> None:
    codes = np.array([[-8, -8, 7], [0, 1, 0]], np.int8)
    found = use(codes, (-8, 7))
    assert (found.total, found.at_lowest, found.at_highest, found.used, found.unused) == (6, 2, 1, 4, 12)
    assert found.clipped == 0.5
    counts = code_counts(codes, (-8, 7))
    assert counts.tolist() == [2, 0, 0, 0, 0, 0, 0, 0, 2, 1, 0, 0, 0, 0, 0, 1]
    assert use(codes[:0], (-8, 7)).clipped == 0
    assert code_counts(np.array([0, 255, 255], np.uint8), (0, 255))[[0, 255]].tolist() == [1, 2]


def test_a_histogram_can_lie_on_another() -> None:
    counts, edges = histogram(np.array([0.1, 0.2, 0.9], np.float32), 4, (0, 1))
    assert counts.tolist() == [2, 0, 0, 1]
    assert edges.tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert histogram(np.array([1.0, 3.0], np.float32), 2)[1].tolist() == [1, 2, 3]


@pytest.mark.parametrize("name", ["resnet8.onnx", "resnet8.pt", "resnet8_int8.onnx", "resnet8_int8.pt"])
def test_the_drawing_has_a_box_for_each_layer(name: str, reproduced: Reproduction) -> None:
    opened = open_network(reproduced.output_dir / "models" / name)
    drawn = drawing(opened)
    assert [box.key for box in drawn.boxes] == ["n0", *(box_key(i) for i in range(len(opened.layers)))]
    for number, layer in enumerate(opened.layers):
        assert layer.name in drawn.boxes[number + 1].lines
        assert len([edge for edge in drawn.edges if edge.target == box_key(number)]) == len(layer.inputs)
    assert sum(box.kind == "residual" for box in drawn.boxes) == 3
    assert name in drawn.title
    assert mermaid(drawn).startswith("---")
    titles = [box.title for box in drawn.boxes]
    assert "conv 3×3, stride 2" in titles or "conv 3×3, stride 2, ReLU" in titles


def test_a_drawing_from_left_to_right(reproduced: Reproduction) -> None:
    network = open_network(reproduced.output_dir / "models" / "resnet8_ort-portable.onnx")
    drawn = drawing(network)
    at = places(drawn)
    # Three blocks; the second and the third have a convolution beside their two. In the order of computation:
    beside = [at[box_key(number)] for number in range(-1, 14)]
    assert [column for column, _ in beside] == [0, 1, 2, 3, 4, 5, 5, 6, 7, 8, 8, 9, 10, 11, 12]
    assert [lane for _, lane in beside].count(1) == 2
    assert {place for place in beside if place[1] == 1} == {(5, 1), (8, 1)}
    assert len(set(at.values())) == len(at)
    for edge in drawn.edges:
        between = set(way(at[edge.source], at[edge.target])[1:-1])
        assert not between & set(at.values())  # no edge goes through a box


def test_the_way_of_an_edge() -> None:
    assert way((1, 0), (2, 1)) == [(1, 0), (2, 1)]
    assert way((1, 0), (4, 0)) == [(1, 0), (1.5, 1), (3.5, 1), (4, 0)]
    assert way((2, 2), (4, 0)) == [(2, 2), (2.5, 2), (3.5, 2), (4, 0)]


def test_the_neighbours_of_a_box(reproduced: Reproduction) -> None:
    network = open_network(reproduced.output_dir / "models" / "resnet8_int8.onnx")
    number, layer = next((at, one) for at, one in enumerate(network.layers) if one.residual)
    part = around(drawing(network), box_key(number))
    assert part.title == ""
    assert len(part.edges) == 4
    names = [box.lines[0] for box in part.boxes]
    writers = {one.output.name: one.name for one in network.layers}
    readers = [one.name for one in network.layers if layer.output.name in (other.name for other in one.inputs)]
    assert set(names) == {layer.name, *readers, *(writers[one.name] for one in layer.inputs)}
