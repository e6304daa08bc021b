"""This package's own quantization: a small residual network, against the float one and by its laws."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime
import pytest
from builders import noise
from quantized import float_network
from reals import pictures, residual

from resnet8.data.cifar10 import preprocess
from resnet8.errors import ModelError, QuantizationError
from resnet8.execute import engine, real
from resnet8.execute.patches import patches
from resnet8.network import onnx_read
from resnet8.network.layers import Product, Rescale
from resnet8.network.tensors import Constant
from resnet8.numeric.grid import limits
from resnet8.quantization.equalization import ChannelMagnitudes, equalized
from resnet8.quantization.native import FEWEST_IMAGES, fold, quantize, quantized, source
from resnet8.quantization.recipes import RECIPES, native
from resnet8.quantization.scheme import Scheme
from resnet8.runtimes import open_model

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from resnet8.network.program import Program

NETWORK = residual()
IMAGES = pictures(100)
ASKED = pictures(200, 1)
PLAIN = Scheme(weight_observer="minmax", observer="minmax", bias_correction=False)

GOLDEN = {
    "int8": "a396555a828066e4426bcb81d3abaec99f3a5dfeabfdbb65e076b5de75115099",
    "int4": "a63986e2a298e1e40d0fa791b08c9246cb6a3f755cb82027def3cc16b7c39f38",
    "asymmetric": "022fe78762fe7f9eb38f031b5ba6454872833afa3951f733b376e5f67c1602d1",
    "few": "87c01baad7435fffe829957b4baea50f4535ff5bf2e94aa02a564bd08ddb9a68",
}
"""SHA-256 of every code and grid: the same on every CPU, others only where the algorithm is another."""

SCHEMES = {
    "int8": Scheme(weights_signed=False, rounding="reconstruct"),
    "int4": Scheme(weight_bits=4, rounding="reconstruct", equalization="balanced"),
    "asymmetric": Scheme(weight_bits=2, rounding="reconstruct", asymmetric_weights=True),
    "few": Scheme(
        weight_bits=3,
        edge_bits=None,
        activation_bits=5,
        activations_signed=True,
        per_channel=False,
        observer="percentile",
        equalization="activations",
    ),
}


@cache
def made(scheme: Scheme) -> Program:
    return quantized(NETWORK, IMAGES, scheme)


def logits(program: Program, images: NDArray[np.uint8] = ASKED) -> NDArray[np.float64]:
    """What the integer engine computes, as real numbers."""
    integer = program.as_integer()
    codes = engine.run(integer, engine.input_codes(integer, images))
    return (codes.astype(np.float64) - program.logits.zero_point) * program.logits.scale


def wanted(images: NDArray[np.uint8] = ASKED) -> NDArray[np.float32]:
    return real.run(NETWORK, images)


def codes_of(program: Program, images: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
    seen: dict[str, NDArray[Any]] = {}
    engine.run(program, engine.input_codes(program, images), watch=seen.__setitem__)
    return seen


def digest(program: Program) -> str:
    """Of every number."""
    summed = hashlib.sha256()
    for layer in program.layers:
        grids = [layer.output.params]
        if layer.parameter is not None:
            grids.append(layer.parameter.params)
            summed.update(np.ascontiguousarray(layer.parameter.codes).tobytes())
            summed.update(b"" if layer.bias is None else layer.bias.codes.tobytes())
        for grid in grids:
            summed.update(grid.dtype.encode() + grid.scale.tobytes() + grid.zero_point.tobytes())
    return summed.hexdigest()


# --- the same everywhere ---


@pytest.mark.parametrize("name", GOLDEN)
def test_every_cpu_gives_the_same_numbers(name: str) -> None:
    assert digest(made(SCHEMES[name])) == GOLDEN[name]


def test_threads_decide_nothing() -> None:
    """Those of matrix products, and those that batches are divided among."""
    program = (
        "import json, os, sys\n"
        "os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: int(sys.argv[1])])\n"
        "from test_native import GOLDEN, SCHEMES, digest, made\n"
        "print(json.dumps({name: digest(made(SCHEMES[name])) for name in GOLDEN}))"
    )
    here = Path(__file__).parent
    for threads in ("1", "2"):
        environment = os.environ | {
            "OPENBLAS_NUM_THREADS": threads,
            "OMP_NUM_THREADS": threads,
            "PYTHONPATH": os.pathsep.join([str(here), str(here.parent)]),
        }
        found = subprocess.run(
            [sys.executable, "-c", program, threads], env=environment, capture_output=True, text=True, check=True
        )
        assert json.loads(found.stdout) == GOLDEN


# --- what is computed ---


@pytest.mark.parametrize(
    ("scheme", "error", "agreeing"),
    [
        (Scheme(), 0.06, 0.9),
        (Scheme(activations_signed=True), 0.06, 0.9),
        (Scheme(per_channel=False), 0.06, 0.9),
        (SCHEMES["int8"], 0.06, 0.9),
        (Scheme(per_channel=False, rounding="reconstruct"), 0.06, 0.9),
        (Scheme(equalization="activations"), 0.06, 0.9),
        (Scheme(equalization="balanced", observer="percentile"), 0.08, 0.9),
        (PLAIN, 0.08, 0.9),
        (Scheme(weight_bits=7, edge_bits=None), 0.06, 0.9),
        (Scheme(weight_bits=6, edge_bits=None), 0.08, 0.85),
        (Scheme(weight_bits=5, edge_bits=None), 0.12, 0.85),
        (Scheme(weight_bits=4, edge_bits=None), 0.25, 0.75),
        (SCHEMES["int4"], 0.2, 0.8),
        (Scheme(weight_bits=3, edge_bits=None), 0.5, 0.5),
        (Scheme(weight_bits=2, rounding="reconstruct"), 0.5, 0.5),
        (Scheme(activation_bits=6), 0.2, 0.75),
        (Scheme(weight_bits=2, float_layers=("conv2", "conv3", "conv4", "conv5", "conv6")), 0.06, 0.9),
    ],
)
def test_class_scores_are_those_of_the_float_network(scheme: Scheme, error: float, agreeing: float) -> None:
    found, expected = logits(made(scheme)), wanted()
    assert np.sqrt(np.mean((found - expected) ** 2) / expected.var()) < error
    assert np.mean(found.argmax(axis=1) == expected.argmax(axis=1)) >= agreeing


def test_reconstruction_pays() -> None:
    """The fewer the bits, the more."""
    for bits in (2, 3, 4):
        errors = [
            np.mean((logits(made(Scheme(weight_bits=bits, rounding=how))) - wanted()) ** 2)  # type: ignore[arg-type]
            for how in ("nearest", "reconstruct")
        ]
        assert errors[1] < 0.7 * errors[0]


def test_a_zero_point_for_each_channel_pays() -> None:
    one, other = (made(Scheme(weight_bits=2, rounding="reconstruct", asymmetric_weights=how)) for how in (False, True))
    assert np.mean((logits(other) - wanted()) ** 2) < np.mean((logits(one) - wanted()) ** 2)
    assert {width: sorted(zeros) for width, zeros in zeros_of(one).items()} == {"int8": [0], "int2": [0]}
    assert {width: sorted(zeros) for width, zeros in zeros_of(other).items()} == {"int8": [0], "int2": [-1, 0]}
    for layer in other.weighted:
        assert layer.weights.codes.min() >= limits(layer.weights.params.dtype)[0]
        assert layer.weights.codes.max() <= limits(layer.weights.params.dtype)[1]


def zeros_of(program: Program) -> dict[str, set[int]]:
    """Zero points of weights, by their type."""
    found: dict[str, set[int]] = {}
    for layer in program.weighted:
        found.setdefault(layer.weights.params.dtype, set()).update(layer.weights.params.zero_point.ravel().tolist())
    return found


@pytest.mark.parametrize("rounding", ["nearest", "reconstruct"])
@pytest.mark.parametrize("per_channel", [True, False])
def test_unsigned_weights_are_the_same_codes_in_another_coat(rounding: Any, per_channel: bool) -> None:
    one, other = (
        made(Scheme(weights_signed=signed, per_channel=per_channel, rounding=rounding)) for signed in (True, False)
    )
    for signed, unsigned in zip(one.weighted, other.weighted, strict=True):
        assert (signed.weights.params.dtype, unsigned.weights.params.dtype) == ("int8", "uint8")
        np.testing.assert_array_equal(unsigned.weights.params.zero_point, 128)
        np.testing.assert_array_equal(unsigned.matrix, signed.matrix)
        np.testing.assert_array_equal(unsigned.added, signed.added)
        np.testing.assert_array_equal(unsigned.weights.params.scale, signed.weights.params.scale, strict=True)
    seen = [codes_of(program, ASKED) for program in (one, other)]
    assert seen[0].keys() == seen[1].keys()
    for name, codes in seen[0].items():
        np.testing.assert_array_equal(seen[1][name], codes)


@pytest.mark.parametrize(
    ("scheme", "bits"),
    [
        (Scheme(weight_bits=4), (8, 4, 4, 4, 4, 4, 8)),
        (Scheme(weight_bits=4, weights_signed=False), (8, 4, 4, 4, 4, 4, 8)),
        (Scheme(weight_bits=3, edge_bits=None, layer_bits=(("conv5", 2), ("dense", 7))), (3, 3, 3, 3, 2, 3, 7)),
        (Scheme(float_layers=("conv4",), activation_bits=4), (8, 8, 8, 16, 8, 8, 8)),
    ],
)
def test_every_tensor_is_on_its_grid(scheme: Scheme, bits: tuple[int, ...]) -> None:
    program = made(scheme)
    unsigned = "u" if not scheme.weights_signed else ""
    assert [one.weights.params.dtype for one in program.weighted] == [
        f"{unsigned if width == 8 else ''}int{width}" for width in bits
    ]
    for name, one in program.activations.items():
        edge = name in ("image", "mean", "logits") and scheme.edge_bits
        assert one.params.dtype == ("uint8" if edge else f"uint{scheme.activation_bits}")
    assert (program.input.scale, program.input.zero_point) == (1, 0)
    assert all(one.bias is not None and one.bias.codes.dtype == np.int32 for one in program.weighted)
    assert {layer.kernel for layer in program.layers} == {"integer"}
    assert [one.name for one in program.layers] == [one.name for one in fold(NETWORK).layers]


def test_the_nearest_codes_of_the_folded_weights_are_taken() -> None:
    for layer, folded in zip(made(PLAIN).weighted, fold(NETWORK).weighted, strict=True):
        scale = layer.weights.params.scale.astype(np.float64)
        off = np.abs(layer.matrix * scale - folded.weights.columns)
        assert (off <= scale / 2 * (1 + 1e-6) + 2.0**-23).all()
        np.testing.assert_allclose(np.abs(layer.matrix).max(axis=0), 127)
        steps = np.float64(layer.x.scale) * scale
        assert (np.abs(layer.added * steps - folded.added) <= steps / 2 + 2.0**-23).all()


def test_ranges_are_those_of_the_float_network() -> None:
    seen: dict[str, NDArray[np.float32]] = {}
    real.run(fold(NETWORK), IMAGES, seen.__setitem__)
    for name, one in made(PLAIN).activations.items():
        if name != "image":
            low, high = min(0.0, float(seen[name].min())), float(seen[name].max())
            assert one.scale == pytest.approx((high - low) / 255, rel=1e-3)
            assert one.zero_point == pytest.approx(-low / one.scale, abs=0.51)


@pytest.mark.parametrize("scheme", [Scheme(weight_bits=4), Scheme(weight_bits=3, per_channel=False)])
def test_corrected_biases_give_each_channel_its_mean(scheme: Scheme) -> None:
    """Accumulators, multiplied out from the codes of the images, against the float network's before its ReLU."""
    program, plain = made(scheme), fold(NETWORK)
    codes = codes_of(program, IMAGES)
    reals: dict[str, NDArray[np.float32]] = {}
    real.run(plain, IMAGES, reals.__setitem__)
    for layer, folded in zip(program.weighted, plain.weighted, strict=True):
        maps = codes[layer.x.name].reshape(-1, *layer.map_shape).astype(np.int64) - layer.x.zero_point
        rows = patches(maps, replace(layer, x=replace(layer.x, grid=None)), np.int64)
        step = np.float64(layer.x.scale) * layer.weights.params.scale.astype(np.float64)
        found = (rows @ layer.matrix + layer.added).mean(axis=0) * step
        expected = real.step(replace(folded, relu=False), reals).reshape(-1, folded.output.shape[-1]).mean(axis=0)
        assert (np.abs(found - expected) <= step / 2 + 1e-3).all()


