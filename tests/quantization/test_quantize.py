"""Every recipe on the demo: what the files hold, what the records say, what is refused."""

from __future__ import annotations

import shutil
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from resnet8 import environment
from resnet8.data import calibration
from resnet8.data.cifar10 import KNOWN_FINGERPRINTS, read_split
from resnet8.errors import ModelError, QuantizationError, WorkerError
from resnet8.evaluation import evaluate, record_path
from resnet8.files import sha256_file
from resnet8.quantization import quantize
from resnet8.quantization.recipes import BACKENDS, RECIPES
from resnet8.results import Evaluation, Quantization, load

if TYPE_CHECKING:
    from pathlib import Path

    from resnet8.data.assets import Assets
    from resnet8.pipeline import Reproduction
    from resnet8.workers import Workers

ORT = [name for name, recipe in RECIPES.items() if recipe.backend is BACKENDS["onnxruntime"]]
REPRODUCED = [name for name, recipe in RECIPES.items() if recipe.reproduced]
MADE = [name for name in REPRODUCED if not RECIPES[name].refused]
NATIVE = [name for name in MADE if RECIPES[name].mode == "native"]
CODES = {"int8": TensorProto.INT8, "uint8": TensorProto.UINT8}


def model_of(reproduced: Reproduction, name: str) -> Path:
    return reproduced.output_dir / "models" / RECIPES[name].output


def record_of(reproduced: Reproduction, name: str) -> Quantization:
    return load(Quantization, record_path(model_of(reproduced, name)))


def test_the_recipes_are_those_of_the_requirements() -> None:
    assert {
        "published-int8",
        "published-uint8",
        "ort-int8",
        "ort-uint8",
        "ort-per-channel",
        "torch-int8",
        "torch-uint8",
    } <= set(RECIPES)


# --- files ---


@pytest.mark.parametrize("name", ORT)
def test_what_the_onnx_file_holds(reproduced: Reproduction, name: str) -> None:
    recipe = RECIPES[name]
    model = onnx.load(model_of(reproduced, name))
    onnx.checker.check_model(model, full_check=True)
    assert model.ir_version == 7
    assert {entry.domain or "ai.onnx": entry.version for entry in model.opset_import} == {"ai.onnx": 13}
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    producers = {output: node for node in model.graph.node for output in node.output}
    operators = Counter(node.op_type for node in model.graph.node)
    assert operators["Conv"] == 9
    assert operators["QuantizeLinear"] > 9  # QDQ: the operators stay float, in between the pairs
    assert not {"QLinearConv", "QLinearMatMul"} & set(operators)

    for node in model.graph.node:
        if node.op_type == "QuantizeLinear":
            assert tensors[node.input[2]].data_type == CODES[recipe.activations]
            assert not tensors[node.input[1]].dims or tuple(tensors[node.input[1]].dims) == (1,)

    weights = [producers[node.input[1]] for node in model.graph.node if node.op_type == "Conv"]
    for node in weights:
        assert node.op_type == "DequantizeLinear"
        codes, scale = tensors[node.input[0]], tensors[node.input[1]]
        assert codes.data_type == CODES[recipe.weights]
        assert int(np.prod(scale.dims)) == (codes.dims[0] if recipe.per_channel else 1)
        if recipe.weights == "int8":
            assert not numpy_helper.to_array(tensors[node.input[2]]).any()  # signed weights are symmetric

    multiplied = sum(node.op_type == "Mul" for node in model.graph.node)
    assert (multiplied == 0) == recipe.fold


@pytest.mark.parametrize("name", NATIVE)
def test_what_a_file_of_this_packages_own_holds(reproduced: Reproduction, name: str) -> None:
    recipe = RECIPES[name]
    model = onnx.load(model_of(reproduced, name))
    onnx.checker.check_model(model)
    assert {entry.domain or "ai.onnx": entry.version for entry in model.opset_import} == {
        "ai.onnx": 13,
        "com.microsoft": 1,
    }
    operators = Counter(node.op_type for node in model.graph.node)
    assert operators == {
        "Transpose": 1,
        "QuantizeLinear": 1,
        "QLinearConv": 9,
        "QLinearAdd": 3,
        "QLinearGlobalAveragePool": 1,
        "Flatten": 1,
        "QGemm": 1,
        "DequantizeLinear": 1,
        "Softmax": 1,
    }
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type in ("QLinearConv", "QGemm"):
            codes, scale, zero_point = (tensors[one] for one in node.input[3:6])
            channels = codes.dims[0 if node.op_type == "QLinearConv" else 1]
            assert codes.data_type == CODES[recipe.weights]
            assert int(np.prod(scale.dims)) == (channels if recipe.per_channel else 1)
            assert set(numpy_helper.to_array(zero_point).flat) == {128 if recipe.weights == "uint8" else 0}


