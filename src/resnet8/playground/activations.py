"""What flows through a quantized network, against the float network behind it.

The signal-to-quantization-noise ratio of a tensor is ``10 log10(sum(ref**2) / sum((ref - q)**2))`` dB: the float values
against the dequantized codes, over all elements of all images (Widrow and Kollár 2008, Quantization Noise, chapter 1).
*Accumulated*: the codes of the quantized network, run from its input. *In isolation*: the codes that one layer makes of
the float values of its inputs, quantized; the error is that layer's own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from resnet8.batches import batched
from resnet8.execute import engine, real
from resnet8.execute.fbgemm import biased
from resnet8.numeric.grid import dequantize, quantize
from resnet8.results import Score, score
from resnet8.workers import no_progress

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from resnet8.network.layers import AnyLayer
    from resnet8.network.program import Program
    from resnet8.workers import Progress

INPUT = "input"
"""Name of the row of the images themselves, which are quantized before the first layer."""

_SMALL_BATCH = 20
"""Where every layer is looked at for each batch: the activations of all layers are in memory at once."""


@dataclass(frozen=True, eq=False)
class Capture:
    """Every activation of some images.

    Attributes:
        quantized: What was computed.
        codes: By name of the activation, (N, *shape), NHWC; the input's first.
        probabilities: float32 (N, 10).
        reference: The float network's values, float32, by the same names; empty without one.
        reference_probabilities: float32 (N, 10); none without one.
    """

    quantized: Program
    codes: dict[str, NDArray[Any]]
    probabilities: NDArray[np.float32]
    reference: dict[str, NDArray[np.float32]]
    reference_probabilities: NDArray[np.float32] | None

    def real(self, activation: str) -> NDArray[np.float32]:
        """The dequantized codes of an activation, float32."""
        return dequantize(self.codes[activation], self.quantized.activations[activation].params)


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


@dataclass(frozen=True)
class Alone:
    """What quantizing one layer alone costs.

    Attributes:
        layer: Its name; :data:`INPUT` for the images.
        activation: Name of what it writes.
        score: Top-1 with this layer quantized and everything behind it in float.
        changed: Images whose predicted class is another than the float network's.
    """

    layer: str
    activation: str
    score: Score
    changed: int


@dataclass(frozen=True)
class Sensitivity:
    """Top-1 of the float network, and with each layer alone quantized, in the order of computation."""

    reference: Score
    layers: tuple[Alone, ...]


def run(
    quantized: Program, codes: NDArray[Any], watch: Callable[[str, NDArray[Any]], None] | None = None
) -> NDArray[Any]:
    """The codes of the logits as the file's own runtime computes them (:func:`resnet8.execute.engine.run`)."""
    return engine.run(quantized, codes, accumulators=biased, watch=watch)