def test_equalized_magnitudes_are_those_of_the_calibration_images() -> None:
    """The same as equalizing by what the float network computes, and quantizing that."""
    plain = real.on_a_grid(fold(NETWORK))
    seen: dict[str, NDArray[np.float32]] = {}
    real.run(fold(NETWORK), IMAGES, seen.__setitem__)
    rows = {name: np.abs(one.astype(np.float64)).reshape(-1, one.shape[-1]) for name, one in seen.items()}
    magnitudes = {name: ChannelMagnitudes(one.max(axis=0), one.mean(axis=0)) for name, one in rows.items()}
    other = quantized(equalized(plain, magnitudes, "activations"), IMAGES, PLAIN)
    program = made(replace(PLAIN, equalization="activations"))
    for one, two in zip(program.weighted, other.weighted, strict=True):
        np.testing.assert_allclose(one.weights.params.scale, two.weights.params.scale, rtol=1e-3)
        assert np.abs(one.matrix - two.matrix).max() <= 1


@pytest.mark.parametrize("equalization", ["none", "activations"])
def test_progress_is_told_to_the_end(equalization: Any) -> None:
    told: list[tuple[int, int]] = []
    quantized(NETWORK, IMAGES, replace(PLAIN, equalization=equalization), lambda *now: told.append(now))
    layers = len(fold(NETWORK).layers)
    total = layers if equalization == "none" else 2 * layers
    assert told == [(done, total) for done in range(1, total + 1)]


