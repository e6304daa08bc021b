"""Float ONNX files -> :class:`resnet8.playground.reference.RealNetwork`.

Read are Conv, MatMul, Gemm, Add, Mul, Relu, AveragePool over the whole map, GlobalAveragePool, Softmax, Transpose
between NHWC and NCHW, and Reshape or Flatten of a 1 x 1 map. Anything else is refused, by name.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import numpy_helper

from resnet8.errors import ModelError
from resnet8.facts import IMAGE_SHAPE
from resnet8.network.onnx_read import clean
from resnet8.playground.reference import RealLayer, RealNetwork, merged

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from resnet8.playground.reference import Operator

_NCHW, _NHWC = [0, 3, 1, 2], [0, 2, 3, 1]


def read(model: onnx.ModelProto, source: str) -> RealNetwork:
    """The layers of a float model.

    Args:
        model: A checked ONNX model, (batch, 32, 32, 3) to (batch, 10).
        source: Its path, for errors.

    Raises:
        ModelError: when it has an operator or pattern that is not read here.
    """
    return _Reader(model, source).network()


@dataclass(frozen=True)
class _Tensor:
    """A tensor of the graph: the name that layers know it by, and its NHWC shape without the batch axis."""

    name: str
    shape: tuple[int, ...]
    nchw: bool


class _Reader:
    def __init__(self, model: onnx.ModelProto, source: str) -> None:
        self._source = source
        self._nodes = model.graph.node
        self._initializers = {tensor.name: tensor for tensor in model.graph.initializer}
        images = next(value.name for value in model.graph.input if value.name not in self._initializers)
        self._tensors = {images: _Tensor(images, IMAGE_SHAPE, nchw=False)}
        self._images = images
        self._output = model.graph.output[0].name
        self._layers: list[RealLayer] = []
        self._softmax: dict[str, str] = {}

    def network(self) -> RealNetwork:
        for node in self._nodes:
            handler = _HANDLERS.get(node.op_type)
            if handler is None:
                raise self._unknown(node, "an operator that is not supported")
            handler(self, node)
        logits = self._softmax.get(self._output, self._output)
        if logits not in self._tensors:
            raise ModelError(
                f"{self._source} cannot be looked into",
                found=f"an output ({self._output}) that no layer writes",
                expected="class scores, or their softmax",
            )
        softmax = self._output in self._softmax
        return merged(RealNetwork(self._images, tuple(self._layers), self._tensors[logits].name, softmax))

    def _unknown(self, node: onnx.NodeProto, why: str) -> ModelError:
        return ModelError(
            f"{self._source} cannot be looked into",
            found=f"node «{node.name}», operator {node.op_type}: {why}",
            expected="a ResNet8 as «resnet8 convert» writes it",
        )

    # Values

    def _tensor(self, node: onnx.NodeProto, index: int = 0) -> _Tensor:
        name = node.input[index]
        if name not in self._tensors:
            raise self._unknown(node, f"its input {index} ({name}) is not computed from the images")
        return self._tensors[name]

    def _constant(self, node: onnx.NodeProto, index: int) -> NDArray[Any]:
        name = node.input[index]
        if name not in self._initializers:
            raise self._unknown(node, f"its input {index} ({name}) is no constant in the file")
        return numpy_helper.to_array(self._initializers[name])

    def _layer(
        self,
        node: onnx.NodeProto,
        operator: Operator,
        inputs: tuple[_Tensor, ...],
        shape: tuple[int, ...],
        **facts: Any,
    ) -> None:
        self._tensors[node.output[0]] = _Tensor(node.output[0], shape, nchw=len(shape) == 3)
        self._layers.append(
            RealLayer(
                name=clean(node.name or node.output[0]),
                operator=operator,
                inputs=tuple(one.name for one in inputs),
                output=node.output[0],
                shape=shape,
                nodes=(node.name,),
                **facts,
            )
        )

    # Operators

    def _conv(self, node: onnx.NodeProto) -> None:
        x, attributes = self._tensor(node), _attributes(node)
        weights = self._constant(node, 1)
        if attributes.get("group", 1) != 1 or list(attributes.get("dilations", [1, 1])) != [1, 1]:
            raise self._unknown(node, "groups or dilations")
        if attributes.get("auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID"):
            raise self._unknown(node, "auto_pad; explicit pads are supported")
        if not x.nchw or weights.ndim != 4 or weights.shape[1] != x.shape[2]:
            raise self._unknown(node, f"weights {weights.shape} for an input {x.shape}")
        top, left, bottom, right = (int(pad) for pad in attributes.get("pads", [0, 0, 0, 0]))
        rows, columns = (int(stride) for stride in attributes.get("strides", [1, 1]))
        kernel = weights.transpose(2, 3, 1, 0)
        height = (x.shape[0] + top + bottom - kernel.shape[0]) // rows + 1
        width = (x.shape[1] + left + right - kernel.shape[1]) // columns + 1
        self._layer(
            node,
            "conv",
            (x,),
            (height, width, kernel.shape[3]),
            weights=np.ascontiguousarray(kernel, np.float32),
            strides=(rows, columns),
            pads=(top, left, bottom, right),
            **self._bias(node),
        )

    def _bias(self, node: onnx.NodeProto) -> dict[str, Any]:
        parameters = {"weights": node.input[1]}
        if len(node.input) < 3 or not node.input[2]:
            return {"parameters": parameters}
        bias = self._constant(node, 2).reshape(-1).astype(np.float32)
        return {"bias": bias, "parameters": parameters | {"bias": node.input[2]}}

    def _dense(self, node: onnx.NodeProto) -> None:
        x, attributes = self._tensor(node), _attributes(node)
        if attributes.get("transA", 0) or attributes.get("alpha", 1.0) != 1 or attributes.get("beta", 1.0) != 1:
            raise self._unknown(node, "transA, alpha or beta")
        matrix = self._constant(node, 1)
        matrix = matrix.T if attributes.get("transB", 0) else matrix
        if matrix.ndim != 2 or x.shape != matrix.shape[:1]:
            raise self._unknown(node, f"weights {matrix.shape} for an input {x.shape}")
        weights = np.ascontiguousarray(matrix[None, None], np.float32)
        self._layer(node, "dense", (x,), (matrix.shape[1],), weights=weights, **self._bias(node))

    def _elementwise(self, node: onnx.NodeProto) -> None:
        operator: Operator = "mul" if node.op_type == "Mul" else "add"
        computed = [index for index, name in enumerate(node.input) if name in self._tensors]
        if len(computed) == 2:
            a, b = self._tensor(node, 0), self._tensor(node, 1)
            if operator == "mul" or a.shape != b.shape:
                raise self._unknown(node, f"two activations of shapes {a.shape} and {b.shape}")
            self._layer(node, operator, (a, b), a.shape)
            return
        x = self._tensor(node, computed[0] if computed else 0)
        index = 1 - computed[0]
        constant = self._constant(node, index)
        behind = 2 if x.nchw else 0  # axes after the channels
        channels = x.shape[-1]
        aligned = (1,) * (behind + 1 - constant.ndim) + constant.shape
        if constant.size not in (1, channels) or aligned[-1 - behind] != constant.size:
            raise self._unknown(node, f"a constant of shape {constant.shape} for an input {x.shape}")
        weights = np.broadcast_to(constant.reshape(-1), (channels,)).astype(np.float32)
        self._layer(node, operator, (x,), x.shape, weights=weights, parameters={"constant": node.input[index]})

    def _relu(self, node: onnx.NodeProto) -> None:
        x = self._tensor(node)
        self._layer(node, "rescale", (x,), x.shape, relu=True)

    def _pool(self, node: onnx.NodeProto) -> None:
        x, attributes = self._tensor(node), _attributes(node)
        kernel = tuple(attributes.get("kernel_shape", x.shape[:2]))
        if not x.nchw or kernel != x.shape[:2] or any(attributes.get("pads", [0])):
            raise self._unknown(node, f"a window {kernel} on a map {x.shape[:2]}; the whole map is supported")
        self._layer(node, "average-pool", (x,), (1, 1, x.shape[2]))

    def _transpose(self, node: onnx.NodeProto) -> None:
        x, order = self._tensor(node), list(_attributes(node).get("perm", []))
        if len(x.shape) != 3 or order != (_NHWC if x.nchw else _NCHW):
            raise self._unknown(node, f"perm {order}; between NHWC and NCHW is supported")
        self._tensors[node.output[0]] = replace(x, nchw=not x.nchw)

    def _flatten(self, node: onnx.NodeProto) -> None:
        x = self._tensor(node)
        if x.shape[:2] != (1, 1):
            raise self._unknown(node, f"a map of shape {x.shape}; 1 x 1 is supported")
        self._tensors[node.output[0]] = replace(x, shape=x.shape[2:], nchw=False)

    def _end(self, node: onnx.NodeProto) -> None:
        if _attributes(node).get("axis", -1) not in (-1, 1):
            raise self._unknown(node, "another axis than the classes'")
        self._softmax[node.output[0]] = node.input[0]


def _attributes(node: onnx.NodeProto) -> dict[str, Any]:
    return {one.name: onnx.helper.get_attribute_value(one) for one in node.attribute}


_HANDLERS: Mapping[str, Callable[[_Reader, onnx.NodeProto], None]] = {
    "Conv": _Reader._conv,
    "MatMul": _Reader._dense,
    "Gemm": _Reader._dense,
    "Add": _Reader._elementwise,
    "Mul": _Reader._elementwise,
    "Relu": _Reader._relu,
    "AveragePool": _Reader._pool,
    "GlobalAveragePool": _Reader._pool,
    "Transpose": _Reader._transpose,
    "Reshape": _Reader._flatten,
    "Flatten": _Reader._flatten,
    "Softmax": _Reader._end,
}
