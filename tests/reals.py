"""Float networks for the tests: what a synthetic quantized one stands for."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from resnet8.network.layers import Weighted

if TYPE_CHECKING:
    from resnet8.network.layers import AnyLayer
    from resnet8.network.program import Program
    from resnet8.network.tensors import Activation


def real_of(program: Program) -> Program:
    """The float network whose parameters are exactly the dequantized ones of ``program``."""

    def real(one: Activation) -> Activation:
        return replace(one, grid=None)

    layers = []
    for layer in program.layers:
        plain: AnyLayer = layer.on(real)
        if layer.parameter is not None:
            plain = plain.with_parameter(replace(layer.parameter, codes=layer.parameter.real, grid=None))
        if isinstance(layer, Weighted) and layer.bias is not None:
            scale = np.float64(layer.x.scale) * layer.weights.params.scale.astype(np.float64)
            plain = replace(plain, bias=replace(layer.bias, codes=(layer.bias.codes * scale).astype(np.float32)))
        layers.append(plain)
    return replace(program, input=real(program.input), layers=tuple(layers), logits=real(program.logits))
