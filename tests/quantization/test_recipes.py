"""The recipes: a name always means the same."""

from __future__ import annotations

import re
from dataclasses import FrozenInstanceError, replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from resnet8.data.calibration import DRAWS
from resnet8.errors import QuantizationError, StorageError
from resnet8.quantization import ort
from resnet8.quantization.recipes import RECIPES, recipe
from resnet8.quantization.scheme import Scheme

if TYPE_CHECKING:
    from pathlib import Path

# Name: framework, activations, weights, per channel, folded, draw, file. What the recipes are documented to be.
GOLDEN = {
    "published-int8": "onnxruntime int8 int8 False False minmax float32 first False resnet8_int8.onnx",
    "published-uint8": "onnxruntime uint8 uint8 False False minmax float32 second False resnet8_uint8.onnx",
    "ort-int8": "onnxruntime int8 int8 False False minmax float64 first False resnet8_ort-int8.onnx",
    "ort-uint8": "onnxruntime uint8 uint8 False False minmax float64 first False resnet8_ort-uint8.onnx",
    "ort-per-channel": "onnxruntime uint8 int8 True True minmax float64 first False resnet8_ort-per-channel.onnx",
    "ort-portable": "onnxruntime uint8 uint8 False True minmax float64 first False resnet8_ort-portable.onnx",
    "ort-7bit-weights": "onnxruntime uint8 int8 True True minmax float64 first True resnet8_ort-7bit-weights.onnx",
    "torch-int8": "pytorch uint8 int8 True False histogram float64 first False resnet8_int8.pt",
    "torch-uint8": "pytorch uint8 uint8 False False histogram float64 first False resnet8_uint8.pt",
    "torch-pt2e-int8": "pytorch uint8 int8 True True histogram float64 first True resnet8_torch-pt2e-int8.pt",
    "torch-pt2e-uint8": "pytorch uint8 uint8 True True histogram float64 first False resnet8_torch-pt2e-uint8.pt",
    "int8": "onnxruntime uint8 uint8 True True mse float64 first False resnet8_w8a8.onnx",
    "int8-vnni": "onnxruntime uint8 int8 True True mse float64 first False resnet8_w8a8-vnni.onnx",
    "int8-per-tensor": "onnxruntime uint8 uint8 False True mse float64 first False resnet8_w8a8-per-tensor.onnx",
    "int4": "onnxruntime uint8 int4 True True mse float64 first False resnet8_w4a8.onnx",
    "mixed": "onnxruntime uint8 uint8 True True mse float64 first False resnet8_mixed.onnx",
}
"""Framework, activations, weights, per channel, fold, observer, observed in, draw, reduced range, output."""

SCHEMES = {
    "int8": "8 8 8 True unsigned balanced mse reconstruct",
    "int8-vnni": "8 8 8 True signed balanced mse reconstruct",
    "int8-per-tensor": "8 8 8 False unsigned none mse reconstruct",
    "int4": "4 8 8 True unsigned balanced mse reconstruct",
    "mixed": "8 8 None True unsigned balanced mse reconstruct",
}
"""Of this package's own: bits of weights, activations, first and last layer; per channel, coat, and how."""


@pytest.mark.parametrize("name", GOLDEN)
def test_a_name_always_means_the_same(name: str) -> None:
    one = recipe(name)
    assert one.name == name
    types = f"{one.framework} {one.activations} {one.weights} {one.per_channel} {one.fold}"
    ranges = f"{one.observer} {one.observed_in} {one.draw} {one.reduce_range}"
    assert f"{types} {ranges} {one.output}" == GOLDEN[name]
    assert one.refused == (name == "torch-uint8")
    assert one.mode == ("pt2e" if "pt2e" in name else "native" if name in SCHEMES else "")
    assert one.reproduced == ("pt2e" not in name and name not in ("int4", "mixed"))
    assert (one.scheme is not None) == (name in SCHEMES)