def test_int8_and_int8_vnni_are_the_same_codes(reproduced: Reproduction) -> None:
    unsigned, signed = (
        [numpy_helper.to_array(one) for one in onnx.load(model_of(reproduced, name)).graph.initializer if one.dims]
        for name in ("int8", "int8-vnni")
    )
    pairs = list(zip(unsigned, signed, strict=True))
    assert sum(one.dtype == np.uint8 and other.dtype == np.int8 for one, other in pairs) >= 10
    for one, other in pairs:
        shift = 128 if one.dtype != other.dtype else 0
        np.testing.assert_array_equal(one.astype(np.float64) - shift, other.astype(np.float64))


@pytest.mark.parametrize("name", MADE)
def test_a_quantized_file_is_smaller_and_about_as_good(reproduced: Reproduction, name: str) -> None:
    (row,) = (row for row in reproduced.comparison.rows if row.name == name)
    assert row.reduction > 0.45
    assert abs(row.delta_points) < 3
    assert not row.flagged


def test_a_folded_graph_makes_smaller_files(reproduced: Reproduction) -> None:
    sizes = {name: model_of(reproduced, name).stat().st_size for name in ("ort-uint8", "ort-portable")}
    assert sizes["ort-portable"] < sizes["ort-uint8"]


DIGESTS = {
    "resnet8.onnx": "b1085a71db4d14187dbab509ba32058b434a3f09aa467699c4a358991c6e711b",
    "resnet8.pt": "3617be6feec752abac9f091b4dda784466029620b7cf53d231aedcd397093fc0",
    "published-int8": "17b87ca629f9feac109d7b01dcb6211227da79a541ce2fb7a3b4f201fa158720",
    "published-uint8": "f3db65a1845be760484de2852f0d2131ae56e414f4bf8179a091e6f32ea53a8c",
    "ort-int8": "cf681d394dbaa92c52de565e97651937cf147bf5f7942eb13168af65abe321bf",
    "ort-uint8": "ede498faa1ce895e684fcf166be9ae0aee887f2610fee177567d04f4590ddb62",
    "ort-per-channel": "9d7768fe7d11015c612f4200a1ec76b3fb028c915fb0525421fc37fd2e7aee60",
    "ort-portable": "9b6326263c6a3d8dc2657102ef5699771931e53761fda0b423bff0b3506bb5b5",
    "ort-7bit-weights": "c7857c3d1410f70c4bed6e8c5381b57fdb74fff6dc37bf3330fa823f80425244",
    "torch-int8": "e4c725088649c04dd51934a3b08f8a58bdf5a499e5b1cbc554a2e64d3e6cce70",
    "int8": "88634a1535bbd07cb6b880f59207993dd1dabecb08a2a18c08158880328029ba",
    "int8-vnni": "ff827702923b7b9abeb10cd5e97a87e86734603394863dfca9af06ee374d9498",
    "int8-per-tensor": "9b73aad76568ace115372b3cdce6d2254d8cb7f06161574a785464b93dc2517e",
}
"""SHA-256 of the demo's files, with the tested versions, on every CPU."""

FMA = "fma" in environment.cpu().flags


@pytest.mark.parametrize("name", DIGESTS)
def test_the_files_are_the_same_on_every_machine(reproduced: Reproduction, name: str) -> None:
    if name.startswith("published-") and not FMA:
        pytest.skip("ONNX Runtime's kernels, which find a published recipe's ranges, round otherwise without FMA")
    file = RECIPES[name].output if name in RECIPES else name
    assert sha256_file(reproduced.output_dir / "models" / file) == DIGESTS[name]


