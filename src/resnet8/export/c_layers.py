"""A network's layers as constants in C: what the kernels of ``templates/c`` read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from resnet8.errors import ModelError
from resnet8.numeric.grid import limits, width
from resnet8.vectors.formats import Field, definition
from resnet8.vectors.golden import identifier, parameters_of, require_supported

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

    from resnet8.export.plan import Step
    from resnet8.network.layers import AnyLayer
    from resnet8.network.tensors import Activation
    from resnet8.numeric.variants import Requantization

NARROW, SPLIT, HIGH, WIDE = FORMS = ("narrow", "split", "high", "wide")
"""How a product is formed and rounded: in 32 bits, in 32 and 16, in 64 with the quotient in the upper half, in 64."""

_NIBBLES = np.array([0, 1, 4, 5, 2, 3, 6, 7])
"""Where each of eight 4-bit weights stands in a word: a mask leaves two, 16 bits apart, as codes lie in a column."""

_DEPTH = 8
"""A window's codes are filled up to a multiple of it."""
_MAX_SHIFT = 62
_STRUCTURES = {
    "conv": "conv",
    "add": "sum",
    "mul": "elementwise",
    "average-pool": "elementwise",
    "rescale": "elementwise",
}


@dataclass(frozen=True, eq=False)
class Constants:
    """The constants of one step.

    Attributes:
        name: Of its structure, in C.
        type: Of the structure.
        text: Its definition, with all arrays.
        bytes: Of the arrays.
        forms: Which of :data:`FORMS` it uses.
        bits: Of its weights as they are packed, 4 or 8; 0 where it has none.
        groups: Of four codes in a window; 0 likewise.
        window: Codes of a window that is gathered code by code; 0 likewise, and where channels are a multiple of four.
    """

    name: str
    type: str
    text: str
    bytes: int
    forms: frozenset[str]
    bits: int = 0
    groups: int = 0
    window: int = 0


def constants(number: int, step: Step, how: Requantization) -> Constants:
    """The constants of the step that runs as the ``number``-th.

    Raises:
        ModelError: when a layer does not fit 8-bit codes and 32-bit accumulators, or rounds in a way of its own.
    """
    for layer in step.layers:
        _require_one_way(layer, how)
        require_supported(layer, layer.partial_sums())
    layer, prefix = step.layer, f"layer_{number:02}"
    found = {field.name: field.values for field in parameters_of(layer, how)}
    if len(layer.operands) > 1:
        return _sum(prefix, layer, found)
    return _elementwise(prefix, layer, found) if layer.added is None else _conv(prefix, step, found, how)


def shifted(dtype: str) -> int:
    """What is subtracted from codes of ``dtype`` so that int8 holds them: 128 from uint8, else nothing."""
    return 128 if limits(dtype)[1] > limits("int8")[1] else 0


def array(name: str, values: NDArray[Any], dtype: Any) -> Field:
    """An array of constants."""
    return Field(name, np.asarray(values, dtype), "in the order of use")


def _require_one_way(layer: AnyLayer, how: Requantization) -> None:
    if layer.rounding not in (None, how.rounding):
        raise ModelError(
            f"layer {layer.name} cannot be exported",
            found=f"a layer that rounds {layer.rounding}",
            expected=f"all layers to round {how.rounding}",
            remedy=f"choose --rounding {layer.rounding}, if all do so",
        )


@dataclass(frozen=True)
class _Form:
    """How products are formed.

    Attributes:
        name: One of :data:`FORMS`.
        up: Of high ones, by how many places the accumulator is moved up before; the shift counts them.
    """

    name: str
    up: int = 0

    def __str__(self) -> str:
        return f"RESNET8_{self.name.upper()}, {self.up}"


def _form(bound: int, multiplier: NDArray[np.int64], shift: NDArray[np.int64], *, split: bool = True) -> _Form:
    """The cheapest form for products of what is at most ``bound`` and the greatest multiplier."""
    greatest, least, most = int(multiplier.max()), int(shift.min()), int(shift.max())
    if most <= 30 and bound * greatest + (1 << most) < 1 << 30:
        return _Form(NARROW)
    # 32-bit parts: 2^15 times 2^15 and half of 2^(shift - 16) stay below 2^31 together.
    if split and greatest < 1 << 15 and least >= 17 and most <= 46:
        return _Form(SPLIT)
    up = max(33 - least, 0)
    return _Form(HIGH, up) if bound << up < 1 << 31 and most + up <= _MAX_SHIFT else _Form(WIDE)


