"""The range of every tensor over the calibration images, free of the last bits that a CPU's float kernels leave open.

ONNX Runtime's kernels add up in orders, and with or without fused multiply-adds, as the CPU has it, so the extreme
values that they see differ in their last bits from CPU to CPU, and with them the scales. Here those kernels only find
out *which images* come close to an extreme; what the extreme is, is computed for these few in float64 and rounded to
float32 once (float64 kernels differ from CPU to CPU by some 1e-16 of a value: to flip the rounding, it would have to
lie that close to the middle between two float32 numbers).
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from resnet8.batches import batched
from resnet8.data.cifar10 import preprocess
from resnet8.runtimes import ort

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

CLOSE = 1e-5
"""How close an image must come to an extreme to be computed in float64, relative to the tensor's largest magnitude:
ten times what float32 sums err by in a network of this depth."""

_BATCH = 10
"""Images at once in float64: the patches of one convolution stay in the cache."""


def ranges(
    model: onnx.ModelProto, images: NDArray[np.uint8], observed_in: Literal["float32", "float64"]
) -> dict[str, tuple[np.float32, np.float32]]:
    """Least and greatest value of every float tensor that a node of ``model`` reads or writes, zero included.

    Zero must have a code (it pads convolutions), so a range begins at zero or below and ends at zero or above.

    Args:
        model: A float ONNX network, its shapes inferred.
        images: uint8 (N, 32, 32, 3), fed as in evaluation.
        observed_in: ``float64``; or ``float32``, what ONNX Runtime's own MinMax calibration finds on this CPU.

    Returns:
        By name of the tensor; in float64, each correctly rounded.
    """
    return dict(_remembered(model.SerializeToString(), images.tobytes(), images.shape, observed_in))


@lru_cache(maxsize=2)
def _remembered(
    content: bytes, pixels: bytes, shape: tuple[int, ...], observed_in: str
) -> dict[str, tuple[np.float32, np.float32]]:
    """:func:`ranges`; recipes that differ in their types only ask for the same ones."""
    model, images = onnx.ModelProto.FromString(content), np.frombuffer(pixels, np.uint8).reshape(shape)
    names = _tensors(model)
    least, greatest = _of_each_image(model, names, images)
    if observed_in == "float32":
        extremes = zip(np.minimum(least.min(axis=0), 0), np.maximum(greatest.max(axis=0), 0), strict=True)
        return dict(zip(names, extremes, strict=True))
    chosen = sorted(_close(np.minimum(least, 0)) | _close(np.minimum(-greatest, 0)))
    exact = _exact(model, names, images[chosen])
    return {
        name: (np.float32(min(0.0, *(low for low, _ in one))), np.float32(max(0.0, *(high for _, high in one))))
        for name, one in exact.items()
    }


def _tensors(model: onnx.ModelProto) -> list[str]:
    constants = {tensor.name for tensor in model.graph.initializer}
    known = {
        value.name: value.type.tensor_type.elem_type
        for value in (*model.graph.value_info, *model.graph.output, *model.graph.input)
    }
    named = dict.fromkeys(name for node in model.graph.node for name in (*node.input, *node.output))
    return [name for name in named if name not in constants and known.get(name) == TensorProto.FLOAT]


def _of_each_image(
    model: onnx.ModelProto, names: Sequence[str], images: NDArray[np.uint8]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Least and greatest value of every tensor for every image, float32 (N, tensors) each, by ONNX Runtime.

    Operator by operator as the graph stands, as its own calibration does: fused operators round elsewhere.
    """
    probed = onnx.ModelProto()
    probed.CopyFrom(model)
    del probed.graph.output[:]
    shape = numpy_helper.from_array(np.array([0, -1], np.int64), "one row for each image")
    probed.graph.initializer.append(shape)
    for i, name in enumerate(names):
        probed.graph.node.append(helper.make_node("Reshape", [name, shape.name], [f"rows {i}"]))
        for operator in ("ReduceMin", "ReduceMax"):
            probed.graph.node.append(
                helper.make_node(operator, [f"rows {i}"], [f"{operator} {i}"], axes=[1], keepdims=0)
            )
    for operator in ("ReduceMin", "ReduceMax"):
        probed.graph.output.extend(
            helper.make_tensor_value_info(f"{operator} {i}", TensorProto.FLOAT, None) for i in range(len(names))
        )
    session = ort.session(probed.SerializeToString())

    def work(part: slice) -> NDArray[np.float32]:
        return np.stack(session.run(None, {session.get_inputs()[0].name: preprocess(images[part])}), axis=1)

    both = np.concatenate(list(batched(work, len(images))))
    return both[:, : len(names)], both[:, len(names) :]


def _close(values: NDArray[np.float32]) -> set[int]:
    """The images that come close to the least of any column; of those that have just the least value, the first."""
    least = values.min(axis=0)
    close = values <= least + CLOSE * np.abs(values).max(axis=0)
    # Many images tie where a ReLU or the range of the pixels cuts; such a value is what it is in any arithmetic.
    tied = values == least
    repeated = tied & (np.arange(len(values))[:, None] > tied.argmax(axis=0))
    return set(np.flatnonzero((close & ~repeated).any(axis=1)).tolist())


def _exact(
    model: onnx.ModelProto, names: Sequence[str], images: NDArray[np.uint8]
) -> dict[str, list[tuple[float, float]]]:
    """Least and greatest value of every tensor in float64, of each batch."""
    evaluator = _float64(model, names)
    source = model.graph.input[0].name
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in names}

    def work(part: slice) -> Mapping[str, NDArray[Any]]:
        fed = preprocess(images[part]).astype(np.float64)
        return dict(zip(names, evaluator.run(list(names), {source: fed}), strict=True))

    for values in batched(work, len(images), size=_BATCH):
        for name, value in values.items():
            found[name].append((float(value.min()), float(value.max())))
    return found


def _float64(model: onnx.ModelProto, names: Sequence[str]) -> ReferenceEvaluator:
    """The network in float64, which hands out all of ``names``."""
    wide = onnx.ModelProto()
    wide.CopyFrom(model)
    for tensor in wide.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float64), tensor.name))
    del wide.graph.value_info[:]
    for value in wide.graph.input:
        value.type.tensor_type.elem_type = TensorProto.DOUBLE
    del wide.graph.output[:]
    wide.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.DOUBLE, None) for name in names)
    return ReferenceEvaluator(wide, new_ops=[_Conv])


class _Conv(OpRun):
    """ONNX's Conv by one matrix product; the evaluator's own takes ten times as long."""

    op_domain = ""
    op_schema = onnx.defs.get_schema("Conv")

    def _run(  # noqa: PLR0917 - the operator's attributes
        self,
        x: NDArray[Any],
        w: NDArray[Any],
        b: NDArray[Any] | None = None,
        auto_pad: str | None = None,  # noqa: ARG002
        dilations: Sequence[int] | None = None,  # noqa: ARG002
        group: int | None = None,  # noqa: ARG002
        kernel_shape: Sequence[int] | None = None,  # noqa: ARG002
        pads: Sequence[int] | None = None,
        strides: Sequence[int] | None = None,
    ) -> tuple[NDArray[Any]]:
        top, left, bottom, right = pads or (0, 0, 0, 0)
        down, across = strides or (1, 1)
        padded = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, w.shape[2:], (2, 3))[:, :, ::down, ::across]
        product = np.tensordot(windows, w, ((1, 4, 5), (1, 2, 3))).transpose(0, 3, 1, 2)
        return (product if b is None else product + b[:, None, None],)
