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
from resnet8.execute.fbgemm import FloatBias
from resnet8.network.layers import Activation, Constant, Product, Program, Sum, Weighted
from resnet8.playground.quantized import Quantized
from resnet8.playground.weights import constant
from resnet8.qparams import QParams, dequantize, limits, quantize
from resnet8.variants import ROUNDINGS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

    from resnet8.network.layers import AnyLayer
    from resnet8.playground.reference import RealNetwork
    from resnet8.variants import Rounding

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


def apply(original: Quantized, changes: Iterable[Change], reference: RealNetwork | None = None) -> Quantized:
    """``original`` with ``changes``, in their order.

    Args:
        original: A quantized network.
        changes: What is changed.
        reference: The float network behind it (:func:`resnet8.playground.network.reference`): weights and biases are
            quantized anew from its numbers.

    Raises:
        QuantizationError: when a tensor is not known, or a value makes no sense for it.
    """
    program = original.program
    before = {name: _Grid(one.params, *original.limits(name)) for name, one in program.activations.items()}
    before |= {name: _Grid(params, *limits(params.dtype)) for name, params in _parameters(program).items()}
    after, roundings = dict(before), dict(original.roundings)
    written = {layer.output.name for layer in program.layers}
    for change in changes:
        if change.tensor not in after:
            raise QuantizationError(
                "the tensor is not known",
                found=change.tensor,
                expected="the name of an activation or of weights",
                remedy="choose one of the model's own",
            )
        if change.field == "rounding":
            roundings[change.tensor] = _rounding(change, written)
        else:
            after[change.tensor] = _changed(after[change.tensor], change)
    for name, grid in after.items():
        _require_zero_inside(name, grid)
    derived = _Deriver(original, before, after, reference).program()
    narrow = {
        name: (grid.low, grid.high)
        for name, grid in after.items()
        if name in program.activations and (grid.low, grid.high) != limits(grid.params.dtype)
    }
    roundings = {name: rounding for name, rounding in roundings.items() if rounding != "half-even"}
    return Quantized(derived, narrow, roundings)


def _parameters(program: Program) -> Mapping[str, QParams]:
    """The grid of each weight tensor and constant, by name."""
    found = {}
    for layer in program.layers:
        parameter = constant(layer)
        if parameter is not None:
            found[_parameter_name(layer)] = parameter[1]
    return found


def _parameter_name(layer: AnyLayer) -> str:
    return layer.parameters["weights" if isinstance(layer, Weighted) else "constant"]


# Grids


@dataclass(frozen=True, eq=False)
class _Grid:
    params: QParams
    low: int
    high: int

    def same_as(self, other: _Grid) -> bool:
        return self.params.same_as(other.params) and (self.low, self.high) == (other.low, other.high)


def _rounding(change: Change, written: set[str]) -> Rounding:
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
    return change.value


def _changed(grid: _Grid, change: Change) -> _Grid:
    params = grid.params
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
        return _narrowed(grid, change)
    chosen = slice(None) if change.channel is None else change.channel
    scale, zero_point = np.atleast_1d(params.scale).copy(), np.atleast_1d(params.zero_point).copy()
    if change.field == "zero_point":
        zero_point[chosen] = np.clip(_whole(change), *limits("int32"))
    else:
        with np.errstate(over="ignore", under="ignore"):  # refused below
            scale[chosen] = np.float32(number) if change.field == "scale" else scale[chosen] * np.float32(number)
    return replace(grid, params=_params(change.tensor, scale, zero_point, params))


