"""This package's own static quantization: a float network and calibration images -> a network with grids.

Layer after layer, on all calibration images at once, beside the float network: the range of what the layer writes there
is observed, its weights are put on their grid, its bias takes the mean error of what quantization did so far, and its
codes go on to the next layer. Nothing depends on the last bit of a float: the float network is run by
:func:`resnet8.execute.real.exact_step`, codes by the integer engine, sums are of whole numbers.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from resnet8.batches import batched
from resnet8.errors import QuantizationError
from resnet8.execute import engine, real
from resnet8.execute.patches import patches
from resnet8.files import read_bytes
from resnet8.network.onnx_parts import stored
from resnet8.network.onnx_read import read
from resnet8.network.onnx_write import to_onnx
from resnet8.network.rewrite import folded
from resnet8.network.tensors import accumulator_bias
from resnet8.numeric.grid import QParams, limits, of_width, qparams, storage, width
from resnet8.quantization.equalization import equalized
from resnet8.quantization.observation import Observation, forget, magnitudes
from resnet8.quantization.observers import weight_scales
from resnet8.quantization.reconstruction import Moments, reconstructed, require_exact
from resnet8.runtimes import ort
from resnet8.runtimes.onnx_file import read_float
from resnet8.workers import no_progress

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from resnet8.network.layers import AnyLayer, Layer, Weighted
    from resnet8.network.program import Program
    from resnet8.network.tensors import Constant
    from resnet8.quantization.recipes import Recipe
    from resnet8.quantization.scheme import Scheme
    from resnet8.workers import Progress

    L = TypeVar("L", bound=Layer)

FEWEST_IMAGES = 100
"""Fewer do not set ranges: an activation's extremes are rare."""


def source(model: Path) -> Path:
    """The ONNX file to quantize from: ``model`` itself."""
    return model


def quantize(model: Path, recipe: Recipe, images: NDArray[np.uint8], progress: Progress = no_progress) -> bytes:
    """Quantize a float ONNX ResNet8.

    Args:
        model: The file.
        recipe: The settings.
        images: Calibration images, uint8 (N, 32, 32, 3), fed as in evaluation.
        progress: Told the layers done, of how many.

    Returns:
        The quantized ONNX file's content: the same bytes on every CPU.

    Raises:
        QuantizationError: as :func:`quantized`; or when the installed ONNX Runtime is too old for the file.
        ModelError: when the file is damaged, quantized already, or no ResNet8.
    """
    scheme = recipe.native_scheme
    ort.require_bits(f"the recipe {recipe.name}", width(stored(of_width("int8", scheme.fewest_bits))))
    signed = replace(scheme, weights_signed=True)
    network = _remembered(_Asked(model, read_bytes(model), images.tobytes(), images.shape, signed, progress))
    made = network if scheme.weights_signed else unsigned(network)
    return bytes(to_onnx(made, recipe.form, compact=True).SerializeToString())


@dataclass(frozen=True)
class _Asked:
    model: Path
    content: bytes
    pixels: bytes
    shape: tuple[int, ...]
    scheme: Scheme
    progress: Progress = field(compare=False)


@lru_cache(maxsize=1)
def _remembered(asked: _Asked) -> Program:
    """The network on signed codes: the recipe that has the same ones in another coat asks next."""
    network = read(read_float(asked.model, asked.content), str(asked.model))
    images = np.frombuffer(asked.pixels, np.uint8).reshape(asked.shape)
    return quantized(network, images, asked.scheme, asked.progress)


def unsigned(network: Program) -> Program:
    """The same network with weights of signed 8-bit codes in another coat: unsigned ones around 128."""
    return replace(network, layers=tuple(_unsigned(layer) for layer in network.layers))


def _unsigned(layer: AnyLayer) -> AnyLayer:
    weights = layer.parameter
    if weights is None or weights.params.dtype != "int8":
        return layer
    codes = (weights.codes.astype(np.int16) + 128).astype(np.uint8)
    grid = QParams(weights.params.scale, weights.params.zero_point + np.int32(128), "uint8")
    return layer.with_parameter(replace(weights, codes=codes, grid=grid))


def fold(network: Program) -> Program:
    """A float network with its batch normalizations in the convolutions before them.

    Raises:
        QuantizationError: when something else than convolutions, dense layers, residual additions and averages is left.
    """
    result = folded(network)
    for layer in result.layers:
        if layer.added is None and (layer.parameter is not None or layer.kind == "rescale"):
            raise QuantizationError(
                "the network is of another architecture than the recipe is for",
                found=f"the layer «{layer.name}» ({layer.role}), which folds into no convolution before it",
                expected="convolutions with batch normalization, ReLUs, residual additions, an average, a dense layer",
                remedy="use one of ONNX Runtime's recipes: «resnet8 quantize --list»",
            )
    return result


