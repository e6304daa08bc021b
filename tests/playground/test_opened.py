"""Model files opened to be looked into: layers, their weights in several files; and what is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from quantized import assert_same_program, float_network, network, to_onnx

from resnet8.errors import ModelError, StorageError
from resnet8.playground.opened import open_file

if TYPE_CHECKING:
    from pathlib import Path


def written(folder: Path, form: Any = "qdq", **how: Any) -> Path:
    path = folder / "network.onnx"
    onnx.save(to_onnx(network(4, **how), form), path)
    return path


@pytest.mark.parametrize("form", ["qdq", "qoperator"])
@pytest.mark.parametrize("per_channel", [False, True], ids=["per-tensor", "per-channel"])
def test_layers_are_what_the_file_holds(tmp_path: Path, form: Any, per_channel: bool) -> None:
    opened = open_file(written(tmp_path, form, per_channel=per_channel))
    assert opened.quantized
    assert opened.key == (str(tmp_path / "network.onnx"), opened.description.sha256)
    assert_same_program(opened.network, network(4, per_channel=per_channel), kernel="integer")
    first, *_, dense = opened.network.layers
    assert (first.output.shape, first.output.dtype) == ((8, 8, 4), "uint8")
    assert first.parameter is not None
    assert (first.parameter.name, first.parameter.shape, first.parameter.dtype) == (
        "first_conv.w",
        (3, 3, 3, 4),
        "int8",
    )
    assert (dense.window, dense.macs) == (None, 40)


def test_a_float_file_is_shown_by_the_same_layers(tmp_path: Path) -> None:
    path = tmp_path / "float.onnx"
    onnx.save(float_network(), path)
    opened = open_file(path)
    assert not opened.quantized
    conv, _, add, _, dense = opened.network.layers
    assert (conv.name, conv.operator, conv.relu) == ("conv1", "conv", True)
    assert conv.window is not None
    assert (conv.window.strides, conv.nodes) == ((4, 4), ("conv1", "relu1"))
    assert (conv.reads[0].shape, conv.output.shape, conv.output.dtype) == ((32, 32, 3), (8, 8, 6), "float32")
    assert conv.parameter is not None
    assert (conv.parameter.name, conv.parameter.shape, conv.parameter.dtype) == ("w1", (3, 3, 3, 6), "float32")
    assert (add.residual, add.relu, add.parameter) == (True, True, None)
    assert dense.parameters == {"weights": "w3", "bias": "b3"}
    assert dense.parameter is not None
    stored = {one.name: numpy_helper.to_array(one) for one in float_network().graph.initializer}
    np.testing.assert_array_equal(dense.parameter.real[0, 0], stored["w3"])


def test_each_kind_of_network_is_asked_for_by_name(tmp_path: Path) -> None:
    quantized = open_file(written(tmp_path))
    onnx.save(float_network(), tmp_path / "float.onnx")
    real = open_file(tmp_path / "float.onnx")
    with pytest.raises(ModelError, match="is no float model"):
        quantized.require_real()
    with pytest.raises(ModelError, match="is not quantized"):
        real.require_quantized()
    with pytest.raises(ModelError, match="is not quantized"):
        real.reference(quantized)
    with pytest.raises(ModelError, match="has no such layer: found nowhere"):
        real.layer("nowhere")


def test_what_cannot_be_opened_is_said_in_a_line(tmp_path: Path, demo_run: Path) -> None:
    with pytest.raises(StorageError, match="does not exist"):
        open_file(tmp_path / "deleted.onnx")
    keras = tmp_path / "model.h5"
    keras.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    with pytest.raises(ModelError, match="a file for Keras, expected an ONNX or a TorchScript file"):
        open_file(keras)
    (tmp_path / "text.onnx").write_text("no model")
    with pytest.raises(ModelError, match="is no model file"):
        open_file(tmp_path / "text.onnx")
    damaged = tmp_path / "damaged.onnx"
    damaged.write_bytes((demo_run / "models/resnet8_int8.onnx").read_bytes()[:9000])
    with pytest.raises(ModelError, match="is no valid ONNX model"):
        open_file(damaged)


def test_weights_are_codes_reals_and_what_they_were_made_from(demo_run: Path) -> None:
    models = demo_run / "models"
    quantized = open_file(models / "resnet8_int8.onnx")
    behind = quantized.reference(open_file(models / "resnet8.onnx"))
    graph = {one.name: numpy_helper.to_array(one) for one in onnx.load(models / "resnet8.onnx").graph.initializer}
    for layer in quantized.network.layers:
        found, real = layer.parameter, behind.writers[layer.output.name].parameter
        assert (found is None) == (real is None)
        if found is None or real is None:
            continue
        stored = graph[found.name.removesuffix("_quantized")]
        expected = stored.transpose(2, 3, 1, 0) if layer.operator == "conv" else stored
        np.testing.assert_array_equal(real.real.reshape(-1), expected.reshape(-1))
        # MinMax covers every weight: no code is further than half a step away.
        assert np.abs(real.real - found.real).max() <= float(found.params.scale.max()) * 0.5001


def test_the_same_layer_is_found_in_every_model(demo_run: Path) -> None:
    names = ("resnet8.onnx", "resnet8_int8.onnx", "resnet8_uint8.onnx")
    layers = [open_file(demo_run / "models" / name).layer("conv2d_2_1/BiasAdd") for name in names]
    plain, *others = [layer.parameter.real for layer in layers if layer.parameter is not None]
    assert len(others) == 2
    for one in others:
        assert one.shape == plain.shape
        assert np.corrcoef(one.reshape(-1), plain.reshape(-1))[0, 1] > 0.99
