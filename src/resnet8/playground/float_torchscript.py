"""Float TorchScript files -> :class:`resnet8.playground.reference.RealNetwork`.

Read are convolution (also behind a pad with zeros), matmul, add, mul, relu, avg_pool2d over the whole map, permute,
flatten of a 1 x 1 map and softmax, in modules however deep: their names are those of the layers. Anything else is
refused, by name.
"""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from resnet8.errors import ModelError
from resnet8.facts import IMAGE_SHAPE
from resnet8.network.onnx_read import clean
from resnet8.playground.reference import RealLayer, RealNetwork, merged

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from resnet8.playground.reference import Operator

Pads = tuple[int, int, int, int]
_NO_PADS: Pads = (0, 0, 0, 0)


def read(content: bytes, source: str) -> RealNetwork:
    """The layers of a float model.

    Args:
        content: A TorchScript file, (batch, 32, 32, 3) to (batch, 10).
        source: Its path, for errors.

    Raises:
        ModelError: when it has an operator or pattern that is not read here.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the deprecation of torch.jit: known, and pinned
        module = torch.jit.load(io.BytesIO(content), map_location="cpu").eval()
    return _Reader(source).network(module)


@dataclass(frozen=True)
class _Tensor:
    """The name that layers know it by, its NHWC shape without the batch axis, and zeros around it."""

    name: str
    shape: tuple[int, ...]
    pads: Pads = _NO_PADS


@dataclass(frozen=True)
class _Stored:
    """A parameter, and where it is stored."""

    path: str
    values: NDArray[np.float32]


@dataclass(frozen=True)
class _Module:
    path: str
    module: Any


@dataclass(frozen=True)
class _Probabilities:
    logits: _Tensor


class _Reader:
    def __init__(self, source: str) -> None:
        self._source = source
        self._layers: list[RealLayer] = []

    def network(self, module: Any) -> RealNetwork:
        images = _Tensor("images", IMAGE_SHAPE)
        end = self._call(_Module("", module), [images])
        logits = end.logits if isinstance(end, _Probabilities) else end
        return merged(RealNetwork("images", tuple(self._layers), logits.name, softmax=isinstance(end, _Probabilities)))

    def _call(self, called: _Module, arguments: list[Any]) -> Any:
        graph = called.module.graph
        names = [value.debugName() for value in graph.inputs()]
        values: dict[str, Any] = dict(zip(names, [called, *arguments], strict=True))
        for node in graph.nodes():
            read = [values[value.debugName()] for value in node.inputs()]
            values[node.output().debugName()] = self._value(node, called.path, read)
        return values[next(graph.outputs()).debugName()]

    def _value(self, node: Any, path: str, read: list[Any]) -> Any:
        kind = node.kind()
        if kind == "prim::Constant":
            return node.output().toIValue()
        if kind == "prim::ListConstruct":
            return read
        if kind == "prim::GetAttr":
            return _attribute(read[0], node.s("name"))
        if kind == "prim::CallMethod" and node.s("name") == "forward":
            return self._call(read[0], read[1:])
        handler = _HANDLERS.get(kind)
        if handler is None:
            raise self._unknown(path, kind, "an operator that is not supported")
        return handler(self, path, read)

    def _unknown(self, path: str, kind: str, why: str) -> ModelError:
        return ModelError(
            f"{self._source} cannot be looked into",
            found=f"module «{path}», {kind}: {why}",
            expected="a ResNet8 as «resnet8 convert» writes it",
        )

    def _layer(
        self, path: str, operator: Operator, inputs: tuple[_Tensor, ...], shape: tuple[int, ...], **facts: Any
    ) -> _Tensor:
        name = clean(path.rpartition(".")[0] if path.rpartition(".")[2].isdigit() else path)
        output = f"{name}:{len(self._layers)}"
        self._layers.append(
            RealLayer(
                name=name,
                operator=operator,
                inputs=tuple(one.name for one in inputs),
                output=output,
                shape=shape,
                nodes=(path,),
                **facts,
            )
        )
        return _Tensor(output, shape)

    # Operators

    def _convolution(self, path: str, read: list[Any]) -> _Tensor:
        x, weights, bias, strides, padding, dilation, transposed, _, groups = read[:9]
        if transposed or groups != 1 or list(dilation) != [1, 1] or weights.values.shape[1] != x.shape[-1]:
            raise self._unknown(path, "aten::_convolution", "groups, dilations or other channels than its input has")
        kernel = weights.values.transpose(2, 3, 1, 0)
        (down, across), (rows, columns) = padding, strides
        pads = tuple(a + b for a, b in zip(x.pads, (down, across, down, across), strict=True))
        height = (x.shape[0] + pads[0] + pads[2] - kernel.shape[0]) // rows + 1
        width = (x.shape[1] + pads[1] + pads[3] - kernel.shape[1]) // columns + 1
        return self._layer(
            path,
            "conv",
            (x,),
            (height, width, kernel.shape[3]),
            weights=np.ascontiguousarray(kernel),
            bias=None if bias is None else bias.values,
            strides=(rows, columns),
            pads=pads,
            parameters={"weights": weights.path} | ({} if bias is None else {"bias": bias.path}),
        )

    def _matmul(self, path: str, read: list[Any]) -> _Tensor:
        x, matrix = read
        if not isinstance(matrix, _Stored) or x.shape != matrix.values.shape[:1]:
            raise self._unknown(path, "aten::matmul", f"no matrix for an input {x.shape}")
        shape = (matrix.values.shape[1],)
        parameters = {"weights": matrix.path}
        return self._layer(path, "dense", (x,), shape, weights=matrix.values[None, None], parameters=parameters)

    def _add(self, path: str, read: list[Any]) -> _Tensor:
        if read[2] != 1:
            raise self._unknown(path, "aten::add", f"alpha {read[2]}")
        return self._elementwise(path, "add", read)

    def _mul(self, path: str, read: list[Any]) -> _Tensor:
        return self._elementwise(path, "mul", read)

    def _elementwise(self, path: str, operator: Operator, read: list[Any]) -> _Tensor:
        tensors = tuple(one for one in read[:2] if isinstance(one, _Tensor))
        constants = [one for one in read[:2] if isinstance(one, _Stored)]
        if len(tensors) == 2 and operator == "add" and tensors[0].shape == tensors[1].shape:
            return self._layer(path, operator, tensors, tensors[0].shape)
        if not constants or not tensors or constants[0].values.size not in (1, tensors[0].shape[-1]):
            raise self._unknown(path, f"aten::{operator}", "operands of other shapes")
        weights = np.broadcast_to(constants[0].values.reshape(-1), tensors[0].shape[-1:]).copy()
        parameters = {"constant": constants[0].path}
        return self._layer(path, operator, tensors, tensors[0].shape, weights=weights, parameters=parameters)

    def _relu(self, path: str, read: list[Any]) -> _Tensor:
        return self._layer(path, "rescale", (read[0],), read[0].shape, relu=True)

    def _pool(self, path: str, read: list[Any]) -> _Tensor:
        x, window, _, padding = read[:4]
        if tuple(window) != x.shape[:2] or any(padding):
            raise self._unknown(path, "aten::avg_pool2d", f"a window {window} on a map {x.shape[:2]}")
        return self._layer(path, "average-pool", (x,), (1, 1, x.shape[2]))

    def _pad(self, path: str, read: list[Any]) -> _Tensor:
        x, sides, mode, value = read
        if mode != "constant" or value not in (None, 0) or len(sides) != 4 or min(sides) < 0:
            raise self._unknown(path, "aten::pad", "zeros around a map are supported")
        left, right, top, bottom = sides
        padded: _Tensor = replace(x, pads=(top, left, bottom, right))
        return padded

    def _permute(self, path: str, read: list[Any]) -> _Tensor:
        x, order = read
        if not isinstance(x, _Tensor) or x.name != "images" or order != [0, 3, 1, 2]:
            raise self._unknown(path, "aten::permute", f"order {order}; of the images from NHWC to NCHW is supported")
        return x

    def _flatten(self, path: str, read: list[Any]) -> _Tensor:
        x = read[0]
        if not isinstance(x, _Tensor) or x.shape[:2] != (1, 1):
            raise self._unknown(path, "aten::flatten", "a 1 x 1 map is supported")
        return replace(x, shape=x.shape[2:])

    def _softmax(self, path: str, read: list[Any]) -> _Probabilities:
        if read[1] not in (1, -1):
            raise self._unknown(path, "aten::softmax", "another axis than the classes'")
        return _Probabilities(read[0])


def _attribute(owner: _Module, name: str) -> Any:
    value = getattr(owner.module, name)
    path = f"{owner.path}.{name}" if owner.path else name
    if isinstance(value, torch.Tensor):
        return _Stored(path, value.detach().numpy().astype(np.float32))
    return _Module(path, value) if isinstance(value, torch.jit.ScriptModule) else value


_HANDLERS: Mapping[str, Callable[[_Reader, str, list[Any]], Any]] = {
    "aten::_convolution": _Reader._convolution,
    "aten::matmul": _Reader._matmul,
    "aten::add": _Reader._add,
    "aten::mul": _Reader._mul,
    "aten::relu": _Reader._relu,
    "aten::avg_pool2d": _Reader._pool,
    "aten::pad": _Reader._pad,
    "aten::permute": _Reader._permute,
    "aten::flatten": _Reader._flatten,
    "aten::softmax": _Reader._softmax,
}
