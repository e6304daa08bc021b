"""Any network as its file's own runtime computes it: codes by the engine, real numbers in float32."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from resnet8.execute import engine, real
from resnet8.execute.fbgemm import biased
from resnet8.execute.walk import walk

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from resnet8.network.layers import AnyLayer
    from resnet8.network.program import Program


def step(layer: AnyLayer, values: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
    """What one layer writes, (N, *output shape), of what it reads, by name; a bias in float as fbgemm adds it."""
    if layer.output.grid is None:
        return real.step(layer, values)
    return engine.step(layer, values, accumulators=biased)


def run(
    network: Program, images: NDArray[Any], watch: Callable[[str, NDArray[Any]], None] | None = None
) -> NDArray[Any]:
    """The logits, (N, 10), codes or float32, of pixels 0 to 255, (N, 32, 32, 3).

    ``watch`` is shown the name and the values of each activation, (N, *shape), NHWC, the input's first.
    """
    first = images.astype(np.float32) if network.input.grid is None else engine.input_codes(network, images)
    return walk(network, first, step, watch)


def probabilities(network: Program, logits: NDArray[Any]) -> NDArray[np.float32]:
    """Class probabilities, float32 (N, 10), of what :func:`run` gives."""
    if network.logits.grid is None:
        return real.probabilities(network, logits)
    return engine.probabilities(network, logits)