def test_the_order_of_recipes_leaves_no_trace(
    reproduced: Reproduction, demo_assets: Assets, tmp_path: Path, workers: Workers
) -> None:
    """In a process that has made others before: TorchScript numbers what it compiles, and sets have orders."""
    source = reproduced.output_dir / "models/resnet8.onnx"
    few, whole = (calibration.calibrate(demo_assets.data_dir, count) for count in (20, 100))
    for name, images in (("torch-int8", few), ("ort-portable", whole), ("torch-int8", whole), ("ort-int8", whole)):
        output = tmp_path / RECIPES[name].output
        quantize(source, name, images, workers).save(output)
        assert (sha256_file(output) == DIGESTS[name]) == (images is whole)


def test_the_calibration_set_must_be_the_recipes(
    reproduced: Reproduction, demo_assets: Assets, workers: Workers
) -> None:
    source = reproduced.output_dir / "models/resnet8.onnx"
    first = calibration.calibrate(demo_assets.data_dir)
    with pytest.raises(QuantizationError, match=r"published-uint8 fixes its calibration set: found .* first draw, exp"):
        quantize(source, "published-uint8", first, workers)
    few = calibration.calibrate(demo_assets.data_dir, samples_per_class=20)
    with pytest.raises(QuantizationError, match="published-int8 fixes its calibration set: found 20 per class"):
        quantize(source, "published-int8", few, workers)


# --- records ---


@pytest.mark.parametrize("name", REPRODUCED)
def test_the_record_says_how(reproduced: Reproduction, demo_assets: Assets, name: str) -> None:
    recipe, record = RECIPES[name], record_of(reproduced, name)
    assert record.recipe == name
    assert record.settings == recipe.settings()
    assert record.source_sha256 == sha256_file(reproduced.output_dir / "models/resnet8.onnx")
    if RECIPES[name].refused:
        assert record.model_sha256 is None
    else:
        assert record.model_sha256 == sha256_file(model_of(reproduced, name))
        assert record.refusal is None
    assert {"onnxruntime", "torch", "numpy", "onnx"} <= record.environment.libraries.keys()
    drawn = record.calibration
    assert drawn is not None
    assert (drawn.seed, drawn.samples_per_class, drawn.method) == (42, 100, recipe.draw)
    assert KNOWN_FINGERPRINTS[drawn.data.fingerprint] == ("demo digits", "train")
    labels = read_split(demo_assets.data_dir, "train").labels
    assert drawn.indices == tuple(calibration.draw(labels, 100, 42, recipe.draw).tolist())
    assert len(set(drawn.indices)) == 1000
    assert np.bincount(labels[list(drawn.indices)]).tolist() == [100] * 10 == list(drawn.per_class.values())


def test_published_uint8_alone_uses_the_second_draw(reproduced: Reproduction, demo_assets: Assets) -> None:
    labels = read_split(demo_assets.data_dir, "train").labels
    np.random.seed(42)  # noqa: NPY002 - the published procedure, to the letter
    first, second = (
        np.concatenate(
            [np.random.choice(np.where(labels == label)[0], 100, replace=False) for label in range(10)]  # noqa: NPY002
        )
        for _ in range(2)
    )
    assert first.tolist() != second.tolist()
    for name in REPRODUCED:
        drawn = record_of(reproduced, name).calibration
        assert drawn is not None
        assert list(drawn.indices) == (second if name == "published-uint8" else first).tolist()


@pytest.mark.parametrize("name", MADE)
def test_the_record_travels_with_the_evaluation(reproduced: Reproduction, name: str) -> None:
    evaluation = load(Evaluation, reproduced.output_dir / f"results/{name}.json")
    assert evaluation.quantization == record_of(reproduced, name)


def test_a_record_of_another_file_is_not_believed(
    reproduced: Reproduction, demo_assets: Assets, tmp_path: Path
) -> None:
    model = shutil.copy(model_of(reproduced, "ort-int8"), tmp_path / "model.onnx")
    assert evaluate(model, demo_assets.data_dir, max_samples=10).quantization is None
    shutil.copy(record_path(model_of(reproduced, "ort-uint8")), record_path(model))
    assert evaluate(model, demo_assets.data_dir, max_samples=10).quantization is None
    shutil.copy(record_path(model_of(reproduced, "ort-int8")), record_path(model))
    assert evaluate(model, demo_assets.data_dir, max_samples=10).quantization is not None
    record_path(model).write_text("{}")
    assert evaluate(model, demo_assets.data_dir, max_samples=10).quantization is None


# --- refusals ---


