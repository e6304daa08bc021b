"""A quantized program with what single tensors have of their own: fewer codes than 8 bits hold, another rounding."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from resnet8.batches import batched
from resnet8.execute import engine
from resnet8.execute.fbgemm import FloatBias, biased
from resnet8.qparams import limits, quantize
from resnet8.variants import Requantization
from resnet8.workers import no_progress

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from resnet8.network.layers import Activation, AnyLayer, Program
    from resnet8.variants import Rounding
    from resnet8.workers import Progress


@dataclass(frozen=True, eq=False)
class Quantized:
    """What is computed.

    Attributes:
        program: The layers.
        narrow: Least and greatest code of the activations that use fewer than their type holds, by name.
        roundings: How the layer that writes an activation rounds, by the activation's name; half to even elsewhere.
    """

    program: Program
    narrow: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    roundings: Mapping[str, Rounding] = field(default_factory=dict)

    def limits(self, activation: str) -> tuple[int, int]:
        """The least and the greatest code that an activation uses."""
        return self.narrow.get(activation) or limits(self.program.activations[activation].params.dtype)

    def codes(self, activation: Activation, real: NDArray[Any]) -> NDArray[Any]:
        """The codes of ``real``, any shape, on the grid of ``activation``."""
        return self._clipped(activation.name, quantize(real, activation.params))

    def input_codes(self, images: NDArray[Any]) -> NDArray[Any]:
        """The codes of pixels 0 to 255, (N, 32, 32, 3), any number type."""
        return self.codes(self.program.input, images)

    def step(self, layer: AnyLayer, values: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
        """The codes that one layer writes, (N, *output shape), from the codes of its inputs by name."""
        rounding = self.roundings.get(layer.output.name, "half-even")
        accumulators = biased if isinstance(layer, FloatBias) else engine.accumulate  # as PyTorch's kernels add it
        written = engine.step(layer, values, Requantization("float32", rounding), accumulators)
        return self._clipped(layer.output.name, written)

    def _clipped(self, name: str, codes: NDArray[Any]) -> NDArray[Any]:
        if name not in self.narrow:
            return codes
        low, high = self.narrow[name]
        clipped: NDArray[Any] = np.clip(codes, codes.dtype.type(low), codes.dtype.type(high))
        return clipped

    def run(self, codes: NDArray[Any], watch: Callable[[str, NDArray[Any]], None] | None = None) -> NDArray[Any]:
        """The codes of the logits, (N, 10).

        Args:
            codes: Of the input, (N, 32, 32, 3) (:meth:`input_codes`).
            watch: Shown the name and the codes of each activation, (N, *shape), NHWC, the input's first.
        """
        program = self.program
        last = {name: layer for layer in program.layers for name in layer.inputs}
        values = {program.input.name: codes}
        if watch is not None:
            watch(program.input.name, codes)
        for layer in program.layers:
            values[layer.output.name] = self.step(layer, values)
            if watch is not None:
                watch(layer.output.name, values[layer.output.name])
            for name in layer.inputs:
                if last[name] is layer and name != program.logits.name:
                    values.pop(name, None)
        return values[program.logits.name].reshape(len(codes), -1)

    def probabilities(self, images: NDArray[Any]) -> NDArray[np.float32]:
        """Class probabilities, float32 (N, 10), of pixels 0 to 255, (N, 32, 32, 3)."""
        return engine.probabilities(self.program, self.run(self.input_codes(images)))


def predictions(quantized: Quantized, images: NDArray[np.uint8], progress: Progress = no_progress) -> NDArray[np.int64]:
    """The predicted class of each image, int64 (N,).

    Args:
        quantized: What to compute.
        images: uint8 (N, 32, 32, 3).
        progress: Called after each batch; may raise to stop.
    """
    done = batched(lambda part: quantized.probabilities(images[part]).argmax(axis=1), len(images), progress)
    return np.concatenate([np.zeros(0, np.int64), *done])
