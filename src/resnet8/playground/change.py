"""Other scales, zero points, bit widths and roundings for single tensors, and the program that comes of them.

The network's meaning is kept: what changes is how finely, over which range and how tensors are quantized.

* Another grid of an activation holds for the layer that writes it and for all that read it.
* Weights and constants on another grid are quantized anew: from the float network where it is given, else from their
  dequantized codes.
* A bias keeps its real value: ``code = round_half_even(real / (scale_x * scale_w))`` (Jacob et al. 2018,
  arXiv:1712.05877, section 2.4).
* A tensor whose zero point is its least code has no negative numbers; many files hold a ReLU in no other way. Where its
  grid changes, the layer that writes it gets the ReLU as such.

All changes are applied to the grids first, and everything is derived once, from the original: changes that cancel out
leave no trace.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from resnet8.errors import QuantizationError
from resnet8.network.layers import Weighted
from resnet8.numeric.grid import QParams, limits, of_width, quantize, storage
from resnet8.numeric.variants import ROUNDINGS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

    from resnet8.network.layers import AnyLayer
    from resnet8.network.program import Program
    from resnet8.network.tensors import Activation, Constant
    from resnet8.numeric.variants import Rounding

Field = Literal["scale", "factor", "zero_point", "bits", "rounding"]
FIELDS: tuple[Field, ...] = get_args(Field)
BITS = range(2, 9)


@dataclass(frozen=True)
class Change:
    """One change of one tensor.

    Attributes:
        tensor: Name of an activation, of weights or of a constant.
        field: ``scale``; ``factor``, by which the scale is multiplied; ``zero_point``; ``bits``, 2 to 8: as many codes
            over the same range; ``rounding``, of the layer that writes the activation.
        value: A number, whole for ``zero_point`` and ``bits``; the name of a rounding.
        channel: The output channel of weights with a scale for each; none for all channels, or the whole tensor.
    """

    tensor: str
    field: Field
    value: float | int | str
    channel: int | None = None

    def __post_init__(self) -> None:
        if isinstance(self.value, np.generic):  # a number out of an array; files and code hold Python's own
            object.__setattr__(self, "value", self.value.item())


def entered(tensor: str, field: Field, value: object, channel: str = "") -> Change:
    """A change as it was entered: texts become numbers.

    Args:
        tensor: Its name.
        field: What is changed.
        value: A number or its text; the name of a rounding.
        channel: The number of an output channel as text; blank for all.

    Raises:
        QuantizationError: when a text is no number, or no whole one where that is needed.
    """
    text = channel.strip()
    if text and not (text.isdecimal() and len(text) < 10):
        raise QuantizationError(
            "the channel is no number",
            found=f"{text:.40}",
            expected="the number of an output channel, from 0",
            remedy="leave it empty for all channels",
        )
    change = Change(tensor, field, str(value).strip(), int(text) if text else None)
    if field == "rounding":
        return change
    return replace(change, value=_whole(change) if field in ("zero_point", "bits") else _number(change))


def added(before: Iterable[Change], change: Change) -> tuple[Change, ...]:
    """``before`` and ``change``, which replaces an earlier one of the same tensor, field and channel."""
    same = (change.tensor, change.field, change.channel)
    return (*(one for one in before if (one.tensor, one.field, one.channel) != same), change)


def apply(original: Program, changes: Iterable[Change], reference: Program | None = None) -> Program:
    """``original`` with ``changes``, in their order.

    Args:
        original: A quantized network.
        changes: What is changed.
        reference: The float network behind it (:func:`resnet8.playground.network.reference`): weights and biases are
            quantized anew from its numbers.

    Raises:
        QuantizationError: when a tensor is not known, or a value makes no sense for it.
    """
    before = {name: one.params for name, one in original.activations.items()} | _parameters(original)
    after = dict(before)
    roundings: dict[str, Rounding | None] = {layer.output.name: layer.rounding for layer in original.layers}
    for change in changes:
        if change.tensor not in after:
            raise QuantizationError(
                "the tensor is not known",
                found=change.tensor,
                expected="the name of an activation or of weights",
                remedy="choose one of the model's own",
            )
        if change.field == "rounding":
            roundings[change.tensor] = _rounding(change, set(roundings))
        else:
            after[change.tensor] = _changed(after[change.tensor], change)
    derived = _Deriver(original, before, after, reference).network()
    layers = (replace(layer, rounding=roundings[layer.output.name]) for layer in derived.layers)
    return replace(derived, layers=tuple(layers))


def _parameters(network: Program) -> dict[str, QParams]:
    """The grid of each weight tensor and constant, by name."""
    found = (layer.parameter for layer in network.layers)
    return {one.name: one.params for one in found if one is not None}


# Grids


def _rounding(change: Change, written: set[str]) -> Rounding | None:
    """A rounding of the layer's own; none for half to even, which is what every layer does."""
    if change.tensor not in written or change.channel is not None:
        raise QuantizationError(
            "this tensor has no rounding of its own",
            found=change.tensor,
            expected="an activation that a layer writes, as a whole",
            remedy="choose the output of a layer",
        )
    if change.value not in ROUNDINGS:
        raise QuantizationError(
            "the rounding is not known",
            found=str(change.value),
            expected=", ".join(ROUNDINGS),
            remedy="choose one of these",
        )
    return None if change.value == "half-even" else change.value