def quantized(network: Program, images: NDArray[np.uint8], scheme: Scheme, progress: Progress = no_progress) -> Program:
    """The network with all its tensors on grids.

    Args:
        network: A float ResNet8, as :func:`resnet8.network.onnx_read.read` gives it.
        images: Calibration images, uint8 (N, 32, 32, 3), raw pixels.
        scheme: The grids, and how they are found.
        progress: Told the layers done, of how many.

    Raises:
        QuantizationError: when the network has other layers than these, too few images are given, an activation or a
            channel is constant, or the scheme names a layer that is not there.
    """
    return carried_out(observe(network, images, scheme, progress), scheme, progress, last=True)


def observe(
    network: Program, images: NDArray[np.uint8], scheme: Scheme, progress: Progress = no_progress
) -> Observation:
    """What a scheme asks of the float network: no number of bits counts in it.

    Args:
        network: As for :func:`quantized`.
        images: Calibration images.
        scheme: Its equalization, and whether images are mirrored.
        progress: Told the layers done, of twice as many as there are, where two passes are made.

    Raises:
        QuantizationError: as :func:`quantized`.
    """
    if len(images) < FEWEST_IMAGES:
        raise QuantizationError(
            "too few calibration images",
            found=str(len(images)),
            expected=f"at least {FEWEST_IMAGES}",
            remedy="draw more of each class",
        )
    if scheme.mirrored:
        images = np.concatenate([images, images[:, :, ::-1]])
    plain = fold(network)
    scheme.require_layers([layer.name for layer in plain.weighted])
    if scheme.equalization != "none":
        seen = magnitudes(plain, images, lambda done, total: progress(done, 2 * total))
        plain = equalized(plain, seen, scheme.equalization)
    return Observation(plain, images)


def carried_out(shown: Observation, scheme: Scheme, progress: Progress = no_progress, *, last: bool = False) -> Program:
    """The network with all its tensors on grids.

    Args:
        shown: What :func:`observe` gave for this scheme, or for one with the same equalization and images.
        scheme: The grids, and how they are found.
        progress: As of :func:`quantized`.
        last: Whether no other scheme asks about it: values are dropped as soon as no layer reads them.

    Raises:
        QuantizationError: as :func:`quantized`.
    """
    layers = shown.network.layers
    scheme.require_layers([layer.name for layer in shown.network.weighted])
    before = len(layers) if scheme.equalization != "none" else 0
    work = _Work(shown, scheme)
    for number, layer in enumerate(layers, start=1):
        work.add(layer)
        if last:
            shown.forget(number)
        progress(before + number, before + len(layers))
    return work.result() if scheme.weights_signed else unsigned(work.result())


