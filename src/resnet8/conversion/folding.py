"""The constants that a converter folds out of batch normalizations, correctly rounded.

TensorFlow computes ``gamma / sqrt(variance + epsilon)`` and ``beta - mean * factor`` with vector instructions whose
last bits depend on the CPU's maker, so the same Keras file would make another ONNX file on another CPU, and everything
that is calibrated afterwards would inherit it. Here each constant gets the value that it has in float64, rounded once
to float32: float64's elementary operations are exact to the last bit on every CPU (IEEE 754-2019, section 5.4.1). How
far off the converter was is kept (:class:`resnet8.results.FoldedConstant`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import numpy_helper

from resnet8.errors import ConversionError
from resnet8.network.onnx_graph import Graph
from resnet8.results import FoldedConstant

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

LARGEST_DIFFERENCE = 1e-3
"""Of a folded constant from its correct value, relative to the terms that it is the sum of: float32's arithmetic stays
a thousand times below, another network's numbers do not."""


@dataclass(frozen=True)
class Convolution:
    """A Keras convolution.

    Attributes:
        kernel: float32 (rows, columns, channels in, channels out).
        bias: float32 (channels out).
    """

    kernel: NDArray[np.float32]
    bias: NDArray[np.float32]


@dataclass(frozen=True)
class BatchNormalization:
    """A Keras batch normalization, and the convolution whose output it reads.

    Attributes:
        convolution: The one before it.
        gamma: float32 (channels), as are ``beta``, ``mean`` and ``variance``.
        epsilon: Added to the variance.
    """

    convolution: Convolution
    gamma: NDArray[np.float32]
    beta: NDArray[np.float32]
    mean: NDArray[np.float32]
    variance: NDArray[np.float32]
    epsilon: float

    def factor(self) -> NDArray[np.float64]:
        """``gamma / sqrt(variance + epsilon)``, float64 (channels)."""
        deviation = np.sqrt(self.variance.astype(np.float64) + self.epsilon)
        return np.asarray(self.gamma.astype(np.float64) / deviation, np.float64)

    def addend(self) -> NDArray[np.float64]:
        """``beta - mean * factor``, float64 (channels)."""
        return np.asarray(self.beta.astype(np.float64) - self.mean.astype(np.float64) * self.factor(), np.float64)


def settle(
    model: onnx.ModelProto, convolutions: Sequence[Convolution], normalizations: Sequence[BatchNormalization]
) -> tuple[FoldedConstant, ...]:
    """Give every folded constant of ``model`` its correctly rounded value, in place.

    A batch normalization is found by its convolution, whose kernel is in the graph bit for bit.

    Returns:
        What the converter had made of each constant, in the order of ``normalizations``: factor, then addend.

    Raises:
        ConversionError: when a convolution's weights are not in the graph as they are in Keras, or a folded constant
            is not that of its batch normalization.
    """
    graph = _Graph(model)
    nodes = {id(one): graph.convolution(one) for one in convolutions}
    return tuple(folded for one in normalizations for folded in _settle_one(graph, nodes[id(one.convolution)], one))


def _settle_one(graph: _Graph, convolution: onnx.NodeProto, one: BatchNormalization) -> Iterator[FoldedConstant]:
    scaled = graph.reader(convolution, "Mul")
    shifted = graph.reader(scaled, "Add")
    factor, addend = one.factor(), one.addend()
    # What the terms of each are: the error of float32's arithmetic is relative to these.
    yield graph.replace(scaled, factor, np.abs(factor))
    yield graph.replace(shifted, addend, np.abs(one.beta) + np.abs(one.mean * factor))


