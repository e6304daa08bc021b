"""Changes as they are entered and added up, and what they come to, as values."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from resnet8 import words
from resnet8.errors import QuantizationError
from resnet8.network.change import Change, asked, tensors
from resnet8.numeric.grid import width
from resnet8.playground.noise import INPUT

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from resnet8.network.change import Asked, Field
    from resnet8.network.layers import AnyLayer
    from resnet8.network.program import Program
    from resnet8.numeric.grid import QParams

_NAMES = {
    "scale": "scale",
    "factor": "factor",
    "zero_point": "zero point",
    "bits": "number of bits",
    "rounding": "rounding",
}


def entered(tensor: str, field: Field, value: object, channel: str = "") -> Change:
    """A change as it was entered: texts become numbers.

    Args:
        tensor: Its name.
        field: What is changed.
        value: A number or its text; the name of a rounding.
        channel: The number of an output channel as text; blank for all.

    Raises:
        QuantizationError: when there is no value, or a text is no number, or no whole one where that is needed.
    """
    text = channel.strip()
    if text and not (text.isdecimal() and len(text) < 10):
        raise QuantizationError(
            "the channel is no number",
            found=f"{text:.40}",
            expected="the number of an output channel, from 0",
            remedy="leave it empty for all channels",
        )
    change = Change(tensor, field, "" if value is None else str(value).strip(), int(text) if text else None)
    if not change.value:
        name = _NAMES[field]
        own = "; each channel has its own" if field in ("scale", "zero_point") else ""
        raise change.refused(f"no {name} was given", "nothing", f"a {name}", f"type a {name}{own}")
    if field == "rounding":
        return change
    return replace(change, value=change.whole() if field in ("zero_point", "bits") else change.number())


def present(grid: QParams, field: Field, channel: str = "") -> tuple[str, str]:
    """What a tensor has, as it would be typed: the scale or the zero point of a channel, or of the whole tensor.

    Args:
        grid: Of the tensor.
        field: ``scale`` or ``zero_point``.
        channel: As it was typed; blank for all.

    Returns:
        The value; blank where the channels have several. And what there is in words, to be shown in a blank field.
    """
    numbers = np.ravel(grid.scale if field == "scale" else grid.zero_point)
    text = channel.strip()
    place = int(text) if text.isdecimal() and len(text) < 10 else None
    chosen = numbers if text == "" or place is None or place >= numbers.size else numbers[place : place + 1]
    if (chosen != chosen[0]).any():
        return "", words.scale(grid.scale) if field == "scale" else words.zeros(grid.zero_point)
    value = words.exact(chosen[0]) if field == "scale" else str(int(chosen[0]))
    return value, value


def added(before: Iterable[Change], change: Change, original: Program) -> tuple[Change, ...]:
    """``before`` and ``change``, without those of ``before`` that it takes the place of.

    It takes the place of changes of the same tensor, field and channel; a scale also of factors, and a scale or a zero
    point for all channels also of those of single ones. Where nothing is changed then but what earlier changes did, as
    when the original's value is set again, ``change`` itself is left out: they are undone.

    Args:
        before: The changes so far.
        change: One more.
        original: The network that they change.

    Raises:
        QuantizationError: when ``change`` makes no sense for its tensor, or leaves it as it is after ``before``.
    """
    before = tuple(before)
    kept = tuple(one for one in before if not _replaced(one, change))
    wanted = (*kept, change)
    then = asked(original, wanted)
    if then.same_of(change.tensor, asked(original, before)):
        name = _NAMES[change.field]
        value = f"{change.value:.9g}" if isinstance(change.value, float) else change.value
        remedy = f"type another {name}, then run"
        raise change.refused("nothing would change", f"{name} {value}", f"another {name} than it has already", remedy)
    return kept if then.same_of(change.tensor, asked(original, kept)) else wanted


def _replaced(earlier: Change, change: Change) -> bool:
    """Whether nothing is left of ``earlier`` once there is ``change``."""
    if earlier.tensor != change.tensor:
        return False
    absolute = change.field in ("scale", "zero_point")
    fields = {"scale", "factor"} if change.field == "scale" else {change.field}
    channels = earlier.channel == change.channel or (absolute and change.channel is None)
    return earlier.field in fields and channels


def without(changes: Sequence[Change], number: int) -> tuple[Change, ...]:
    """``changes`` but for one, by its number, from 0.

    Raises:
        QuantizationError: when there is none of that number.
    """
    if not 0 <= number < len(changes):
        raise QuantizationError(
            f"there is no change {number + 1}",
            found=f"{len(changes)} changes",
            expected="the number of one of them",
            remedy="it is undone already",
        )
    return (*changes[:number], *changes[number + 1 :])


@dataclass(frozen=True)
class Effect:
    """What one change does to its tensor, in words.

    Attributes:
        tensor: Its name.
        field: What was changed.
        channel: The output channel; none for all.
        old: What the original had; of a factor, the scale.
        new: What was asked for.
        resulting: The grid that came of all changes; of a rounding, the rounding.
    """

    tensor: str
    field: Field
    channel: int | None
    old: str
    new: str
    resulting: str


def effects(original: Program, changes: Iterable[Change], changed: Program) -> tuple[Effect, ...]:
    """What each of ``changes`` does.

    Args:
        original: The network.
        changes: What was changed.
        changed: What came of it (:func:`resnet8.network.change.apply`).

    Raises:
        QuantizationError: when a tensor is not known, or a value makes no sense for it.
    """
    changes = tuple(changes)
    before, after, now = asked(original, ()), asked(original, changes), tensors(changed)

    def effect(change: Change) -> Effect:
        name = change.tensor
        if change.field == "rounding":
            old, resulting = _rounding(before, name), _rounding(after, name)
        else:
            scale, zero_point = _numbers(now[name].params, change.channel)
            # Of as few bits as were asked for: codes of weights lie in int8 where they are stored so.
            resulting = f"{words.grid(scale, zero_point)}, {width(after.grids[name].dtype)} bits"
            old = _old(before.grids[name], change)
        return Effect(name, change.field, change.channel, old, _new(change), resulting)

    return tuple(effect(one) for one in changes)


def _rounding(found: Asked, tensor: str) -> str:
    return found.roundings[tensor] or "half-even"


def _numbers(grid: QParams, channel: int | None) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Scale and zero point, of one channel or of all."""
    chosen = ... if channel is None else channel
    return np.asarray(grid.scale[chosen]), np.asarray(grid.zero_point[chosen])