def _scaling(prefix: str, layer: AnyLayer, found: Mapping[str, NDArray[Any]]) -> tuple[list[Field], str, str]:
    """Its arrays, its members, and its form."""
    multiplier, shift = found["multiplier"].astype(np.int64), found["shift"].astype(np.int64)
    form = _form(max(abs(one) for one in layer.partial_sums() or (0,)), multiplier, shift)
    fields = [array("multiplier", multiplier, np.int32), array("shift", shift + form.up, np.uint8)]
    ends = ", ".join(map(str, _ends(layer.output, found).values()))
    members = f"{{{prefix}_multiplier, {prefix}_shift, {int(multiplier.size > 1)}, {form}, {ends}}}"
    return fields, members, form.name


def _ends(output: Activation, found: Mapping[str, NDArray[Any]]) -> dict[str, int]:
    """Zero point, lowest and highest code of what is written, as int8."""
    return {
        name: int(found[f"output_{name}"]) - shifted(output.params.dtype)
        for name in ("zero_point", "lowest", "highest")
    }


def _elementwise(prefix: str, layer: AnyLayer, found: Mapping[str, NDArray[Any]]) -> Constants:
    fields, scaling, form = _scaling(prefix, layer, found)
    factor = "NULL"
    if "factor" in found:
        values = found["factor"].astype(np.int64) - found["factor_zero_point"].astype(np.int64)
        fields.append(array("factor", values, np.int16))
        factor = f"{prefix}_factor"
    (x,) = layer.reads
    members = {
        "scaling": scaling,
        "factor": factor,
        "size": int(np.prod(x.shape)),
        "channels": x.shape[-1],
        "x_zero_point": x.zero_point - shifted(x.params.dtype),
    }
    return _constants(prefix, layer, fields, members, {form})


def _sum_members(
    layer: AnyLayer, found: Mapping[str, NDArray[Any]], first: int = 0, constant: str = "NULL"
) -> tuple[dict[str, object], str]:
    """A sum's members, the ``first`` of its addends as a, and its form."""
    sources = [one for _, one in layer.sources]
    multipliers = np.array([found["multiplier_a"].item(), found["multiplier_b"].item()], np.int64)
    bound = max(abs(limit - one.zero_point) for one in sources for limit in limits(one.params.dtype))
    form = _form(2 * bound, multipliers, found["shift"].astype(np.int64), split=False)
    zeros = [one.zero_point - shifted(one.params.dtype) for one in sources]
    return {
        "multiplier_a": multipliers[first],
        "multiplier_b": multipliers[1 - first],
        "constant": constant,
        "size": int(np.prod(layer.output.shape)),
        "channels": layer.output.shape[-1],
        "a_zero_point": zeros[first],
        "b_zero_point": zeros[1 - first],
        "shift": int(found["shift"].item()) + form.up,
        "form": f"RESNET8_{form.name.upper()}",
        "up": form.up,
        **_ends(layer.output, found),
    }, form.name


def _sum(prefix: str, layer: AnyLayer, found: Mapping[str, NDArray[Any]]) -> Constants:
    if layer.residual:
        members, form = _sum_members(layer, found)
        return _constants(prefix, layer, [], members, {form})
    dtype = dict(layer.sources)["b"].params.dtype
    fields = [array("constant", found["b"].astype(np.int64) - shifted(dtype), np.int8)]
    members, form = _sum_members(layer, found, constant=f"{prefix}_constant")
    return _constants(prefix, layer, fields, members, {form})


def _conv(prefix: str, step: Step, found: Mapping[str, NDArray[Any]], how: Requantization) -> Constants:
    layer, weights = step.layer, found["weights"]
    out, kernel_rows, kernel_columns, channels = weights.shape
    (x,) = layer.reads
    fields, scaling, form = _scaling(prefix, layer, found)
    packed = _packed(layer, weights.reshape(out, -1).astype(np.int64), found["weights_zero_point"].astype(np.int64))
    fields += [
        array("weights", packed.words, np.uint32),
        array("bias", _folded(layer, packed.effective, x.zero_point - shifted(x.params.dtype)), np.int32),
    ]
    if packed.zero_points.any():
        fields.append(array("weights_zero_point", packed.zero_points, np.int16))
    forms, before, total = {form}, "", "NULL"
    if step.total is not None:
        own = step.total.inputs.index(layer.output.name)
        values = {field.name: field.values for field in parameters_of(step.total, how)}
        members, its = _sum_members(step.total, values, own)
        forms.add(its)
        before, total = _structure(f"static const resnet8_sum {prefix}_sum", members), f"&{prefix}_sum"
    window = layer.window
    height, width_ = (x.shape[0], x.shape[1]) if window else (1, 1)
    rows, columns = (layer.output.shape[0], layer.output.shape[1]) if window else (1, 1)
    strides, pads = found["strides"], found["pads"]
    members = {
        "weights": f"{prefix}_weights",
        "bias": f"{prefix}_bias",
        "weights_zero_point": f"{prefix}_weights_zero_point" if packed.zero_points.any() else "NULL",
        "scaling": scaling,
        "sum": total,
        "height": height,
        "width": width_,
        "channels": channels,
        "rows": rows,
        "columns": columns,
        "channels_out": out,
        "groups": packed.groups,
        "kernel_rows": kernel_rows,
        "kernel_columns": kernel_columns,
        "stride_rows": strides[0],
        "stride_columns": strides[1],
        "pad_top": pads[0],
        "pad_left": pads[1],
        "x_zero_point": x.zero_point - shifted(x.params.dtype),
        "bits": packed.bits,
    }
    return _constants(
        prefix, layer, fields, members, forms, before=before, bits=packed.bits, groups=packed.groups,
        window=4 * packed.groups if channels % 4 else 0,
    )  # fmt: skip


