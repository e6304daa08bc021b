"""How far a quantized network is from the float network behind it, layer by layer.

Of a tensor, over all its elements of all images, with the float values ``ref`` and the dequantized codes ``q``:

* MSE, the mean squared error: ``sum((ref - q)**2) / count``.
* SQNR, the signal-to-quantization-noise ratio: ``10 log10(sum(ref**2) / sum((ref - q)**2))`` dB (Widrow and Kollár
  2008, Quantization Noise, chapter 1).
* The largest error: ``max(abs(ref - q))``, in reals and in steps of the grid's scale.
* Cosine similarity: ``sum(ref * q) / sqrt(sum(ref**2) * sum(q**2))``.
* Clipped: the share of ``ref`` that the grid cannot hold (:func:`resnet8.playground.codes.clipped`).

*Accumulated*: the codes of the quantized network, run from its input. *In isolation*: the codes that one layer makes of
the float values of its inputs, quantized; the error is that layer's own.
"""

from __future__ import annotations

import csv
import io
import math
from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING

import numpy as np

from resnet8.batches import batched
from resnet8.execute import native, real
from resnet8.numeric.grid import dequantize, quantize
from resnet8.playground.codes import clipped
from resnet8.playground.flow import CHANGED, Answers, flow, flow_of_changed
from resnet8.workers import no_progress

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from resnet8.network.program import Program
    from resnet8.playground.flow import Flow
    from resnet8.workers import Progress

INPUT = "input"
"""Name of the row of the images themselves, which are quantized before the first layer."""

_SMALL_BATCH = 20
"""Where every layer is looked at for each batch: the activations of all layers are in memory at once."""


@dataclass(frozen=True)
class LayerError:
    """How far one tensor of a quantized network is from the same one of a reference; no numbers have no error.

    Attributes:
        layer: Name of the layer that writes it; :data:`INPUT` for the images.
        activation: Name of the tensor.
        mse: Mean squared error, in squared units of the reals.
        sqnr: Signal-to-quantization-noise ratio in dB; infinite without an error, minus infinite where the reference is
            all zeros and there is one.
        largest: The largest absolute error, in reals.
        steps: The same in steps of the quantized tensor's scale.
        cosine: Cosine similarity, -1 to 1; 1 without an error, nan where only one of the two is all zeros.
        clipped: Share of the reference's values, 0 to 1, that the grid cannot hold.
    """

    layer: str
    activation: str
    mse: float
    sqnr: float
    largest: float
    steps: float
    cosine: float
    clipped: float


@dataclass(frozen=True)
class Noise:
    """The errors of every tensor over some images, the input's first.

    Attributes:
        accumulated: Of the quantized network.
        isolated: Of each layer alone.
    """

    accumulated: tuple[LayerError, ...]
    isolated: tuple[LayerError, ...]


@dataclass(frozen=True, eq=False)
class Comparison:
    """A network and a changed one over some images.

    Attributes:
        answers: What they predict; the changed one is the variant :data:`resnet8.playground.flow.CHANGED`.
        original: Errors of every tensor, accumulated; none without a reference.
        changed: The same of the changed network.
    """

    answers: Answers
    original: tuple[LayerError, ...]
    changed: tuple[LayerError, ...]


# Sums over images, from which all numbers follow


@dataclass(frozen=True)
class _Sums:
    """Of one tensor: how many elements, ``sum(ref**2)``, how many are clipped; ``sum(q**2)``, and of ``ref - q``."""

    count: int = 0
    signal: float = 0.0
    clipped: int = 0
    quantized: float = 0.0
    noise: float = 0.0
    largest: float = 0.0

    def __add__(self, more: _Sums) -> _Sums:
        return _Sums(
            self.count + more.count,
            self.signal + more.signal,
            self.clipped + more.clipped,
            self.quantized + more.quantized,
            self.noise + more.noise,
            max(self.largest, more.largest),
        )

    @property
    def sqnr(self) -> float:
        """In dB."""
        if self.noise == 0:
            return math.inf
        ratio = self.signal / self.noise
        return 10 * math.log10(ratio) if ratio else -math.inf

    @property
    def cosine(self) -> float:
        """``1 - (sum((ref - q)**2) - (|ref| - |q|)**2) / (2 |ref| |q|)``, which is the formula above.

        Its difference from 1 does not depend on the last digits of large sums.
        """
        signal, quantized = math.sqrt(self.signal), math.sqrt(self.quantized)
        if self.noise == 0 or not (signal and quantized):
            return 1.0 if self.noise == 0 else math.nan
        difference = (self.noise - (signal - quantized) ** 2) / (2 * signal * quantized)
        return float(np.clip(1 - difference, -1, 1))


def _power(values: NDArray[np.float32]) -> float:
    """The sum of squares; in float32 for each image, where its rounding is far below a thousandth of a dB."""
    flat = values.reshape(len(values), 1, -1)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        total = float((flat @ flat.transpose(0, 2, 1)).sum(dtype=np.float64))
    return total if _SAFE < total < math.inf else float(np.square(values, dtype=np.float64).sum())


_SAFE = 1e-25
"""A sum from which on nothing that counts was too small to be squared in float32."""


def _reference(ref: NDArray[np.float32], network: Program, name: str) -> _Sums:
    """What does not depend on the other network but for its grid."""
    return _Sums(ref.size, _power(ref), clipped(ref, network.activations[name].params))


