"""Networks made of networks: a ReLU joins the layer before it; the float network behind a quantized one.

The float network behind a quantized one has the same layers one for one, with the real numbers they were made from.
Layers are found by what they read, not by name: quantizers rename parameters and fold layers. From the images on, a
quantized layer stands for the float layer that does the same to the same tensors, with weights of the same shape,
strides and pads; between two that do, the one of the same name, else the first. A convolution whose factors and addends
per channel were folded into it (BatchNorm) takes them along: ``w' = w * factor``, ``b' = b * factor + addend`` (Jacob
et al. 2018, arXiv:1712.05877, section 3.2); so does a dense layer with the addition behind it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from resnet8.errors import ModelError
from resnet8.network.layers import Rescale, Weighted
from resnet8.network.tensors import Activation

if TYPE_CHECKING:
    from resnet8.network.layers import AnyLayer
    from resnet8.network.program import Program


def merged(network: Program) -> Program:
    """The same with each ReLU of real numbers in the layer before it, where nothing else reads that layer."""
    readers = Counter(name for layer in network.layers for name in layer.inputs)
    layers: dict[str, AnyLayer] = {}
    for layer in network.layers:
        source = layer.inputs[0]
        before = layers.get(source)
        alone = readers[source] == 1 and source != network.logits.name
        plain = isinstance(layer, Rescale) and layer.relu and layer.output.grid is None
        if plain and before is not None and alone:
            del layers[source]
            nodes = (*before.nodes, *layer.nodes)
            layers[layer.output.name] = replace(before, output=layer.output, relu=True, nodes=nodes)
        else:
            layers[layer.output.name] = layer
    return replace(network, layers=tuple(layers.values()))


def folded(network: Program) -> Program:
    """The same with each factor and addend of every channel in the convolution or dense layer before it (BatchNorm).

    Where nothing else reads that layer. ReLUs are merged (:func:`merged`).
    """
    network = merged(network)
    readers = Counter(name for layer in network.layers for name in layer.inputs)
    layers: dict[str, AnyLayer] = {}
    for layer in network.layers:
        source = layer.inputs[0]
        before = layers.get(source)
        alone = readers[source] == 1 and source != network.logits.name
        constant = layer.parameter is not None and len(layer.reads) == 1 and not isinstance(layer, Weighted)
        if constant and isinstance(before, Weighted) and not before.relu and alone:
            del layers[source]
            layers[layer.output.name] = _fold(before, layer)
        else:
            layers[layer.output.name] = layer
    return replace(network, layers=tuple(layers.values()))


def behind(quantized: Program, network: Program) -> Program:
    """The float network with the layers, and the names of layers and tensors, of a quantized one.

    Args:
        quantized: The quantized network.
        network: The float network that it was made from.

    Raises:
        ModelError: when the layers of ``quantized`` are not made from those of ``network``.
    """
    return _Matcher(quantized, network).matched()


class _Matcher:
    def __init__(self, quantized: Program, network: Program) -> None:
        self._quantized = quantized
        self._readers: dict[str, list[AnyLayer]] = defaultdict(list)
        for real in network.layers:
            for name in real.inputs:
                self._readers[name].append(real)
        self._uses: dict[str, list[AnyLayer]] = defaultdict(list)
        for layer in quantized.layers:
            for name in layer.inputs:
                self._uses[name].append(layer)
        self._reals = {quantized.input.name: network.input.name}
        self._taken: set[str] = set()

    def matched(self) -> Program:
        layers = tuple(self._match(layer) for layer in self._quantized.layers)
        images, logits = (replace(one, grid=None) for one in (self._quantized.input, self._quantized.logits))
        return replace(self._quantized, input=images, layers=layers, logits=logits, probabilities=None)

    def _match(self, layer: AnyLayer) -> AnyLayer:
        real: AnyLayer
        if isinstance(layer, Rescale):
            self._reals[layer.output.name] = self._reals[layer.inputs[0]]
            real = Rescale(name=layer.name, output=layer.output, x=layer.x, relu=layer.relu, kernel="float")
        else:
            real = self._found(layer)
            self._taken.add(real.output.name)
            if isinstance(real, Weighted):
                real = self._folded(layer, real)
            self._reals[layer.output.name] = real.output.name
        read: dict[str, Any] = {
            name: replace(one, grid=None)
            for name in layer.operands
            if isinstance(one := getattr(layer, name), Activation)
        }
        return replace(real, name=layer.name, output=replace(layer.output, grid=None), **read)

    def _found(self, layer: AnyLayer) -> AnyLayer:
        inputs = sorted(self._reals[name] for name in layer.inputs)
        fitting = [
            real
            for real in self._readers[self._reals[layer.inputs[0]]]
            if real.operator == layer.operator
            and sorted(real.inputs) == inputs
            and real.output.name not in self._taken
            and _fits(layer, real)
        ]
        if not fitting:
            raise ModelError(
                f"the float network has no layer like «{layer.name}»",
                found=f"none that reads the same tensors ({layer.operator}, {_shape(layer)})",
                expected="the float model that the quantized one was made from",
                remedy="choose that model",
            )
        return next((real for real in fitting if real.name == layer.name), fitting[0])

    def _folded(self, layer: AnyLayer, real: Weighted) -> Weighted:
        """``real`` with the factors and addends behind it that ``layer`` has none for."""
        while not real.relu and len(after := self._readers[real.output.name]) == 1:
            if after[0].parameter is None or after[0].residual or self._continues(layer, after[0].operator):
                break
            real = _fold(real, after[0])
            self._taken.add(real.output.name)
        return real

    def _continues(self, layer: AnyLayer, wanted: str) -> bool:
        """Whether the quantized network has a layer of its own for the factor or addend (or it is neither)."""
        if wanted not in ("mul", "add"):
            return True
        return any(use.operator == wanted and use.parameter is not None for use in self._uses[layer.output.name])


def _fits(layer: AnyLayer, real: AnyLayer) -> bool:
    if (layer.parameter is None) != (real.parameter is None):
        return False
    if not isinstance(layer, Weighted) or not isinstance(real, Weighted):
        return True
    return (real.weights.shape, real.strides, real.pads) == (layer.weights.shape, layer.strides, layer.pads)


def _shape(layer: AnyLayer) -> str:
    return f"weights {layer.weights.shape}" if isinstance(layer, Weighted) else f"output {layer.output.shape}"


def _fold(real: Weighted, after: AnyLayer) -> Weighted:
    assert after.parameter is not None  # noqa: S101 - for the type checker
    other = after.parameter.codes
    weights, bias = real.weights.codes, real.added
    weights, bias = (weights * other, bias * other) if after.operator == "mul" else (weights, bias + other)
    return replace(
        real,
        weights=replace(real.weights, codes=np.asarray(weights, np.float32)),
        bias=replace(real.bias or after.parameter, codes=np.asarray(bias, np.float32)),
        output=after.output,
        relu=after.relu,
        nodes=(*real.nodes, *after.nodes),
    )