class _Work:
    """Both networks, side by side, as far as they are."""

    def __init__(self, shown: Observation, scheme: Scheme) -> None:
        self.shown, self.scheme, self.network = shown, scheme, shown.network
        source = self.network.input
        self.input = replace(source, grid=qparams(1.0, 0, "uint8"), nchw=False)
        self.done: list[AnyLayer] = []
        self.grids: dict[str, QParams] = {source.name: self.input.params}
        self.codes: dict[str, NDArray[Any]] = {source.name: shown.images}

    def add(self, layer: AnyLayer) -> None:
        """Quantize the next layer."""
        name = layer.output.name
        self.grids[name] = self.shown.grid(name, self.dtype(name), self.scheme.observer)
        weighted = next((one for one in self.network.weighted if one.output.name == name), None)
        self.done.append(self.on_grids(layer) if weighted is None else self.weighted(weighted))
        self.codes[name] = self.run(self.done[-1])
        forget(self.network, len(self.done), self.codes)

    def dtype(self, name: str) -> str:
        """Of an activation that a layer writes."""
        last = self.network.weighted[-1]
        return self.scheme.activation_dtype(logits=name == last.output.name, last=name == last.x.name)

    def on_grids(self, layer: L) -> L:
        """The layer between quantized activations."""
        # A vector that is read is the same tensor as the 1 x 1 map that was written, in another shape.
        return replace(layer, kernel="integer").on(lambda one: replace(one, grid=self.grids[one.name]))

    def run(self, layer: AnyLayer) -> NDArray[Any]:
        """The codes of all images that a quantized layer writes."""

        def work(part: slice) -> NDArray[Any]:
            return engine.step(layer, {name: self.codes[name][part] for name in layer.inputs})

        return np.concatenate(list(batched(work, len(self.shown.images))))

    def weighted(self, layer: Weighted) -> Weighted:
        """A convolution or dense layer with its weights and bias on grids."""
        scheme, matrix, made = self.scheme, layer.weights.columns, self.on_grids(layer)
        edges = {one.name for one in (self.network.weighted[0], self.network.weighted[-1])}
        bits = scheme.bits_of(layer.name, edge=layer.name in edges)
        signed = of_width("int8", bits)
        scales = weight_scales(matrix, signed, per_channel=scheme.per_channel, searched=scheme.weight_observer == "mse")
        scale_x = np.float64(made.x.scale)
        codes = np.clip(np.rint(matrix / scales), *limits(signed))
        zeros = np.zeros(np.shape(scales), np.int32)
        moments = None
        if scheme.bias_correction or scheme.rounding == "reconstruct":
            target = self.shown.unclipped(layer.output.name) + self.owed(layer)
            moments = self.moments(made, target, products=scheme.rounding == "reconstruct")
        if moments is not None and scheme.rounding == "reconstruct":
            largest = np.abs(matrix).max(axis=0) / limits(signed)[1] * scale_x
            if not scheme.per_channel:
                largest = np.full_like(largest, largest.max())
            codes, steps, zeros = reconstructed(
                moments, largest, bits, per_channel=scheme.per_channel, zeros=scheme.zeros(bits)
            )
            scales = (steps / scale_x).astype(np.float32)
            if not scheme.per_channel:
                scales, zeros = scales[0], zeros[0]
        grid = QParams(np.asarray(scales), np.asarray(zeros), signed)
        kept = (codes + zeros).astype(storage(signed)).reshape(layer.weights.shape)
        bias = layer.added.astype(np.float64)
        if scheme.bias_correction and moments is not None:
            bias = moments.bias(codes, scale_x * scales.astype(np.float64))
        made = replace(made, weights=replace(layer.weights, codes=kept, grid=grid))
        return replace(made, bias=self.bias(layer, made, bias))

    def bias(self, layer: Weighted, made: Weighted, bias: NDArray[np.float64]) -> Constant:
        """In accumulator steps, int32."""
        codes = accumulator_bias(bias, made.x, made.weights.params)
        low, high = limits("int32")
        if not ((codes >= low) & (codes <= high)).all():
            raise QuantizationError(
                f"the bias of «{layer.name}» does not fit int32",
                found=f"{np.abs(codes).max():.3g} steps of scale_x * scale_w",
                expected=f"at most {high}",
                remedy="check the model's weights",
            )
        named = layer.bias or replace(layer.weights, name=f"{layer.weights.name}_bias")
        return replace(named, codes=codes.astype(np.int32), grid=None)

    def owed(self, layer: Weighted) -> NDArray[np.float64] | float:
        """What the other operand of the residual addition behind a layer lacks, where that is there already.

        The layer makes up for it, as far as its inputs tell: a residual block is reconstructed by what it writes.
        """
        name = layer.output.name
        behind = [one for one in self.network.layers if name in one.inputs]
        if self.scheme.rounding != "reconstruct" or len(behind) != 1 or not behind[0].residual or layer.relu:
            return 0.0
        other = next(one for one in behind[0].inputs if one != name)
        if other not in self.codes:
            return 0.0
        grid = self.grids[other]
        there = (self.codes[other].astype(np.float64) - int(grid.zero_point)) * np.float64(grid.scale)
        return self.shown.written(other) - real.to_bits(there, real.VALUE_BITS)

    def moments(self, made: Weighted, target: NDArray[Any], *, products: bool) -> Moments:
        """Of what the layer reads, on its grid, and of what it should write."""
        zero = made.x.zero_point
        codes = self.codes[made.x.name]

        def work(part: slice) -> Moments:
            maps = codes[part].reshape(-1, *made.map_shape)
            rows = patches(maps, made, np.float64, zero)
            return Moments.of(rows, target[part].reshape(len(rows), -1).astype(np.float64), products=products)

        first, *others = batched(work, len(codes), size=25)
        for other in others:
            first += other
        low, high = made.x.codes_from_zero
        require_exact(made.name, first.count, max(-low, high), float(np.abs(target).max()))
        return first

    def result(self) -> Program:
        """The quantized network."""
        return replace(
            self.network,
            input=self.input,
            layers=tuple(self.done),
            logits=replace(self.network.logits, grid=self.grids[self.network.logits.name]),
            probabilities=None,
        )
