"""PT2E: what the files hold, that they compute it anywhere, and what is said where it, or FX graph mode, cannot be."""

from __future__ import annotations

import importlib
import io
import subprocess
import sys
import zipfile
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from builders import cifar_folder, noise
from onnx import helper, numpy_helper
from quantized import float_network

from resnet8 import quantization
from resnet8.audit.agreement import audit_agreement, require_explained
from resnet8.data.cifar10 import preprocess, read_split
from resnet8.errors import MissingExtraError, ModelError, QuantizationError
from resnet8.evaluation import evaluate
from resnet8.execute import real
from resnet8.execute.walk import walk
from resnet8.network import onnx_read
from resnet8.network.rewrite import behind
from resnet8.quantization import pt2e
from resnet8.quantization.recipes import RECIPES, Recipe
from resnet8.results import sha256
from resnet8.runtimes import integer, open_model, torchscript_file
from resnet8.runtimes.pytorch import Trace

if TYPE_CHECKING:
    from pathlib import Path

    from resnet8.network.program import Program

pytestmark = pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor:UserWarning")

IMAGES = noise(40, seed=5)
INT8, UINT8 = RECIPES["torch-pt2e-int8"], RECIPES["torch-pt2e-uint8"]
MADE = {
    "int8": INT8,
    "uint8": UINT8,
    "int8 by extremes": replace(INT8, observer="minmax", reduce_range=False),
    "uint8 per tensor": replace(UINT8, observer="minmax", per_channel=False),
}
DIGESTS = {
    "int8": "123cf92fae3d1add9b6336ca08ea924b27b8def76dbb68c5d21d96b868c96069",
    "uint8": "97bcb60c4e8d16e96303dfb5e3061643c1334fc664edae9728bf640f360ad2ff",
    "int8 by extremes": "110262b73f7534a3b8d2a7bf7bfb7b5c6f6e7edbbd4969dfdc974168282ec74b",
    "uint8 per tensor": "2c913ae2aaa8a787bae102e59970aac043fbf75e9f02cc86cd5dc49b3cde14c5",
}
"""SHA-256 of the files, with the tested versions, on every CPU."""


def residual_network() -> onnx.ModelProto:
    """The small float network with a batch normalization as factor and addend, and a pool as converters write it."""
    model = float_network()
    rng = np.random.default_rng(8)
    for name, mean in (("factor", 1.0), ("addend", 0.0)):
        values = rng.normal(mean, 0.3, (1, 6, 1, 1)).astype(np.float32)
        model.graph.initializer.append(numpy_helper.from_array(values, name))
    nodes = {node.name: node for node in model.graph.node}
    nodes["conv2"].output[0] = "c2 alone"
    nodes["pool"].CopyFrom(
        helper.make_node("AveragePool", ["r2"], ["p"], name="pool", kernel_shape=[8, 8], strides=[8, 8])
    )
    place = list(model.graph.node).index(nodes["add"])
    model.graph.node.insert(place, helper.make_node("Add", ["c2 scaled", "addend"], ["c2"], name="shift"))
    model.graph.node.insert(place, helper.make_node("Mul", ["c2 alone", "factor"], ["c2 scaled"], name="scale"))
    return model


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "float.onnx"
    onnx.save(residual_network(), path)
    return path


@pytest.fixture(scope="module")
def files(source: Path) -> dict[str, Path]:
    found = {}
    for name, recipe in MADE.items():
        found[name] = source.with_name(f"{name}.pt")
        found[name].write_bytes(pt2e.quantize(source, recipe, IMAGES))
    return found


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return cifar_folder(tmp_path_factory.mktemp("assets") / "data")


def program_of(path: Path) -> Program:
    return torchscript_file.read(path, path.read_bytes(), quantized=True)[1]


def floats(source: Path) -> Program:
    return onnx_read.read(onnx.load(source), "float.onnx")


def code_of(path: Path) -> str:
    with zipfile.ZipFile(io.BytesIO(path.read_bytes())) as archive:
        return "".join(archive.read(name).decode() for name in archive.namelist() if name.endswith(".py"))