def _old(grid: QParams, change: Change) -> str:
    """What the field of ``change`` was on ``grid``."""
    scale, zero_point = _numbers(grid, change.channel)
    if change.field == "bits":
        return str(width(grid.dtype))
    if change.field == "zero_point":
        return words.zeros(zero_point)
    return words.scale(scale) if scale.ndim else f"{scale:.6g}"


def _new(change: Change) -> str:
    if change.field == "scale":
        return f"{change.number():.6g}"
    if change.field == "factor":
        return words.times(change.number())
    return words.zeros(change.whole()) if change.field == "zero_point" else str(change.value)


def changed_layers(original: Program, changed: Program) -> frozenset[str]:
    """The names of the layers that hold a change, not of all those that compute other numbers for it.

    Their output is on another grid, they round otherwise, or their weights are on another grid or other codes; for the
    input's own grid :data:`resnet8.playground.noise.INPUT` is there.

    Args:
        original: The network.
        changed: What came of it (:func:`resnet8.network.change.apply`).
    """
    derived = set()
    if original.logits.accumulated and changed.logits.params.same_as(changed.with_float_logits().logits.params):
        derived.add(original.logits.name)  # the grid of accumulators follows from what is added up
    pairs = zip(original.layers, changed.layers, strict=True)
    names = {
        one.name
        for one, other in pairs
        if one.rounding != other.rounding
        or not (one.output.name in derived or one.output.params.same_as(other.output.params))
        or not _same_parameter(one, other)
    }
    return frozenset(names if original.input.params.same_as(changed.input.params) else {*names, INPUT})


def _same_parameter(one: AnyLayer, other: AnyLayer) -> bool:
    before, after = one.parameter, other.parameter
    if before is None or after is None:
        return before is after
    return before.params.same_as(after.params) and np.array_equal(before.codes, after.codes)