def _changed(params: QParams, change: Change) -> QParams:
    if change.field not in FIELDS:
        raise QuantizationError(
            "nothing of that name can be changed",
            found=change.field,
            expected=", ".join(FIELDS),
            remedy="choose one of these",
        )
    if change.channel is not None and not (params.per_channel and 0 <= change.channel < params.scale.size):
        channels = f"0 to {params.scale.size - 1}" if params.per_channel else "none: one scale for the whole tensor"
        raise QuantizationError(
            f"{change.tensor} has no such channel",
            found=str(change.channel),
            expected=channels,
            remedy="change all channels, or one of these",
        )
    number = _number(change)
    if change.field == "bits":
        return _narrowed(params, change)
    chosen = slice(None) if change.channel is None else change.channel
    scale, zero_point = np.atleast_1d(params.scale).copy(), np.atleast_1d(params.zero_point).copy()
    if change.field == "zero_point":
        zero_point[chosen] = np.clip(_whole(change), *limits("int32"))
    else:
        with np.errstate(over="ignore", under="ignore"):  # refused below
            scale[chosen] = np.float32(number) if change.field == "scale" else scale[chosen] * np.float32(number)
    return _params(change.tensor, scale, zero_point, params)


def _params(
    name: str, scale: NDArray[Any], zero_point: NDArray[Any], like: QParams, dtype: str | None = None
) -> QParams:
    try:
        return QParams(
            scale.astype(np.float32).reshape(like.scale.shape),
            zero_point.astype(np.int32).reshape(like.scale.shape),
            dtype or like.dtype,
        )
    except QuantizationError as error:
        raise QuantizationError(
            f"{name}: {error.what}",
            found=error.found,
            expected=error.expected,
            remedy="choose a scale above 0 that float32 holds, and an integer for the zero point",
        ) from error


def _number(change: Change) -> float:
    try:
        return float(change.value)
    except (ValueError, OverflowError) as error:
        raise QuantizationError(
            f"{change.tensor}: the {change.field} is no number",
            found=f"{change.value!r:.40}",
            expected="a number",
            remedy="write it like 0.05 or 5e-2",
        ) from error


def _whole(change: Change) -> int:
    number = _number(change)
    if not np.isfinite(number) or number != int(number):
        raise QuantizationError(
            f"{change.tensor}: the {change.field} is no whole number",
            found=str(change.value),
            expected="an integer",
            remedy="leave out the fraction",
        )
    return int(number)