@dataclass(frozen=True, eq=False)
class _Packed:
    """Weights as words.

    Attributes:
        words: In the order of use.
        effective: Weights less their zero points, (channels out, depth).
        zero_points: What each channel's packed weights are greater by than the effective ones.
        bits: Of a packed weight.
        groups: Of four weights of a channel, padding included.
    """

    words: NDArray[np.uint32]
    effective: NDArray[np.int64]
    zero_points: NDArray[np.int64]
    bits: int
    groups: int


def _packed(layer: AnyLayer, codes: NDArray[np.int64], zero_points: NDArray[np.int64]) -> _Packed:
    """Pack (channels out, depth) codes, two channels side by side.

    Of more than four bits they are int8: less their zero point where that fits, else as they are, uint8 less 128. Of
    four bits and fewer, each is counted from the least code.
    """
    dtype = layer.multiplied.params.dtype if layer.multiplied is not None else "int8"
    out, depth = codes.shape
    effective = codes - zero_points.reshape(-1, 1)  # one for the tensor, or for each channel
    bits = 4 if width(dtype) <= 4 else 8
    low, high = limits("int8")
    if bits == 4:
        stored = codes - limits(dtype)[0]
    elif low <= effective.min() and effective.max() <= high:
        stored = effective
    else:
        stored = codes - shifted(dtype)
    per_word = 32 // bits
    words_deep = -(-depth // _DEPTH) * _DEPTH // per_word
    room = np.zeros((out + out % 2, words_deep * per_word), np.int64)
    room[:out, :depth] = stored
    places = _NIBBLES if bits == 4 else np.arange(4)
    parts = (room.reshape(len(room), words_deep, per_word) & (2**bits - 1)) << (bits * places)
    words = parts.sum(axis=2).reshape(-1, 2, words_deep).transpose(0, 2, 1).reshape(-1)
    return _Packed(
        words=words.astype(np.uint32),
        effective=effective,
        zero_points=np.broadcast_to((stored - effective)[:, 0], (out,)),
        bits=bits,
        groups=words_deep * per_word // 4,
    )


def _folded(layer: AnyLayer, effective: NDArray[np.int64], zero_point: int) -> NDArray[np.int64]:
    """The bias less the zero point of x times the sum of the weights: what is added to the sum of ``x * w``.

    It is the accumulator of an x of zeros only, so int32 holds it where it holds all accumulators.
    """
    bias = np.zeros(len(effective), np.int64) if layer.added is None else layer.added.astype(np.int64)
    folded: NDArray[np.int64] = bias - zero_point * effective.sum(axis=1)
    return folded


def _constants(
    prefix: str,
    layer: AnyLayer,
    fields: Iterable[Field],
    members: Mapping[str, object],
    forms: Iterable[str],
    *,
    before: str = "",
    **facts: int,
) -> Constants:
    fields, kind = list(fields), _STRUCTURES[layer.kind]
    title = f"/* {layer.operator} {identifier(layer.name)} */\n"
    body = "".join(definition(prefix, field) for field in fields)
    return Constants(
        name=f"resnet8_{prefix}",
        type=f"resnet8_{kind}",
        text=title + body + before + _structure(f"const resnet8_{kind} resnet8_{prefix}", members),
        bytes=sum(field.values.nbytes for field in fields),
        forms=frozenset(forms),
        **facts,
    )


def _structure(declaration: str, members: Mapping[str, object]) -> str:
    return f"{declaration} = {{\n{''.join(_member(*one) for one in members.items())}}};\n"


def _member(name: str, value: object) -> str:
    return f"    .{name} = {value},\n"