@pytest.mark.slow
def test_nothing_is_left_behind(source: Path, tmp_path: Path) -> None:
    """By a process that ends at once, as the frameworks' own do: no lock whose loss Python tells of."""
    np.save(tmp_path / "images.npy", IMAGES)
    program = (
        "import multiprocessing, os, sys; from pathlib import Path; import numpy as np\n"
        "multiprocessing.set_start_method('spawn')\n"
        "from resnet8.quantization import pt2e; from resnet8.quantization.recipes import recipe\n"
        "pt2e.quantize(Path(sys.argv[1]), recipe('torch-pt2e-int8'), np.load(sys.argv[2])); os._exit(0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, source, tmp_path / "images.npy"], capture_output=True, text=True, check=True
    )
    assert "leaked" not in done.stderr


# --- what the files hold ---


@pytest.mark.parametrize("name", MADE)
def test_the_files_are_the_same_on_every_machine(files: dict[str, Path], name: str) -> None:
    assert sha256(files[name].read_bytes()) == DIGESTS[name]


def test_the_order_of_recipes_leaves_no_trace(files: dict[str, Path], source: Path) -> None:
    assert pt2e.quantize(source, MADE["int8"], IMAGES) == files["int8"].read_bytes()


@pytest.mark.parametrize(("name", "kernels"), [("int8", True), ("uint8", False), ("uint8 per tensor", False)])
def test_int8_weights_are_for_kernels_and_uint8_ones_for_float_operators(
    files: dict[str, Path], name: str, kernels: bool
) -> None:
    code = code_of(files[name])
    for kernel, operator in (("quantized.conv2d_relu", "torch.conv2d"), ("quantized.linear", "torch.linear")):
        assert (kernel in code, operator in code) == (kernels, not kernels)
    assert "quantized_decomposed" not in code
    assert torchscript_file.describe(files[name], files[name].read_bytes()).weights == MADE[name].weights
    assert torchscript_file.describe(files[name], files[name].read_bytes()).activations == "uint8"
    wanted = {"integer"} if kernels else {"float"}
    assert {layer.kernel for layer in program_of(files[name]).weighted} == wanted


def expected_grid(weights: np.ndarray, recipe: Recipe) -> tuple[np.ndarray, np.ndarray, int, int]:
    """Scale, zero point and bounds of weights, (depth, channels out), by the rules of the observers, in float64."""
    axis = 0 if recipe.per_channel else None
    low = np.minimum(weights.astype(np.float64).min(axis=axis), 0)
    high = np.maximum(weights.astype(np.float64).max(axis=axis), 0)
    if recipe.weights == "uint8":
        scale = (high - low) / 255
        return scale, -np.rint(low / scale), 0, 255
    least, most = (-64, 63) if recipe.reduce_range else (-128, 127)
    return np.maximum(-low, high) / ((most - least) / 2), np.zeros_like(low), least, most


@pytest.mark.parametrize("name", MADE)
def test_weights_are_the_nearest_codes_to_the_folded_ones(files: dict[str, Path], source: Path, name: str) -> None:
    program = program_of(files[name])
    folded = behind(program, floats(source))
    assert [layer.name for layer in program.weighted] == ["conv1", "conv2", "dense"]
    for layer, wanted in zip(program.weighted, folded.weighted, strict=True):
        scale, zero, least, most = expected_grid(wanted.weights.columns, MADE[name])
        np.testing.assert_allclose(layer.weights.params.scale, scale, rtol=2e-7)
        np.testing.assert_array_equal(layer.weights.params.zero_point, zero)
        assert layer.weights.params.per_channel == MADE[name].per_channel
        exact = wanted.weights.columns / layer.weights.params.scale.astype(np.float64) + zero
        assert np.abs(layer.weights.columns - exact.clip(least, most)).max() <= 0.5 + 1e-5
        assert layer.weights.columns.min() >= least
        assert layer.weights.columns.max() <= most
        np.testing.assert_allclose(layer.real_bias, wanted.added, rtol=1e-6)


@pytest.mark.parametrize("name", ["int8 by extremes", "uint8 per tensor"])
def test_ranges_are_those_of_the_calibration_images(files: dict[str, Path], source: Path, name: str) -> None:
    program = program_of(files[name])
    seen: dict[str, np.ndarray] = {}
    walk(behind(program, floats(source)), preprocess(IMAGES), real.step, seen.__setitem__)
    kept = {layer.output.name: layer.inputs[0] for layer in program.layers if layer.kind == "average-pool"}
    for activation in program.activations.values():
        values = seen[kept.get(activation.name, activation.name)]
        low, high = min(0.0, float(values.min())), max(0.0, float(values.max()))
        np.testing.assert_allclose(activation.scale, (high - low) / 255, rtol=1e-5)
        assert activation.zero_point == round(-low / (high - low) * 255)


