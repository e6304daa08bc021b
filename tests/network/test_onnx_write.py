"""Files of both forms: read back the same, small, right in ONNX Runtime at every level of optimization."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import builders
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper
from quantized import activation, assert_same_program, network, rescale, retyped

from resnet8.audit.agreement import CAUSES, audit_agreement
from resnet8.data.cifar10 import Split
from resnet8.errors import QuantizationError
from resnet8.execute import engine
from resnet8.facts import IMAGE_SHAPE
from resnet8.network.change import Change, apply
from resnet8.network.onnx_read import extract
from resnet8.network.onnx_write import to_onnx
from resnet8.network.short import shortened
from resnet8.numeric.grid import qparams
from resnet8.numeric.variants import Requantization
from resnet8.playground.opened import open_file
from resnet8.runtimes import onnx_file
from resnet8.runtimes.ort import Trace

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from resnet8.network.program import Program

FORMS = ("qdq", "qoperator")
LEVELS = {name: level for name, level in vars(onnxruntime.GraphOptimizationLevel).items() if name.startswith("ORT_")}
MIXES = (
    ("uint8", "uint8", "uint8"),
    ("int8", "int8", "int8"),
    ("uint8", "int4", "uint8"),
    ("uint4", "uint4", "int4"),
    ("uint8", "int2", "uint8"),
    ("int4", "uint2", "int2"),
)
IMAGES = builders.noise(60, 31)


def pixels() -> NDArray[np.float32]:
    return IMAGES.astype(np.float32)


def run(model: onnx.ModelProto, level: Any) -> NDArray[np.float32]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    options.graph_optimization_level = level
    opened = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    result: NDArray[np.float32] = opened.run(None, {"input": pixels()})[0]
    return result


def promised(program: Program) -> NDArray[np.float32]:
    program = program.as_integer()
    return engine.probabilities(program, engine.run(program, engine.input_codes(program, IMAGES)))


def stored(model: onnx.ModelProto) -> dict[str, tuple[int, int]]:
    """Type and bytes of each constant."""
    return {one.name: (one.data_type, len(one.raw_data)) for one in model.graph.initializer}


# --- read back ---


@pytest.mark.parametrize("compact", [False, True], ids=["named", "compact"])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("types", MIXES, ids="-".join)
@pytest.mark.parametrize("per_channel", [False, True], ids=["per-tensor", "per-channel"])
def test_what_is_written_is_read_back_the_same(per_channel: bool, types: Any, form: Any, compact: bool) -> None:
    program = retyped(network(1, per_channel=per_channel), types)
    model = to_onnx(program, form, compact=compact)
    onnx.checker.check_model(model, full_check=True)
    found = extract(model, "network.onnx")
    assert_same_program(found, shortened(program) if compact else program)
    assert [one.weights.params.dtype for one in found.weighted] == list(types)


@pytest.mark.parametrize("compact", [False, True], ids=["named", "compact"])
@pytest.mark.parametrize("form", FORMS)
def test_everything_a_network_may_have_is_read_back(form: Any, compact: bool) -> None:
    """ReLUs at and above the least code, fewer codes, another grid in between, no bias, a softmax on a grid."""
    program = apply(network(2, classes_bias=False), [Change("joined", "bits", 5), Change("image", "bits", 6)])
    first, *others = program.layers
    finer = activation("finer", first.output.shape, 2.5, 130, nchw=True)
    between = replace(rescale(first.output, finer, "finer"), relu=True)
    relus = [replace(one, relu=one.name in ("shifting", "joining")) for one in others[1:]]
    layers = (first, between, replace(others[0], x=finer), *relus)
    program = replace(program, layers=layers, probabilities=qparams(1 / 256, 0, "uint8"))
    model = to_onnx(program, form, compact=compact)
    assert_same_program(extract(model, "network.onnx"), shortened(program) if compact else program)
    for level in LEVELS.values():
        assert (run(model, level).argmax(axis=1) == promised(program).argmax(axis=1)).mean() >= 0.95


@pytest.mark.parametrize("compact", [False, True], ids=["named", "compact"])
@pytest.mark.parametrize("form", FORMS)
def test_a_dense_layer_reads_a_vector(form: Any, compact: bool) -> None:
    """Also where the network has it read the map of 1 x 1, which the engine does not tell from a vector."""
    program = network(4)
    *others, dense = program.layers
    of_a_map = replace(program, layers=(*others, replace(program.weighted[-1], x=others[-1].output)))
    assert of_a_map.weighted[-1].x.shape == (1, 1, dense.reads[0].shape[0])
    assert to_onnx(of_a_map, form, compact=compact) == to_onnx(program, form, compact=compact)


@pytest.mark.parametrize("form", FORMS)
def test_logits_without_a_softmax(form: Any) -> None:
    program = replace(network(3), softmax=False)
    assert_same_program(extract(to_onnx(program, form, compact=True), "network.onnx"), shortened(program))


def test_short_names() -> None:
    program = shortened(network())
    assert program.input.name == "x"
    assert [layer.name for layer in program.layers] == ["c1", "m1", "a1", "c2", "a2", "p1", "d1"]
    assert [layer.output.name for layer in program.layers] == ["c1", "m1", "a1", "c2", "a2", "p1", "d1"]
    assert [layer.inputs for layer in program.layers] == [
        ("x",),
        ("c1",),
        ("m1",),
        ("a1",),
        ("c2", "a1"),
        ("a2",),
        ("p1",),
    ]
    assert [layer.parameters for layer in program.layers] == [
        {"weights": "w1", "bias": "b1"},
        {"constant": "wm1"},
        {"constant": "wa1"},
        {"weights": "w2", "bias": "b2"},
        {},
        {},
        {"weights": "wd1", "bias": "bd1"},
    ]
    assert program.logits.name == "d1"


def test_short_names_leave_out_a_relu_that_saturation_is() -> None:
    program = network()
    layers = tuple(replace(one, relu=True) for one in program.layers)
    last = replace(layers[-1], output=replace(layers[-1].output, grid=qparams(0.5, 0, "uint8")))
    program = replace(program, layers=(*layers[:-1], last), logits=last.output)
    assert [one.relu for one in shortened(program).layers] == [True] * 6 + [False]
    np.testing.assert_array_equal(promised(shortened(program)), promised(program))


# --- what stands in the file ---


def test_codes_are_packed_and_the_operator_set_is_the_oldest_that_has_them() -> None:
    sizes = {"uint8": 432 // 4, "int4": 432 // 8, "int2": 432 // 16}
    for types, opset, ir_version in (
        (("uint8", "uint8", "uint8"), 13, 7),
        (("uint8", "int4", "uint8"), 21, 10),
        (("int4", "int2", "uint8"), 25, 13),
    ):
        for form in FORMS:
            model = to_onnx(retyped(network(), types), form)
            assert ({one.domain: one.version for one in model.opset_import}[""], model.ir_version) == (
                opset,
                ir_version,
            )
            assert stored(model)["first_conv.w"] == (getattr(TensorProto, types[0].upper()), sizes[types[0]])
            kind, size = stored(model)["second_conv.w"]
            assert kind == getattr(TensorProto, types[1].upper())
            assert size == {"uint8": 144, "int4": 72, "int2": 36}[types[1]]


def test_two_codes_are_in_a_byte_the_first_in_its_lower_half() -> None:
    program = retyped(network(), ("int4", "int2", "int8"))
    model = to_onnx(program, "qoperator")
    tensors = {one.name: one.raw_data for one in model.graph.initializer}
    first, second = (one.weights.codes.transpose(3, 2, 0, 1).reshape(-1) for one in program.weighted[:2])
    assert list(tensors["first_conv.w"]) == [(a & 15) | (b & 15) << 4 for a, b in first.reshape(-1, 2).tolist()]
    assert list(tensors["second_conv.w"]) == [
        sum((code & 3) << 2 * place for place, code in enumerate(four)) for four in second.reshape(-1, 4).tolist()
    ]


@pytest.mark.parametrize("form", FORMS)
def test_a_compact_file_stores_nothing_twice(form: Any) -> None:
    model = to_onnx(retyped(network(per_channel=True), ("uint8", "int4", "uint8")), form, compact=True)
    values = [(one.data_type, tuple(one.dims), one.raw_data) for one in model.graph.initializer]
    assert len(values) == len(set(values))
    assert not model.graph.value_info
    assert not model.producer_name
    assert max(len(one.name) for one in model.graph.initializer) <= 3
    assert model.ByteSize() < 0.8 * to_onnx(retyped(network(per_channel=True), ("int8",) * 3), form).ByteSize()


def test_a_compact_qdq_file_has_one_vector_of_scales_for_weights_and_bias() -> None:
    program = retyped(network(per_channel=True), ("int4", "int4", "int8"))
    model = to_onnx(program, compact=True)
    floats = [one for one in model.graph.initializer if one.data_type == TensorProto.FLOAT and one.dims]
    assert [list(one.dims) for one in floats] == [[4], [4], [10]]


def test_three_bits_are_stored_in_four() -> None:
    program = retyped(network(), ("int3", "uint8", "uint8"))
    found = extract(to_onnx(program, "qoperator"), "network.onnx")
    assert found.weighted[0].weights.params.dtype == "int4"
    np.testing.assert_array_equal(found.weighted[0].weights.codes, program.weighted[0].weights.codes)


def test_a_qoperator_file_has_one_zero_point_for_all_channels() -> None:
    program = network(weights="uint8", per_channel=True)
    with pytest.raises(QuantizationError, match=r"first_conv\.w does not fit a QOperator file: found zero points from"):
        to_onnx(program, "qoperator")


def test_a_qoperator_file_has_no_unsigned_weights_for_signed_activations() -> None:
    with pytest.raises(QuantizationError, match="found unsigned weights and signed activations"):
        to_onnx(retyped(network(0, "int8"), ("uint4", "int8", "int8")), "qoperator")


def test_an_onnx_that_has_no_such_tensors_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    class Old:
        """TensorProto without INT2."""

    monkeypatch.setattr("resnet8.network.onnx_parts.TensorProto", Old)
    with pytest.raises(QuantizationError, match=r"no int2 tensors: found onnx .*, expected 1\.20 or newer"):
        to_onnx(retyped(network(), ("int2", "int8", "int8")))


# --- what ONNX Runtime computes ---


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("types", MIXES, ids="-".join)
@pytest.mark.parametrize("of_x", ["uint8", "int8"])
def test_qoperator_files_agree_at_every_level_of_optimization(of_x: Any, types: Any, level: str) -> None:
    if of_x == "int8":
        types = [one.removeprefix("u") for one in types]
    program = retyped(network(3, of_x, per_channel=True), types)
    found = run(to_onnx(program, "qoperator", compact=True), LEVELS[level])
    np.testing.assert_allclose(found, promised(program), rtol=0, atol=1e-6)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("types", MIXES, ids="-".join)
def test_qdq_files_predict_the_same_at_every_level_of_optimization(types: Any, level: str) -> None:
    program = retyped(network(3, per_channel=True), types)
    found = run(to_onnx(program, compact=True), LEVELS[level])
    assert (found.argmax(axis=1) == promised(program).argmax(axis=1)).mean() >= 0.95


@pytest.mark.parametrize("optimize", [False, True], ids=["as written", "optimized"])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("types", MIXES[2:], ids="-".join)
def test_every_code_that_differs_has_a_known_cause(types: Any, form: Any, optimize: bool) -> None:
    content = to_onnx(retyped(network(5, per_channel=True), types), form, compact=True).SerializeToString()
    trace = Trace(Path("network.onnx"), content, optimize=optimize)
    split = Split(IMAGES, np.zeros(len(IMAGES), np.int64), builders.CLASS_NAMES, builders.CIFAR10)
    (graph,) = audit_agreement(builders.model("n.onnx", "uint8", "int4"), {"": trace}, split).graphs
    found = {cause: sum(layer.causes[cause] for layer in graph.layers) for cause in CAUSES}
    assert (found["other"], found["saturation"]) == (0, 0)
    if form == "qoperator":
        assert found == dict.fromkeys(CAUSES, 0)
        assert graph.integer_layers == 7


def one_convolution(kind: int, *, cast: bool) -> onnx.ModelProto:
    """Images through one quantized 1 x 1 convolution with weights of type ``kind``: 1, 0, -1."""
    nodes = [
        helper.make_node("Transpose", ["input"], ["pixels"], perm=[0, 3, 1, 2]),
        helper.make_node("QuantizeLinear", ["pixels", "one", "zero"], ["x"]),
        helper.make_node("DequantizeLinear", ["x", "one", "zero"], ["x_real"]),
        *([helper.make_node("Cast", ["w"], ["codes"], to=TensorProto.INT8)] if cast else []),
        helper.make_node("DequantizeLinear", ["codes" if cast else "w", "one"], ["w_real"]),
        helper.make_node("Conv", ["x_real", "w_real"], ["y_real"]),
        helper.make_node("QuantizeLinear", ["y_real", "two", "middle"], ["y"]),
        helper.make_node("DequantizeLinear", ["y", "two", "middle"], ["output"]),
    ]
    constants = [
        helper.make_tensor("one", TensorProto.FLOAT, [], [1.0]),
        helper.make_tensor("two", TensorProto.FLOAT, [], [2.0]),
        helper.make_tensor("zero", TensorProto.UINT8, [], [0]),
        helper.make_tensor("middle", TensorProto.UINT8, [], [128]),
        helper.make_tensor("w", kind, [1, 3, 1, 1], [1, 0, -1]),
    ]
    graph = helper.make_graph(
        nodes,
        "one",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ("batch", *IMAGE_SHAPE))],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, ("batch", 1, 32, 32))],
        constants,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 25)], ir_version=13)


@pytest.mark.parametrize("level", LEVELS)
def test_the_cast_keeps_2_bit_weights_out_of_the_graph_that_onnx_runtime_makes_invalid(level: str) -> None:
    """Without it the default level refuses the file in the tested release; with it every level is right."""
    wanted = 2 * np.rint((pixels()[..., 0] - pixels()[..., 2]) / 2)
    found = run(one_convolution(TensorProto.INT2, cast=True), LEVELS[level])[:, 0]
    np.testing.assert_array_equal(found, np.clip(wanted, -256, 254))


# --- class scores that are not quantized ---


def float_logits(seed: int = 6) -> Program:
    return retyped(network(seed), ("uint8", "int4", "uint8")).with_float_logits()


@pytest.mark.parametrize("compact", [False, True], ids=["named", "compact"])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("softmax", [False, True], ids=["logits", "softmax"])
def test_float_logits_are_read_back_as_accumulators(softmax: bool, form: Any, compact: bool) -> None:
    program = replace(float_logits(), softmax=softmax)
    model = to_onnx(program, form, compact=compact)
    found = extract(model, "network.onnx")
    expected = shortened(program) if compact else program
    if not softmax:  # the last tensor is called as the file's output is
        renamed = replace(expected.logits, name=found.logits.name)
        last = replace(expected.layers[-1], output=renamed, name=found.layers[-1].name)
        expected = replace(expected, layers=(*expected.layers[:-1], last), logits=renamed)
    assert_same_program(found, expected)
    assert found.logits.params.dtype == "int32"


@pytest.mark.parametrize("level", LEVELS)
def test_float_logits_are_those_of_onnx_runtime(level: str) -> None:
    """The accumulators, as whole numbers, times one scale: no rounding in between."""
    program = replace(float_logits(), softmax=False)
    found = run(to_onnx(program, "qoperator", compact=True), LEVELS[level])
    codes = engine.run(program.as_integer(), engine.input_codes(program, IMAGES))
    assert codes.dtype == np.int32
    dense = program.weighted[-1]
    read = engine.activations(program.as_integer(), engine.input_codes(program, IMAGES))[dense.x.name]
    sums = (read.reshape(-1, 4).astype(np.int64) - dense.x.zero_point) @ dense.matrix + dense.added
    np.testing.assert_array_equal(codes, sums)
    np.testing.assert_array_equal(found, sums.astype(np.float32) * program.logits.scale)


def test_float_logits_are_what_integers_requantize_to() -> None:
    """Every fixed-point multiplier is 1."""
    program = float_logits().as_integer()
    codes = engine.input_codes(program, IMAGES)
    expected = engine.activations(program, codes)
    for kind in ("fixed32", "fixed16", "fixed8", "power-of-two"):
        found = engine.step(program.layers[-1], expected, Requantization(kind))
        np.testing.assert_array_equal(found, expected[program.logits.name])


@pytest.mark.parametrize("optimize", [False, True], ids=["as written", "optimized"])
def test_float_logits_agree_code_by_code(optimize: bool) -> None:
    content = to_onnx(float_logits(), "qoperator", compact=True).SerializeToString()
    split = Split(IMAGES, np.zeros(len(IMAGES), np.int64), builders.CLASS_NAMES, builders.CIFAR10)
    trace = Trace(Path("network.onnx"), content, optimize=optimize)
    (graph,) = audit_agreement(builders.model("n.onnx", "uint8", "int4"), {"": trace}, split).graphs
    assert sum(layer.differing for layer in graph.layers) == 0
    assert graph.prediction_differences == ()


def test_float_logits_of_a_float_operator_differ_by_the_rounding_of_float_sums() -> None:
    """Accumulators are finer than float32's sums of products: differences of several steps are float rounding."""
    trace = Trace(Path("network.onnx"), to_onnx(float_logits()).SerializeToString(), optimize=False)
    split = Split(IMAGES, np.zeros(len(IMAGES), np.int64), builders.CLASS_NAMES, builders.CIFAR10)
    (graph,) = audit_agreement(builders.model("n.onnx", "uint8", "int4"), {"": trace}, split).graphs
    assert sum(layer.causes["other"] for layer in graph.layers) == 0


