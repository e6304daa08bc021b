"""Float networks for the tests: what a synthetic quantized program stands for, and floats read by other means."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from resnet8.network.layers import Weighted
from resnet8.playground.reference import RealLayer, RealNetwork
from resnet8.playground.weights import constant
from resnet8.qparams import dequantize

if TYPE_CHECKING:
    from resnet8.network.layers import Program


def real_of(program: Program) -> RealNetwork:
    """The float network whose parameters are exactly the dequantized ones of ``program``."""
    layers = []
    for layer in program.layers:
        parameter, bias = constant(layer), None
        if isinstance(layer, Weighted) and layer.has_bias:
            scale = np.float64(layer.x.scale) * layer.weight_params.scale.astype(np.float64)
            bias = (layer.bias * scale).astype(np.float32)
        layers.append(
            RealLayer(
                name=layer.name,
                operator=layer.operator,
                inputs=layer.inputs,
                output=layer.output.name,
                shape=layer.output.shape,
                relu=layer.relu,
                weights=None if parameter is None else dequantize(*parameter),
                bias=bias,
                strides=getattr(layer, "strides", (1, 1)),
                pads=getattr(layer, "pads", (0, 0, 0, 0)),
                parameters=layer.parameters,
            )
        )
    return RealNetwork(program.input.name, tuple(layers), program.logits.name, program.softmax)