@pytest.mark.parametrize("name", SCHEMES)
def test_a_name_always_means_the_same_scheme(name: str) -> None:
    scheme = recipe(name).native_scheme
    bits = f"{scheme.weight_bits} {scheme.activation_bits} {scheme.edge_bits} {scheme.per_channel}"
    coat = "signed" if scheme.weights_signed else "unsigned"
    assert f"{bits} {coat} {scheme.equalization} {scheme.observer} {scheme.rounding}" == SCHEMES[name]
    assert (scheme.weight_observer, scheme.bias_correction, scheme.activations_signed) == ("mse", True, False)
    bits_of_layers = tuple(bits for _, bits in scheme.layer_bits)
    assert bits_of_layers == ((8, 4, 4, 2, 4, 4, 4, 4, 2, 8) if name == "mixed" else ())
    assert (scheme.asymmetric_weights, recipe(name).form) == (
        (True, "qdq") if name == "mixed" else (False, "qoperator")
    )
    assert scheme.float_layers == ()


def test_all_are_golden_and_tell_themselves_apart() -> None:
    assert list(RECIPES) == list(GOLDEN)
    assert len({one.output for one in RECIPES.values()}) == len(RECIPES)
    assert len({one.summary for one in RECIPES.values()}) == len(RECIPES)
    assert all(one.draw in DRAWS for one in RECIPES.values())


def test_recipes_are_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        recipe("ort-int8").weights = "uint8"  # type: ignore[misc]


def test_unknown_recipe_lists_the_known() -> None:
    with pytest.raises(QuantizationError, match=r"found int5, expected published-int8, .*torch-uint8.*; .*--list"):
        recipe("int5")


@pytest.mark.parametrize("name", GOLDEN)
@pytest.mark.parametrize(("samples", "seed"), [(100, 42), (100, 1), (20, 42)])
def test_only_published_recipes_fix_their_images(name: str, samples: int, seed: int) -> None:
    one = recipe(name)
    assert one.published == name.startswith("published-")
    if one.published and (samples, seed) != (100, 42):
        with pytest.raises(
            QuantizationError,
            match=f"found {samples} per class, seed {seed}, .* draw, expected 100 per class, seed 42, .* draw; ",
        ):
            one.require_calibration(samples, seed)
    else:
        one.require_calibration(samples, seed)


@pytest.mark.parametrize("name", GOLDEN)
def test_every_recipe_fixes_its_draw(name: str) -> None:
    one = recipe(name)
    other = "second" if one.draw == "first" else "first"
    one.require_calibration(100, 42, one.draw)
    with pytest.raises(QuantizationError, match=f"100 per class, seed 42, {other} draw, expected .*{one.draw} draw"):
        one.require_calibration(100, 42, other)


def test_settings_are_what_decides_the_model() -> None:
    common = {
        "activations": "uint8",
        "weights": "int8",
        "per_channel": True,
        "reduce_range": False,
        "observed_in": "float64",
        "draw": "first",
    }
    assert recipe("ort-per-channel").settings() == {
        **common,
        "framework": "onnxruntime",
        "fold": True,
        "format": "QDQ",
        "observer": "minmax",
    }
    assert recipe("torch-int8").settings() == {
        **common,
        "framework": "pytorch",
        "fold": False,
        "mode": "FX graph",
        "engine": "fbgemm",
        "observer": "histogram",
    }


def test_settings_of_this_packages_own_are_those_of_the_scheme_too() -> None:
    four = recipe("int4").settings()
    assert four == {
        "framework": "onnxruntime",
        "activations": "uint8",
        "weights": "int4",
        "per_channel": True,
        "fold": True,
        "reduce_range": False,
        "observer": "mse",
        "observed_in": "float64",
        "draw": "first",
        "weight_bits": 4,
        "activation_bits": 8,
        "edge_bits": 8,
        "weights_signed": False,
        "activations_signed": False,
        "equalization": "balanced",
        "weight_observer": "mse",
        "mirrored": True,
        "bias_correction": True,
        "rounding": "reconstruct",
        "format": "qoperator",
    }
    eight = recipe("int8").settings()
    assert eight == four | {"weights": "uint8", "weight_bits": 8, "mirrored": False}
    assert recipe("int8-vnni").settings() == eight | {"weights": "int8", "weights_signed": True}
    assert recipe("int8-per-tensor").settings() == eight | {"per_channel": False, "equalization": "none"}


