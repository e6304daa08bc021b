"""What a layer reads and writes, exactly, and what of the arithmetic its numbers exercise."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from resnet8.errors import ModelError
from resnet8.execute import engine
from resnet8.network.layers import Product, Weighted
from resnet8.network.tensors import Activation, Constant
from resnet8.numeric.grid import limits, storage, width
from resnet8.numeric.rounding import round_shift
from resnet8.vectors.formats import Field

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from resnet8.network.layers import AnyLayer
    from resnet8.network.program import Program
    from resnet8.numeric.rounding import FixedPoint
    from resnet8.numeric.variants import Requantization

NETWORK, CONSTANT, EDGE = "network", "constant", "edge"
"""Sources of what a layer reads, besides the folders of other layers: the images, the model, the edge case itself."""

_INT32 = limits("int32")
_NAME_LENGTH = 48


@dataclass(frozen=True)
class Coverage:
    """What the numbers of a layer exercise.

    Attributes:
        saturated_low: Codes that were raised to the lowest code (by a ReLU, or the least of the type).
        saturated_high: Codes that were cut to the highest.
        ties: Quotients that end in exactly one half, before rounding.
        padded_positions: Positions outside the map that the kernel reads for one image, each counted for each window.
    """

    saturated_low: int
    saturated_high: int
    ties: int
    padded_positions: int


@dataclass(frozen=True, eq=False)
class Golden:
    """A layer with its golden values.

    Attributes:
        folder: Name of its folder, also the prefix of its names in C.
        layer: The layer.
        sources: Where each of its :func:`operands` comes from: the folder of the layer that writes it, or one of
            :data:`NETWORK`, :data:`CONSTANT`, :data:`EDGE`.
        inputs: Codes that it reads, (images, *shape), one or two of them.
        parameters: Everything that is fixed: weights, bias, multipliers, zero points.
        expected: The accumulators (no sum has them), int32, and the codes, (images, *output shape).
        coverage: What they exercise.
        accumulator_bounds: Least and greatest accumulator that any input can give, partial sums included.
    """

    folder: str
    layer: AnyLayer
    sources: tuple[str, ...]
    inputs: tuple[Field, ...]
    parameters: tuple[Field, ...]
    expected: tuple[Field, ...]
    coverage: Coverage
    accumulator_bounds: tuple[int, int] | None

    @property
    def codes(self) -> NDArray[Any]:
        """The codes that the layer must write."""
        return self.expected[-1].values

    @property
    def accumulator(self) -> NDArray[np.int32] | None:
        """The accumulators; none for a sum."""
        return self.expected[0].values if len(self.expected) > 1 else None


def golden(
    folder: str,
    layer: AnyLayer,
    values: Mapping[str, NDArray[Any]],
    requantization: Requantization,
    writers: Mapping[str, str] | None = None,
) -> Golden:
    """Run one layer and keep everything.

    Args:
        folder: Name of its folder.
        layer: The layer.
        values: Codes of its inputs by name, (images, *shape).
        requantization: A fixed-point one.
        writers: In a network, the source of each activation by name.

    Raises:
        ModelError: when the accumulator can leave int32, or a tensor is of another type than int8 and uint8.
    """
    bounds = layer.partial_sums()
    require_supported(layer, bounds)
    codes = engine.step(layer, values, requantization)
    axes = "image, row, column, channel" if codes.ndim == 4 else "image, channel"
    expected = [Field("output", codes, axes)]
    if bounds is not None:
        read = {name: values[name] for name in layer.inputs}
        accumulator = np.asarray(engine.integer_accumulator(layer, read)).astype(np.int32)
        expected.insert(0, Field("accumulator", accumulator.reshape(codes.shape), axes))
    return Golden(
        folder=folder,
        layer=layer,
        sources=tuple(
            CONSTANT if isinstance(tensor, Constant) else EDGE if writers is None else writers[tensor.name]
            for _, tensor in layer.sources
        ),
        inputs=tuple(_inputs(layer, values)),
        parameters=tuple(_parameters(layer, requantization)),
        expected=tuple(expected),
        coverage=_coverage(layer, values, requantization),
        accumulator_bounds=bounds,
    )


def network(program: Program, codes: NDArray[Any], requantization: Requantization) -> Iterator[Golden]:
    """Every layer of ``program`` in order, each fed with the codes that the layers before it wrote.

    Args:
        program: The network.
        codes: Of the images, (N, 32, 32, 3).
        requantization: A fixed-point one.

    Raises:
        ModelError: as :func:`golden`.
    """
    values, writers = {program.input.name: codes}, {program.input.name: NETWORK}
    for number, layer in enumerate(program.layers):
        folder = f"layer_{number:02}_{identifier(layer.name or layer.kind)}"
        one = golden(folder, layer, values, requantization, writers)
        values[layer.output.name], writers[layer.output.name] = one.codes, folder
        yield one


def identifier(name: str) -> str:
    """``name`` as a part of a file name and of an identifier in C: ASCII letters, digits and single underscores."""
    return re.sub(r"[^A-Za-z0-9]+", "_", name).strip("_")[:_NAME_LENGTH].rstrip("_")


def require_supported(layer: AnyLayer, bounds: tuple[int, int] | None) -> None:
    """Refuse what 8-bit codes and 32-bit accumulators do not hold.

    Raises:
        ModelError: when a tensor is of another type, or the accumulator can leave int32.
    """
    tensors = [layer.output.params, *(tensor.params for _, tensor in layer.sources)]
    tensors += [] if layer.multiplied is None else [layer.multiplied.params]
    for params in tensors:
        if width(params.dtype) > 8:
            raise ModelError(
                f"layer {layer.name} cannot be exported",
                found=f"codes of type {params.dtype}",
                expected="int8 or uint8",
            )
    if bounds is not None and not _INT32[0] <= bounds[0] <= bounds[1] <= _INT32[1]:
        raise ModelError(
            f"layer {layer.name} cannot be exported",
            found=f"accumulators from {bounds[0]:,} to {bounds[1]:,}",
            expected="accumulators that int32 holds, whatever the input",
            remedy="its bias is too large: quantize the model again",
        )


def _inputs(layer: AnyLayer, values: Mapping[str, NDArray[Any]]) -> Iterator[Field]:
    for name, tensor in layer.sources:
        if isinstance(tensor, Activation):
            codes = values[tensor.name]
            codes = codes.reshape(len(codes), *tensor.shape)
            yield Field(name, codes, "image, row, column, channel" if codes.ndim == 4 else "image, channel")


def _parameters(layer: AnyLayer, requantization: Requantization) -> Iterator[Field]:
    for name, tensor in layer.sources:
        yield Field(f"{name}_zero_point", _code(tensor.zero_point, tensor.params.dtype))
        if isinstance(tensor, Constant):
            yield Field(name, _by_channel(tensor.codes, layer), "channel")
    if isinstance(layer, Weighted):
        zero_point = layer.weight_params.zero_point.astype(layer.weights.dtype)
        axes = "channel out" if layer.weight_params.per_channel else "tensor"
        yield Field("weights", layer.weights.transpose(3, 0, 1, 2), "channel out, row, column, channel in")
        yield Field("weights_zero_point", zero_point.reshape(-1), axes)
        yield Field("bias", layer.bias.astype(np.int32), "channel out")
    elif isinstance(layer, Product):
        yield Field("factor", _by_channel(layer.constant, layer), "channel")
        zero_point = layer.constant_params.zero_point.astype(layer.constant.dtype)
        yield Field("factor_zero_point", zero_point.reshape(-1), "tensor")
    yield from _multipliers(engine.multipliers(layer, requantization))
    dtype = layer.output.params.dtype
    yield Field("output_zero_point", _code(layer.output.zero_point, dtype))
    yield Field("output_lowest", _code(layer.lowest, dtype))
    yield Field("output_highest", _code(limits(dtype)[1], dtype))


def _multipliers(fixed: tuple[FixedPoint, ...]) -> Iterator[Field]:
    """``multiplier`` and ``shift``; for a sum ``multiplier_a``, ``multiplier_b`` and the ``shift`` they share."""
    axes = "channel out" if fixed[0].multiplier.ndim else "tensor"
    names = ("multiplier",) if len(fixed) == 1 else ("multiplier_a", "multiplier_b")
    for name, one in zip(names, fixed, strict=True):
        yield Field(name, one.multiplier.astype(np.int32).reshape(-1), axes)
    yield Field("shift", fixed[0].shift.astype(np.uint8).reshape(-1), axes)


def _code(value: int, dtype: str) -> NDArray[Any]:
    return np.asarray(value, storage(dtype))


def _by_channel(codes: NDArray[Any], layer: AnyLayer) -> NDArray[Any]:
    return np.broadcast_to(codes, layer.output.shape[-1:]).copy()


def _coverage(layer: AnyLayer, values: Mapping[str, NDArray[Any]], requantization: Requantization) -> Coverage:
    total, shift = engine.numerator(layer, {name: values[name] for name in layer.inputs}, requantization)
    half = (np.int64(1) << shift) >> 1
    whole = round_shift(total, shift, requantization.rounding) + layer.output.zero_point
    return Coverage(
        saturated_low=int((whole < layer.lowest).sum()),
        saturated_high=int((whole > limits(layer.output.params.dtype)[1]).sum()),
        ties=int(((shift > 0) & ((total & ((np.int64(1) << shift) - 1)) == half)).sum()),
        padded_positions=_padded(layer) if isinstance(layer, Weighted) else 0,
    )


def _padded(layer: Weighted) -> int:
    """Positions outside the map that windows read: all that they read, less those inside."""
    if len(layer.x.shape) != 3:
        return 0
    windows = (layer.output.shape[0], layer.output.shape[1])
    inside = []
    for axis in range(2):
        start = np.arange(windows[axis])[:, None] * layer.strides[axis] - layer.pads[axis]
        read = start + np.arange(layer.weights.shape[axis])
        inside.append(int(((read >= 0) & (read < layer.x.shape[axis])).sum()))
    return int(np.prod(windows) * np.prod(layer.weights.shape[:2])) - inside[0] * inside[1]
