"""ONNX Runtime's codes of the exported images, and how many of the exported ones differ from them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from resnet8.data.cifar10 import preprocess
from resnet8.execute import engine
from resnet8.numeric.grid import limits
from resnet8.vectors.manifest import LayerRecord, OrtDifferences

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from resnet8.numeric.variants import Requantization
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

    steps: Mapping[str, NDArray[np.int64]]
    arising: Mapping[str, int]
    predictions: NDArray[np.int64]


def traced(path: Path, content: bytes, images: NDArray[np.uint8], how: Requantization) -> Reference:
    """What ONNX Runtime computes for ``images``, uint8 (N, 32, 32, 3), in the graph that it really runs.

    Args:
        path: Names the file in errors.
        content: A quantized ONNX file.
        images: Pixels.
        how: The engine's requantization, by which differences arise.

    Raises:
        ModelError: when ONNX Runtime fails on the file.
    """
    from resnet8.runtimes.ort import Trace  # vectors are written without it, too

    trace = Trace(path, content, optimize=True)
    probabilities, codes = trace.run(preprocess(images))
    steps, arising = {}, {}
    for layer in trace.program.as_integer().layers:
        theirs = codes[layer.output.name]
        steps[layer.name] = _steps(theirs, layer.output.params.dtype)
        arising[layer.name] = int((engine.step(layer, codes, how) != theirs).sum())
    return Reference(steps, arising, probabilities.argmax(axis=1))


def differences(
    layers: Sequence[Golden], reference: Reference, predictions: tuple[int, ...]
) -> tuple[tuple[LayerRecord, ...], OrtDifferences]:
    """The records of ``layers`` with what differs from ONNX Runtime, where it has a layer of that name and size.

    Args:
        layers: The network's.
        reference: What ONNX Runtime computed.
        predictions: The exported class of each image.

    Returns:
        The records, and their sums.
    """
    records, found = [], []
    for one in layers:
        theirs, differing = reference.steps.get(one.record.name), None
        if theirs is not None and theirs.size == one.codes.size:
            difference = np.abs(_steps(one.codes, one.record.output.dtype) - theirs.reshape(one.codes.shape))
            differing = int((difference != 0).sum())
            found.append(difference)
        records.append(
            replace(one.record, differing_from_ort=differing, arising=reference.arising.get(one.record.name))
        )
    return tuple(records), OrtDifferences(
        layers=len(found),
        codes=sum(difference.size for difference in found),
        differing=sum(record.differing_from_ort or 0 for record in records),
        arising=sum(record.arising or 0 for record in records),
        largest_difference=max((int(difference.max()) for difference in found), default=0),
        predictions=tuple(reference.predictions.tolist()),
        predictions_agree=tuple(reference.predictions.tolist()) == predictions,
    )


def _steps(codes: NDArray[np.integer], dtype: str) -> NDArray[np.int64]:
    return codes.astype(np.int64) - limits(dtype)[0]