def test_published_and_shared_recipes_differ_at_most_in_their_ranges() -> None:
    exact = {"observed_in": "float64"}
    assert recipe("ort-int8").settings() == recipe("published-int8").settings() | exact
    assert recipe("ort-uint8").settings() == recipe("published-uint8").settings() | exact | {"draw": "first"}


# --- one's own ---

OWN = """
framework = "onnxruntime"
activations = "uint8"
weights = "int8"
per_channel = true
reduce_range = true
"""


def test_a_recipe_of_ones_own_is_read(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(OWN)
    mine = recipe(str(path))
    assert mine.settings() == recipe("ort-7bit-weights").settings()
    assert (mine.name, mine.output, mine.published) == ("mine", "resnet8_mine.onnx", False)
    path.write_text('framework = "pytorch"\nactivations = "uint8"\nweights = "int8"\nper_channel = true')
    assert recipe(str(path)).settings() == recipe("torch-int8").settings()
    path.write_text(path.read_text() + '\nmode = "pt2e"\nreduce_range = true')
    assert recipe(str(path)).settings() == recipe("torch-pt2e-int8").settings()


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("mine", OWN + "bits = 4", "mine.toml is no recipe: found bits, expected no other fields than activations"),
        ("mine", 'framework = "pytorch"', "found no activations and no weights, expected framework, activations and"),
        ("mine", OWN.replace("true", '"yes"'), "found per_channel = 'yes', expected Input should be a valid boolean"),
        ("mine", OWN.replace('"int8"', '"int1"'), "found weights = 'int1', expected Input should be 'int8', 'uint8'"),
        ("mine", "a = " + "[" * 100_000, "mine.toml is no recipe: found maximum recursion"),
        ("mine", "framework = ", "mine.toml is no recipe: found Invalid value"),
        ("ort-int8", OWN, "found the name ort-int8, expected a name that no recipe has"),
        ("published-mine", OWN, "found the name published-mine"),
    ],
)
def test_what_is_no_recipe_is_refused(name: str, text: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / f"{name}.toml"
    path.write_text(text)
    with pytest.raises(QuantizationError, match=re.escape(words)) as caught:
        recipe(str(path))
    assert "\n" not in str(caught.value)


def test_onnx_runtime_has_no_uint8_weights_for_int8_activations(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('framework = "onnxruntime"\nactivations = "int8"\nweights = "uint8"')
    words = (
        "the recipe mine cannot be carried out by ONNX Runtime: found weights = uint8, expected weights = int8; "
        "give it int8 weights, or uint8 activations, which go with both"
    )
    with pytest.raises(QuantizationError, match=f"^{re.escape(words)}$"):
        ort.quantize(tmp_path / "model.onnx", recipe(str(path)), np.empty((0, 32, 32, 3), np.uint8))


@pytest.mark.parametrize(("framework", "mode"), [("onnxruntime", ""), ("pytorch", ""), ("pytorch", "pt2e")])
def test_fewer_bits_are_this_packages_own(framework: str, mode: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(f'framework = "{framework}"\nmode = "{mode}"\nactivations = "uint8"\nweights = "int2"')
    with pytest.raises(QuantizationError, match=r'int2, expected weights = int8 or uint8; say mode = "native" and'):
        recipe(str(path))
    with pytest.raises(QuantizationError, match=r"the recipe mine cannot be carried out by .* found weights = int2, "):
        replace(RECIPES["ort-int8"], name="mine", weights="int2").require_weights()


def test_a_recipe_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"none\.toml does not exist"):
        recipe(str(tmp_path / "none.toml"))


NATIVE = """
mode = "native"
form = "qdq"
weight_bits = 3
edge_bits = 6
per_channel = false
equalization = "activations"
rounding = "reconstruct"

[layer_bits]
conv2 = 2
"a/b" = 5
"""


def test_a_recipe_of_this_packages_own_kind_is_read(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(NATIVE)
    mine = recipe(str(path))
    assert mine.native_scheme == Scheme(
        weight_bits=3,
        edge_bits=6,
        per_channel=False,
        equalization="activations",
        rounding="reconstruct",
        layer_bits=(("conv2", 2), ("a/b", 5)),
    )
    assert (mine.name, mine.output, mine.form, mine.mode) == ("mine", "resnet8_mine.onnx", "qdq", "native")
    assert (mine.weights, mine.activations, mine.per_channel, mine.published) == ("int3", "uint8", False, False)
    assert mine.settings()["layer_bits"] == "conv2: 2, a/b: 5"
    path.write_text('mode = "native"')
    plain = recipe(str(path))
    assert (plain.native_scheme, plain.form) == (Scheme(), "qoperator")
    path.write_text('mode = "native"\nweights_signed = false\nrounding = "reconstruct"\nequalization = "balanced"')
    assert recipe(str(path)).settings() == recipe("int8").settings()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("asymmetric_weights = true", "asymmetric weights: found rounding = nearest, expected rounding = reconstruct"),
        (
            'asymmetric_weights = true\nrounding = "reconstruct"',
            "no file of this form: found asymmetric_weights, form = qoperator, expected form = qdq",
        ),
    ],
)
def test_a_zero_point_for_each_channel_has_its_place(text: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(f'mode = "native"\n{text}\n')
    with pytest.raises(QuantizationError, match=words):
        recipe(str(path))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "bits = 4",
            "found bits, expected no other fields than form, mode, activation_bits, activations_signed, asymmet",
        ),
        ('framework = "onnxruntime"', "found framework, expected no other fields than form, mode"),
        ('float_layers = ["dense"]', "found float_layers, expected no other fields"),
        ('form = "tflite"', "found form = 'tflite', expected qdq or qoperator"),
        ('form = ["qdq"]', "found form = ['qdq'], expected qdq or qoperator"),
        ("layer_bits = 4", "found layer_bits = 4, expected a table of layers and bits"),
        ('layer_bits = [["dense", 4]]', "found layer_bits = [['dense', 4]], expected a table of layers and bits"),
        ('[layer_bits]\ndense = "4"', "found layer_bits 0 1 = '4', expected Input should be a valid integer"),
        ("weight_bits = 4.0", "found weight_bits = 4.0, expected Input should be a valid integer"),
        ("weight_bits = 2026-01-02", "found weight_bits = '2026-01-02', expected Input should be a valid integer"),
        ('per_channel = "yes"', "found per_channel = 'yes', expected Input should be a valid boolean"),
        ('observer = "histogram"', "found observer = 'histogram', expected Input should be 'minmax', 'percentile' or"),
    ],
)
def test_what_is_no_recipe_of_this_packages_own_is_refused(text: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(f'mode = "native"\n{text}')
    with pytest.raises(QuantizationError, match=re.escape(f"mine.toml is no recipe: {words}")) as caught:
        recipe(str(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("weight_bits = 9", "weight bits: found 9, expected 2 to 8"),
        ("activation_bits = 1", "activation bits: found 1, expected 2 to 8"),
        ("[layer_bits]\ndense = 1", "bits of the layer dense: found 1, expected 2 to 8"),
    ],
)
def test_bits_out_of_range_are_refused(text: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(f'mode = "native"\n{text}')
    with pytest.raises(QuantizationError, match=re.escape(words)):
        recipe(str(path))
