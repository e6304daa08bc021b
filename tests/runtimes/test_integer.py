"""Quantized ONNX files in the integer engine: what is opened, what is refused, and that it answers as ONNX Runtime."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from builders import noise
from quantized import float_network, network, to_onnx, weighted

from resnet8 import environment
from resnet8.data.cifar10 import preprocess, read_split
from resnet8.errors import ModelError
from resnet8.evaluation import evaluate_split
from resnet8.execute import engine
from resnet8.execute.vpmaddubsw import saturating
from resnet8.facts import IMAGE_SHAPE
from resnet8.numeric.variants import MULTIPLIERS, Requantization
from resnet8.quantization.recipes import RECIPES
from resnet8.results import sha256
from resnet8.runtimes import integer, open_model

if TYPE_CHECKING:
    from pathlib import Path

    from resnet8.data.assets import Assets
    from resnet8.data.cifar10 import Split
    from resnet8.pipeline import Reproduction

ORT_RECIPES = [name for name, recipe in RECIPES.items() if recipe.framework == "onnxruntime" and recipe.reproduced]
VNNI = environment.has_vnni(environment.cpu())
IMAGES = preprocess(noise(40, 80))


def written(folder: Path, form: Any = "qdq", **how: Any) -> Path:
    path = folder / "network.onnx"
    onnx.save(to_onnx(network(4, **how), form), path)
    return path


@pytest.mark.parametrize("form", ["qdq", "qoperator"])
@pytest.mark.parametrize("per_channel", [False, True], ids=["per-tensor", "per-channel"])
@pytest.mark.parametrize(("of_x", "of_w"), [("uint8", "int8"), ("uint8", "uint8"), ("int8", "int8")])
def test_a_quantized_file_is_opened_and_described(
    tmp_path: Path, of_x: Any, of_w: Any, per_channel: bool, form: Any
) -> None:
    path = written(tmp_path, form, dtype=of_x, weights=of_w, per_channel=per_channel)
    predictor = open_model(path, integer.open_content)
    content = path.read_bytes()
    assert predictor.runtime == "integer"
    assert predictor.model == open_model(path).model
    assert (predictor.model.path, predictor.model.size_bytes) == (str(path), len(content))
    assert predictor.model.sha256 == sha256(content)
    assert (predictor.model.activations, predictor.model.weights) == (of_x, of_w)
    assert predictor.threads >= 1
    assert {layer.kernel for layer in predictor.program.layers} == {"integer"}
    probabilities = predictor.probabilities(IMAGES)
    assert probabilities.shape == (40, 10)
    assert probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize("per_channel", [False, True], ids=["per-tensor", "per-channel"])
@pytest.mark.parametrize(("of_x", "of_w"), [("uint8", "int8"), ("uint8", "uint8"), ("int8", "int8")])
def test_an_operator_file_answers_as_in_onnx_runtime(tmp_path: Path, of_x: Any, of_w: Any, per_channel: bool) -> None:
    path = written(tmp_path, "qoperator", dtype=of_x, weights=of_w, per_channel=per_channel)
    found = open_model(path, integer.open_content).probabilities(IMAGES)
    np.testing.assert_allclose(found, open_model(path).probabilities(IMAGES), rtol=1e-5, atol=1e-12)


def test_logits_are_codes_of_any_number_type_of_pixels(tmp_path: Path) -> None:
    predictor = open_model(written(tmp_path, dtype="int8"), integer.open_content)
    logits = predictor.logits(IMAGES)
    assert logits.shape == (40, 10)
    assert logits.dtype == np.int8
    for kind in (np.uint8, np.int64, np.float64):
        np.testing.assert_array_equal(predictor.logits(IMAGES.astype(kind)), logits)
    np.testing.assert_array_equal(predictor.logits(IMAGES[7:8]), logits[7:8])


@pytest.mark.parametrize("multiplier", MULTIPLIERS)
def test_the_requantization_is_the_one_asked_for(tmp_path: Path, multiplier: Any) -> None:
    how = Requantization(multiplier, "half-up")
    predictor = open_model(written(tmp_path), partial(integer.open_content, requantization=how))
    assert predictor.requantization == f"{multiplier}/half-up"
    program = predictor.program
    wanted = engine.run(program, engine.input_codes(program, IMAGES), how)
    np.testing.assert_array_equal(predictor.logits(IMAGES), wanted)


def test_without_a_wish_it_is_onnx_runtime_s(tmp_path: Path) -> None:
    assert open_model(written(tmp_path), integer.open_content).requantization == "float32/half-even"


def test_other_accumulators_are_those_asked_for(tmp_path: Path) -> None:
    path = written(tmp_path)

    def zero(layer: Any, codes: Any) -> Any:
        return engine.accumulate(layer, codes) * 0

    logits = open_model(path, partial(integer.open_content, accumulators=zero)).logits(IMAGES)
    assert (logits == 128).all()  # the zero point of the logits


# --- the emulated CPU ---


def test_the_emulation_runs_the_optimized_graph_with_saturating_accumulators(tmp_path: Path) -> None:
    path = written(tmp_path, "qoperator", largest=127)
    predictor = open_model(path, integer.open_emulated)
    assert predictor.runtime == "emulated-avx2"
    assert predictor.model == open_model(path).model
    described = network(4, largest=127)
    wanted = engine.run(described, engine.input_codes(described, IMAGES), accumulators=saturating)
    np.testing.assert_array_equal(predictor.logits(IMAGES), wanted)
    assert (predictor.logits(IMAGES) != open_model(path, integer.open_content).logits(IMAGES)).any()


def test_the_emulation_changes_nothing_where_nothing_saturates(tmp_path: Path) -> None:
    for how in ({"largest": 64}, {"weights": "uint8"}):
        path = written(tmp_path, "qoperator", **how)
        emulated, exact = (open_model(path, opener) for opener in (integer.open_emulated, integer.open_content))
        np.testing.assert_array_equal(emulated.logits(IMAGES), exact.logits(IMAGES))


@pytest.mark.skipif(VNNI, reason="the CPU has VNNI: it does not saturate")
def test_this_cpu_saturates_as_emulated(tmp_path: Path) -> None:
    path = written(tmp_path, "qoperator", largest=127)
    emulated = open_model(path, integer.open_emulated)
    np.testing.assert_allclose(emulated.probabilities(IMAGES), open_model(path).probabilities(IMAGES), rtol=1e-5)


@pytest.mark.skipif(not VNNI, reason="the CPU has no VNNI: it saturates")
def test_this_cpu_is_exact(tmp_path: Path) -> None:
    path = written(tmp_path, "qoperator", largest=127)
    exact = open_model(path, integer.open_content)
    np.testing.assert_allclose(
        exact.probabilities(IMAGES), open_model(path).probabilities(IMAGES), rtol=1e-5, atol=1e-12
    )


# --- refusals ---

OPENERS = pytest.mark.parametrize("opener", [integer.open_content, integer.open_emulated], ids=["exact", "emulated"])


@OPENERS
def test_a_float_model_is_refused(tmp_path: Path, opener: Any) -> None:
    path = tmp_path / "float.onnx"
    onnx.save(float_network(), path)
    with pytest.raises(ModelError, match=r"float\.onnx is not quantized: found no QuantizeLinear.*quantize it with"):
        open_model(path, opener)


@OPENERS
@pytest.mark.parametrize(
    ("index", "size", "match"),
    [
        (1, 28, r"another input shape: found \(batch, 28, 32, 3\), expected \(batch, 32, 32, 3\)"),
        (3, 1, r"another input shape: found \(batch, 32, 32, 1\)"),
    ],
)
def test_another_input_is_refused(tmp_path: Path, opener: Any, index: int, size: int, match: str) -> None:
    path = written(tmp_path)
    model = onnx.load(path)
    model.graph.input[0].type.tensor_type.shape.dim[index].dim_value = size
    onnx.save(model, path)
    with pytest.raises(ModelError, match=match):
        open_model(path, opener)


@OPENERS
def test_another_number_of_classes_is_refused(tmp_path: Path, opener: Any) -> None:
    path = tmp_path / "classes.onnx"
    program = network()
    *others, last = program.layers
    logits = replace(program.logits, shape=(12,))
    last = weighted(np.random.default_rng(81), last.x, logits, dense=True, name="dense")
    onnx.save(to_onnx(replace(program, layers=(*others, last), logits=logits), "qdq"), path)
    with pytest.raises(ModelError, match=r"another output shape: found \(batch, 12\), expected \(batch, 10\)"):
        open_model(path, opener)


@OPENERS
@pytest.mark.parametrize(
    ("content", "label"),
    [(b"\x89HDF\r\n\x1a\n and so on", "Keras"), (b"\x1c\x00\x00\x00TFL3 and so on", "LiteRT")],
    ids=["h5", "tflite"],
)
def test_files_of_other_runtimes_are_refused(tmp_path: Path, opener: Any, content: bytes, label: str) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelError) as caught:
        open_model(path, opener)
    assert str(caught.value) == (
        f"{path} cannot be run in integers: found a file for {label}, expected a quantized ONNX file; "
        "make one with «resnet8 quantize»"
    )


@OPENERS
def test_what_is_damaged_or_no_model_is_refused(tmp_path: Path, opener: Any) -> None:
    content = written(tmp_path).read_bytes()
    path = tmp_path / "damaged.onnx"
    for damaged in (b"", b"plain text", b"\x80\x04pickle", *(content[:end] for end in range(0, len(content), 997))):
        path.write_bytes(damaged)
        with pytest.raises(ModelError, match=r"damaged\.onnx") as caught:
            open_model(path, opener)
        assert "\n" not in str(caught.value)
        assert caught.value.remedy


def test_an_operator_that_is_not_supported_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path)
    model = onnx.load(path)
    node = next(node for node in model.graph.node if node.op_type == "Softmax")
    node.op_type = "LogSoftmax"
    onnx.save(model, path)
    with pytest.raises(ModelError, match=r"network\.onnx cannot be run in integers: .*operator LogSoftmax"):
        open_model(path, integer.open_content)


# --- ResNet8 itself ---


def same_predictions(path: Path, split: Split) -> None:
    """The engine's predictions are ONNX Runtime's, on a CPU of either kind."""
    reference = open_model(path)
    opener = integer.open_content if VNNI or reference.model.weights == "uint8" else integer.open_emulated
    found, _ = evaluate_split(open_model(path, opener), split, 50)
    wanted, _ = evaluate_split(reference, split, 50)
    assert found.predictions == wanted.predictions


@pytest.mark.parametrize("name", ORT_RECIPES)
def test_the_demo_s_files_answer_as_in_onnx_runtime(reproduced: Reproduction, demo_assets: Assets, name: str) -> None:
    path = reproduced.output_dir / "models" / RECIPES[name].output
    split = read_split(demo_assets.data_dir, "test").first(60)
    assert split.images.shape[1:] == IMAGE_SHAPE
    same_predictions(path, split)


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.parametrize("name", ORT_RECIPES)
def test_the_real_files_answer_as_in_onnx_runtime(real_models: dict[str, Path], real_assets: Path, name: str) -> None:
    same_predictions(real_models[name], read_split(real_assets, "test").first(200))