def _params(name: str, scale: NDArray[Any], zero_point: NDArray[Any], like: QParams) -> QParams:
    try:
        return QParams(
            scale.astype(np.float32).reshape(like.scale.shape),
            zero_point.astype(np.int32).reshape(like.scale.shape),
            like.dtype,
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


def _narrowed(grid: _Grid, change: Change) -> _Grid:
    """``2**bits`` codes over the range of ``grid``.

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
    params = grid.params
    low = 0 if params.dtype == "uint8" else -(1 << (bits - 1))
    high = low + (1 << bits) - 1
    if (low, high) == (grid.low, grid.high):
        return grid
    old_middle, middle = (grid.low + grid.high + 1) // 2, (low + high + 1) // 2
    symmetric = params.zero_point == old_middle
    ratio = (grid.high - grid.low) / (high - low)
    half_ratio = (grid.high - old_middle) / (high - middle)
    scale = params.scale * np.where(symmetric, half_ratio, ratio)
    shifted = np.rint(low + (params.zero_point - grid.low) / ratio)
    zero_point = np.where(symmetric, middle, np.clip(shifted, low, high))
    return _Grid(_params(change.tensor, np.asarray(scale), np.asarray(zero_point), params), low, high)


def _require_zero_inside(name: str, grid: _Grid) -> None:
    zeros = grid.params.zero_point
    outside = zeros[(zeros < grid.low) | (zeros > grid.high)]
    if outside.size:
        raise QuantizationError(
            f"{name}: a zero point is out of range",
            found=str(outside.flat[0]),
            expected=f"one of its codes: {grid.low} to {grid.high}",
            remedy="choose one of them: the number 0 must have a code",
        )


# The program that comes of them


@dataclass(frozen=True)
class _Deriver:
    original: Quantized
    before: Mapping[str, _Grid]
    after: Mapping[str, _Grid]
    reference: RealNetwork | None

    def program(self) -> Program:
        program = self.original.program
        return Program(
            input=self._activation(program.input),
            layers=tuple(self._layer(layer) for layer in program.layers),
            logits=self._activation(program.logits),
            softmax=program.softmax,
            probabilities=program.probabilities,
        )

    def _same(self, name: str) -> bool:
        return self.after[name].same_as(self.before[name])

    def _activation(self, one: Activation) -> Activation:
        """``one`` on its new grid; as it is where a file reads codes on another grid than they were written on."""
        if self._same(one.name) or not one.params.same_as(self.before[one.name].params):
            return one
        return replace(one, params=self.after[one.name].params)

    def _layer(self, layer: AnyLayer) -> AnyLayer:
        if isinstance(layer, Weighted):
            layer = self._weighted(layer)
        elif isinstance(layer, Product):
            codes, params = self._parameter(layer)
            layer = replace(layer, x=self._activation(layer.x), constant=codes, constant_params=params)
        elif isinstance(layer, Sum):
            layer = self._sum(layer)
        else:
            layer = replace(layer, x=self._activation(layer.x))
        if self._same(layer.output.name):
            return layer
        grid = self.before[layer.output.name]
        positive = int(grid.params.zero_point) == grid.low
        return replace(layer, output=self._activation(layer.output), relu=layer.relu or positive)

    def _sum(self, layer: Sum) -> Sum:
        a = self._activation(layer.a)
        if isinstance(layer.b, Constant):
            codes, params = self._parameter(layer)
            return replace(layer, a=a, b=replace(layer.b, codes=codes, params=params))
        return replace(layer, a=a, b=a if layer.b is layer.a else self._activation(layer.b))

    def _weighted(self, layer: Weighted) -> Weighted:
        x = self._activation(layer.x)
        codes, params = self._parameter(layer)
        if x.params.same_as(layer.x.params) and params.same_as(layer.weight_params):
            return replace(layer, x=x, weights=codes, weight_params=params)
        bias = self._bias(layer, x, params)
        return replace(layer, x=x, weights=codes, weight_params=params, bias=bias)

    def _parameter(self, layer: AnyLayer) -> tuple[NDArray[Any], QParams]:
        name, parameter = _parameter_name(layer), constant(layer)
        assert parameter is not None  # noqa: S101 - every caller's layer has one
        if self._same(name):
            return parameter
        real = None if self.reference is None else self.reference.writers[layer.output.name].weights
        grid = self.after[name]
        codes = quantize(dequantize(*parameter) if real is None else real, grid.params)
        return np.clip(codes, codes.dtype.type(grid.low), codes.dtype.type(grid.high)), grid.params

    def _bias(self, layer: Weighted, x: Activation, params: QParams) -> NDArray[np.int32]:
        if not layer.has_bias:
            return layer.bias
        real = layer.bias * (np.float64(layer.x.scale) * layer.weight_params.scale.astype(np.float64))
        known = layer.real_bias if isinstance(layer, FloatBias) else None
        if known is None and self.reference is not None:
            known = self.reference.writers[layer.output.name].bias
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