def _narrowed(params: QParams, change: Change) -> QParams:
    """``2**bits`` codes over the range of ``params``.

    Around the middle code (symmetric) the largest number keeps its magnitude; else both ends of the range stay where
    they are, but for the rounding of the zero point.
    """
    bits = _whole(change)
    if bits not in BITS or change.channel is not None:
        raise QuantizationError(
            f"{change.tensor}: the bit width is not possible",
            found=str(change.value) if change.channel is None else f"{bits} for channel {change.channel} alone",
            expected=f"{BITS[0]} to {BITS[-1]} bits for the whole tensor",
            remedy="choose another number of bits, for all channels",
        )
    dtype = of_width(params.dtype, bits)
    (old_low, old_high), (low, high) = limits(params.dtype), limits(dtype)
    if (low, high) == (old_low, old_high):
        return params
    old_middle, middle = (old_low + old_high + 1) // 2, (low + high + 1) // 2
    symmetric = params.zero_point == old_middle
    ratio = (old_high - old_low) / (high - low)
    half_ratio = (old_high - old_middle) / (high - middle)
    scale = params.scale * np.where(symmetric, half_ratio, ratio)
    shifted = np.rint(low + (params.zero_point - old_low) / ratio)
    zero_point = np.where(symmetric, middle, np.clip(shifted, low, high))
    return _params(change.tensor, np.asarray(scale), np.asarray(zero_point), params, dtype)


# The network that comes of them


@dataclass(frozen=True)
class _Deriver:
    original: Program
    before: Mapping[str, QParams]
    after: Mapping[str, QParams]
    reference: Program | None

    def network(self) -> Program:
        return replace(
            self.original,
            input=self._activation(self.original.input),
            layers=tuple(self._layer(layer) for layer in self.original.layers),
            logits=self._activation(self.original.logits),
        )

    def _same(self, name: str) -> bool:
        return self.after[name].same_as(self.before[name])

    def _activation(self, one: Activation) -> Activation:
        """``one`` on its new grid; as it is where a file reads codes on another grid than they were written on."""
        if self._same(one.name) or not one.params.same_as(self.before[one.name]):
            return one
        return replace(one, grid=self.after[one.name])

    def _layer(self, layer: AnyLayer) -> AnyLayer:
        changed = layer.on(self._activation)
        parameter = layer.parameter
        if parameter is not None:
            changed = changed.with_parameter(self._parameter(layer, parameter))
        if isinstance(layer, Weighted) and isinstance(changed, Weighted):
            changed = self._rebiased(layer, changed)
        if self._same(layer.output.name):
            return changed
        grid = self.before[layer.output.name]
        positive = int(grid.zero_point) == limits(grid.dtype)[0]
        return replace(changed, relu=layer.relu or positive)

    def _rebiased(self, layer: Weighted, changed: Weighted) -> Weighted:
        if changed.x.params.same_as(layer.x.params) and changed.weight_params.same_as(layer.weight_params):
            return changed
        return replace(changed, bias=self._bias(layer, changed.x, changed.weight_params))

    def _parameter(self, layer: AnyLayer, parameter: Constant) -> Constant:
        if self._same(parameter.name):
            return parameter
        behind = None if self.reference is None else self.reference.writers[layer.output.name].parameter
        grid = self.after[parameter.name]
        codes = quantize(parameter.real if behind is None else behind.codes, grid)
        # Fewer codes of a parameter are no grid of their own: they are the codes that there are.
        return replace(parameter, codes=codes, grid=replace(grid, dtype=storage(grid.dtype).name))

    def _bias(self, layer: Weighted, x: Activation, params: QParams) -> NDArray[np.int32]:
        if not layer.has_bias:
            return layer.bias
        real = layer.bias * (np.float64(layer.x.scale) * layer.weight_params.scale.astype(np.float64))
        known = layer.real_bias
        if known is None and self.reference is not None:
            behind = self.reference.writers[layer.output.name]
            known = behind.bias if isinstance(behind, Weighted) and behind.has_bias else None
        if known is not None:
            real = known.astype(np.float64)
        codes = np.rint(real / (np.float64(x.scale) * params.scale.astype(np.float64)))
        low, high = limits("int32")
        if not ((codes >= low) & (codes <= high)).all():
            raise QuantizationError(
                f"the bias of «{layer.name}» does not fit int32 any more",
                found=f"{np.abs(codes).max():.3g} steps of scale_x * scale_w",
                expected=f"at most {high}",
                remedy="choose larger scales for its input or weights",
            )
        return codes.astype(np.int32)