class _Graph(Graph):
    """What stands for which layer of the Keras network."""

    def convolution(self, wanted: Convolution) -> onnx.NodeProto:
        kernel = np.ascontiguousarray(wanted.kernel.transpose(3, 2, 0, 1))
        for node in self.nodes:
            if node.op_type != "Conv":
                continue
            weights, *bias = (self.constants.get(name) for name in node.input[1:])
            if weights is None or numpy_helper.to_array(weights).tobytes() != kernel.tobytes():
                continue
            if len(bias) == 1 and bias[0] is not None and _same(numpy_helper.to_array(bias[0]), wanted.bias):
                return node
        raise ConversionError(
            "the conversion changed the weights of a convolution",
            found=f"no convolution of the ONNX graph has the {'x'.join(map(str, wanted.kernel.shape))} kernel and bias",
            expected="every weight as it is in the Keras file, bit for bit",
            remedy="use the tested versions of tf2onnx, TensorFlow and Keras",
        )

    def reader(self, node: onnx.NodeProto, operator: str) -> onnx.NodeProto:
        """The one node of that operator which reads ``node`` and a constant."""
        readers = [
            other
            for other in self.readers[node.output[0]]
            if other.op_type == operator and self._constant(other) is not None
        ]
        if len(readers) != 1:
            raise ConversionError(
                "the conversion left a batch normalization in an unknown form",
                found=f"{len(readers)} {operator} of a constant after {node.name}",
                expected="one Mul and one Add",
                remedy="use the tested versions of tf2onnx, TensorFlow and Keras",
            )
        return readers[0]

    def replace(self, node: onnx.NodeProto, exact: NDArray[np.float64], terms: NDArray[np.float64]) -> FoldedConstant:
        """Give the constant that ``node`` reads its correctly rounded value."""
        tensor = self._constant(node)
        assert tensor is not None  # noqa: S101 - reader() has seen to it
        found = numpy_helper.to_array(tensor)
        rounded = exact.astype(np.float32)
        if found.size != rounded.size or np.any(np.abs(found.ravel() - exact) > LARGEST_DIFFERENCE * terms):
            raise ConversionError(
                f"the conversion changed the constant {tensor.name}",
                found=f"values that differ by up to {np.abs(found.ravel() - exact).max():.2e}"
                if found.size == rounded.size
                else f"{found.size} values",
                expected=f"the {rounded.size} values of the Keras file's batch normalization",
                remedy="use the tested versions of tf2onnx, TensorFlow and Keras",
            )
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(rounded.reshape(found.shape), name))
        return FoldedConstant(name, tuple(ulps(found.ravel(), rounded).tolist()))

    def _constant(self, node: onnx.NodeProto) -> onnx.TensorProto | None:
        return next((self.constants[name] for name in node.input if name in self.constants), None)


def ulps(found: NDArray[np.float32], expected: NDArray[np.float32]) -> NDArray[np.int64]:
    """How many float32 numbers each of ``found`` is above the one of ``expected`` (below: negative), int64."""
    return _ordinal(found) - _ordinal(expected)


def shifted(values: NDArray[np.float32], steps: NDArray[np.int64]) -> NDArray[np.float32]:
    """The float32 number ``steps`` above each of ``values`` (below: negative); the inverse of :func:`ulps`."""
    ordinal = _ordinal(values) + steps
    bits = np.where(ordinal < 0, -(2**31) - ordinal, ordinal)
    return bits.astype(np.int32).view(np.float32)


def perturbed(content: bytes, seed: int) -> tuple[bytes, int]:
    """An ONNX model whose every float32 constant is moved by -1, 0 or +1 ulp, each as likely as the others.

    The steps are ``numpy.random.default_rng(seed).integers(-1, 2)`` of each initializer's shape, in their order. A
    number that would become infinite stays.

    Returns:
        The model, and how many numbers may have moved.
    """
    model = onnx.load_model_from_string(content)
    generator = np.random.default_rng(seed)
    moving = 0
    for tensor in model.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT:
            values = numpy_helper.to_array(tensor)
            moved = shifted(values, generator.integers(-1, 2, values.shape))
            tensor.CopyFrom(numpy_helper.from_array(np.where(np.isfinite(moved), moved, values), tensor.name))
            moving += values.size
    return model.SerializeToString(), moving


def _ordinal(values: NDArray[np.float32]) -> NDArray[np.int64]:
    """The place of each number in the order of all float32 numbers; both zeros are at 0."""
    bits = np.ascontiguousarray(values, np.float32).view(np.int32).astype(np.int64)
    return np.where(bits < 0, -(2**31) - bits, bits)


def _same(a: NDArray[np.float32], b: NDArray[np.float32]) -> bool:
    return a.tobytes() == np.ascontiguousarray(b, np.float32).tobytes()
