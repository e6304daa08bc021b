"""What a layer reads and writes, exactly, and what of the arithmetic its numbers exercise."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from resnet8.errors import ModelError
from resnet8.execute import engine
from resnet8.execute.walk import walk
from resnet8.network.tensors import Activation, Constant
from resnet8.numeric.grid import limits, signed_bits, storage, width
from resnet8.numeric.rounding import round_shift
from resnet8.vectors.formats import Field
from resnet8.vectors.intermediates import NOTHING, images_field
from resnet8.vectors.manifest import CONSTANT, EDGE, NETWORK, CodesRecord, Coverage, LayerRecord

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from numpy.typing import NDArray

    from resnet8.network.layers import AnyLayer
    from resnet8.network.program import Program
    from resnet8.numeric.variants import Requantization
    from resnet8.vectors.intermediates import Intermediates

_INT32 = limits("int32")
_NAME_LENGTH = 48


@dataclass(frozen=True, eq=False)
class Golden:
    """A layer with its golden values.

    Attributes:
        record: What it is; all that is written about it says this.
        inputs: Codes that it reads, (images, *shape), one or two of them.
        parameters: Everything that is fixed, by its name: weights, bias, multipliers, zero points.
        expected: The accumulators (no sum has them), int32, and the codes, (images, *output shape).
        inside: What else was asked for (:class:`resnet8.vectors.intermediates.Intermediates`).
    """

    record: LayerRecord
    inputs: tuple[Field, ...]
    parameters: dict[str, Field]
    expected: tuple[Field, ...]
    inside: tuple[Field, ...] = ()

    @property
    def folder(self) -> str:
        """Name of its folder, also the prefix of its names in C."""
        return self.record.folder

    @property
    def codes(self) -> NDArray[Any]:
        """The codes that the layer must write."""
        return self.expected[-1].values


def golden(
    folder: str,
    layer: AnyLayer,
    values: Mapping[str, NDArray[Any]],
    requantization: Requantization,
    *,
    name: str,
    writers: Mapping[str, str] | None = None,
    asked: Intermediates = NOTHING,
    broadcast: bool = False,
) -> Golden:
    """Run one layer and keep everything.

    Args:
        folder: Name of its folder.
        layer: The layer.
        values: Codes of its inputs by name, (images, *shape).
        requantization: A fixed-point one.
        name: What its record calls it.
        writers: In a network, the source of each activation by name.
        asked: What of the layer's inside is kept, besides the accumulator.
        broadcast: Whether what is one for the whole layer is written once for each output channel.

    Raises:
        ModelError: when the accumulator can leave int32, or a tensor is of another type than int8 and uint8.
    """
    bounds = layer.partial_sums()
    require_supported(layer, bounds)
    codes = engine.step(layer, values, requantization)
    expected = [images_field("output", codes)]
    if bounds is not None:
        accumulator = engine.integer_accumulator(layer, values).astype(np.int32)
        expected.insert(0, images_field("accumulator", accumulator.reshape(codes.shape)))
    parameters = {field.name: field for field in parameters_of(layer, requantization)}
    weights = parameters.get("weights")
    return Golden(
        record=LayerRecord(
            folder=folder,
            name=name,
            kind=layer.operator,
            inputs=tuple(codes_record(operand, _source(operand, writers)) for _, operand in layer.sources),
            output=codes_record(layer.output, folder),
            lowest=layer.lowest,
            weights_shape=None if weights is None else weights.values.shape,
            weights_dtype=None if weights is None else weights.values.dtype.name,
            weights_zero_point=None if weights is None else _numbers(parameters["weights_zero_point"].values),
            strides=None if weights is None else _numbers(parameters["strides"].values),
            pads=None if weights is None else _numbers(parameters["pads"].values),
            multiplier=tuple(
                number
                for field in parameters.values()
                if field.name.startswith("multiplier")
                for number in field.values.tolist()
            ),
            shift=tuple(parameters["shift"].values.tolist()),
            accumulator_bounds=bounds,
            accumulator_bits=None if bounds is None else signed_bits(*bounds),
            accumulator_seen=None if bounds is None else (int(accumulator.min()), int(accumulator.max())),
            coverage=_coverage(layer, values, requantization),
            codes=codes.size,
            weights_scale=None if layer.multiplied is None else _numbers(layer.multiplied.params.scale),
            count=layer.count,
            tiles=asked.tiles(layer),
        ),
        inputs=tuple(
            images_field(operand, values[one.name].reshape(-1, *one.shape))
            for operand, one in layer.sources
            if isinstance(one, Activation)
        ),
        parameters={one: _broadcast(field, layer) for one, field in parameters.items()} if broadcast else parameters,
        expected=tuple(expected),
        inside=tuple(asked.fields(layer, values, requantization)),
    )


def network_layers(
    program: Program,
    codes: NDArray[Any],
    run: Callable[..., Golden],
    each: Callable[[Golden, int], object] = lambda *_: None,
) -> tuple[list[Golden], NDArray[Any], str]:
    """Every layer of a network in order, each fed with the codes that those before it wrote.

    Args:
        program: The network.
        codes: Of its input, (images, 32, 32, 3).
        run: :func:`golden`, with what is asked of every layer.
        each: Called with each layer as soon as it is there, and with how many there are.

    Returns:
        The layers, in folders ``layer_NN_NAME``; the codes of the class scores, (images, classes); and the folder of
        the layer that writes them.

    Raises:
        ModelError: as :func:`golden`.
    """
    layers: list[Golden] = []
    writers = {program.input.name: NETWORK}

    def step(layer: AnyLayer, values: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
        folder = f"layer_{len(layers):02}_{identifier(layer.name or layer.kind)}"
        layers.append(run(folder, layer, values, name=layer.name, writers=writers))
        writers[layer.output.name] = folder
        each(layers[-1], len(layers))
        return layers[-1].codes

    scores = walk(program, codes, step)
    return layers, scores, writers[program.logits.name]


def codes_record(codes: Activation | Constant, source: str) -> CodesRecord:
    """The facts of a tensor of codes that comes from ``source``."""
    return CodesRecord(source, codes.shape, **codes.facts)


def identifier(name: str) -> str:
    """``name`` as a part of a file name and of an identifier in C: ASCII letters, digits and single underscores."""
    return re.sub(r"[^A-Za-z0-9]+", "_", name).strip("_")[:_NAME_LENGTH].rstrip("_")


def require_supported(layer: AnyLayer, bounds: tuple[int, int] | None) -> None:
    """Refuse what 8-bit codes and 32-bit accumulators do not hold.

    Args:
        layer: The layer.
        bounds: Its partial sums.

    Raises:
        ModelError: when a tensor or the bounds are wider.
    """
    tensors = [layer.output, *(tensor for _, tensor in layer.sources)]
    for one in tensors if layer.multiplied is None else (*tensors, layer.multiplied):
        if width(one.params.dtype) > 8:
            raise ModelError(
                f"layer {layer.name} cannot be exported",
                found=f"codes of type {one.params.dtype}",
                expected="int8 or uint8",
                remedy="quantize its output to 8 bits",
            )
    if bounds is not None and not _INT32[0] <= bounds[0] <= bounds[1] <= _INT32[1]:
        raise ModelError(
            f"layer {layer.name} cannot be exported",
            found=f"accumulators from {bounds[0]:,} to {bounds[1]:,}",
            expected="accumulators that int32 holds, whatever the input",
            remedy="its bias is too large: quantize the model again",
        )


def _source(operand: Activation | Constant, writers: Mapping[str, str] | None) -> str:
    if isinstance(operand, Constant):
        return CONSTANT
    return EDGE if writers is None else writers[operand.name]


def parameters_of(layer: AnyLayer, requantization: Requantization) -> Iterator[Field]:
    """Everything that is fixed of a layer, as named arrays; a sum has two multipliers, which share their shift.

    ``weights`` (channel out, row, column, channel in), ``bias`` and ``factor``, each zero point, ``multiplier`` or
    ``multiplier_a`` and ``multiplier_b``, ``shift``, and of the output ``zero_point``, ``lowest`` and ``highest``.
    """
    for name, tensor in layer.sources:
        yield _code(f"{name}_zero_point", tensor.zero_point, tensor.params.dtype)
        if isinstance(tensor, Constant):
            yield _by_channel(name, tensor.codes, layer)
    if layer.multiplied is not None:
        codes, params = layer.multiplied.codes, layer.multiplied.params
        zero_points = params.zero_point.astype(codes.dtype)
        if layer.added is None:
            yield _by_channel("factor", codes, layer)
            yield Field("factor_zero_point", zero_points, "tensor")
        else:
            yield Field("weights", codes.transpose(3, 0, 1, 2), "channel out, row, column, channel in")
            yield Field("weights_zero_point", zero_points, "channel out" if params.per_channel else "tensor")
            yield Field("bias", layer.added.astype(np.int32), "channel out")
            window, (rows, columns) = layer.window, codes.shape[:2]
            yield Field("kernel", np.array([rows, columns], np.int32), "rows, columns")
            yield Field("strides", np.array(window.strides if window else (1, 1), np.int32), "rows, columns")
            pads = window.pads if window else (0, 0, 0, 0)
            yield Field("pads", np.array(pads, np.int32), "top, left, bottom, right")
    fixed = engine.multipliers(layer, requantization)
    axes = "channel out" if fixed[0].multiplier.ndim else "tensor"
    names = ("multiplier",) if len(fixed) == 1 else ("multiplier_a", "multiplier_b")
    for name, one in zip(names, fixed, strict=True):
        yield Field(name, one.multiplier.astype(np.int32).reshape(-1), axes)
    yield Field("shift", fixed[0].shift.astype(np.uint8).reshape(-1), axes)
    ends = {"zero_point": layer.output.zero_point, "lowest": layer.lowest, "highest": layer.highest}
    yield from (_code(f"output_{name}", code, layer.output.params.dtype) for name, code in ends.items())


def _broadcast(field: Field, layer: AnyLayer) -> Field:
    if field.order != "tensor":
        return field
    return Field(field.name, np.broadcast_to(field.values.reshape(-1), layer.output.shape[-1:]).copy(), "channel out")


def _numbers(values: NDArray[Any]) -> tuple[Any, ...]:
    return tuple(values.reshape(-1).tolist())


def _code(name: str, value: int, dtype: str) -> Field:
    return Field(name, np.asarray(value, storage(dtype)))


def _by_channel(name: str, codes: NDArray[Any], layer: AnyLayer) -> Field:
    return Field(name, np.broadcast_to(codes, layer.output.shape[-1:]).copy(), "channel")


def _coverage(layer: AnyLayer, values: Mapping[str, NDArray[Any]], requantization: Requantization) -> Coverage:
    total, shift = engine.numerator(layer, values, requantization)
    half = (np.int64(1) << shift) >> 1
    whole = round_shift(total, shift, requantization.rounding) + layer.output.zero_point
    return Coverage(
        saturated_low=int((whole < layer.lowest).sum()),
        saturated_high=int((whole > layer.highest).sum()),
        ties=int(((shift > 0) & ((total & ((np.int64(1) << shift) - 1)) == half)).sum()),
        padded_positions=_padded(layer),
    )


def _padded(layer: AnyLayer) -> int:
    """Positions outside the map that windows read: all that they read, less those inside."""
    window = layer.window
    if window is None:
        return 0
    read = inside = 1
    for axis in range(2):
        start = np.arange(window.output.shape[axis])[:, None] * window.strides[axis] - window.pads[axis]
        positions = start + np.arange(window.weights.shape[axis])
        read *= positions.size
        inside *= int(((positions >= 0) & (positions < window.x.shape[axis])).sum())
    return read - inside