# --- files ---

SMALL = float_network()
CALIBRATION = noise(120, 3)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("native") / "float.onnx"
    path.write_bytes(SMALL.SerializeToString())
    return path


@pytest.mark.parametrize("form", ["qoperator", "qdq"])
@pytest.mark.parametrize("name", ["int8", "int8-per-tensor", "int4"])
def test_a_file_holds_the_network_and_runs(name: str, form: Any, model: Path, tmp_path: Path) -> None:
    recipe = replace(RECIPES[name], form=form)
    content = quantize(model, recipe, CALIBRATION)
    assert content == quantize(source(model), recipe, CALIBRATION)
    path = tmp_path / "quantized.onnx"
    path.write_bytes(content)
    program = quantized(onnx_read.read(SMALL, "float.onnx"), CALIBRATION, recipe.native_scheme)
    read = onnx_read.read(onnx.load(path), "quantized.onnx")
    assert digest(read) == digest(program)
    images = noise(60, 4)
    probabilities = open_model(path).probabilities(preprocess(images))
    np.testing.assert_array_equal(probabilities.argmax(axis=1), logits(program, images).argmax(axis=1))


@pytest.mark.parametrize("bits", [2, 4])
@pytest.mark.parametrize("level", ["all", "extended", "basic", "disable"])
def test_zero_points_for_each_channel_run_at_every_level(bits: int, level: str, model: Path, tmp_path: Path) -> None:
    scheme = Scheme(weight_bits=bits, rounding="reconstruct", asymmetric_weights=True)
    path = tmp_path / "quantized.onnx"
    path.write_bytes(quantize(model, native("mine", "mine.onnx", "", scheme, form="qdq"), CALIBRATION))
    program = quantized(onnx_read.read(SMALL, "float.onnx"), CALIBRATION, scheme)
    assert digest(onnx_read.read(onnx.load(path), "quantized.onnx")) == digest(program)
    assert -1 in zeros_of(program)[f"int{bits}"]
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = {
        "all": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL,
        "extended": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
        "basic": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC,
        "disable": onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL,
    }[level]
    session = onnxruntime.InferenceSession(path, options)
    images = noise(60, 4)
    (found,) = session.run(None, {session.get_inputs()[0].name: preprocess(images)})
    np.testing.assert_array_equal(found.argmax(axis=1), logits(program, images).argmax(axis=1))