# --- what they compute ---


@pytest.mark.parametrize("name", MADE)
def test_another_process_gives_the_same_predictions(files: dict[str, Path], name: str, data: Path) -> None:
    test = read_split(data, "test")
    here = open_model(files[name]).probabilities(preprocess(test.images)).argmax(axis=1)
    result = evaluate(files[name], data)
    assert result.predictions == "".join(map(str, here))
    assert (result.runtime, result.model.weights) == ("pytorch", MADE[name].weights)


@pytest.mark.parametrize("name", MADE)
def test_it_is_close_to_the_float_network(files: dict[str, Path], source: Path, name: str) -> None:
    images = preprocess(noise(100, seed=6))
    found, wanted = (open_model(path).probabilities(images) for path in (files[name], source))
    assert np.abs(found - wanted).mean() < 0.02


@pytest.mark.parametrize("name", MADE)
def test_the_integer_engine_computes_it_too(files: dict[str, Path], name: str, data: Path) -> None:
    """But for ties, float rounding and the bias, by rational arithmetic."""
    path, content = files[name], files[name].read_bytes()
    split = read_split(data, "test")
    agreement = audit_agreement(torchscript_file.describe(path, content), {"TorchScript": Trace(path, content)}, split)
    require_explained(agreement)
    engine = integer.open_content(path, content).probabilities(preprocess(split.images))
    assert np.abs(engine - open_model(path).probabilities(preprocess(split.images))).mean() < 0.005


# --- refusals ---


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"activations": "int8"}, "found activations = int8, expected activations = uint8"),
        ({"observed_in": "float32"}, "found observed_in = float32, expected observed_in = float64"),
        ({"fold": False}, "found fold = False, expected fold = True"),
    ],
)
def test_a_recipe_for_others_is_refused(source: Path, change: dict[str, object], words: str) -> None:
    with pytest.raises(QuantizationError, match=f"torch-pt2e-int8 cannot be carried out by PyTorch: {words}"):
        pt2e.quantize(source, replace(INT8, **change), IMAGES)  # type: ignore[arg-type]


def test_a_network_of_other_operators_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "global.onnx"
    onnx.save(float_network(), path)
    with pytest.raises(QuantizationError, match=r"found the operator aten\.mean\.dim, expected a ResNet8"):
        pt2e.quantize(path, INT8, IMAGES[:2])


def test_a_quantized_or_damaged_model_is_refused(files: dict[str, Path], source: Path, tmp_path: Path) -> None:
    part = tmp_path / "part.onnx"
    part.write_bytes(source.read_bytes()[:-500])
    with pytest.raises(ModelError, match=r"part\.onnx"):
        pt2e.quantize(part, INT8, IMAGES)
    with pytest.raises(ModelError, match=r"int8\.pt was converted from is not beside it"):
        pt2e.source(tmp_path / files["int8"].rename(tmp_path / "int8.pt").name)
    files["int8"].write_bytes((tmp_path / "int8.pt").read_bytes())


def apply(recipe: Recipe, source: Path) -> None:
    quantization.apply(recipe, source, None, None)  # type: ignore[arg-type]


def test_without_torchao_the_extra_is_named(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "resnet8.quantization.pt2e")
    monkeypatch.setitem(sys.modules, "torchao.quantization.pt2e", None)
    with pytest.raises(MissingExtraError, match=r"the package torchao.*\[torch\]"):
        apply(INT8, source)


@pytest.mark.parametrize("gone", ["torch.ao.quantization", "torch.ao.quantization.quantize_fx"])
def test_a_pytorch_without_fx_says_which_has_it(source: Path, monkeypatch: pytest.MonkeyPatch, gone: str) -> None:
    importlib.import_module("resnet8.quantization.pytorch")
    monkeypatch.delitem(sys.modules, "resnet8.quantization.pytorch")
    monkeypatch.setitem(sys.modules, gone, None)
    words = r"FX graph mode .*: found torch \d.*, expected torch 2\.15\.0 or before.*use the recipe torch-pt2e-int8"
    with pytest.raises(QuantizationError, match=words):
        apply(RECIPES["torch-int8"], source)
