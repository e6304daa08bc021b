"""How far a quantized network is from the float network behind it, layer by layer.

The signal-to-quantization-noise ratio of a tensor is ``10 log10(sum(ref**2) / sum((ref - q)**2))`` dB: the float values
against the dequantized codes, over all elements of all images (Widrow and Kollár 2008, Quantization Noise, chapter 1).
*Accumulated*: the codes of the quantized network, run from its input. *In isolation*: the codes that one layer makes of
the float values of its inputs, quantized; the error is that layer's own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from resnet8.batches import batched
from resnet8.execute import native, real
from resnet8.numeric.grid import dequantize, quantize
from resnet8.playground.flow import Answers, flow
from resnet8.workers import no_progress

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from resnet8.network.program import Program
    from resnet8.playground.flow import Flow
    from resnet8.workers import Progress

INPUT = "input"
"""Name of the row of the images themselves, which are quantized before the first layer."""

_SMALL_BATCH = 20
"""Where every layer is looked at for each batch: the activations of all layers are in memory at once."""


@dataclass(frozen=True)
class Noise:
    """The quantization noise at one layer, in dB; infinite where there is none.

    Attributes:
        layer: Its name; :data:`INPUT` for the images.
        activation: Name of what it writes.
        accumulated: SQNR of the quantized network.
        isolated: SQNR of this layer alone.
    """

    layer: str
    activation: str
    accumulated: float
    isolated: float


def rows(network: Program) -> dict[str, str]:
    """The layer that writes each activation, by the activation's name: :data:`INPUT`, then the names of the layers."""
    return {network.input.name: INPUT} | {name: layer.name for name, layer in network.writers.items()}


def sqnr(reference: NDArray[np.float32], quantized: NDArray[np.float32]) -> float:
    """The signal-to-quantization-noise ratio of two float32 arrays of one shape, in dB."""
    return decibels(_power(reference), _power(reference - quantized))


def of_layers(reference: Flow, other: Flow) -> tuple[float, ...]:
    """The SQNR of each activation of one flow against another of the same images and layers, in dB."""
    return tuple(sqnr(reference.real(name), other.real(name)) for name in reference.network.activations)


def decibels(signal: float, noise: float) -> float:
    """``10 log10(signal / noise)``: infinite without noise, minus infinite without signal."""
    if noise == 0:
        return float("inf")
    return float(10 * np.log10(signal / noise)) if signal else float("-inf")


def _power(values: NDArray[np.float32]) -> float:
    """The sum of squares; in float32 for each image, where its rounding is far below a thousandth of a dB."""
    flat = values.reshape(len(values), 1, -1)
    return float((flat @ flat.transpose(0, 2, 1)).sum(dtype=np.float64))


def noise(
    quantized: Program, reference: Program, images: NDArray[np.uint8], progress: Progress = no_progress
) -> tuple[Noise, ...]:
    """The SQNR of the images and of every layer, accumulated and in isolation.

    Args:
        quantized: The quantized network.
        reference: The float network behind it.
        images: uint8 (N, 32, 32, 3).
        progress: Called after each batch; may raise to stop.
    """

    def measured(part: slice) -> NDArray[np.float64]:
        wanted, found = flow(reference, images[part]), flow(quantized, images[part])
        alone = _alone(quantized, wanted)
        powers = (map(_power, (ref := wanted.real(name), ref - found.real(name), ref - one)) for name, one in alone)
        return np.array([tuple(three) for three in powers])

    total = np.zeros((len(quantized.activations), 3))
    for powers in batched(measured, len(images), progress, _SMALL_BATCH):
        total += powers
    return tuple(
        Noise(layer, name, decibels(signal, accumulated), decibels(signal, isolated))
        for (name, layer), (signal, accumulated, isolated) in zip(rows(quantized).items(), total.tolist(), strict=True)
    )


def sensitivity(
    quantized: Program,
    reference: Program,
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
    progress: Progress = no_progress,
) -> Answers:
    """What the float network predicts, and with each layer alone quantized, by the name of the layer.

    The layer is fed the float values, quantized, and float goes on behind it. ``labels`` are int64 (N,), the other
    arguments those of :func:`noise`.
    """

    def predicted(part: slice) -> NDArray[np.int64]:
        wanted = flow(reference, images[part])
        replaced = [{}, *({name: one} for name, one in _alone(quantized, wanted))]
        logits = np.stack([real.resume(reference, wanted.values, one) for one in replaced])
        return np.asarray(logits.argmax(axis=2))

    names = rows(quantized).values()
    nothing = np.zeros((1 + len(names), 0), np.int64)
    first, *others = np.concatenate([nothing, *batched(predicted, len(images), progress, _SMALL_BATCH)], axis=1)
    return Answers(labels, first, dict(zip(names, others, strict=True)))


def _alone(quantized: Program, wanted: Flow) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """What each layer alone makes of the float values of its inputs, by the name of what it writes; images first."""
    fed = {name: quantize(wanted.real(name), one.params) for name, one in quantized.activations.items()}
    writers = quantized.writers
    for name, one in quantized.activations.items():
        codes = native.step(writers[name], fed) if name in writers else fed[name]
        yield name, dequantize(codes, one.params)
