"""The recipes: named, frozen ways to quantize. A name always means the same settings."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal

from resnet8.calibration import DEFAULT_PER_CLASS, DEFAULT_SEED
from resnet8.errors import QuantizationError


@dataclass(frozen=True)
class Recipe:
    """One way to make a quantized model by static post-training quantization.

    Attributes:
        name: What it is called.
        framework: ``onnxruntime`` or ``pytorch``.
        activations: Data type of the activations.
        weights: Data type of the weights.
        per_channel: One scale for each output channel of a weight tensor, instead of one for all.
        fold: Fold BatchNorm into the convolutions first (ONNX Runtime's pre-processing).
        draw: Which calibration draw (:data:`resnet8.calibration.DRAWS`).
        output: File name in ``models/``.
        summary: What it is for, in a line.
    """

    name: str
    framework: Literal["onnxruntime", "pytorch"]
    activations: Literal["int8", "uint8"]
    weights: Literal["int8", "uint8"]
    per_channel: bool
    fold: bool
    draw: Literal["first", "second"]
    output: str
    summary: str

    def accepts(self, samples_per_class: int, seed: int) -> bool:
        """Whether these are the calibration options that the recipe takes; a published recipe takes one choice only."""
        return not self.published or (samples_per_class, seed) == (DEFAULT_PER_CLASS, DEFAULT_SEED)

    def require_calibration(self, samples_per_class: int, seed: int) -> None:
        """Check that the calibration set asked for is the recipe's own, where the recipe fixes it.

        Raises:
            QuantizationError: for a published recipe with any but the published draw.
        """
        if not self.accepts(samples_per_class, seed):
            raise QuantizationError(
                f"the recipe {self.name} fixes its calibration set",
                found=f"{samples_per_class} per class, seed {seed}",
                expected=f"{DEFAULT_PER_CLASS} per class, seed {DEFAULT_SEED}",
                remedy="use ort-int8 or ort-uint8 with another set",
            )

    @property
    def published(self) -> bool:
        """Whether the recipe repeats a published model, its calibration images included."""
        return self.name.startswith("published-")

    def settings(self) -> dict[str, str | bool | int]:
        """The fields that decide what the model is."""
        fields = asdict(self)
        for name in ("name", "output", "summary"):
            del fields[name]
        if self.framework == "onnxruntime":
            fields |= {"format": "QDQ", "calibration": "MinMax"}
        else:
            fields |= {
                "mode": "FX graph",
                "engine": "fbgemm",
                "calibration": "the engine's default observers",
            }
        return fields


# fmt: off
_ALL = (
    #      name               framework      activ.   weights  channel fold   draw      output
    Recipe("published-int8",  "onnxruntime", "int8",  "int8",  False, False, "first",  "resnet8_int8.onnx",
           "the published int8 model: its settings and its calibration images"),
    Recipe("published-uint8", "onnxruntime", "uint8", "uint8", False, False, "second", "resnet8_uint8.onnx",
           "the published uint8 model: its settings and its calibration images, which are others than int8's"),
    Recipe("ort-int8",        "onnxruntime", "int8",  "int8",  False, False, "first",  "resnet8_ort-int8.onnx",
           "as published-int8, on the calibration set that all recipes but published-uint8 share"),
    Recipe("ort-uint8",       "onnxruntime", "uint8", "uint8", False, False, "first",  "resnet8_ort-uint8.onnx",
           "as published-uint8, on the shared calibration set"),
    Recipe("ort-per-channel", "onnxruntime", "uint8", "int8",  True,  True,  "first",  "resnet8_ort-per-channel.onnx",
           "folded, U8 activations, S8 weights with a scale for each channel: loses much without VNNI"),
    Recipe("ort-portable",    "onnxruntime", "uint8", "uint8", False, True,  "first",  "resnet8_ort-portable.onnx",
           "folded, U8 activations and weights: the same result on x86 CPUs with and without VNNI"),
    Recipe("torch-int8",      "pytorch",     "uint8", "int8",  True,  False, "first",  "resnet8_int8.pt",
           "PyTorch FX graph mode with fbgemm's defaults"),
    Recipe("torch-uint8",     "pytorch",     "uint8", "uint8", False, False, "first",  "resnet8_uint8.pt",
           "tried to show that PyTorch's backend refuses uint8 weights; no model comes of it"),
)
# fmt: on

RECIPES = {recipe.name: recipe for recipe in _ALL}
"""All recipes by name."""


def recipe(name: str) -> Recipe:
    """The recipe of that name.

    Raises:
        QuantizationError: when there is none.
    """
    if name not in RECIPES:
        raise QuantizationError(
            "the recipe is not known",
            found=name,
            expected=", ".join(RECIPES),
            remedy="«resnet8 quantize --list» explains each",
        )
    return RECIPES[name]