def test_torch_uint8_is_refused_in_the_backends_words(reproduced: Reproduction) -> None:
    record = record_of(reproduced, "torch-uint8")
    assert record.refusal is not None
    assert "expected scalar type QInt8 but found QUInt8" in record.refusal
    assert "9 convolutions in float32" in record.refusal
    assert not model_of(reproduced, "torch-uint8").exists()
    assert reproduced.comparison.refused == {"torch-uint8": record.refusal}
    assert load(Quantization, reproduced.output_dir / "results/torch-uint8.json") == record


@pytest.fixture(scope="module")
def images(demo_assets: Assets) -> tuple[object, object]:
    return calibration.calibrate(demo_assets.data_dir)


@pytest.mark.parametrize(
    ("recipe", "source"),
    [("ort-int8", "ort-int8"), ("ort-per-channel", "published-uint8"), ("torch-int8", "ort-int8")],
)
def test_a_quantized_model_is_not_quantized_again(
    workers: Workers, reproduced: Reproduction, images: object, recipe: str, source: str
) -> None:
    with pytest.raises(ModelError, match=r"is quantized already: found .*int8, expected a float32 model"):
        quantize(model_of(reproduced, source), recipe, images, workers)  # type: ignore[arg-type]


def test_an_unknown_recipe_is_refused(workers: Workers, reproduced: Reproduction) -> None:
    source = reproduced.output_dir / "models/resnet8.onnx"
    with pytest.raises(QuantizationError, match="recipe is not known: found int5, expected published-int8"):
        quantize(source, "int5", None, workers)  # type: ignore[arg-type]


@pytest.mark.parametrize("recipe", ["ort-int8", "ort-portable", "torch-int8"])
def test_a_damaged_model_is_refused(
    workers: Workers, reproduced: Reproduction, images: object, tmp_path: Path, recipe: str
) -> None:
    source = tmp_path / "part.onnx"
    source.write_bytes((reproduced.output_dir / "models/resnet8.onnx").read_bytes()[:-1000])
    with pytest.raises(ModelError, match=r"part\.onnx"):
        quantize(source, recipe, images, workers)  # type: ignore[arg-type]


# --- from the .pt ---


def test_from_the_pt_its_onnx_is_found_by_content(
    workers: Workers, reproduced: Reproduction, demo_assets: Assets, tmp_path: Path
) -> None:
    for name, copy in (("resnet8.pt", "model.pt"), ("resnet8.onnx", "b.onnx"), ("resnet8_int8.onnx", "a.onnx")):
        shutil.copy(reproduced.output_dir / "models" / name, tmp_path / copy)
    output = tmp_path / "int8.pt"
    few = calibration.calibrate(demo_assets.data_dir, 20)
    made = quantize(tmp_path / "model.pt", "torch-int8", few, workers)
    assert not output.exists()
    made.save(output)
    record = made.record
    assert record.source_sha256 == reproduced.parity.models["onnxruntime"].sha256
    assert record.model_sha256 == sha256_file(output)
    evaluation = evaluate(output, demo_assets.data_dir)
    assert evaluation.quantization == record
    assert evaluation.overall.accuracy > 0.9


def test_a_pt_without_its_onnx_says_so(
    workers: Workers, reproduced: Reproduction, images: object, tmp_path: Path
) -> None:
    alone = shutil.copy(reproduced.output_dir / "models/resnet8.pt", tmp_path / "resnet8.pt")
    shutil.copy(reproduced.output_dir / "models/resnet8_int8.onnx", tmp_path / "resnet8.onnx")  # the name is not it
    with pytest.raises(ModelError, match=r"not beside it: found no \.onnx file in .*; put it there, or name it"):
        quantize(alone, "torch-int8", images, workers)  # type: ignore[arg-type]


def test_the_keras_file_is_no_source(workers: Workers, demo_assets: Assets, images: object) -> None:
    for recipe in ("torch-int8", "ort-int8"):
        with pytest.raises(ModelError):
            quantize(demo_assets.keras_model, recipe, images, workers)  # type: ignore[arg-type]


# --- failures ---


def test_a_failure_in_a_worker_is_an_error(
    workers: Workers, reproduced: Reproduction, images: tuple[object, object]
) -> None:
    source = reproduced.output_dir / "models/resnet8.onnx"
    with pytest.raises(WorkerError):
        quantize(source, "ort-int8", (None, images[1]), workers)  # type: ignore[arg-type]
