"""A network: a list of layers over tensors, from images to class scores."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from resnet8.network.layers import Weighted
from resnet8.network.tensors import accumulator_grid

if TYPE_CHECKING:
    from resnet8.network.layers import AnyLayer
    from resnet8.network.tensors import Activation
    from resnet8.numeric.grid import QParams


@dataclass(frozen=True, eq=False)
class Program:
    """A network from images to logits, and the float softmax behind it.

    Attributes:
        input: The images: their codes, ``quantize(pixels)``, or, without a grid, the pixels themselves.
        layers: In the order of computation.
        logits: Name of the activation that holds the class scores.
        softmax: Whether a softmax follows (in float, on the dequantized logits).
        probabilities: Grid onto which the softmax is quantized, if it is.
    """

    input: Activation
    layers: tuple[AnyLayer, ...]
    logits: Activation
    softmax: bool
    probabilities: QParams | None

    @cached_property
    def activations(self) -> dict[str, Activation]:
        """Every activation by name."""
        return {self.input.name: self.input} | {layer.output.name: layer.output for layer in self.layers}

    @property
    def quantized(self) -> bool:
        """Whether any tensor has a grid."""
        return any(one.grid is not None for one in self.activations.values())

    @property
    def weighted(self) -> tuple[Weighted, ...]:
        """The convolutions and dense layers."""
        return tuple(layer for layer in self.layers if isinstance(layer, Weighted))

    @property
    def real_biases(self) -> tuple[Weighted, ...]:
        """The layers whose bias the file gives as real numbers."""
        return tuple(layer for layer in self.weighted if layer.real_bias is not None)

    @cached_property
    def writers(self) -> dict[str, AnyLayer]:
        """The layer that writes each activation, by the activation's name."""
        return {layer.output.name: layer for layer in self.layers}

    def with_float_logits(self) -> Program:
        """The same with class scores that are not quantized: the last layer's accumulators are their codes.

        They lose nothing to rounding, and the greatest accumulator is the prediction.

        Raises:
            QuantizationError: when the last layer's weights have a scale for each channel.
            TypeError: when it has none.
        """
        last = self.writers[self.logits.name]
        if not isinstance(last, Weighted):
            raise TypeError(f"{last.name} has no accumulators in steps of scale_x * scale_w")
        output = replace(last.output, grid=accumulator_grid(last.x, last.weights.params))
        layers = tuple(replace(one, output=output) if one is last else one for one in self.layers)
        return replace(self, layers=layers, logits=replace(self.logits, grid=output.grid))

    def as_integer(self) -> Program:
        """The same with every layer computed in integers."""
        return replace(self, layers=tuple(replace(layer, kernel="integer") for layer in self.layers))
