"""ONNX files in ONNX Runtime: what is opened, what is refused, and in which words."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from quantized import network, retyped

from resnet8.data.cifar10 import preprocess, read_split
from resnet8.errors import ModelError, StorageError, opening
from resnet8.evaluation import evaluate, evaluate_split
from resnet8.facts import IMAGE_SHAPE, IR_VERSION, OPSET
from resnet8.network.onnx_write import to_onnx
from resnet8.quantization.recipes import RECIPES
from resnet8.results import Evaluation, load
from resnet8.runtimes import open_model
from resnet8.runtimes.ort import Trace, optimized

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from pathlib import Path

    from numpy.typing import NDArray

    from resnet8.data.assets import Assets
    from resnet8.pipeline import Reproduction

PIXELS = 32 * 32 * 3


def linear(
    path: Path,
    shape: tuple[int | str, ...] = ("batch", *IMAGE_SHAPE),
    classes: int = 10,
    *,
    weight: float = 1e-4,
    opset: int = OPSET,
    ir_version: int = IR_VERSION,
) -> Path:
    """The smallest classifier there is: flatten, one matrix, softmax."""
    matrix = np.full((int(np.prod(shape[1:])), classes), weight, np.float32)
    matrix[:, classes // 3] *= 2
    nodes = [
        helper.make_node("Flatten", ["input"], ["flat"]),
        helper.make_node("MatMul", ["flat", "matrix"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["output"]),
    ]
    constants = [numpy_helper.from_array(matrix, "matrix")]
    return write(path, nodes, constants, shape=shape, classes=classes, opset=opset, ir_version=ir_version)


def write(
    path: Path,
    nodes: list[onnx.NodeProto],
    initializers: list[onnx.TensorProto],
    *,
    shape: tuple[int | str, ...] = ("batch", *IMAGE_SHAPE),
    classes: int = 10,
    opset: int = OPSET,
    ir_version: int = IR_VERSION,
) -> Path:
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, (shape[0], classes))],
        initializers,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir_version)
    onnx.save(model, path)
    return path


def scalar(name: str, value: float, kind: type[np.generic] = np.float32) -> onnx.TensorProto:
    return numpy_helper.from_array(np.array(value, kind), name)


def noise(count: int, seed: int = 1) -> NDArray[np.float32]:
    return preprocess(np.random.default_rng(seed).integers(0, 256, (count, *IMAGE_SHAPE), np.uint8))


def test_a_model_of_the_right_form_is_opened(tmp_path: Path) -> None:
    predictor = open_model(linear(tmp_path / "linear.onnx"))
    assert predictor.runtime == "onnxruntime"
    probabilities = predictor.probabilities(noise(5))
    assert probabilities.shape == (5, 10)
    assert probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-6)
    assert (probabilities.argmax(axis=1) == 3).all()


def test_the_name_does_not_matter(tmp_path: Path) -> None:
    assert open_model(linear(tmp_path / "model.h5")).model.format == "onnx"


def test_no_room_for_the_optimized_graph_is_no_damage_of_the_model(
    tmp_path: Path, no_room: Callable[[], AbstractContextManager[None]]
) -> None:
    path = linear(tmp_path / "linear.onnx")
    content = path.read_bytes()
    assert optimized(content).graph.node
    words = r"cannot write temporary files: found File too large.*TMPDIR"
    with no_room(), pytest.raises(StorageError, match=words), opening(path, "ONNX Runtime"):
        optimized(content)


def test_the_converted_model_is_described(reproduced: Reproduction) -> None:
    path = reproduced.output_dir / "models/resnet8.onnx"
    model = open_model(path).model
    assert (model.path, model.size_bytes) == (str(path), path.stat().st_size)
    assert (model.format, model.activations, model.weights, model.quantized) == ("onnx", "float32", "float32", False)
    assert model.sha256 == reproduced.parity.models["onnxruntime"].sha256


@pytest.mark.parametrize(
    ("shape", "classes", "match"),
    [
        (("batch", 3, 32, 32), 10, r"another input shape: found \(batch, 3, 32, 32\), expected \(batch, 32, 32, 3\)"),
        (("batch", 28, 28, 1), 10, r"another input shape: found \(batch, 28, 28, 1\)"),
        (("batch", PIXELS), 10, r"another input shape: found \(batch, 3072\)"),
        (("batch", "height", "width", 3), 10, r"another input shape: found \(batch, height, width, 3\)"),
        (("batch", *IMAGE_SHAPE), 100, r"another output shape: found \(batch, 100\), expected \(batch, 10\)"),
        (("batch", *IMAGE_SHAPE), 2, r"another output shape: found \(batch, 2\)"),
    ],
)
def test_another_form_is_refused(tmp_path: Path, shape: tuple[int | str, ...], classes: int, match: str) -> None:
    numbers = tuple(axis if isinstance(axis, int) else 32 for axis in shape)
    path = linear(tmp_path / "other.onnx", numbers, classes)
    model = onnx.load(path)
    for dim, axis in zip(model.graph.input[0].type.tensor_type.shape.dim, shape, strict=True):
        if isinstance(axis, str):
            dim.dim_param = axis
    model.graph.output[0].type.tensor_type.shape.dim[0].dim_param = "batch"
    onnx.save(model, path)
    with pytest.raises(ModelError, match=match) as caught:
        open_model(path)
    assert "\n" not in str(caught.value)
    assert caught.value.remedy


def test_an_opset_that_onnx_runtime_does_not_read_is_refused(tmp_path: Path) -> None:
    path = linear(tmp_path / "new.onnx", opset=28, ir_version=14)
    with pytest.raises(ModelError, match=r"operator set.*found opset 28, expected opset 1 to 26; .*lower opset"):
        open_model(path)


def test_an_ir_version_that_onnx_runtime_does_not_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"file format version.*found IR version 14, expected IR version 13 or lower"):
        open_model(linear(tmp_path / "new.onnx", ir_version=14))


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    content = linear(tmp_path / "whole.onnx").read_bytes()
    path = tmp_path / "part.onnx"
    ends = [0, 1, 2, 3, 10, len(content) - 1, *random.Random(3).sample(range(len(content)), 40)]
    for end in ends:
        path.write_bytes(content[:end])
        with pytest.raises(ModelError, match=r"part\.onnx") as caught:
            open_model(path)
        assert "\n" not in str(caught.value)


def test_damage_is_refused_or_harmless(tmp_path: Path) -> None:
    content = bytearray(linear(tmp_path / "whole.onnx").read_bytes())
    path = tmp_path / "damaged.onnx"
    generator = random.Random(4)
    structural = [*range(1, 120), *range(len(content) - 150, len(content))]  # outside of the weights
    for position in generator.sample(structural, 60):
        damaged = bytearray(content)
        damaged[position] ^= 1 << generator.randrange(8)
        path.write_bytes(damaged)
        try:
            open_model(path).probabilities(noise(1))
        except ModelError:
            continue
        except Exception as error:
            if "onnxruntime" not in type(error).__module__:  # running is evaluation's to guard
                raise


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", "an empty file"),
        (b"\x08garbage, and nothing else", "no valid ONNX model|no complete ONNX|is no"),
        (b"<html>404</html>", "no model file that is known here"),
        (bytes(100), "no model file that is known here"),
    ],
)
def test_what_is_no_model_is_refused(tmp_path: Path, content: bytes, match: str) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=match):
        open_model(path)


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"nothing\.onnx does not exist"):
        open_model(tmp_path / "nothing.onnx")
    with pytest.raises(StorageError, match=r"cannot read .*directory"):
        open_model(tmp_path)


def test_a_fixed_batch_size_is_refused_when_it_does_not_fit(tmp_path: Path, demo_assets: Assets) -> None:
    path = linear(tmp_path / "fixed.onnx", (4, *IMAGE_SHAPE))
    assert evaluate(path, demo_assets.data_dir, max_samples=8, batch_size=4).overall.total == 8
    for options in ({"batch_size": 8}, {"batch_size": 3}):
        with pytest.raises(ModelError, match=r"failed on images.*any batch size; .*dynamic batch"):
            evaluate(path, demo_assets.data_dir, max_samples=8, **options)


def test_numbers_that_are_not_finite_are_refused(tmp_path: Path, demo_assets: Assets) -> None:
    path = linear(tmp_path / "nan.onnx", weight=float("nan"))
    with pytest.raises(ModelError, match="not finite: found 7 images with NaN or infinity"):
        evaluate(path, demo_assets.data_dir, max_samples=7)


def test_the_number_of_threads_and_the_batch_size_change_nothing(reproduced: Reproduction, demo_assets: Assets) -> None:
    split = read_split(demo_assets.data_dir, "test").first(60)
    predictor = open_model(reproduced.output_dir / "models/resnet8.onnx")
    _, reference = evaluate_split(predictor, split, 50)
    for batch_size in (1, 7, 60, 1000):
        _, probabilities = evaluate_split(predictor, split, batch_size)
        np.testing.assert_allclose(probabilities, reference, rtol=0, atol=1e-6)
    predictor.threads = 1
    np.testing.assert_array_equal(evaluate_split(predictor, split, 50)[1], reference)


# --- data types, from the graph ---


@pytest.mark.parametrize(
    "name", [name for name, recipe in RECIPES.items() if recipe.framework == "onnxruntime" and recipe.reproduced]
)
def test_the_types_of_a_quantized_file_are_recognised(reproduced: Reproduction, name: str) -> None:
    recipe = RECIPES[name]
    model = open_model(reproduced.output_dir / "models" / recipe.output).model
    assert (model.activations, model.weights) == (recipe.activations, recipe.weights)
    assert model.quantized


def test_the_types_of_integer_operators_are_recognised(tmp_path: Path) -> None:
    codes = np.random.default_rng(2).integers(-128, 128, (PIXELS, 10), np.int8)
    nodes = [
        helper.make_node("Flatten", ["input"], ["flat"]),
        helper.make_node("QuantizeLinear", ["flat", "one", "zero_u8"], ["codes"]),
        helper.make_node(
            "QLinearMatMul",
            ["codes", "one", "zero_u8", "matrix", "small", "zero_s8", "large", "zero_u8"],
            ["product"],
        ),
        helper.make_node("DequantizeLinear", ["product", "large", "zero_u8"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["output"]),
    ]
    constants = [
        numpy_helper.from_array(codes, "matrix"),
        scalar("one", 1),
        scalar("small", 1e-4),
        scalar("large", 4),
        scalar("zero_u8", 0, np.uint8),
        scalar("zero_s8", 0, np.int8),
    ]
    predictor = open_model(write(tmp_path / "integer.onnx", nodes, constants))
    assert (predictor.model.activations, predictor.model.weights) == ("uint8", "int8")
    assert predictor.model.dtype == "uint8/int8"
    assert predictor.probabilities(noise(2)).shape == (2, 10)


def test_weights_alone_may_be_integers(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Flatten", ["input"], ["flat"]),
        helper.make_node("DequantizeLinear", ["codes", "scale", "zero"], ["matrix"]),
        helper.make_node("MatMul", ["flat", "matrix"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["output"]),
    ]
    codes = numpy_helper.from_array(np.ones((PIXELS, 10), np.int8), "codes")
    path = write(tmp_path / "weights.onnx", nodes, [codes, scalar("scale", 1e-4), scalar("zero", 0, np.int8)])
    model = open_model(path).model
    assert (model.activations, model.weights, model.quantized) == ("float32", "int8", True)


@pytest.mark.parametrize(
    ("types", "installed", "needed"),
    [
        (
            ("uint8", "int4", "uint8"),
            "1.22.1",
            "has weights of 4 bits.*found onnxruntime 1.22.1, expected 1.23 or newer",
        ),
        (
            ("uint8", "int4", "int2"),
            "1.23.2",
            "has weights of 2 bits.*found onnxruntime 1.23.2, expected 1.24 or newer",
        ),
    ],
)
def test_an_onnx_runtime_that_is_too_old_for_few_bits_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, types: Any, installed: str, needed: str
) -> None:
    path = tmp_path / "narrow.onnx"
    onnx.save(to_onnx(retyped(network(), types), "qoperator", compact=True), path)
    assert open_model(path).probabilities(noise(2)).shape == (2, 10)
    monkeypatch.setattr("onnxruntime.__version__", installed)
    with pytest.raises(ModelError, match=needed) as refused:
        open_model(path)
    assert refused.value.remedy == "install it: pip install --upgrade onnxruntime"
    with pytest.raises(ModelError, match=needed):
        Trace(path, path.read_bytes(), optimize=False)


# --- agreement ---


def test_onnx_runtime_answers_as_recorded(reproduced: Reproduction, demo_assets: Assets) -> None:
    recorded = load(Evaluation, reproduced.output_dir / "results/fp32-onnx.json")
    again = evaluate(reproduced.output_dir / "models/resnet8.onnx", demo_assets.data_dir)
    assert (again.predictions, again.labels, again.overall) == (
        recorded.predictions,
        recorded.labels,
        recorded.overall,
    )
    assert again.overall.accuracy > 0.9


@pytest.mark.real
def test_the_reference_model_agrees_on_the_performance_subset(real_assets: Path) -> None:
    split = read_split(real_assets / "cifar-10-batches-py", "test").perf_subset()
    indices = np.load(real_assets / "mlperf-tiny/perf_samples_idxs.npy")
    whole = read_split(real_assets / "cifar-10-batches-py", "test")
    np.testing.assert_array_equal(split.labels, whole.labels[indices])
    np.testing.assert_array_equal(split.images, whole.images[indices])
