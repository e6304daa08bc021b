"""Other scales, zero points, bit widths and roundings for single tensors, and the network that comes of them.

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
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args

import numpy as np

from resnet8.errors import QuantizationError
from resnet8.network.tensors import accumulator_bias
from resnet8.numeric.grid import QParams, limits, of_width, quantize, storage
from resnet8.numeric.variants import ROUNDINGS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

    from resnet8.network.layers import AnyLayer, Layer, Weighted
    from resnet8.network.program import Program
    from resnet8.network.tensors import Activation, Constant
    from resnet8.numeric.variants import Rounding

    L = TypeVar("L", bound=Layer)

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

    def number(self) -> float:
        """The value as a number.

        Raises:
            QuantizationError: when it is none.
        """
        try:
            return float(self.value)
        except (ValueError, OverflowError) as error:
            found = f"{self.value!r:.40}"
            raise self.refused(
                f"the {self.field} is no number", found, "a number", "write it like 0.05 or 5e-2"
            ) from error

    def whole(self) -> int:
        """The value as a whole number.

        Raises:
            QuantizationError: when it is none.
        """
        number = self.number()
        if not np.isfinite(number) or number != int(number):
            found = str(self.value)
            raise self.refused(f"the {self.field} is no whole number", found, "an integer", "leave out the fraction")
        return int(number)

    def refused(self, what: str, found: str, expected: str, remedy: str) -> QuantizationError:
        """The error that says what is wrong with the tensor's new value."""
        return QuantizationError(f"{self.tensor}: {what}", found=found, expected=expected, remedy=remedy)


@dataclass(frozen=True, eq=False)
class Asked:
    """What changes ask for, by name of the tensor; nothing is computed anew for it.

    Attributes:
        grids: Of every activation, weights and constant; of as few bits as were asked for, however they are stored.
        roundings: Of every activation that a layer writes; none for half to even.
    """

    grids: Mapping[str, QParams]
    roundings: Mapping[str, Rounding | None]

    def same_of(self, tensor: str, other: Asked) -> bool:
        """Whether a tensor is asked to be the same in both."""
        same = self.grids[tensor].same_as(other.grids[tensor])
        return same and self.roundings.get(tensor) == other.roundings.get(tensor)


def asked(original: Program, changes: Iterable[Change]) -> Asked:
    """The grid and the rounding of every tensor of ``original`` with ``changes``, in their order.

    Raises:
        QuantizationError: when a tensor is not known, or a value makes no sense for it.
    """
    grids = {name: one.params for name, one in tensors(original).items()}
    roundings: dict[str, Rounding | None] = {layer.output.name: layer.rounding for layer in original.layers}
    for change in changes:
        if change.tensor not in grids:
            raise QuantizationError(
                "the tensor is not known",
                found=change.tensor,
                expected="the name of an activation or of weights",
                remedy="choose one of the model's own",
            )
        if change.field == "rounding":
            roundings[change.tensor] = _rounding(change, set(roundings))
        else:
            grids[change.tensor] = _regridded(grids[change.tensor], change)
    return Asked(grids, roundings)


def tensors(network: Program) -> dict[str, Activation | Constant]:
    """What has a grid in a quantized network, by name: its activations, weights and constants."""
    parameters = (one for layer in network.layers if (one := layer.parameter))
    return {**network.activations, **{one.name: one for one in parameters}}


