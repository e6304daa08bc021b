"""The float network in NumPy: against ONNX Runtime tensor by tensor, and by its laws."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from builders import noise
from onnx import TensorProto, helper, numpy_helper
from quantized import float_network, session

from resnet8.data.cifar10 import preprocess, read_split
from resnet8.errors import ModelError
from resnet8.execute import real
from resnet8.facts import IMAGE_SHAPE
from resnet8.network import onnx_read
from resnet8.network.layers import Product, Rescale, Sum
from resnet8.network.program import Program
from resnet8.network.rewrite import behind, merged
from resnet8.network.tensors import Activation, Constant
from resnet8.playground.opened import open_file
from resnet8.quantization.recipes import RECIPES
from resnet8.runtimes import open_model

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from resnet8.data.assets import Assets
    from resnet8.pipeline import Reproduction

IMAGES = noise(6, 3)


def values(network: Program) -> dict[str, NDArray[np.float32]]:
    seen: dict[str, NDArray[np.float32]] = {}
    real.run(network, IMAGES, seen.__setitem__)
    return seen


def test_every_tensor_is_what_onnx_runtime_computes() -> None:
    model = float_network()
    network = onnx_read.read(model, "float.onnx")
    names = [layer.output.name for layer in network.layers]
    model.graph.output.extend(
        helper.make_tensor_value_info(one.name, TensorProto.FLOAT, ("batch", *one.shape[2:], *one.shape[:2]))
        for one in (layer.output for layer in network.layers)
        if one.name != "logits"
    )
    model.graph.output.append(helper.make_tensor_value_info("logits", TensorProto.FLOAT, ("batch", 10)))
    probabilities, *expected = session(model).run(None, {"pixels": preprocess(IMAGES)})
    seen = values(network)
    assert [layer.operator for layer in network.layers] == ["conv", "conv", "add", "average-pool", "dense"]
    assert [layer.relu for layer in network.layers] == [True, False, True, False, False]
    for name, theirs in zip(names, expected, strict=True):
        ours = theirs.transpose(0, 2, 3, 1) if theirs.ndim == 4 else theirs
        np.testing.assert_allclose(seen[name], ours, rtol=1e-4, atol=1e-3)
    logits = real.run(network, IMAGES)
    np.testing.assert_allclose(real.probabilities(network, logits), probabilities, atol=1e-5)
    assert not network.quantized


def test_a_relu_that_shares_its_input_stays_a_layer_of_its_own() -> None:
    x, a, b, c, d = (Activation(name, IMAGE_SHAPE, None) for name in "xabcd")
    shared = (
        Product(name="a", output=a, x=x, constant=Constant("c", np.float32([1, -1, 2]), None)),
        Rescale(name="b", output=b, x=a, relu=True),
        Sum(name="c", output=c, a=a, b=b),
        Rescale(name="d", output=d, x=c, relu=True),
    )
    network = merged(Program(x, shared, d, softmax=False, probabilities=None))
    assert [one.output.name for one in network.layers] == ["a", "b", "d"]
    assert [one.relu for one in network.layers] == [False, True, True]
    first = IMAGES.astype(np.float32) * np.float32([1, -1, 2])
    wanted = np.maximum(first + np.maximum(first, 0), 0).reshape(len(IMAGES), -1)
    np.testing.assert_array_equal(real.run(network, IMAGES), wanted)


def test_a_run_resumes_from_any_tensor() -> None:
    network = onnx_read.read(float_network(), "float.onnx")
    seen = values(network)
    logits = real.run(network, IMAGES)
    np.testing.assert_array_equal(real.resume(network, seen, {}), logits)
    for number, layer in enumerate(network.layers):
        name = layer.output.name
        np.testing.assert_array_equal(real.resume(network, seen, {name: seen[name]}), logits)
        other = seen[name] + np.float32(0.5)
        fresh = dict(seen) | {name: other}
        for after in network.layers[number + 1 :]:
            fresh[after.output.name] = real.step(after, fresh)
        np.testing.assert_array_equal(real.resume(network, seen, {name: other}), fresh[network.logits.name])


def test_multiply_accumulates_count_the_weights_at_every_position() -> None:
    network = onnx_read.read(float_network(), "float.onnx")
    assert [layer.macs for layer in network.layers] == [8 * 8 * 3 * 3 * 3 * 6, 8 * 8 * 3 * 3 * 6 * 6, 0, 0, 60]


# --- files ---


def small(*nodes: onnx.NodeProto, **tensors: NDArray[Any]) -> onnx.ModelProto:
    graph = helper.make_graph(
        list(nodes),
        "small",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ("batch", *IMAGE_SHAPE))],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in tensors.items()],
    )
    return helper.make_model(graph)


TURN = helper.make_node("Transpose", ["pixels"], ["x"], perm=[0, 3, 1, 2])
KERNEL = np.ones((4, 3, 3, 3), np.float32)


@pytest.mark.parametrize(
    ("nodes", "words"),
    [
        ([helper.make_node("Tanh", ["pixels"], ["out"])], "operator Tanh: an operator that is not supported"),
        ([helper.make_node("Conv", ["x", "w"], ["out"], group=3)], "groups or dilations"),
        ([helper.make_node("Conv", ["x", "w"], ["out"], auto_pad="SAME_UPPER")], "auto_pad"),
        ([helper.make_node("Conv", ["pixels", "w"], ["out"])], "weights (4, 3, 3, 3) for an input (32, 32, 3)"),
        ([helper.make_node("Conv", ["x", "x"], ["out"])], "weights that are computed"),
        ([helper.make_node("Relu", ["w"], ["out"])], "is not computed from the images as real numbers"),
        ([helper.make_node("MatMul", ["x", "w"], ["out"])], "weights (4, 3, 3, 3) for an input"),
        ([helper.make_node("Gemm", ["x", "w"], ["out"], alpha=2.0)], "transA, alpha or beta"),
        ([helper.make_node("Mul", ["x", "x"], ["out"])], "two activations"),
        ([helper.make_node("Add", ["x", "w"], ["out"])], "a constant of shape (4, 3, 3, 3)"),
        ([helper.make_node("AveragePool", ["x"], ["out"], kernel_shape=[2, 2])], "a window (2, 2)"),
        ([helper.make_node("Transpose", ["x"], ["out"], perm=[0, 2, 1, 3])], "perm [0, 2, 1, 3]"),
        ([helper.make_node("Flatten", ["x"], ["out"])], "a map of shape (32, 32, 3)"),
        ([helper.make_node("Softmax", ["x"], ["out"], axis=3)], "another axis"),
        ([], "an output (out) that no layer writes"),
    ],
)
def test_what_is_not_read_is_refused_by_name(nodes: list[onnx.NodeProto], words: str) -> None:
    with pytest.raises(ModelError) as caught:
        onnx_read.read(small(TURN, *nodes, w=KERNEL), "small.onnx")
    assert words in str(caught.value)
    assert "small.onnx cannot be looked into" in str(caught.value)


# --- the demo ---


def test_the_float_network_predicts_as_onnx_runtime(reproduced: Reproduction, demo_assets: Assets) -> None:
    path = reproduced.output_dir / "models" / "resnet8.onnx"
    images = read_split(demo_assets.data_dir, "test").images[:100]
    expected = open_model(path).probabilities(preprocess(images))
    for name in ("resnet8.onnx", "resnet8.pt"):
        network = open_file(reproduced.output_dir / "models" / name).require_real()
        found = real.probabilities(network, real.run(network, images))
        np.testing.assert_allclose(found, expected, atol=1e-4)
        np.testing.assert_array_equal(found.argmax(axis=1), expected.argmax(axis=1))


@pytest.mark.parametrize("recipe", ["published-int8", "ort-per-channel", "ort-portable", "torch-int8"])
def test_the_network_behind_a_quantized_one_computes_the_same_with_its_layers(
    recipe: str, reproduced: Reproduction, demo_assets: Assets
) -> None:
    """Factors per channel are folded or not, rescalings are added: the layers differ, the function does not."""
    models = reproduced.output_dir / "models"
    plain = open_file(models / "resnet8.onnx")
    network = open_file(models / RECIPES[recipe].output)
    matched = network.reference(plain)
    program = network.require_quantized()
    assert [(one.name, one.output.name, one.output.shape) for one in matched.layers] == [
        (one.name, one.output.name, one.output.shape) for one in program.layers
    ]
    images = read_split(demo_assets.data_dir, "test").images[:30]
    expected = real.run(plain.require_real(), images)
    np.testing.assert_allclose(real.run(matched, images), expected, rtol=1e-4, atol=1e-3)


def test_another_network_is_not_behind(reproduced: Reproduction) -> None:
    program = open_file(reproduced.output_dir / "models" / "resnet8_int8.onnx").require_quantized()
    with pytest.raises(ModelError, match=r"the float network has no layer like «conv2d_1.*choose that model"):
        behind(program, onnx_read.read(float_network(), "float.onnx"))