def test_float_logits_need_one_scale() -> None:
    with pytest.raises(QuantizationError, match="found weights with a scale for each channel, expected one scale"):
        network(per_channel=True).with_float_logits()


def test_float_logits_follow_a_change_of_what_the_last_layer_reads() -> None:
    program = float_logits()
    changed = apply(program, [Change("mean", "factor", 1.5)])
    dense = changed.weighted[-1]
    assert changed.logits.scale == dense.output.scale == dense.x.scale * dense.weights.params.scale
    assert_same_program(extract(to_onnx(changed), "network.onnx"), changed)


def test_accumulators_on_another_grid_have_no_place_in_a_file() -> None:
    program = apply(float_logits(), [Change("logits", "factor", 2)])
    for form in FORMS:
        with pytest.raises(QuantizationError, match="logits does not fit an ONNX file: found codes of type int32"):
            to_onnx(program, form)


# --- who reads the files ---


@pytest.mark.parametrize("form", FORMS)
def test_the_commands_and_the_page_open_them(tmp_path: Path, form: Any) -> None:
    path = tmp_path / "network.onnx"
    onnx.save(to_onnx(retyped(network(per_channel=True), ("uint8", "int4", "int2")), form, compact=True), path)
    opened = open_file(path)
    assert (opened.description.activations, opened.description.weights) == ("uint8", "int2+int4+uint8")
    assert [one.weights.params.dtype for one in opened.require_quantized().weighted] == ["uint8", "int4", "int2"]
    model = onnx_file.read(path, path.read_bytes())
    assert onnx_file.least_bits(model) == 2


def test_weights_that_are_stored_in_fewer_bits_stay_so_when_they_are_changed() -> None:
    program = retyped(network(), ("int8", "int4", "int8"))
    finer = apply(program, [Change("second_conv.w", "factor", 0.5)])
    assert [one.weights.params.dtype for one in finer.weighted] == ["int8", "int4", "int8"]
    assert_same_program(extract(to_onnx(finer), "network.onnx"), finer)
    wider = apply(program, [Change("second_conv.w", "bits", 8)])
    assert [one.weights.params.dtype for one in wider.weighted] == ["int8"] * 3