def test_an_old_onnx_runtime_is_told_of(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime, "__version__", "1.22.0")
    with pytest.raises(
        ModelError,
        match=r"the recipe int4 has weights of 4 bits, .*: found onnxruntime 1\.22\.0, expected 1\.23 or newer; ",
    ):
        quantize(model, RECIPES["int4"], CALIBRATION)
    with pytest.raises(ModelError, match="has weights of 4 bits"):  # as which three are stored
        quantize(model, native("three", "three.onnx", "", Scheme(weight_bits=3)), CALIBRATION)
    quantize(model, native("plain", "plain.onnx", "", PLAIN), CALIBRATION)


# --- what is refused ---


def changed(name: str, weights: float | None = None, bias: float = 0.0, channel: Any = slice(None)) -> Program:
    """The network with other weights and biases of a layer's channels."""
    layers = []
    for layer in NETWORK.layers:
        if layer.name == name:
            assert layer.parameter is not None
            assert layer.bias is not None
            codes, added = layer.parameter.codes.copy(), layer.bias.codes.copy()
            if weights is not None:
                codes[..., channel] = weights
            added[channel] = bias
            layer = replace(  # noqa: PLW2901
                layer.with_parameter(replace(layer.parameter, codes=codes)), bias=replace(layer.bias, codes=added)
            )
        layers.append(layer)
    return replace(NETWORK, layers=tuple(layers))