def _against(of: _Sums, ref: NDArray[np.float32], found: NDArray[np.float32]) -> _Sums:
    """``of`` completed with what another network has found, float32 of the shape of ``ref``."""
    error = ref - found
    largest = max(float(error.max()), -float(error.min()))
    return _Sums(of.count, of.signal, of.clipped, _power(found), _power(error) if largest else 0.0, largest)


def _flow_sums(reference: Flow, other: Flow) -> Iterator[_Sums]:
    """Of each activation of two flows, the input's first."""
    for name in other.network.activations:
        ref = reference.real(name)
        yield _against(_reference(ref, other.network, name), ref, other.real(name))


def _total(batches: Iterable[Sequence[_Sums]], count: int) -> list[_Sums]:
    """The sums over all batches of ``count`` tensors each."""
    total = [_Sums()] * count
    for batch in batches:
        total = [one + more for one, more in zip(total, batch, strict=True)]
    return total


def _errors(network: Program, sums: Iterable[_Sums]) -> tuple[LayerError, ...]:
    """The numbers that follow from the sums of each activation of ``network``."""
    return tuple(
        LayerError(
            layer=layer,
            activation=name,
            mse=one.noise / max(one.count, 1),
            sqnr=one.sqnr,
            largest=one.largest,
            steps=one.largest / float(network.activations[name].scale),
            cosine=one.cosine,
            clipped=one.clipped / max(one.count, 1),
        )
        for (name, layer), one in zip(_rows(network).items(), sums, strict=True)
    )


def _rows(network: Program) -> dict[str, str]:
    """The layer that writes each activation, by the activation's name: :data:`INPUT`, then the names of the layers."""
    return {network.input.name: INPUT} | {name: layer.name for name, layer in network.writers.items()}


# What is asked


def of_flow(reference: Flow, other: Flow) -> tuple[LayerError, ...]:
    """The errors of one image, or a few: of every tensor, accumulated, the input's first.

    Args:
        reference: What should flow: the float network's, or that of a quantized one with the same layers.
        other: What flows through a quantized network, of the same images.
    """
    return _errors(other.network, _flow_sums(reference, other))


def noise(quantized: Program, reference: Program, images: NDArray[np.uint8], progress: Progress = no_progress) -> Noise:
    """The errors of the images and of every layer, accumulated and in isolation.

    Args:
        quantized: The quantized network.
        reference: The float network behind it.
        images: uint8 (N, 32, 32, 3).
        progress: Called after each batch; may raise to stop.
    """

    def measured(part: slice) -> list[_Sums]:
        wanted, found = flow(reference, images[part]), flow(quantized, images[part])
        accumulated, isolated = [], []
        for name, alone in _alone(quantized, wanted):
            ref = wanted.real(name)
            of = _reference(ref, quantized, name)
            accumulated.append(_against(of, ref, found.real(name)))
            isolated.append(_against(of, ref, alone))
        return accumulated + isolated

    count = len(quantized.activations)
    total = _total(batched(measured, len(images), progress, _SMALL_BATCH), 2 * count)
    return Noise(_errors(quantized, total[:count]), _errors(quantized, total[count:]))


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

    names = _rows(quantized).values()
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


def compared(  # noqa: PLR0917 - two networks, what they should be, and a sample
    original: Program,
    changed: Program,
    reference: Program | None,
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
    progress: Progress = no_progress,
) -> Comparison:
    """What a network and a changed one predict, and the errors of both, accumulated; the images are run once.

    Args:
        original: A quantized network.
        changed: The same with other tensors (:func:`resnet8.network.change.apply`).
        reference: The float network behind them, where there is one.
        images: uint8 (N, 32, 32, 3).
        labels: Their classes, int64 (N,).
        progress: Called after each batch; may raise to stop.
    """
    both = (original, changed)

    def measured(part: slice) -> tuple[NDArray[np.int64], list[_Sums]]:
        before = flow(original, images[part])
        flows = (before, flow_of_changed(changed, before, images[part]))
        classes = np.stack([one.probabilities.argmax(axis=1) for one in flows])
        if reference is None:
            return classes, []
        wanted = flow(reference, images[part])
        return classes, [sums for one in flows for sums in _flow_sums(wanted, one)]

    found = list(batched(measured, len(images), progress, _SMALL_BATCH))
    first, second = np.concatenate([np.zeros((2, 0), np.int64), *(classes for classes, _ in found)], axis=1)
    answers = Answers(labels, first, {CHANGED: second})
    if reference is None:
        return Comparison(answers, (), ())
    count = len(original.activations)
    total = _total((sums for _, sums in found), 2 * count)
    before, after = (_errors(one, part) for one, part in zip(both, (total[:count], total[count:]), strict=True))
    return Comparison(answers, before, after)


# As a file

_COLUMNS = (
    "layer number",
    "layer",
    "activation",
    "MSE (real units squared)",
    "SQNR (dB)",
    "largest absolute error (real units)",
    "largest absolute error (steps)",
    "cosine similarity",
    "clipped (share of values)",
)


def as_csv(errors: Iterable[LayerError]) -> str:
    """The errors of all tensors, the input's first, as text with commas: a line of headings, then one for each.

    The input has number 0, the layers from 1 on. Numbers are written so that reading them gives the same: ``inf``,
    ``-inf`` and ``nan`` among them.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    writer.writerows((number, *astuple(one)) for number, one in enumerate(errors))
    return text.getvalue()
