"""Float networks for the tests: what a synthetic quantized one stands for, and one to be quantized."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from resnet8.network.layers import AveragePool, Product, Rescale, Sum, Weighted
from resnet8.network.program import Program
from resnet8.network.tensors import Activation, Constant

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from resnet8.network.layers import AnyLayer


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


def pictures(count: int, seed: int = 0) -> NDArray[np.uint8]:
    """Images of 4 x 4 squares of one colour each: unlike noise, they differ when they are averaged."""
    squares = np.random.default_rng(seed).integers(0, 256, (count, 4, 4, 3), np.uint8)
    return squares.repeat(8, axis=1).repeat(8, axis=2)


def residual() -> Program:
    """A small ResNet in float, as it is read from a file: batch normalization, ReLUs and both kinds of blocks.

    Numbers are multiples of ``2**-12``, made of whole ones: the same on every CPU.
    """
    rng = np.random.default_rng(0)
    layers: list[AnyLayer] = []

    def numbers(name: str, shape: tuple[int, ...], size: float) -> Constant:
        greatest = round(size * 4096)
        return Constant(name, (rng.integers(-greatest, greatest + 1, shape) / 4096).astype(np.float32), None)

    def add(layer: AnyLayer) -> Activation:
        layers.append(layer)
        return layer.output

    def conv(
        x: Activation, name: str, channels: int, *, size: float = 0.3, kernel: int = 3, stride: int = 1
    ) -> Activation:
        rows = x.shape[0] // stride
        pads = {(1, 1): (0, 0, 0, 0), (1, 2): (0, 0, 0, 0), (3, 1): (1, 1, 1, 1), (3, 2): (0, 0, 1, 1)}
        return add(
            Weighted(
                name=name,
                output=Activation(f"{name}_out", (rows, rows, channels), None),
                x=x,
                weights=numbers(f"{name}_w", (kernel, kernel, x.shape[-1], channels), size),
                bias=numbers(f"{name}_b", (channels,), 0.5),
                strides=(stride, stride),
                pads=pads.get((kernel, stride), (0, 1, 1, 1)),
            )
        )

    def relu(x: Activation) -> Activation:
        name = f"{x.name}_relu"
        return add(Rescale(name=name, output=replace(x, name=name), x=x, relu=True, kernel="float"))

    def plus(a: Activation, b: Activation, name: str) -> Activation:
        return add(Sum(name=name, output=replace(a, name=f"{name}_out"), a=a, b=b))

    image = Activation("image", (32, 32, 3), None)
    first = conv(image, "conv1", 4, size=0.02, stride=4)
    factors = Constant("scale", np.float32([0.5, 1, 2, 0.25]), None)
    scaled = add(Product(name="scaling", output=replace(first, name="scaled"), x=first, constant=factors))
    shift = numbers("shift", (4,), 0.5)
    shifted = relu(add(Sum(name="shifting", output=replace(first, name="shifted"), a=scaled, b=shift)))
    inner = relu(conv(shifted, "conv2", 5))
    joined = relu(plus(conv(inner, "conv3", 4), shifted, "joining"))
    inner = relu(conv(joined, "conv4", 5, stride=2))
    last = conv(inner, "conv5", 6)
    joined = relu(plus(last, conv(joined, "conv6", 6, kernel=1, stride=2), "rejoining"))
    mean = add(AveragePool(name="pool", output=Activation("mean", (1, 1, 6), None), x=joined))
    logits = add(
        Weighted(
            name="dense",
            output=Activation("logits", (10,), None),
            x=replace(mean, shape=(6,)),
            weights=numbers("dense_w", (1, 1, 6, 10), 1),
            bias=Constant(
                "dense_b", np.float32([26, -5, 21, -20, 7, 17, 31, -15, -7, -49]) / 4, None
            ),  # no class leads
            dense=True,
        )
    )
    return Program(image, tuple(layers), logits, softmax=True, probabilities=None)