def apply(original: Program, changes: Iterable[Change], reference: Program | None = None) -> Program:
    """``original`` with ``changes``, in their order.

    Args:
        original: A quantized network.
        changes: What is changed.
        reference: The float network behind it (:func:`resnet8.network.rewrite.behind`): weights and biases are
            quantized anew from its numbers.

    Raises:
        QuantizationError: when a tensor is not known, or a value makes no sense for it.
    """
    before, after = asked(original, ()).grids, asked(original, changes)
    grids = {name: grid for name, grid in after.grids.items() if not grid.same_as(before[name])}

    def activation(one: Activation) -> Activation:
        # As it is where a file reads codes on another grid than they were written on.
        return replace(one, grid=grids[one.name]) if one.name in grids and one.params.same_as(before[one.name]) else one

    def layer(one: L) -> L:
        changed = replace(one.on(activation), rounding=after.roundings[one.output.name])
        if (parameter := one.parameter) is not None and parameter.name in grids:
            behind = None if reference is None else reference.writers[one.output.name].parameter
            changed = changed.with_parameter(_requantized(parameter, grids[parameter.name], behind))
        if one.output.name in grids:
            grid = before[one.output.name]
            changed = replace(changed, relu=one.relu or int(grid.zero_point) == limits(grid.dtype)[0])
        return changed

    reals = {} if reference is None else {one.output.name: one for one in reference.weighted}
    weighted = {one.output.name: _rebiased(one, layer(one), reals.get(one.output.name)) for one in original.weighted}
    layers: tuple[AnyLayer, ...] = tuple(weighted.get(one.output.name) or layer(one) for one in original.layers)
    changed = replace(original, input=activation(original.input), layers=layers, logits=activation(original.logits))
    unquantized = original.logits.accumulated and original.logits.name not in grids
    return changed.with_float_logits() if unquantized else changed


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


# Grids


def _regridded(params: QParams, change: Change) -> QParams:
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
    number = change.number()
    if change.field == "bits":
        return _narrowed(params, change)
    chosen = slice(None) if change.channel is None else change.channel
    scale, zero_point = np.atleast_1d(params.scale).copy(), np.atleast_1d(params.zero_point).copy()
    if change.field == "zero_point":
        zero_point[chosen] = np.clip(change.whole(), *limits("int32"))
    else:
        with np.errstate(over="ignore", under="ignore"):  # refused below
            scale[chosen] = np.float32(number) if change.field == "scale" else scale[chosen] * np.float32(number)
    return _grid(change, scale, zero_point, params)


def _narrowed(params: QParams, change: Change) -> QParams:
    """``2**bits`` codes over the range of ``params``.

    Around the middle code (symmetric) the largest number keeps its magnitude; else both ends of the range stay where
    they are, but for the rounding of the zero point.
    """
    bits = change.whole()
    if bits not in BITS or change.channel is not None:
        raise change.refused(
            "the bit width is not possible",
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
    return _grid(change, np.asarray(scale), np.asarray(zero_point), params, dtype)


def _grid(
    change: Change, scale: NDArray[Any], zero_point: NDArray[Any], like: QParams, dtype: str | None = None
) -> QParams:
    try:
        return QParams(
            scale.astype(np.float32).reshape(like.scale.shape),
            zero_point.astype(np.int32).reshape(like.scale.shape),
            dtype or like.dtype,
        )
    except QuantizationError as error:
        remedy = "choose a scale above 0 that float32 holds, and an integer for the zero point"
        raise change.refused(error.what, str(error.found), str(error.expected), remedy) from error


# What is stored


def _requantized(parameter: Constant, grid: QParams, behind: Constant | None) -> Constant:
    codes = quantize(parameter.real if behind is None else behind.real, grid)
    # Fewer codes of a parameter are no grid of their own, but where they are stored so: they are the codes that there
    # are.
    dtype = grid.dtype if grid.dtype == parameter.params.dtype else storage(grid.dtype).name
    return replace(parameter, codes=codes, grid=replace(grid, dtype=dtype))


def _rebiased(before: Weighted, after: Weighted, behind: Weighted | None) -> Weighted:
    """``after`` with the bias of ``before`` in its own accumulator steps, from real numbers where they are known."""
    same = after.x.params.same_as(before.x.params) and after.weights.params.same_as(before.weights.params)
    if same or before.bias is None:
        return after
    real = before.added_real
    if before.real_bias is None and behind is not None and behind.bias is not None:
        real = behind.added_real
    codes = accumulator_bias(real, after.x, after.weights.params)
    low, high = limits("int32")
    if not ((codes >= low) & (codes <= high)).all():
        raise QuantizationError(
            f"the bias of «{before.name}» does not fit int32 any more",
            found=f"{np.abs(codes).max():.3g} steps of scale_x * scale_w",
            expected=f"at most {high}",
            remedy="choose larger scales for its input or weights",
        )
    return replace(after, bias=replace(before.bias, codes=codes.astype(np.int32)))
