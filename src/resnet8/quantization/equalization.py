"""Cross-layer equalization: channels scaled so that all use the codes alike.

Between two layers every channel of an activation may be multiplied by a factor of its own if the weights that make it
are multiplied, and those that read it divided: a ReLU, an addition and an average let positive factors through, and the
network computes the same (Nagel et al. 2019, arXiv:1906.04721, section 4.1). Activations that are added up share their
factors, so channels are equalized in groups: all activations that are tied by additions and averages.

* ``activations``: every channel reaches the same greatest value, so one scale for the tensor fits all its channels:
  what a scale for each channel would give, for nothing. Weights need a scale for each channel then.
* ``balanced``: ``factor = sqrt(weight / value)`` by the mean magnitudes of a channel's values and of the weights that
  read it, these in units of their output channel: the rounding errors of weights weigh as much as the values they
  meet, so their sum is least when both are alike (after Lin et al. 2024, arXiv:2306.00978, who scale by values alone).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from resnet8.network.layers import AnyLayer
    from resnet8.network.program import Program

Equalization = Literal["none", "activations", "balanced"]


@dataclass(frozen=True)
class ChannelMagnitudes:
    """What the channels of an activation are on the calibration images, float64 (channels,) each.

    Attributes:
        greatest: The greatest magnitude.
        mean: The mean magnitude.
    """

    greatest: NDArray[np.float64]
    mean: NDArray[np.float64]


def equalized(network: Program, magnitudes: Mapping[str, ChannelMagnitudes], how: Equalization) -> Program:
    """The same network with other factors of its channels.

    Args:
        network: A folded network of real numbers.
        magnitudes: Of every activation that a layer writes, by name.
        how: See above.
    """
    if how == "none":
        return network
    group = _groups(network)
    factors: dict[str, NDArray[np.float64]] = {}
    for root in dict.fromkeys(group.values()):
        members = [name for name in group if group[name] == root]
        readers = [layer for layer in network.weighted if layer.x.name in members]
        if root == group[network.input.name] or not readers or network.logits.name in members:
            continue
        factors |= dict.fromkeys(members, _factors([magnitudes[name] for name in members], readers, how))
    return replace(network, layers=tuple(_scaled(layer, factors) for layer in network.layers))


def _groups(network: Program) -> dict[str, str]:
    """Each activation's group, by the name of one of its members: those that layers without weights tie together."""
    group = {name: name for name in network.activations}
    for layer in network.layers:
        if layer.added is None:
            tied = {group[layer.output.name], *(group[name] for name in layer.inputs)}
            root = group[layer.inputs[0]]
            group = {name: root if one in tied else one for name, one in group.items()}
    return group


def _factors(members: list[ChannelMagnitudes], readers: Sequence[AnyLayer], how: Equalization) -> NDArray[np.float64]:
    if how == "activations":
        # Each activation of the group has a scale of its own, so only how its channels compare counts.
        reach = np.max([_relative(one.greatest) for one in members], axis=0)
        level: NDArray[np.float64] = 1 / np.maximum(reach, 1e-3)
        return level
    value = np.sum([_relative(one.mean) for one in members], axis=0)
    weight = np.sum([_weights_by_input(layer) for layer in readers], axis=0)
    balanced: NDArray[np.float64] = np.sqrt(_above_zero(weight) / _above_zero(value))
    return balanced


def _relative(magnitudes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of the greatest; ones for an activation that is constant, which is refused when its range is observed."""
    return magnitudes / magnitudes.max() if magnitudes.any() else np.ones_like(magnitudes)


def _above_zero(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """``values``, none below a thousandth of the greatest: a channel that nothing comes from, or that nothing reads."""
    raised: NDArray[np.float64] = np.maximum(values, 1e-3 * values.max() or 1)
    return raised


def _weights_by_input(layer: AnyLayer) -> NDArray[np.float64]:
    """The mean magnitude of the weights that read each input channel, in units of their output channel's mean."""
    assert layer.parameter is not None  # noqa: S101 - for the type checker
    magnitudes = np.abs(layer.parameter.codes.astype(np.float64)).reshape(-1, *layer.parameter.shape[2:])
    units = np.array([math.fsum(one.ravel()) / one.size for one in np.moveaxis(magnitudes, -1, 0)])
    relative = np.moveaxis(magnitudes / np.where(units > 0, units, 1), 1, 0)
    return np.array([math.fsum(one.ravel()) / one.size for one in relative])


def _scaled(layer: AnyLayer, factors: Mapping[str, NDArray[np.float64]]) -> AnyLayer:
    if layer.added is None or layer.parameter is None:
        return layer
    weights, bias = layer.parameter.codes.astype(np.float64), layer.added.astype(np.float64)
    if (read := factors.get(layer.inputs[0])) is not None:
        weights = weights / read[:, None]
    if (written := factors.get(layer.output.name)) is not None:
        weights, bias = weights * written, bias * written
    scaled = layer.with_parameter(replace(layer.parameter, codes=weights))
    return scaled if layer.bias is None else replace(scaled, bias=replace(layer.bias, codes=bias))
