"""From ONNX to an integer program: both forms, what quantizers and ONNX Runtime make of them, and what is refused."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from builders import noise
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from quantized import (
    activation,
    assert_same_program,
    float_network,
    network,
    pool,
    rescale,
    session,
    to_onnx,
    weighted,
)

from resnet8.data.cifar10 import preprocess
from resnet8.errors import ModelError
from resnet8.execute import engine
from resnet8.facts import IMAGE_SHAPE
from resnet8.network.layers import Weighted
from resnet8.network.onnx_read import SUPPORTED, extract
from resnet8.network.program import Program
from resnet8.network.reading import clean
from resnet8.numeric.grid import qparams
from resnet8.numeric.variants import Requantization
from resnet8.runtimes.ort import Trace, optimized

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

TYPES = (("uint8", "int8"), ("uint8", "uint8"), ("int8", "int8"))
FORMS = ("qdq", "qoperator")


def pixels(count: int = 20, seed: int = 70) -> NDArray[np.float32]:
    return np.random.default_rng(seed).integers(0, 256, (count, *IMAGE_SHAPE)).astype(np.float32)


# --- both forms ---


@pytest.mark.parametrize("global_pool", [True, False], ids=["GlobalAveragePool", "AveragePool"])
@pytest.mark.parametrize("per_channel", [False, True], ids=["per-tensor", "per-channel"])
@pytest.mark.parametrize(("of_x", "of_w"), TYPES)
def test_both_forms_of_a_network_are_the_same_program(
    of_x: Any, of_w: Any, per_channel: bool, global_pool: bool
) -> None:
    described = network(1, of_x, of_w, per_channel=per_channel)
    for form, kernel in (("qdq", "float"), ("qoperator", "integer")):
        model = to_onnx(described, form, global_pool=global_pool)
        onnx.checker.check_model(model, full_check=True)
        assert_same_program(extract(model, "network.onnx"), described, kernel=kernel)


@pytest.mark.parametrize("form", FORMS)
def test_a_dense_layer_without_bias(form: Any) -> None:
    described = network(classes_bias=False)
    assert described.layers[-1].bias is None
    assert_same_program(extract(to_onnx(described, form), "network.onnx"), described)


@pytest.mark.parametrize("form", FORMS)
def test_the_end_may_be_logits_or_a_softmax_on_a_grid(form: Any) -> None:
    plain = replace(network(), softmax=False)
    assert_same_program(extract(to_onnx(plain, form), "network.onnx"), plain)
    gridded = replace(network(), probabilities=qparams(1 / 256, 0, "uint8"))
    found = extract(to_onnx(gridded, form), "network.onnx")
    assert_same_program(found, gridded)
    wanted = session(to_onnx(gridded, "qoperator")).run(None, {"pixels": pixels()})[0]
    logits = engine.run(found.as_integer(), engine.input_codes(found, pixels()))
    np.testing.assert_allclose(engine.probabilities(found, logits), wanted, rtol=0, atol=1.01 / 256)


def test_relu_between_operator_and_quantize_linear() -> None:
    described = network()
    layers = tuple(replace(layer, relu=layer.name in ("first_conv", "joining")) for layer in described.layers)
    described = replace(described, layers=layers)
    assert_same_program(extract(to_onnx(described, "qdq"), "network.onnx"), described)


def test_rescaling_between_layers() -> None:
    described = network()
    first, *others = described.layers
    finer = activation("finer", first.output.shape, 2.5, 130, nchw=True)
    between = rescale(first.output, finer, "QuantizeLinear:finer")
    others[0] = replace(others[0], x=finer)
    described = replace(described, layers=(first, between, *others))
    for form in FORMS:
        assert_same_program(extract(to_onnx(described, form), "network.onnx"), described)


def test_a_copy_on_the_same_grid_is_nothing() -> None:
    described = network()
    first, *others = described.layers
    copy = replace(first.output, name="copy")
    copied = replace(others[0], x=copy)
    model = to_onnx(replace(described, layers=(first, rescale(first.output, copy), copied, *others[1:])), "qoperator")
    assert [layer.name for layer in extract(model, "network.onnx").layers] == [one.name for one in described.layers]


def test_a_relu_on_the_same_grid_is_a_layer() -> None:
    described = network()
    first, *others = described.layers
    lifted = replace(first.output, name="lifted")
    relu = replace(rescale(first.output, lifted, "QuantizeLinear:lifted"), relu=True)
    others[0] = replace(others[0], x=lifted)
    described = replace(described, layers=(first, relu, *others))
    found = extract(to_onnx(described, "qoperator"), "network.onnx")
    assert_same_program(found, described)
    codes = engine.step(found.layers[1], {"first": np.tile(np.array([0, 119, 120, 255], np.uint8), (1, 8, 8, 1))})
    assert codes[0, 0, 0].tolist() == [120, 120, 120, 255]


def test_facts_of_the_graph_are_kept() -> None:
    found = extract(to_onnx(network(), "qdq"), "network.onnx")
    first = found.layers[0]
    assert isinstance(first, Weighted)
    assert first.nodes == ("first_conv", "QuantizeLinear:first")
    assert first.parameters == {"weights": "first_conv.w", "bias": "first_conv.b"}
    assert found.input.nchw
    assert found.activations["mean"].nchw
    assert not found.layers[-1].x.nchw


def test_channels_last_networks() -> None:
    """Images quantized as they come; transposed codes; a pool over NHWC."""
    image = activation("image", IMAGE_SHAPE, 1.0, 0, nchw=False)
    mean = pool(image, activation("mean", (1, 1, 3), 0.5, 20, nchw=False))
    flat = replace(mean.output, shape=(3,))
    dense = weighted(np.random.default_rng(71), flat, activation("logits", (10,), 0.9, 100), bias=50, dense=True)
    described = Program(image, (mean, dense), dense.output, softmax=True, probabilities=None)
    model = to_onnx(described, "qoperator")
    assert_same_program(extract(model, "network.onnx"), described)
    # the same behind a Transpose of the codes
    turned = replace(described, input=replace(image, nchw=True))
    model = to_onnx(
        replace(turned, layers=(replace(mean, x=turned.input, output=replace(mean.output, nchw=True)), dense)), "qdq"
    )
    transpose = next(node for node in model.graph.node if node.op_type == "Transpose")
    quantize = next(node for node in model.graph.node if node.op_type == "QuantizeLinear")
    quantize.input[0], quantize.output[0] = "pixels", "image.nhwc"
    transpose.input[0], transpose.output[0] = "image.nhwc", "image"
    nodes = [quantize, transpose, *(node for node in model.graph.node if node not in (quantize, transpose))]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.checker.check_model(model, full_check=True)
    found = extract(model, "network.onnx")
    assert (found.input.name, found.input.nchw) == ("image.nhwc", False)
    assert found.layers[0].x.nchw
    codes = engine.input_codes(found, pixels())
    np.testing.assert_array_equal(engine.run(found.as_integer(), codes), engine.run(described, codes))


def test_a_dense_layer_of_transposed_weights() -> None:
    described = network()
    for form, operator in (("qdq", "Gemm"), ("qoperator", "QGemm")):
        model = to_onnx(described, form)
        gemm = node_of(model, operator)
        gemm.attribute.append(helper.make_attribute("transB", 1))
        change_tensor(model, "dense.w", np.ascontiguousarray(described.layers[-1].weights.codes[0, 0].T))
        onnx.checker.check_model(model, full_check=True)
        assert_same_program(extract(model, "network.onnx"), described)


def test_scales_of_transposed_weights_run_along_their_first_axis() -> None:
    described = network(per_channel=True)
    model = to_onnx(described, "qdq")
    node_of(model, "Gemm").attribute.append(helper.make_attribute("transB", 1))
    change_tensor(model, "dense.w", np.ascontiguousarray(described.layers[-1].weights.codes[0, 0].T))
    dequantize = producer(model, "dense.w.real")
    with pytest.raises(ModelError, match=r"scales of shape \(10,\) along axis 1 of the weights"):
        extract(model, "network.onnx")
    dequantize.attribute[0].i = -2
    assert_same_program(extract(model, "network.onnx"), described)


def test_a_reshape_flattens_as_flatten_does() -> None:
    described = network()
    for form in FORMS:
        model = to_onnx(described, form)
        flatten = node_of(model, "Flatten")
        flatten.op_type = "Reshape"
        flatten.input.append("target")
        model.graph.initializer.append(numpy_helper.from_array(np.array([-1, 4]), "target"))
        assert_same_program(extract(model, "network.onnx"), described)


def test_constants_come_first_or_second() -> None:
    """Addition and multiplication commute: a constant on the left is the constant."""
    described = network()
    model = to_onnx(described, "qdq")
    for operator in ("Mul", "Add"):
        inputs = node_of(model, operator).input
        inputs[0], inputs[1] = inputs[1], inputs[0]
    assert_same_program(extract(model, "network.onnx"), described)
    model = to_onnx(described, "qoperator")
    for operator in ("QLinearMul", "QLinearAdd"):
        inputs = node_of(model, operator).input
        inputs[:6] = [*inputs[3:6], *inputs[:3]]
    assert_same_program(extract(model, "network.onnx"), described)


def test_an_operator_may_read_codes_on_a_grid_of_its_own() -> None:
    """QLinear operators repeat the scale of what they read; theirs counts."""
    described = network()
    model = to_onnx(described, "qoperator")
    node = node_of(model, "QLinearMul")
    node.input[1] = "other.scale"
    model.graph.initializer.append(numpy_helper.from_array(np.float32(3.0), "other.scale"))
    found = extract(model, "network.onnx")
    assert float(found.layers[1].x.scale) == 3
    assert float(found.layers[0].output.scale) == 4
    wanted = session(model).run(None, {"pixels": pixels()})[0]
    logits = engine.run(found, engine.input_codes(found, pixels()))
    np.testing.assert_allclose(engine.probabilities(found, logits), wanted, rtol=1e-5, atol=1e-7)


def test_an_omitted_zero_point_is_zero() -> None:
    described = network(dtype="int8")
    zeroed = replace(described.input, grid=qparams(2.0, 0, "int8"))
    first = replace(described.layers[0], x=zeroed)
    described = replace(described, input=zeroed, layers=(first, *described.layers[1:]))
    model = to_onnx(described, "qdq")
    del producer(model, "first_conv.w.real").input[2]
    del producer(model, "first_conv.b.real").input[2]
    onnx.checker.check_model(model, full_check=True)
    assert_same_program(extract(model, "network.onnx"), described)


def test_an_omitted_zero_point_of_int8_codes_leaves_them_int8() -> None:
    """DequantizeLinear takes the type from its codes; uint8 is the default of QuantizeLinear only."""
    described = network(dtype="int8")
    zeroed = replace(described.input, grid=qparams(2.0, 0, "int8"))
    first = replace(described.layers[0], x=zeroed)
    described = replace(described, input=zeroed, layers=(first, *described.layers[1:]))
    model = to_onnx(described, "qdq")
    dequantize = next(n for n in model.graph.node if n.op_type == "DequantizeLinear" and n.input[0] == "image")
    del dequantize.input[2]
    onnx.checker.check_model(model, full_check=True)
    assert_same_program(extract(model, "network.onnx"), described)


@pytest.mark.parametrize(
    ("name", "cleaned"),
    [
        ("model/conv2d/Conv2D", "conv2d/Conv2D"),
        ("model_1/add/add_quant", "add/add"),
        ("model/dense/MatMul/MatMulAddFusion", "dense/MatMul"),
        ("add_token_12", "add"),
        ("conv_token_3_quant_nchwc", "conv"),
        ("plain", "plain"),
        ("models/x", "models/x"),
    ],
)
def test_names_without_what_converters_add(name: str, cleaned: str) -> None:
    assert clean(name) == cleaned


# --- what quantizers write, and what ONNX Runtime makes of it ---


class Images(CalibrationDataReader):
    def __init__(self) -> None:
        self._batches: Iterator[dict[str, Any]] = iter([{"pixels": pixels(50, 73)}])

    def get_next(self) -> dict[str, Any] | None:
        return next(self._batches, None)


def statically_quantized(folder: Path, form: QuantFormat, of_x: str, of_w: str, *, per_channel: bool) -> bytes:
    source, target = folder / "float.onnx", folder / "quantized.onnx"
    onnx.save(float_network(), source)
    kinds = {"int8": QuantType.QInt8, "uint8": QuantType.QUInt8}
    logging.disable(logging.WARNING)  # it recommends preprocessing
    try:
        quantize_static(
            source,
            target,
            Images(),
            quant_format=form,
            activation_type=kinds[of_x],
            weight_type=kinds[of_w],
            per_channel=per_channel,
            # 7-bit weights: no CPU saturates. QOperator files have signed ones per channel, whatever is asked for.
            reduce_range=of_w == "int8" or (per_channel and form is QuantFormat.QOperator),
        )
    finally:
        logging.disable(logging.NOTSET)
    return target.read_bytes()


@pytest.mark.parametrize("per_channel", [False, True], ids=["per-tensor", "per-channel"])
@pytest.mark.parametrize(("of_x", "of_w"), TYPES)
@pytest.mark.parametrize("form", [QuantFormat.QDQ, QuantFormat.QOperator], ids=["qdq", "qoperator"])
def test_what_a_quantizer_writes_runs_as_in_onnx_runtime(
    tmp_path: Path, form: QuantFormat, of_x: str, of_w: str, per_channel: bool
) -> None:
    content = statically_quantized(tmp_path, form, of_x, of_w, per_channel=per_channel)
    for optimize in (False, True):
        trace = Trace(tmp_path / "quantized.onnx", content, optimize=optimize)
        assert sum(isinstance(layer, Weighted) for layer in trace.program.layers) == 3
        assert trace.program.softmax
        probabilities, codes = trace.run(pixels())
        np.testing.assert_array_equal(codes[trace.program.input.name], engine.input_codes(trace.program, pixels()))
        for layer in trace.program.layers:
            found, wanted = engine.step(layer, codes), codes[layer.output.name]
            if layer.kernel == "integer":
                np.testing.assert_array_equal(found, wanted, err_msg=layer.name, strict=True)
            else:  # floats added up in another order may fall on the other side of a border
                assert np.abs(found.astype(int) - wanted).max() <= 1
                assert (found != wanted).mean() < 0.002
        logits = codes[trace.program.logits.name]
        assert len(np.unique(logits)) > 20
        np.testing.assert_allclose(
            engine.probabilities(trace.program, logits),
            probabilities,
            rtol=1e-5,
            atol=1.01 / 256 if gridded(trace) else 1e-7,
        )


def gridded(trace: Trace) -> bool:
    return trace.program.probabilities is not None


def test_a_quantizer_s_two_forms_are_the_same_network(tmp_path: Path) -> None:
    """The weights agree to the code, and so does the geometry; the forms differ in which activations have a grid."""
    both = [
        extract(
            onnx.load_model_from_string(statically_quantized(tmp_path, form, "uint8", "int8", per_channel=True)),
            "quantized.onnx",
        )
        for form in (QuantFormat.QDQ, QuantFormat.QOperator)
    ]
    convolutions = [[layer for layer in program.layers if isinstance(layer, Weighted)] for program in both]
    for one, other in zip(*convolutions, strict=True):
        np.testing.assert_array_equal(one.weights.codes, other.weights.codes)
        np.testing.assert_array_equal(one.added, other.added)
        assert one.weights.params.same_as(other.weights.params)
        assert (one.strides, one.pads, one.dense) == (other.strides, other.pads, other.dense)


def test_the_whole_run_of_an_operator_file_is_onnx_runtime_s(tmp_path: Path) -> None:
    content = statically_quantized(tmp_path, QuantFormat.QOperator, "uint8", "int8", per_channel=False)
    trace = Trace(tmp_path / "quantized.onnx", content, optimize=False)
    assert {layer.kernel for layer in trace.program.layers} == {"integer"}
    _, codes = trace.run(pixels())
    found = engine.run(trace.program, engine.input_codes(trace.program, pixels()))
    np.testing.assert_array_equal(found, codes[trace.program.logits.name])


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("of_x", "of_w"), TYPES)
def test_what_onnx_runtime_makes_of_a_graph_is_the_same_arithmetic(of_x: Any, of_w: Any, form: Any) -> None:
    described = network(2, of_x, of_w, per_channel=True)
    model = optimized(to_onnx(described, form).SerializeToString())
    found = extract(model, "optimized.onnx")
    if form == "qdq":
        assert any(layer.kernel == "integer" for layer in found.layers)  # fused
    weighted_layers = [layer for layer in found.layers if isinstance(layer, Weighted)]
    for one, other in zip(weighted_layers, [one for one in described.layers if isinstance(one, Weighted)], strict=True):
        np.testing.assert_array_equal(one.matrix, other.matrix)
        np.testing.assert_array_equal(one.added, other.added)
        assert (one.strides, one.pads, one.output.shape, one.dense) == (
            other.strides,
            other.pads,
            other.output.shape,
            other.dense,
        )
    # In reals: it may take int8 codes to uint8, 128 higher. In fixed point: float32 rounds ties by the zero point.
    np.testing.assert_array_equal(logits_of(found.as_integer()), logits_of(described))


def logits_of(program: Program) -> NDArray[np.float32]:
    codes = engine.run(program, engine.input_codes(program, pixels()), Requantization("fixed32"))
    return engine.probabilities(replace(program, softmax=False, probabilities=None), codes)


# --- refusals ---


def node_of(model: onnx.ModelProto, operator: str) -> onnx.NodeProto:
    return next(node for node in model.graph.node if node.op_type == operator)


def producer(model: onnx.ModelProto, name: str) -> onnx.NodeProto:
    return next(node for node in model.graph.node if name in node.output)


def change_tensor(model: onnx.ModelProto, name: str, value: NDArray[Any]) -> None:
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == name)
    tensor.CopyFrom(numpy_helper.from_array(value, name))


def set_attribute(node: onnx.NodeProto, name: str, value: Any) -> None:
    kept = [attribute for attribute in node.attribute if attribute.name != name]
    del node.attribute[:]
    node.attribute.extend([*kept, helper.make_attribute(name, value)])


def add_tensor(model: onnx.ModelProto, name: str, value: NDArray[Any]) -> str:
    model.graph.initializer.append(numpy_helper.from_array(value, name))
    return name


def unknown_operator(model: onnx.ModelProto) -> None:
    node = node_of(model, "Softmax")
    node.op_type, node.name = "Hardmax", "end"


def float_bias(model: onnx.ModelProto) -> None:
    node_of(model, "Conv").input[2] = add_tensor(model, "bias", np.zeros(4, np.float32))


def int8_bias(model: onnx.ModelProto) -> None:
    change_tensor(model, "first_conv.b", np.zeros(4, np.int8))
    change_tensor(model, "first_conv.b.zero", np.int8(0))


def bias_zero_point(model: onnx.ModelProto) -> None:
    change_tensor(model, "first_conv.b.zero", np.int32(1))


def bias_scale(model: onnx.ModelProto) -> None:
    change_tensor(model, "first_conv.b.scale", np.float32(0.25))


def nearly_the_bias_scale(model: onnx.ModelProto) -> None:
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == "first_conv.b.scale")
    change_tensor(model, tensor.name, numpy_helper.to_array(tensor) * np.float32(1.0001))


def computed_weights(model: onnx.ModelProto) -> None:
    node_of(model, "Conv").input[1] = node_of(model, "Conv").input[0]


def attribute(operator: str, name: str, value: Any) -> Callable[[onnx.ModelProto], None]:
    def change(model: onnx.ModelProto) -> None:
        set_attribute(node_of(model, operator), name, value)

    return change


def per_channel_activation(model: onnx.ModelProto) -> None:
    change_tensor(model, "first.scale", np.array([1, 2, 3, 4], np.float32))
    change_tensor(model, "first.zero", np.array([1, 2, 3, 4], np.uint8))


def wide_codes(model: onnx.ModelProto) -> None:
    change_tensor(model, "first.zero", np.int16(0))


def wide_weights(model: onnx.ModelProto) -> None:
    change_tensor(model, "second_conv.w", np.zeros((4, 4, 3, 3), np.int16))
    change_tensor(model, "second_conv.w.zero", np.int16(0))


def int32_weights(model: onnx.ModelProto) -> None:
    change_tensor(model, "second_conv.w", np.full((4, 4, 3, 3), 1000, np.int32))
    change_tensor(model, "second_conv.w.zero", np.int32(0))


def small_window(model: onnx.ModelProto) -> None:
    node = node_of(model, "GlobalAveragePool")
    node.op_type = "AveragePool"
    set_attribute(node, "kernel_shape", [4, 4])
    set_attribute(node, "strides", [4, 4])


def padded_window(model: onnx.ModelProto) -> None:
    node = node_of(model, "GlobalAveragePool")
    node.op_type = "AveragePool"
    set_attribute(node, "kernel_shape", [8, 8])
    set_attribute(node, "pads", [1, 1, 1, 1])


def window_of_the_same_size(model: onnx.ModelProto) -> None:
    node = node_of(model, "GlobalAveragePool")
    node.op_type = "AveragePool"
    set_attribute(node, "kernel_shape", [8, 8])
    set_attribute(node, "auto_pad", "SAME_UPPER")


def two_constants(model: onnx.ModelProto) -> None:
    node = node_of(model, "Add")
    node.input[0] = node.input[1]


def two_constant_codes(model: onnx.ModelProto) -> None:
    node = node_of(model, "QLinearAdd")
    node.input[:3] = node.input[3:6]


def constant_of_the_map(model: onnx.ModelProto) -> None:
    change_tensor(model, "scaling.c", np.ones((4, 8, 8), np.uint8))


def constant_along_rows(model: onnx.ModelProto) -> None:
    change_tensor(model, "scaling.c", np.ones(8, np.uint8))


def per_channel_constant(model: onnx.ModelProto) -> None:
    change_tensor(model, "scaling.c.scale", np.ones(4, np.float32))
    change_tensor(model, "scaling.c.zero", np.zeros(4, np.uint8))


def two_activations_multiplied(model: onnx.ModelProto) -> None:
    node = next(node for node in model.graph.node if node.name == "joining")
    node.op_type = "Mul"


def other_turn(model: onnx.ModelProto) -> None:
    set_attribute(node_of(model, "Transpose"), "perm", [0, 1, 3, 2])


def float_input(model: onnx.ModelProto) -> None:
    node_of(model, "Conv").input[0] = "pixels.nchw"


def float_between(model: onnx.ModelProto) -> None:
    """Conv behind Conv without a grid in between."""
    conv = [node for node in model.graph.node if node.op_type == "Conv"]
    conv[1].input[0] = conv[0].output[0]


def computed_scale(model: onnx.ModelProto) -> None:
    node_of(model, "QuantizeLinear").input[1] = "pixels"


def flattened_map(model: onnx.ModelProto) -> None:
    flatten = node_of(model, "Flatten")
    flatten.input[0] = next(node for node in model.graph.node if node.name == "joining").output[0]
    flatten.input[0] = node_of(model, "GlobalAveragePool").input[0]


def reshaped_to_a_map(model: onnx.ModelProto) -> None:
    flatten = node_of(model, "Flatten")
    flatten.op_type = "Reshape"
    flatten.input.append(add_tensor(model, "target", np.array([-1, 2, 2])))


def other_weights(model: onnx.ModelProto) -> None:
    change_tensor(model, "dense.w", np.zeros((5, 10), np.int8))


def other_channels(model: onnx.ModelProto) -> None:
    change_tensor(model, "second_conv.w", np.zeros((4, 3, 3, 3), np.int8))


def float_result(model: onnx.ModelProto) -> None:
    del node_of(model, "QGemm").input[7:]


def bias_of_another_shape(model: onnx.ModelProto) -> None:
    change_tensor(model, "dense.b", np.zeros(1, np.int32))


REFUSALS: dict[str, tuple[str, Callable[[onnx.ModelProto], None], str]] = {
    "operator": ("qdq", unknown_operator, "node «end», operator Hardmax: an operator that is not supported"),
    "float bias": ("qdq", float_bias, r"node «first_conv», operator Conv: its input 2 \(bias\) is float"),
    "int8 bias": ("qdq", int8_bias, "operator Conv: a bias in int8; int32 with zero point 0 is supported"),
    "bias zero point": ("qdq", bias_zero_point, "operator Conv: a bias in int32; int32 with zero point 0"),
    "bias scale": ("qdq", bias_scale, r"operator Conv: a bias whose scale is not scale_x \* scale_w"),
    "nearly the bias scale": ("qdq", nearly_the_bias_scale, r"operator Conv: a bias whose scale is not scale_x"),
    "bias shape": ("qoperator", bias_of_another_shape, r"operator QGemm: a bias of type int32 and shape \(1,\)"),
    "computed weights": ("qdq", computed_weights, "operator Conv: weights that are computed"),
    "groups": ("qdq", attribute("Conv", "group", 2), "operator Conv: groups or dilations"),
    "dilations": ("qoperator", attribute("QLinearConv", "dilations", [2, 2]), "QLinearConv: groups or dilations"),
    "auto_pad": ("qdq", attribute("Conv", "auto_pad", "SAME_UPPER"), "Conv: auto_pad; explicit pads are supported"),
    "per-channel activation": ("qdq", per_channel_activation, "an activation with a scale for each channel"),
    "per-channel activation codes": (
        "qoperator",
        per_channel_activation,
        "an activation with a scale for each channel",
    ),
    "per-channel constant": ("qdq", per_channel_constant, "operator Mul: a constant with a scale for each channel"),
    "int16 activations": ("qdq", wide_codes, "codes of type int16; int8 and uint8 are supported"),
    "int16 weights": ("qdq", wide_weights, "codes of type int16; int8 and uint8 are supported"),
    "int32 weights": ("qdq", int32_weights, "codes of type int32|weights in int32"),
    "small window": ("qdq", small_window, r"AveragePool: a window \(4, 4\) on a map \(8, 8\); the whole map is"),
    "padded window": ("qdq", padded_window, r"AveragePool: a window \(8, 8\) on a map \(8, 8\)"),
    "window of the same size": ("qdq", window_of_the_same_size, "AveragePool: "),
    "two constants": ("qdq", two_constants, "operator Add: two constants"),
    "two constant codes": ("qoperator", two_constant_codes, "operator QLinearAdd: two constants"),
    "constant of the map": (
        "qdq",
        constant_of_the_map,
        r"Mul: a constant of shape \(4, 8, 8\) for an input \(8, 8, 4\)",
    ),
    "constant along rows": ("qoperator", constant_along_rows, r"QLinearMul: a constant of shape \(8,\) for an input"),
    "product": ("qdq", two_activations_multiplied, "operator Mul: a product of two activations"),
    "transpose": ("qdq", other_turn, r"Transpose: perm \[0, 1, 3, 2\]; between NHWC and NCHW is supported"),
    "float input": ("qdq", float_input, r"Conv: its input 0 \(pixels.nchw\) is float, not dequantized codes"),
    "float between": ("qdq", float_between, r"Conv: its input 0 \(first.float\) is float, not dequantized codes"),
    "computed scale": ("qdq", computed_scale, r"QuantizeLinear: its input 1 \(pixels\) is computed; a constant is"),
    "flattened map": ("qdq", flattened_map, r"Flatten: a map of shape \(8, 8, 4\); 1 x 1 is supported"),
    "reshape": ("qdq", reshaped_to_a_map, r"Reshape: to \[-1, 2, 2\]; \(batch, features\) is supported"),
    "other weights": ("qdq", other_weights, r"Gemm: weights \(5, 10\) for an input \(4,\)"),
    "other channels": ("qdq", other_channels, r"Conv: weights \(4, 3, 3, 3\) for an input \(8, 8, 4\)"),
    "transA": ("qdq", attribute("Gemm", "transA", 1), "operator Gemm: transA, alpha or beta"),
    "alpha": ("qdq", attribute("Gemm", "alpha", 2.0), "operator Gemm: transA, alpha or beta"),
    "alpha of codes": ("qoperator", attribute("QGemm", "alpha", 2.0), "operator QGemm: transA, alpha or beta"),
    "float result": ("qoperator", float_result, "operator QGemm: float output"),
    "other softmax": ("qdq", attribute("Softmax", "axis", 0), "operator Softmax: "),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_what_is_not_supported_is_refused_by_name(name: str) -> None:
    form, change, match = REFUSALS[name]
    model = to_onnx(network(), form)  # type: ignore[arg-type]
    change(model)
    with pytest.raises(ModelError, match=match) as caught:
        extract(model, "folder/network.onnx")
    error = caught.value
    assert error.what == "folder/network.onnx cannot be run in integers"
    assert error.expected == "a quantized network"
    assert error.remedy == f"supported: {SUPPORTED}"
    assert "\n" not in str(error)


def test_a_float_network_is_refused() -> None:
    with pytest.raises(ModelError) as caught:
        extract(float_network(), "float.onnx")
    assert str(caught.value) == (
        "float.onnx is not quantized: found no QuantizeLinear and no QLinear operator, expected an int8 or uint8 model "
        "(QDQ or QOperator); quantize it with «resnet8 quantize»"
    )


def with_float_end(program: Program) -> onnx.ModelProto:
    """The QDQ file of ``program``, whose last layer's output is not quantized."""
    model = to_onnx(replace(program, softmax=False), "qdq")
    last = [node for node in model.graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")][-2:]
    for node in last:
        model.graph.node.remove(node)
    model.graph.output[0].name = "logits.float"
    return model


def test_an_output_that_is_not_quantized_has_accumulators_for_codes() -> None:
    found = extract(with_float_end(network()), "network.onnx")
    assert (found.logits.name, found.logits.params.dtype, found.logits.zero_point) == ("logits.float", "int32", 0)
    dense = found.weighted[-1]
    assert found.logits.scale == dense.x.scale * dense.weights.params.scale


def test_an_output_of_several_scales_that_is_not_quantized_is_refused() -> None:
    with pytest.raises(ModelError, match=r"an output \(logits.float\) that is no quantized tensor, expected logits"):
        extract(with_float_end(network(per_channel=True)), "network.onnx")


def test_weights_alone_are_no_quantized_network() -> None:
    """Quantized weights and float activations: nothing to run in integers."""
    model = float_network()
    codes = add_tensor(model, "codes", np.ones((6, 10), np.int8))
    scale = add_tensor(model, "scale", np.float32(0.1))
    model.graph.node.insert(0, helper.make_node("DequantizeLinear", [codes, scale], ["weights"]))
    node_of(model, "Gemm").input[1] = "weights"
    with pytest.raises(ModelError, match=r"node «conv1», operator Conv: its input 0 \(x\) is float"):
        extract(model, "weights.onnx")


def test_a_relu_before_the_end_is_computed_or_refused() -> None:
    """Behind the last DequantizeLinear there is no grid that could clip at zero."""
    described = network()
    logits = replace(described.logits, grid=qparams(0.02, 128, "uint8"))  # -2.56 to 2.54: the softmax is soft
    dense = replace(described.layers[-1], output=logits)
    described = replace(described, layers=(*described.layers[:-1], dense), logits=logits)
    model = to_onnx(described, "qdq")
    plain = session(model).run(None, {"pixels": pixels()})[0]
    softmax = node_of(model, "Softmax")
    at = list(model.graph.node).index(softmax)
    model.graph.node.insert(at, helper.make_node("Relu", [softmax.input[0]], ["lifted"], name="lift"))
    node_of(model, "Softmax").input[0] = "lifted"
    wanted = session(model).run(None, {"pixels": pixels()})[0]
    assert np.abs(wanted - plain).max() > 0.01
    try:
        found = extract(model, "network.onnx")
    except ModelError:
        return
    logits = engine.run(found, engine.input_codes(found, pixels()))
    np.testing.assert_allclose(engine.probabilities(found, logits), wanted, rtol=1e-4, atol=1e-6)


def test_layers_of_nodes_without_names_can_be_told_apart() -> None:
    """A node's name is optional in ONNX; results are told by layer."""
    model = to_onnx(network(), "qoperator")
    for node in model.graph.node:
        node.ClearField("name")
    onnx.checker.check_model(model, full_check=True)
    names = [layer.name for layer in extract(model, "network.onnx").layers]
    assert len(set(names)) == len(names) == 7


# --- clips ---


def clipped(low: int, high: int, *, twice: bool = False) -> onnx.ModelProto:
    """A quantized network whose first activation is clipped to codes."""
    model = to_onnx(network(4), "qdq")
    (writer,) = (node for node in model.graph.node if node.output[0] == "first")
    writer.output[0] = "wide"
    at = list(model.graph.node).index(writer) + 1
    for name in ("other", "first") if twice else ("first",):
        model.graph.node.insert(at, helper.make_node("Clip", ["wide", "low", "high"], [name], name=name))
    ends = {"low": low, "high": high}
    model.graph.initializer.extend(numpy_helper.from_array(np.uint8(code), name) for name, code in ends.items())
    return model


def test_a_clip_of_codes_makes_the_type_narrow() -> None:
    narrow = extract(clipped(0, 127), "clips.onnx")
    assert narrow.activations["first"].params.dtype == "uint7"
    codes = engine.input_codes(narrow, noise(8, 3))
    expected = np.minimum(engine.activations(network(4), codes)["first"], 127)
    np.testing.assert_array_equal(engine.activations(narrow, codes)["first"], expected)


def test_a_clip_with_several_limits_is_refused() -> None:
    model = clipped(0, 127)
    (low,) = (tensor for tensor in model.graph.initializer if tensor.name == "low")
    low.CopyFrom(numpy_helper.from_array(np.zeros(2, np.uint8), "low"))
    with pytest.raises(ModelError, match="limits that are no single numbers"):
        extract(model, "clips.onnx")


def test_narrow_codes_are_those_of_onnx_runtime() -> None:
    images = noise(20, 5)
    trace = Trace(Path("clips.onnx"), clipped(0, 127).SerializeToString(), optimize=True)
    narrow = trace.program
    (layer,) = (one for one in narrow.layers if one.output.params.dtype == "uint7")
    assert layer.kernel == "integer"
    ours, theirs = engine.activations(narrow, engine.input_codes(narrow, images)), trace.run(preprocess(images))[1]
    np.testing.assert_array_equal(ours[layer.output.name], theirs[layer.output.name])


@pytest.mark.parametrize(
    ("low", "high", "twice", "words"),
    [
        (3, 90, False, "codes from 3 to 90; those of a number of bits are supported"),
        (0, 15, False, "a zero point is out of range"),
        (0, 127, True, "codes that are read elsewhere too"),
    ],
)
def test_another_clip_is_refused_by_name(low: int, high: int, twice: bool, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        extract(clipped(low, high, twice=twice), "clips.onnx")


def test_a_clip_from_the_zero_point_on_is_a_relu() -> None:
    found = extract(clipped(120, 255), "clips.onnx")
    (layer,) = (one for one in found.layers if one.output.name == "first")
    assert (layer.relu, layer.output.params.dtype) == (True, "uint8")
    codes = engine.input_codes(found, noise(8, 3))
    expected = np.maximum(engine.activations(network(4), codes)["first"], 120)
    np.testing.assert_array_equal(engine.activations(found, codes)["first"], expected)


# --- stored codes of few bits ---


def packed(kind: int = TensorProto.INT4, zero: int = 0, of_zero: Any = np.int8) -> onnx.ModelProto:
    """A QOperator network whose first weights are cast from ``kind``."""
    model = to_onnx(network(4), "qoperator")
    conv = node_of(model, "QLinearConv")
    conv.input[3], conv.input[5] = "wide", "packed_zero"
    model.graph.node.insert(0, helper.make_node("Cast", ["packed"], ["wide"], name="cast", to=TensorProto.INT8))
    model.graph.initializer.append(helper.make_tensor("packed", kind, [4, 3, 3, 3], [1] * 108))
    model.graph.initializer.append(numpy_helper.from_array(np.asarray(zero, of_zero), "packed_zero"))
    return model


def test_a_cast_of_stored_codes_is_the_codes() -> None:
    first = extract(packed(), "packed.onnx").layers[0]
    assert isinstance(first, Weighted)
    assert (first.weights.name, first.weights.params.dtype, first.weights.codes.dtype) == ("packed", "int4", np.int8)
    assert (first.weights.codes == 1).all()


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (packed(TensorProto.UINT4), "node «cast», operator Cast: codes of type uint4 to another type than uint8"),
        (packed(TensorProto.INT8), "operator Cast: something else than stored codes of 4 or 2 bits"),
        (packed(of_zero=np.uint8), "operator QLinearConv: a zero point of type uint8 for codes of type int4"),
        (packed(zero=9), "a zero point is out of range: found 9, expected a code of int4: -8 to 7"),
    ],
    ids=["sign", "not packed", "zero point", "range"],
)
def test_another_cast_is_refused_by_name(model: onnx.ModelProto, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        extract(model, "packed.onnx")
