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
    from collections.abc import Sequence

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

    def folded(self) -> dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]:
        """The factor and the addend that it comes to, by the operator that applies each, in order.

        Each float64 (channels), with the magnitudes of the terms that it is the sum of: the error of float32's
        arithmetic is relative to these.
        """
        gamma, beta, mean, variance = (
            one.astype(np.float64) for one in (self.gamma, self.beta, self.mean, self.variance)
        )
        factor = gamma / np.sqrt(variance + self.epsilon)
        shift = mean * factor
        return {"Mul": (factor, np.abs(factor)), "Add": (beta - shift, np.abs(beta) + np.abs(shift))}


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
    graph = Graph(model)
    nodes = {id(one): _find(graph, one) for one in convolutions}
    settled = []
    for one in normalizations:
        node = nodes[id(one.convolution)]
        for operator, (exact, terms) in one.folded().items():
            node, constant = _reader(graph, node, operator)
            settled.append(_replace(graph.constants[constant], exact, terms))
    return tuple(settled)


def _find(graph: Graph, wanted: Convolution) -> onnx.NodeProto:
    """The convolution with that kernel and bias."""
    parameters = [np.ascontiguousarray(wanted.kernel.transpose(3, 2, 0, 1)).tobytes(), wanted.bias.tobytes()]
    for node in graph.nodes:
        names = [name for name in node.input[1:] if node.op_type == "Conv" and name in graph.constants]
        if [graph.values(name).tobytes() for name in names] == parameters:
            return node
    raise _changed(
        "the weights of a convolution",
        f"no convolution of the ONNX graph has the {'x'.join(map(str, wanted.kernel.shape))} kernel and bias",
        "every weight as it is in the Keras file, bit for bit",
    )


def _reader(graph: Graph, node: onnx.NodeProto, operator: str) -> tuple[onnx.NodeProto, str]:
    """The one node of that operator which reads ``node`` and a constant, and the constant's name."""
    found = [
        (other, name)
        for other in graph.readers[node.output[0]]
        for name in other.input
        if other.op_type == operator and name in graph.constants
    ]
    if len(found) != 1:
        raise ConversionError(
            "the conversion left a batch normalization in an unknown form",
            found=f"{len(found)} {operator} of a constant after {node.name}",
            expected="one Mul and one Add",
            remedy=_REMEDY,
        )
    return found[0]


def _replace(tensor: onnx.TensorProto, exact: NDArray[np.float64], terms: NDArray[np.float64]) -> FoldedConstant:
    """Give a constant its correctly rounded value."""
    found, rounded, name = numpy_helper.to_array(tensor), exact.astype(np.float32), tensor.name
    expected = f"the {rounded.size} values of the Keras file's batch normalization"
    if found.size != rounded.size:
        raise _changed(f"the constant {name}", f"{found.size} values", expected)
    difference = np.abs(found.ravel() - exact)
    if np.any(difference > LARGEST_DIFFERENCE * terms):
        raise _changed(f"the constant {name}", f"values that differ by up to {difference.max():.2e}", expected)
    tensor.CopyFrom(numpy_helper.from_array(rounded.reshape(found.shape), name))
    return FoldedConstant(name, tuple(ulps(found.ravel(), rounded).tolist()))


_REMEDY = "use the tested versions of tf2onnx, TensorFlow and Keras"


def _changed(what: str, found: str, expected: str) -> ConversionError:
    return ConversionError(f"the conversion changed {what}", found=found, expected=expected, remedy=_REMEDY)


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
