"""The float network behind a quantized one: the same layers one for one, with the real numbers they were made from.

Layers are found by what they read, not by name: quantizers rename parameters and fold layers. From the images on, a
quantized layer stands for the float layer that does the same to the same tensors, with weights of the same shape,
strides and pads; between two that do, the one of the same name, else the first. A convolution whose factors and addends
per channel were folded into it (BatchNorm) takes them along: ``w' = w * factor``, ``b' = b * factor + addend`` (Jacob
et al. 2018, arXiv:1712.05877, section 3.2); so does a dense layer with the addition behind it.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from resnet8.errors import ModelError
from resnet8.network.layers import Constant, Product, Rescale, Sum, Weighted
from resnet8.playground.reference import RealLayer, RealNetwork

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from resnet8.network.layers import AnyLayer, Program
    from resnet8.playground.reference import Operator


def behind(program: Program, network: RealNetwork) -> RealNetwork:
    """The float network with the layers, and the names of layers and tensors, of ``program``.

    Args:
        program: Of a quantized file.
        network: Of the float file that it was made from.

    Raises:
        ModelError: when the layers of ``program`` are not made from those of ``network``.
    """
    return _Matcher(program, network).matched()


class _Matcher:
    def __init__(self, program: Program, network: RealNetwork) -> None:
        self._program = program
        self._readers: dict[str, list[RealLayer]] = defaultdict(list)
        for real in network.layers:
            for name in real.inputs:
                self._readers[name].append(real)
        self._uses: dict[str, list[AnyLayer]] = defaultdict(list)
        for layer in program.layers:
            for name in layer.inputs:
                self._uses[name].append(layer)
        self._reals = {program.input.name: network.input}
        self._taken: set[str] = set()

    def matched(self) -> RealNetwork:
        layers = tuple(self._match(layer) for layer in self._program.layers)
        return RealNetwork(self._program.input.name, layers, self._program.logits.name, self._program.softmax)

    def _match(self, layer: AnyLayer) -> RealLayer:
        if isinstance(layer, Rescale):
            self._reals[layer.output.name] = self._reals[layer.inputs[0]]
            real = RealLayer(name="", operator="rescale", inputs=(), output="", shape=(), relu=layer.relu)
        else:
            real = self._found(layer)
            self._taken.add(real.output)
            if isinstance(layer, Weighted):
                real = self._folded(layer, real)
            self._reals[layer.output.name] = real.output
        return replace(real, name=layer.name, inputs=layer.inputs, output=layer.output.name, shape=layer.output.shape)

    def _found(self, layer: AnyLayer) -> RealLayer:
        inputs = sorted(self._reals[name] for name in layer.inputs)
        fitting = [
            real
            for real in self._readers[self._reals[layer.inputs[0]]]
            if real.operator == layer.operator
            and sorted(real.inputs) == inputs
            and real.output not in self._taken
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

    def _folded(self, layer: AnyLayer, real: RealLayer) -> RealLayer:
        """``real`` with the factors and addends behind it that ``layer`` has none for."""
        while not real.relu and len(behind := self._readers[real.output]) == 1:
            after = behind[0]
            if after.weights is None or len(after.inputs) != 1 or self._continues(layer, after.operator):
                break
            real = _fold(real, after)
            self._taken.add(after.output)
        return real

    def _continues(self, layer: AnyLayer, wanted: Operator) -> bool:
        """Whether the quantized network has a layer of its own for the factor or addend (or it is neither)."""
        if wanted not in ("mul", "add"):
            return True
        return any(use.operator == wanted and _constant(use) is not None for use in self._uses[layer.output.name])


def _constant(layer: AnyLayer) -> object | None:
    """Weights or constant; None where there are none."""
    if isinstance(layer, Weighted):
        return layer.weights
    if isinstance(layer, Product):
        return layer.constant
    return layer.b if isinstance(layer, Sum) and isinstance(layer.b, Constant) else None


def _fits(layer: AnyLayer, real: RealLayer) -> bool:
    if (_constant(layer) is None) != (real.weights is None):
        return False
    if not isinstance(layer, Weighted) or real.weights is None:
        return True
    return (real.weights.shape, real.strides, real.pads) == (layer.weights.shape, layer.strides, layer.pads)


def _shape(layer: AnyLayer) -> str:
    return f"weights {layer.weights.shape}" if isinstance(layer, Weighted) else f"output {layer.output.shape}"


def _fold(real: RealLayer, after: RealLayer) -> RealLayer:
    assert real.weights is not None  # noqa: S101 - for the type checker
    assert after.weights is not None  # noqa: S101
    weights, bias = real.weights, np.zeros(real.weights.shape[-1], np.float32) if real.bias is None else real.bias
    folded: tuple[NDArray[np.float32], NDArray[np.float32]]
    folded = (
        (weights * after.weights, bias * after.weights)
        if after.operator == "mul"
        else (
            weights,
            bias + after.weights,
        )
    )
    nodes = (*real.nodes, *after.nodes)
    return replace(real, weights=folded[0], bias=folded[1], output=after.output, relu=after.relu, nodes=nodes)
