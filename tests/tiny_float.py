"""A small float network in a file, and noise images that it can be calibrated and asked on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from builders import cifar_folder
from quantized import float_network

if TYPE_CHECKING:
    from pathlib import Path

LAYERS = ("conv1", "conv2", "dense")
WEIGHTS = (6 * 3 * 9, 6 * 6 * 9, 6 * 10)
BIASES = (6, 6, 10)
ACTIVATIONS = 6
"""The images, two convolutions, a sum, the average, the logits."""
PER_CLASS = 20


def tiny(folder: Path) -> tuple[Path, Path]:
    """The network's file, and a folder of data: 300 training and 60 test images."""
    model = folder / "float.onnx"
    model.write_bytes(float_network().SerializeToString())
    return model, cifar_folder(folder / "data", per_class=6)


def numbers(bits: tuple[int, ...]) -> int:
    """The bytes of all its numbers with so many bits of each layer's weights, per channel."""
    packed = sum(-(-count * width // 8) for count, width in zip(WEIGHTS, bits, strict=True))
    return packed + 2 * 4 * sum(BIASES) + 5 * ACTIVATIONS
