"""A float network on grids, in arithmetic that gives the same on every CPU (min-max ranges, nearest codes)."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from resnet8.batches import batched
from resnet8.errors import QuantizationError
from resnet8.execute import real
from resnet8.network.tensors import accumulator_bias
from resnet8.numeric.grid import QParams, limits, of_width, qparams, quantize
from resnet8.workers import no_progress

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from resnet8.network.layers import AnyLayer, Weighted
    from resnet8.network.program import Program
    from resnet8.network.tensors import Activation, Constant
    from resnet8.quantization.scheme import Scheme
    from resnet8.workers import Progress

FINE = 16
"""Bits of weights that stay as they are."""


def fold(network: Program) -> Program:
    """The network with each factor and addend per channel (BatchNorm) in the convolution or dense layer before it.

    Raises:
        QuantizationError: when one is left that has no such layer before it.
    """
    readers = Counter(name for layer in network.layers for name in layer.inputs)
    weighted = {layer.output.name: layer for layer in network.weighted}
    layers: dict[str, AnyLayer] = {}
    for layer in network.layers:
        source = layer.inputs[0]
        if layer.output.name not in weighted and layer.parameter is not None:
            before = layers.pop(source, None)
            if source not in weighted or before is None or before.relu or readers[source] > 1:
                raise QuantizationError(
                    "the network is of another architecture",
                    found=f"«{layer.name}» behind no convolution of its own",
                    expected="a ResNet8: BatchNorm right behind convolutions",
                    remedy="name the file that «resnet8 convert» wrote",
                )
            folded = _folded(weighted[source], layer)
            weighted[layer.output.name] = folded
            layers[layer.output.name] = folded
        else:
            layers[layer.output.name] = layer
    return replace(network, layers=tuple(layers.values()))


def _folded(before: Weighted, layer: AnyLayer) -> Weighted:
    assert layer.parameter is not None  # noqa: S101 - for the type checker
    other = layer.parameter.codes.astype(np.float64)
    weights, bias = before.weights.codes.astype(np.float64), before.added.astype(np.float64)
    weights, bias = (weights * other, bias * other) if layer.operator == "mul" else (weights, bias + other)
    return replace(
        before,
        weights=replace(before.weights, codes=np.asarray(weights, np.float32)),
        bias=replace(before.bias or layer.parameter, codes=np.asarray(bias, np.float32)),
        output=layer.output,
        relu=layer.relu,
        nodes=(*before.nodes, *layer.nodes),
    )


def quantized(network: Program, images: NDArray[np.uint8], scheme: Scheme, progress: Progress = no_progress) -> Program:
    """The network on grids, as the engine runs it.

    Args:
        network: A float network.
        images: Calibration images, uint8 (N, 32, 32, 3).
        scheme: How.
        progress: Called with the images that were looked at.

    Raises:
        QuantizationError: when the network is of another architecture, or a layer of ``scheme`` is none of its.
    """
    folded = fold(network)
    grids = _activation_grids(folded, images, scheme, progress)
    names = [layer.name for layer in folded.weighted]
    bits = dict.fromkeys(names, scheme.weight_bits)
    if scheme.edge_bits is not None:
        bits[names[0]] = bits[names[-1]] = scheme.edge_bits
    bits |= dict(scheme.layer_bits) | dict.fromkeys(scheme.float_layers, FINE)
    if unknown := sorted(bits.keys() - set(names)):
        raise QuantizationError(
            "the scheme names a layer that is not there",
            found=", ".join(unknown),
            expected=", ".join(names),
            remedy="choose among these",
        )

    def on(one: Activation) -> Activation:
        return replace(one, grid=grids[one.name])

    layers: list[AnyLayer] = [layer.on(on) for layer in folded.layers]
    weighted = {layer.output.name: _weights(layer, bits[layer.name], scheme) for layer in _weighted(folded, layers)}
    return replace(
        folded,
        input=on(folded.input),
        layers=tuple(weighted.get(layer.output.name, layer) for layer in layers),
        logits=on(folded.logits),
    )


def _weighted(folded: Program, layers: list[AnyLayer]) -> tuple[Weighted, ...]:
    return replace(folded, layers=tuple(layers)).weighted


def _activation_grids(
    folded: Program, images: NDArray[np.uint8], scheme: Scheme, progress: Progress
) -> dict[str, QParams]:
    def extremes(part: slice) -> dict[str, tuple[float, float]]:
        found: dict[str, tuple[float, float]] = {}

        def watch(name: str, values: NDArray[Any]) -> None:
            found[name] = (float(values.min()), float(values.max()))

        real.run(folded, images[part], watch)
        return found

    low: dict[str, float] = {}
    high: dict[str, float] = {}
    for found in batched(extremes, len(images), progress, threads=1):
        for name, (least, greatest) in found.items():
            low[name], high[name] = min(low.get(name, 0.0), least), max(high.get(name, 0.0), greatest)
    fine = {folded.input.name, folded.logits.name}
    return {
        name: _grid(low[name], high[name], 8 if name in fine else scheme.activation_bits, scheme.activations_signed)
        for name in folded.activations
    }


def _grid(low: float, high: float, bits: int, signed: bool) -> QParams:
    if low == high:
        raise QuantizationError(
            "an activation is constant",
            found=f"{low} on every calibration image",
            expected="a range",
            remedy="calibrate on images that differ",
        )
    dtype = of_width("int8" if signed else "uint8", bits)
    qmin, qmax = limits(dtype)
    scale = np.float32((high - low) / (qmax - qmin))
    return qparams(float(scale), int(np.clip(np.rint(qmin - low / scale), qmin, qmax)), dtype)


def _weights(layer: Weighted, bits: int, scheme: Scheme) -> Weighted:
    reals: Constant = layer.weights
    largest = np.abs(reals.columns).max(axis=0 if scheme.per_channel else None)
    dtype = of_width("int8" if scheme.weights_signed else "uint8", bits)
    low, high = limits(dtype)
    middle = (low + high + 1) // 2
    scale = np.asarray(np.where(largest > 0, largest, 1) / (high - middle), np.float32)
    grid = QParams(scale, np.full(scale.shape, middle, np.int32), dtype)
    weights = replace(reals, codes=quantize(reals.codes, grid), grid=grid)
    bias = accumulator_bias(layer.added, layer.x, grid).astype(np.int32)
    return replace(layer, weights=weights, bias=replace(layer.bias or reals, codes=bias))
