"""The manifest's facts, counted from golden values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from resnet8.network.layers import Sum, Weighted
from resnet8.network.tensors import Activation, Constant
from resnet8.numeric.grid import limits
from resnet8.vectors.manifest import LayerRecord, OrtAgreement, Tensor

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from resnet8.vectors.golden import Golden


@dataclass(frozen=True, eq=False)
class Reference:
    """What ONNX Runtime computed for the exported images.

    Attributes:
        steps: ``code - qmin`` of each layer's output, by the layer's name, (images, *shape): the same numbers whether
            the layer's codes are int8, or uint8 because ONNX Runtime shifted them by 128.
        arising: How many of them the engine computes otherwise from ONNX Runtime's own inputs of that layer.
        predictions: Class of each image.
    """

    steps: Mapping[str, NDArray[np.int16]]
    arising: Mapping[str, int]
    predictions: NDArray[np.int64]


def tensor(codes: Activation | Constant, source: str) -> Tensor:
    """The facts of a tensor of codes that comes from ``source``."""
    shape = codes.shape if isinstance(codes, Activation) else codes.codes.shape
    return Tensor(source, tuple(shape), codes.params.dtype, codes.zero_point, float(codes.scale))


def record(one: Golden, name: str, reference: Reference | None = None) -> LayerRecord:
    """The facts of a layer; ``name`` is the operator's, or an edge case's purpose."""
    layer = one.layer
    weighted = layer if isinstance(layer, Weighted) else None
    fields = {field.name: field.values for field in one.parameters}
    names = ("multiplier_a", "multiplier_b") if isinstance(layer, Sum) else ("multiplier",)
    return LayerRecord(
        folder=one.folder,
        name=name,
        kind=layer.operator,
        inputs=tuple(tensor(operand, source) for (_, operand), source in zip(layer.sources, one.sources, strict=True)),
        output=tensor(layer.output, one.folder),
        lowest=layer.lowest,
        weights_shape=fields["weights"].shape if weighted else None,
        weights_dtype=weighted.weights.dtype.name if weighted else None,
        weights_zero_point=tuple(fields["weights_zero_point"].tolist()) if weighted else None,
        strides=weighted.strides if weighted else None,
        pads=weighted.pads if weighted else None,
        multiplier=tuple(value for part in names for value in fields[part].tolist()),
        shift=tuple(fields["shift"].tolist()),
        accumulator_bounds=one.accumulator_bounds,
        accumulator_bits=None if one.accumulator_bounds is None else signed_bits(*one.accumulator_bounds),
        accumulator_seen=(
            None if one.accumulator is None else (int(one.accumulator.min()), int(one.accumulator.max()))
        ),
        coverage=one.coverage,
        codes=one.codes.size,
        differing_from_ort=None if (found := _difference(one, reference)) is None else int((found != 0).sum()),
        arising=_arising(one, reference),
    )


def signed_bits(low: int, high: int) -> int:
    """Width of the narrowest two's complement number that holds both."""
    return 1 + max((-low - 1).bit_length() if low < 0 else 0, high.bit_length())


def _difference(one: Golden, reference: Reference | None) -> NDArray[np.int16] | None:
    """Exported codes less ONNX Runtime's, in steps, where ONNX Runtime has a layer of that name and shape."""
    theirs = None if reference is None else reference.steps.get(one.layer.name)
    if theirs is None or theirs.size != one.codes.size:
        return None
    difference: NDArray[np.int16] = (
        one.codes.astype(np.int16) - limits(one.layer.output.params.dtype)[0] - theirs.reshape(one.codes.shape)
    )
    return difference


def _arising(one: Golden, reference: Reference | None) -> int | None:
    return None if reference is None else reference.arising.get(one.layer.name)


def agreement(layers: Sequence[Golden], reference: Reference, predictions: NDArray[np.int64]) -> OrtAgreement:
    """All layers' codes, and the ``predictions``, against ONNX Runtime's."""
    found = [difference for one in layers if (difference := _difference(one, reference)) is not None]
    return OrtAgreement(
        layers=len(found),
        codes=sum(difference.size for difference in found),
        arising=sum(count for one in layers if (count := _arising(one, reference)) is not None),
        differing=sum(int((difference != 0).sum()) for difference in found),
        largest_difference=max((int(np.abs(difference).max()) for difference in found), default=0),
        predictions=tuple(reference.predictions.tolist()),
        predictions_agree=bool(np.array_equal(reference.predictions, predictions)),
    )