def step(layer: AnyLayer, values: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
    """The codes that one layer writes, as :func:`run` computes them."""
    return engine.step(layer, values, accumulators=biased)


def probabilities(quantized: Program, images: NDArray[Any]) -> NDArray[np.float32]:
    """Class probabilities, float32 (N, 10), of pixels 0 to 255, (N, 32, 32, 3)."""
    return engine.probabilities(quantized, run(quantized, engine.input_codes(quantized, images)))


def predictions(quantized: Program, images: NDArray[np.uint8], progress: Progress = no_progress) -> NDArray[np.int64]:
    """The predicted class of each image, int64 (N,).

    Args:
        quantized: What to compute.
        images: uint8 (N, 32, 32, 3).
        progress: Called after each batch; may raise to stop.
    """

    def predicted(part: slice) -> NDArray[np.int64]:
        classes: NDArray[np.int64] = probabilities(quantized, images[part]).argmax(axis=1)
        return classes

    return np.concatenate([np.zeros(0, np.int64), *batched(predicted, len(images), progress)])


def capture(quantized: Program, reference: Program | None, images: NDArray[Any]) -> Capture:
    """Every activation of ``images``, (N, 32, 32, 3), pixels 0 to 255: for a few images, it is all kept.

    Args:
        quantized: The quantized network.
        reference: The float network behind it (:func:`resnet8.playground.network.reference`).
        images: The images.
    """
    codes: dict[str, NDArray[Any]] = {}
    logits = run(quantized, engine.input_codes(quantized, images), codes.__setitem__)
    reals: dict[str, NDArray[np.float32]] = {}
    probabilities = None
    if reference is not None:
        probabilities = real.probabilities(reference, real.run(reference, images, reals.__setitem__))
    return Capture(quantized, codes, engine.probabilities(quantized, logits), reals, probabilities)


def capture_real(network: Program, images: NDArray[Any]) -> dict[str, NDArray[np.float32]]:
    """Every activation of a float network by name, float32 (N, *shape), NHWC, the images first."""
    reals: dict[str, NDArray[np.float32]] = {}
    real.run(network, images, reals.__setitem__)
    return reals


def sqnr(reference: NDArray[np.float32], quantized: NDArray[np.float32]) -> float:
    """The signal-to-quantization-noise ratio of two float32 arrays of one shape, in dB."""
    return decibels(_power(reference), _power(reference - quantized))


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
        flow = capture(quantized, reference, images[part])
        fed = _fed(quantized, flow.reference)
        sums = []
        for name, activation in quantized.activations.items():
            wanted, writer = flow.reference[name], writers.get(name)
            accumulated = isolated = _power(wanted - flow.real(name))
            if writer is not None:
                isolated = _power(wanted - dequantize(step(writer, fed), activation.params))
            sums.append((_power(wanted), accumulated, isolated))
        return np.array(sums)

    writers = quantized.writers
    total = np.zeros((len(quantized.activations), 3))
    for sums in batched(measured, len(images), progress, _SMALL_BATCH):
        total += sums
    return tuple(
        Noise(
            layer=writers[name].name if name in writers else INPUT,
            activation=name,
            accumulated=decibels(signal, accumulated),
            isolated=decibels(signal, isolated),
        )
        for name, (signal, accumulated, isolated) in zip(quantized.activations, total.tolist(), strict=True)
    )


def sensitivity(
    quantized: Program,
    reference: Program,
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
    progress: Progress = no_progress,
) -> Sensitivity:
    """Top-1 with each layer alone quantized: it is fed the float values, quantized, and float goes on behind it.

    Args:
        quantized: The quantized network.
        reference: The float network behind it.
        images: uint8 (N, 32, 32, 3).
        labels: int64 (N,).
        progress: Called after each batch; may raise to stop.
    """

    def predicted(part: slice) -> NDArray[np.int64]:
        reals = capture_real(reference, images[part])
        fed = _fed(quantized, reals)
        rows = [reals[reference.logits.name].reshape(part.stop - part.start, -1).argmax(axis=1)]
        own = {quantized.input.name: fed[quantized.input.name]}
        own |= {layer.output.name: step(layer, fed) for layer in quantized.layers}
        for name, activation in quantized.activations.items():
            other = dequantize(own[name], activation.params)
            rows.append(real.resume(reference, reals, {name: other}).argmax(axis=1))
        return np.stack(rows)

    writers = {layer.output.name: layer.name for layer in quantized.layers}
    batches = list(batched(predicted, len(images), progress, _SMALL_BATCH))
    classes = np.concatenate(batches, axis=1) if batches else np.zeros((1 + len(quantized.activations), 0), np.int64)
    right = (classes == labels).sum(axis=1).tolist()
    changed = (classes != classes[0]).sum(axis=1).tolist()
    return Sensitivity(
        reference=score(right[0], len(labels)),
        layers=tuple(
            Alone(writers.get(name, INPUT), name, score(right[row], len(labels)), changed[row])
            for row, name in enumerate(quantized.activations, 1)
        ),
    )


def _fed(quantized: Program, reals: dict[str, NDArray[np.float32]]) -> dict[str, NDArray[Any]]:
    """The float values of every activation as codes of its grid."""
    return {name: quantize(reals[name], one.params) for name, one in quantized.activations.items()}


def feature_maps(values: NDArray[Any]) -> NDArray[Any]:
    """An activation of one image as one picture for each channel: (1, H, W, C) to (C, H, W), (1, C) to (C, 1, 1)."""
    one: NDArray[Any] = values[0]
    return one.reshape(1, 1, -1).transpose(2, 0, 1) if one.ndim == 1 else one.transpose(2, 0, 1)
