"""What a float network writes on calibration images: numbers that do not depend on how it is quantized.

Computed exactly (:func:`resnet8.execute.real.exact_step`), so they are the same on every CPU; and kept, for all the
schemes that ask about the same network and images.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from resnet8.batches import batched
from resnet8.execute import real
from resnet8.quantization.equalization import ChannelMagnitudes
from resnet8.quantization.observers import activation_grid, logit_grid
from resnet8.workers import no_progress

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from resnet8.network.layers import AnyLayer
    from resnet8.network.program import Program
    from resnet8.numeric.grid import QParams
    from resnet8.quantization.observers import Observer
    from resnet8.workers import Progress


@dataclass
class Observation:
    """A float network beside calibration images; layers are computed when they are asked for, in their order.

    Attributes:
        network: Folded, its constants as :func:`resnet8.execute.real.on_a_grid` has them.
        images: uint8 (N, 32, 32, 3), raw pixels.
    """

    network: Program
    images: NDArray[np.uint8]
    _unclipped: dict[str, NDArray[np.float32]] = field(default_factory=dict, init=False, repr=False)
    _grids: dict[tuple[str, str, Observer], QParams] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        self.network = real.on_a_grid(self.network)
        self._writers = {layer.output.name: layer for layer in self.network.layers}

    def unclipped(self, name: str) -> NDArray[np.float32]:
        """What the layer that writes an activation computes for all images, before its ReLU.

        Multiples of ``2**-12`` below ``2**11``: float32 holds them.
        """
        if name not in self._unclipped:
            layer = replace(self._writers[name], relu=False)
            self._unclipped[name] = _computed(layer, {one: self.written(one) for one in layer.inputs})
        return self._unclipped[name]

    def written(self, name: str) -> NDArray[np.float32]:
        """An activation, or the images, float32 (N, *shape)."""
        if name not in self._writers:
            return self.images.astype(np.float32)
        one = self.unclipped(name)
        return np.maximum(one, 0) if self._writers[name].relu else one

    def grid(self, name: str, dtype: str, observer: Observer) -> QParams:
        """The grid of an activation.

        Raises:
            QuantizationError: when it is constant.
        """
        key = (name, dtype, observer)
        if key not in self._grids:
            observed = logit_grid if name == self.network.logits.name else activation_grid
            self._grids[key] = observed(name, self.written(name), dtype, observer)
        return self._grids[key]

    def forget(self, done: int) -> None:
        """Drop the values that no layer reads after the first ``done``; grids stay."""
        forget(self.network, done, self._unclipped)


def magnitudes(
    network: Program, images: NDArray[np.uint8], progress: Progress = no_progress
) -> dict[str, ChannelMagnitudes]:
    """Of the channels of every activation that a layer writes; nothing else is kept.

    Means of multiples of ``2**-12`` are exact sums.

    Args:
        network: A folded float network.
        images: uint8 (N, 32, 32, 3), raw pixels.
        progress: Told the layers done, of how many.
    """
    shown, found = Observation(network, images), {}
    for number, layer in enumerate(shown.network.layers, start=1):
        one = shown.written(layer.output.name)
        rows = np.abs(one.reshape(-1, one.shape[-1]).astype(np.float64))
        found[layer.output.name] = ChannelMagnitudes(rows.max(axis=0), rows.sum(axis=0) / len(rows))
        shown.forget(number)
        progress(number, len(shown.network.layers))
    return found


def forget(network: Program, done: int, values: dict[str, NDArray[Any]]) -> None:
    """Drop the values that no layer reads after the first ``done``."""
    wanted = {name for layer in network.layers[done:] for name in layer.inputs}
    for name in [name for name in values if name not in wanted]:
        del values[name]


_BATCH = 10
"""Images computed at once: in float64, the patches of more leave a CPU's cache."""


def _computed(layer: AnyLayer, values: Mapping[str, NDArray[np.float32]]) -> NDArray[np.float32]:
    """What a layer writes for all images."""

    def work(part: slice) -> NDArray[np.float32]:
        read = {name: values[name][part].astype(np.float64) for name in layer.inputs}
        return real.exact_step(layer, read).astype(np.float32)

    return np.concatenate(list(batched(work, len(values[layer.inputs[0]]), size=_BATCH)))