def product_in_front() -> Program:
    image = replace(NETWORK.input, name="raw")
    factor = Constant("factor", np.float32(2), None)
    return replace(
        NETWORK,
        input=image,
        layers=(Product(name="doubling", output=NETWORK.input, x=image, constant=factor), *NETWORK.layers),
    )


def relu_in_front() -> Program:
    image = replace(NETWORK.input, name="raw")
    first = Rescale(name="clipping", output=NETWORK.input, x=image, relu=True, kernel="float")
    return replace(NETWORK, input=image, layers=(first, *NETWORK.layers))


@pytest.mark.parametrize(
    ("program", "scheme", "words"),
    [
        (
            product_in_front(),
            Scheme(),
            "of another architecture than the recipe is for: found the layer «doubling» (mul)",
        ),
        (relu_in_front(), Scheme(), "found the layer «clipping» (rescale), which folds into no convolution before it"),
        (changed("conv2", 0.0, channel=2), Scheme(), "the weights of an output channel are all zero"),
        (changed("conv2", bias=-1000.0), Scheme(), "«conv2_out_relu» is 0 on every calibration image"),
        (changed("conv2", bias=-1000.0), Scheme(equalization="activations"), "«conv2_out_relu» is 0 on every"),
        (changed("conv2", bias=-1000.0), Scheme(equalization="balanced"), "«conv2_out_relu» is 0 on every"),
        (changed("dense", 0.0), Scheme(per_channel=False), "«logits» is 0 on every calibration image"),
        (changed("conv2", bias=5000.0), Scheme(), "the values of «conv2» are too large to be observed"),
        (changed("conv1", 2.0**-16, 1000.0), Scheme(), "the bias of «conv1» does not fit int32"),
        (NETWORK, Scheme(layer_bits=(("conv9", 4),)), "found conv9, expected conv1, conv2, conv3, conv4, conv5, conv6"),
        (NETWORK, Scheme(float_layers=("joining",)), "found joining, expected conv1"),
    ],
)
def test_what_cannot_be_quantized_is_refused_in_a_line(program: Program, scheme: Scheme, words: str) -> None:
    with pytest.raises(QuantizationError) as caught:
        quantized(program, IMAGES, scheme)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_too_few_images_are_refused() -> None:
    with pytest.raises(
        QuantizationError, match="too few calibration images: found 99, expected at least 100; draw more"
    ):
        quantized(NETWORK, IMAGES[: FEWEST_IMAGES - 1], Scheme())


def test_a_recipe_without_a_scheme_is_refused(model: Path) -> None:
    with pytest.raises(QuantizationError, match=r"the recipe int8 has no scheme"):
        quantize(model, replace(RECIPES["int8"], scheme=None), CALIBRATION)


def test_a_quantized_file_is_refused(model: Path, tmp_path: Path) -> None:
    path = tmp_path / "quantized.onnx"
    path.write_bytes(quantize(model, native("plain", "plain.onnx", "", PLAIN), CALIBRATION))
    with pytest.raises(ModelError):
        quantize(path, RECIPES["int8"], CALIBRATION)
