"""The recipes: named, frozen ways to quantize. A name always means the same settings."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from resnet8.errors import QuantizationError
from resnet8.facts import DEFAULT_PER_CLASS, DEFAULT_SEED
from resnet8.quantization.scheme import Scheme
from resnet8.runtimes.base import RUNTIMES

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping


@dataclass(frozen=True)
class Backend:
    """What carries recipes out.

    Attributes:
        module: Its module, which imports its framework, with ``source(model)``, the ONNX file to start from, and
            ``quantize(source, recipe, images)``, the content of the quantized file.
        suffix: Of the files it makes.
        own: Settings that all its recipes have, by what records call them.
        defaults: Fields of :class:`Recipe` that a recipe of one's own may leave out, and that depend on the backend.
    """

    module: str
    suffix: str
    own: Mapping[str, str]
    defaults: Mapping[str, str | bool]


BACKENDS = {
    "onnxruntime": Backend(
        "resnet8.quantization.ort", "onnx", own={"format": "QDQ"}, defaults={"fold": True, "observer": "minmax"}
    ),
    "pytorch": Backend(
        "resnet8.quantization.pytorch",
        "pt",
        own={"mode": "FX graph", "engine": "fbgemm"},
        defaults={"fold": False, "observer": "histogram"},
    ),
    "pt2e": Backend(
        "resnet8.quantization.pt2e", "pt", own={"mode": "PT2E"}, defaults={"fold": True, "observer": "histogram"}
    ),
    "native": Backend("resnet8.quantization.native", "onnx", own={}, defaults={"fold": True, "observer": "mse"}),
}
"""The backends: each by the name of the runtime that its files are for, or by its mode where a runtime has several."""


@dataclass(frozen=True)
class Recipe:
    """One way to make a quantized model by static post-training quantization.

    Attributes:
        name: What it is called.
        framework: The one that carries it out, and whose runtime its files are for.
        activations: Data type of the activations.
        weights: Data type of the weights.
        per_channel: One scale for each output channel of a weight tensor, instead of one for all.
        fold: Fold BatchNorm into the convolutions first (ONNX Runtime's pre-processing).
        reduce_range: Leave a bit of the weights unused, so that the sum of two products of them fits an int16.
        observer: How an activation's range comes of what it was on the calibration images: ``minmax``, the least and
            greatest value; ``histogram``, the range of least expected error (PyTorch's HistogramObserver).
        observed_in: Arithmetic in which the calibration images are run: ``float32``, the runtime's own kernels, whose
            last bits depend on the CPU; ``float64``, which gives the same ranges on every CPU.
        draw: Which calibration draw (:data:`resnet8.data.calibration.DRAWS`).
        output: File name in ``models/``.
        summary: What it is for, in a line.
        refused: Whether it exists to show that the backend refuses it: no model comes of it.
        mode: Which of the ways to quantize for the framework: ``pt2e``; ``native``, this package's own, by ``scheme``;
            empty for the framework's first one.
        reproduced: Whether ``reproduce`` makes it.
        scheme: Of ``native`` recipes: the grids, and how they are found.
        form: Of ``native`` recipes: the kind of ONNX file.

    Example:
        >>> from dataclasses import replace
        >>> from resnet8.quantization import RECIPES
        >>> mine = replace(RECIPES["ort-portable"], name="mine", per_channel=True)
        >>> mine.settings()["per_channel"], mine.published
        (True, False)
    """

    name: str
    framework: Literal["onnxruntime", "pytorch"]
    activations: Literal["int8", "uint8"]
    weights: Literal["int8", "uint8", "int7", "int6", "int5", "int4", "int3", "int2"]
    per_channel: bool
    fold: bool
    observer: Literal["minmax", "histogram", "percentile", "mse"]
    observed_in: Literal["float32", "float64"]
    draw: Literal["first", "second"]
    output: str
    summary: str
    reduce_range: bool = False
    refused: bool = False
    mode: Literal["", "pt2e", "native"] = ""
    reproduced: bool = True
    scheme: Scheme | None = None
    form: Literal["qdq", "qoperator"] = "qdq"

    @property
    def backend(self) -> Backend:
        """What carries it out."""
        return BACKENDS[self.mode or self.framework]

    @property
    def native_scheme(self) -> Scheme:
        """The scheme.

        Raises:
            QuantizationError: when the recipe has none.
        """
        if self.scheme is None:
            raise QuantizationError(
                f"the recipe {self.name} has no scheme",
                found="a recipe that another backend carries out",
                expected="one with mode = native, like int8 or int4",
                remedy="name another; «resnet8 quantize --list» explains each",
            )
        return self.scheme

    def require(self, remedy: str | None = None, **offered: Collection[str | bool]) -> None:
        """Check that the recipe asks for what its backend does.

        Args:
            remedy: What can be done, where the field alone does not say it.
            offered: Fields by name, each with the values there are.

        Raises:
            QuantizationError: for the first field with another value.
        """
        for what, values in offered.items():
            if (found := getattr(self, what)) not in values:
                raise QuantizationError(
                    f"the recipe {self.name} cannot be carried out by {RUNTIMES[self.framework].label}",
                    found=f"{what} = {found}",
                    expected=f"{what} = {' or '.join(map(str, values))}",
                    remedy=remedy,
                )

    def require_weights(self) -> None:
        """Check that weights of less than 8 bits are left to the one backend that makes them.

        Raises:
            QuantizationError: when another one is to.
        """
        if self.mode != "native":
            self.require('say mode = "native" and weight_bits', weights=("int8", "uint8"))

    def accepts(self, samples_per_class: int, seed: int) -> bool:
        """Whether these are the calibration options that the recipe takes; a published recipe takes one choice only."""
        return not self.published or (samples_per_class, seed) == (DEFAULT_PER_CLASS, DEFAULT_SEED)

    def require_calibration(self, samples_per_class: int, seed: int, draw: str | None = None) -> None:
        """Check that a calibration set is the recipe's own, where the recipe fixes it.

        Args:
            samples_per_class: Images of each class.
            seed: Of the draw.
            draw: Which draw it is; the recipe's own when left out.

        Raises:
            QuantizationError: for a published recipe with any but the published images, or for another draw than the
                recipe's.
        """
        drawn = draw or self.draw
        if drawn == self.draw and self.accepts(samples_per_class, seed):
            return
        expected = f"{DEFAULT_PER_CLASS} per class, seed {DEFAULT_SEED}, " if self.published else ""
        raise QuantizationError(
            f"the recipe {self.name} fixes its calibration set",
            found=f"{samples_per_class} per class, seed {seed}, {drawn} draw",
            expected=f"{expected}{self.draw} draw",
            remedy="calibrate with those, or use ort-int8 or ort-uint8 with another set of the first draw",
        )

    @property
    def published(self) -> bool:
        """Whether the recipe repeats a published model, its calibration images included."""
        return self.name.startswith("published-")

    def settings(self) -> dict[str, str | bool | int]:
        """The fields that decide what the model is."""
        deciding = asdict(self)
        for name in ("name", "output", "summary", "refused", "mode", "reproduced", "scheme", "form"):
            del deciding[name]
        if self.mode == "native":
            return {**deciding, **self.native_scheme.settings(), "format": self.form}
        return {**deciding, **self.backend.own}


def native(name: str, output: str, summary: str, scheme: Scheme, *, form: Form = "qoperator", **facts: Any) -> Recipe:
    """A recipe that this package carries out itself, as ``scheme`` says.

    Raises:
        QuantizationError: when the form has no place for what the scheme asks for.
    """
    if scheme.asymmetric_weights and form == "qoperator":
        raise QuantizationError(
            f"the recipe {name} has no file of this form",
            found="asymmetric_weights, form = qoperator",
            expected="form = qdq: a QLinearConv has one zero point for all channels",
            remedy='say form = "qdq", or do without asymmetric_weights',
        )
    common: dict[str, Any] = {
        "activations": scheme.activation_dtype(),
        "weights": scheme.weights,
        "per_channel": scheme.per_channel,
        "observer": scheme.observer,
    }
    return Recipe(
        name=name,
        framework="onnxruntime",
        fold=True,
        observed_in="float64",
        draw="first",
        output=output,
        summary=summary,
        mode="native",
        scheme=scheme,
        form=form,
        **common,
        **facts,
    )


Form = Literal["qdq", "qoperator"]

_BEST: dict[str, Any] = {"rounding": "reconstruct"}

_MIXED = (
    ("conv2d_1/BiasAdd", 8),
    ("conv2d_1_2/BiasAdd", 4),
    ("conv2d_2_1/BiasAdd", 4),
    ("conv2d_5_1/BiasAdd", 2),
    ("conv2d_3_1/BiasAdd", 4),
    ("conv2d_4_1/BiasAdd", 4),
    ("conv2d_8_1/BiasAdd", 4),
    ("conv2d_6_1/BiasAdd", 4),
    ("conv2d_7_1/BiasAdd", 2),
    ("dense_1/MatMul", 8),
)
"""The choice of ``results/sweeps/search.json``: bits of ResNet8's layers, as they are called when it is converted."""

# fmt: off
_ALL = (
    #      name               framework      activ.   weights  channel fold   observer     in         draw      output
    Recipe("published-int8",  "onnxruntime", "int8",  "int8",  False, False, "minmax",    "float32", "first",
           "resnet8_int8.onnx",
           "the published int8 model: its settings and its calibration images"),
    Recipe("published-uint8", "onnxruntime", "uint8", "uint8", False, False, "minmax",    "float32", "second",
           "resnet8_uint8.onnx",
           "the published uint8 model: its settings and its calibration images, which are others than int8's"),
    Recipe("ort-int8",        "onnxruntime", "int8",  "int8",  False, False, "minmax",    "float64", "first",
           "resnet8_ort-int8.onnx",
           "as published-int8, on the calibration set that all recipes but published-uint8 share"),
    Recipe("ort-uint8",       "onnxruntime", "uint8", "uint8", False, False, "minmax",    "float64", "first",
           "resnet8_ort-uint8.onnx",
           "as published-uint8, on the shared calibration set"),
    Recipe("ort-per-channel", "onnxruntime", "uint8", "int8",  True,  True,  "minmax",    "float64", "first",
           "resnet8_ort-per-channel.onnx",
           "folded, U8 activations, S8 weights with a scale for each channel: loses much without VNNI"),
    Recipe("ort-portable",    "onnxruntime", "uint8", "uint8", False, True,  "minmax",    "float64", "first",
           "resnet8_ort-portable.onnx",
           "folded, U8 activations and weights: the same result on x86 CPUs with and without VNNI"),
    Recipe("ort-7bit-weights", "onnxruntime", "uint8", "int8", True,  True,  "minmax",    "float64", "first",
           "resnet8_ort-7bit-weights.onnx",
           "as ort-per-channel, with weights of 7 bits: the same result on x86 CPUs with and without VNNI",
           reduce_range=True),
    Recipe("torch-int8",      "pytorch",     "uint8", "int8",  True,  False, "histogram", "float64", "first",
           "resnet8_int8.pt",
           "PyTorch FX graph mode with fbgemm's defaults"),
    Recipe("torch-uint8",     "pytorch",     "uint8", "uint8", False, False, "histogram", "float64", "first",
           "resnet8_uint8.pt",
           "tried to show that PyTorch's backend refuses uint8 weights; no model comes of it", refused=True),
    Recipe("torch-pt2e-int8", "pytorch",     "uint8", "int8",  True,  True,  "histogram", "float64", "first",
           "resnet8_torch-pt2e-int8.pt",
           "PyTorch PT2E, folded, weights of 7 bits per channel in fbgemm's kernels: the same on x86 CPUs without VNNI",
           reduce_range=True, mode="pt2e", reproduced=False),
    Recipe("torch-pt2e-uint8", "pytorch",    "uint8", "uint8", True,  True,  "histogram", "float64", "first",
           "resnet8_torch-pt2e-uint8.pt",
           "PyTorch PT2E, folded, uint8 weights per channel, which no kernel takes: a reference that computes in float",
           mode="pt2e", reproduced=False),
    native("int8", "resnet8_w8a8.onnx",
           "the most faithful 8 bits: U8 activations, U8 weights per channel; the same on every x86-64 CPU",
           Scheme(weights_signed=False, equalization="balanced", **_BEST)),
    native("int8-vnni", "resnet8_w8a8-vnni.onnx",
           "the codes of int8 as S8 weights: the same on CPUs with VNNI, and faster there",
           Scheme(equalization="balanced", **_BEST)),
    native("int8-per-tensor", "resnet8_w8a8-per-tensor.onnx",
           "as int8, one scale for a tensor's weights: for hardware that has no more",
           Scheme(weights_signed=False, per_channel=False, **_BEST)),
    native("int4", "resnet8_w4a8.onnx",
           "weights of 4 bits, first and last layer 8, U8 activations: half the size, the same on every x86-64 CPU",
           Scheme(weights_signed=False, weight_bits=4, rounding="reconstruct", equalization="balanced", mirrored=True),
           reproduced=False),
    native("mixed", "resnet8_mixed.onnx",
           "weights of 2, 4 and 8 bits, layer by layer as «resnet8 search» chose them: the smallest file",
           Scheme(weights_signed=False, rounding="reconstruct", equalization="balanced", asymmetric_weights=True,
                  edge_bits=None, layer_bits=_MIXED),
           form="qdq", reproduced=False),
)
# fmt: on

RECIPES = {recipe.name: recipe for recipe in _ALL}
"""All recipes by name."""


def recipe(name: str) -> Recipe:
    """The recipe of that name, or of one's own, where it is the name of a .toml file (:mod:`resnet8.quantization.own`).

    Raises:
        QuantizationError: when there is none, or it makes no sense.
        StorageError: when its file cannot be read.
    """
    if name.endswith(".toml"):
        from resnet8.quantization.own import read

        return read(Path(name))
    if name not in RECIPES:
        raise QuantizationError(
            "the recipe is not known",
            found=name,
            expected=", ".join(RECIPES),
            remedy="«resnet8 quantize --list» explains each; one of your own is the name of a .toml file",
        )
    return RECIPES[name]
