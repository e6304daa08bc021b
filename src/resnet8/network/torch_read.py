"""TorchScript -> :class:`resnet8.network.program.Program`: float files, and as FX graph mode quantizes them.

The rules, in the order of the graph:

1. ``quantize_per_tensor`` of the images (also behind a ``permute``) begins the program; of a parameter, it is a
   constant.
2. ``quantized::conv2d``, ``conv2d_relu``, ``mul``, ``mul_relu``, ``add``, ``add_relu``, ``matmul`` and ``avg_pool2d``
   over the whole map: one layer. The pool keeps its input's grid.
3. ``dequantize``, then ``quantize_per_tensor``: a :class:`Rescale`, or, where both grids agree, nothing. A ``pad`` with
   zeros between them becomes padding of the convolution behind it.
4. ``permute`` from NHWC to NCHW, ``flatten`` of a 1 x 1 map: no arithmetic.
5. ``quantized::softmax`` or ``softmax`` behind the last layer: the end.
6. ``_convolution`` (also behind a ``pad`` with zeros), ``matmul``, ``add``, ``mul``, ``relu``, ``avg_pool2d`` on real
   numbers, in modules however deep: one layer without grids, named by its module; a ReLU belongs to the layer before
   it, where nothing else reads that layer.
7. Whatever computes with numbers alone (attributes, lists, scales; branches on them) is computed.

Anything else is refused, by name.
"""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from resnet8.errors import ModelError
from resnet8.facts import IMAGE_SHAPE
from resnet8.network.layers import AveragePool, Product, Rescale, Sum, Weighted
from resnet8.network.onnx_read import clean
from resnet8.network.program import Program
from resnet8.network.rewrite import merged
from resnet8.network.tensors import Activation, Constant, accumulator_bias
from resnet8.numeric.grid import QParams, limits, qparams

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from resnet8.network.layers import AnyLayer
    from resnet8.numeric.grid import Dtype

SUPPORTED = (
    "quantize_per_tensor, dequantize, quantized::conv2d, quantized::conv2d_relu, quantized::mul, quantized::mul_relu, "
    "quantized::add, quantized::add_relu, quantized::matmul, quantized::softmax; avg_pool2d over the whole map, "
    "permute, flatten, softmax; pad with zeros between dequantize and quantize_per_tensor"
)
Pads = tuple[int, int, int, int]
"""Top, left, bottom, right."""

_NO_PADS: Pads = (0, 0, 0, 0)
_NCHW = [0, 3, 1, 2]


@dataclass(frozen=True)
class Extraction:
    """A program, and where its activations are in the graph.

    Attributes:
        program: What the file computes.
        graph: ``torch.Graph``, inlined; its values bear the names of the activations. It is this extraction's own.
        margins: Of activations that the graph holds with padding around them, by name.
    """

    program: Program
    graph: Any
    margins: dict[str, Pads]


def read(module: torch.jit.ScriptModule, source: str) -> Program:
    """The network in ``module``.

    Args:
        module: A TorchScript module, (batch, 32, 32, 3) to (batch, 10), loaded for fbgemm.
        source: Its path, for errors.

    Raises:
        ModelError: when it has an operator or pattern outside the rules above.
    """
    if _is_quantized(module.inlined_graph):
        return extract(module, source).program
    return merged(_Reader(module, module.graph, source, quantized=False).extraction().program)


def extract(module: torch.jit.ScriptModule, source: str) -> Extraction:
    """The quantized network in ``module``, and what else there is to know of its graph.

    Raises:
        ModelError: when it is not quantized, or as :func:`read`.
    """
    graph = module.inlined_graph
    if not _is_quantized(graph):
        raise ModelError(
            f"{source} is not quantized",
            found="no quantize_per_tensor",
            expected="an int8 model",
            remedy="quantize it with «resnet8 quantize --recipe torch-int8»",
        )
    return _Reader(module, graph, source).extraction()


def _is_quantized(graph: Any) -> bool:
    return any(node.kind() == "aten::quantize_per_tensor" for node in graph.nodes())


# What a value of the graph may be, apart from plain numbers, lists and parameters


@dataclass(frozen=True)
class _Images:
    nchw: bool


@dataclass(frozen=True)
class _Tensor:
    """An activation, or (``real``) its codes dequantized; with zeros around it that are in no activation."""

    activation: Activation
    real: bool = False
    pads: Pads = _NO_PADS


@dataclass(frozen=True)
class _Scores:
    """What comes of the softmax; ``grid`` where it is quantized."""

    logits: Activation
    grid: QParams | None


@dataclass
class _Reader:
    module: torch.jit.ScriptModule
    graph: Any
    source: str
    quantized: bool = True
    place: str = ""  # the module that is read, from the outermost down
    values: dict[str, Any] = field(default_factory=dict)
    paths: dict[str, str] = field(default_factory=dict)  # values that are attributes: their names from the module down
    layers: list[AnyLayer] = field(default_factory=list)
    margins: dict[str, Pads] = field(default_factory=dict)
    input: Activation | None = None

    def extraction(self) -> Extraction:
        itself, *images = [value.debugName() for value in self.graph.inputs()]
        if len(images) != 1:
            raise self._refused(f"{len(images)} inputs", "one, the images")
        self.values[itself], self.values[images[0]] = self.module, _Images(nchw=False)
        self._run(self.graph)
        end = self.values[next(self.graph.outputs()).debugName()]
        if isinstance(end, _Tensor) and (end.real or not self.quantized) and end.pads == _NO_PADS:
            end = _Scores(end.activation, None)
            softmax = False
        else:
            softmax = True
        if self.input is None or not isinstance(end, _Scores):
            raise self._refused(
                "an output that is neither dequantized codes nor a softmax of such", "logits or probabilities"
            )
        program = Program(self.input, tuple(self.layers), end.logits, softmax, end.grid)
        return Extraction(program, self.graph, self.margins)

    def _run(self, block: Any) -> None:
        for node in block.nodes():
            handler = _HANDLERS.get(node.kind())
            if handler is None:
                raise self._unknown(node, "an operator that is not supported")
            handler(self, node)

    # Errors

    def _refused(self, found: str, expected: str) -> ModelError:
        if not self.quantized:
            expected = "a ResNet8 as «resnet8 convert» writes it"
            return ModelError(f"{self.source} cannot be looked into", found=found, expected=expected)
        return ModelError(
            f"{self.source} cannot be run in integers",
            found=found,
            expected=expected,
            remedy=f"supported: {SUPPORTED}",
        )

    def _unknown(self, node: Any, why: str) -> ModelError:
        if not self.quantized:
            return self._refused(f"module «{self.place}», {node.kind()}: {why}", "")
        name = next((value.debugName() for value in node.outputs()), "")
        return self._refused(f"node «{name}», operator {node.kind()}: {why}", "a quantized network")

    # Values

    def _arguments(self, node: Any) -> list[Any]:
        return [self.values[value.debugName()] for value in node.inputs()]

    def _plain(self, node: Any) -> list[Any]:
        """The arguments, none of which depends on the images."""
        arguments = self._arguments(node)
        for number, argument in enumerate(arguments):
            if isinstance(argument, _Images | _Tensor | _Scores | Constant):
                raise self._unknown(node, f"its input {number} is computed; a number is expected")
        return arguments

    def _set(self, node: Any, *results: Any) -> None:
        for value, result in zip(node.outputs(), results, strict=True):
            self.values[value.debugName()] = result

    def _path(self, node: Any, index: int) -> str:
        """Where input ``index`` is stored; empty when it is no attribute."""
        return self.paths.get(list(node.inputs())[index].debugName(), "")

    def _activation(self, node: Any, value: Any) -> Activation:
        """``value`` without padding: codes, or real numbers in a float network."""
        value = self._seen(node, value)
        if not isinstance(value, _Tensor) or value.real or value.pads != _NO_PADS:
            raise self._unknown(node, "an input that is no activation as it was computed")
        return value.activation

    def _grid(self, node: Any, scale: Any, zero_point: Any, dtype: Dtype) -> QParams:
        if not isinstance(scale, float | int | torch.Tensor) or not isinstance(zero_point, int | torch.Tensor):
            raise self._unknown(node, "a scale or a zero point that is no number")
        return qparams(float(scale), int(zero_point), dtype)

    def _output(self, node: Any, shape: tuple[int, ...], params: QParams | None, *, nchw: bool) -> Activation:
        name = node.output().debugName() if params is not None else f"{self._place_name()}:{len(self.layers)}"
        activation = Activation(name, shape, params, nchw)
        self._set(node, _Tensor(activation))
        return activation

    def _place_name(self) -> str:
        above, _, last = self.place.rpartition(".")
        return clean(above if last.isdigit() else self.place)

    def _layer_name(self, node: Any, path: str) -> str:
        """The name that the file gives the operator: its parameters' attributes have it in front; or its module."""
        if not self.quantized:
            return self._place_name()
        name = clean(re.sub(r"(\._packed_params|_scale_\d+|\.scale)$", "", path))
        value = node.output().debugName()
        name = re.sub(r"\.\d+$", "", name) or re.sub(r"^model(_\d+)?_|\.\d+$", "", value)
        return name if all(name != layer.name for layer in self.layers) else f"{name}.{value}"

    # Rule 7

    def _constant(self, node: Any) -> None:
        self._set(node, node.output().toIValue())

    def _get_attribute(self, node: Any) -> None:
        (owner,) = self._plain(node)
        name = node.s("name")
        path = self._path(node, 0)
        self.paths[node.output().debugName()] = f"{path}.{name}" if path else name
        self._set(node, getattr(owner, name))

    def _list(self, node: Any) -> None:
        self._set(node, self._plain(node))

    def _unpack(self, node: Any) -> None:
        self._set(node, *self._plain(node)[0])

    def _number(self, node: Any) -> None:
        (value,) = self._plain(node)
        self.paths[node.output().debugName()] = self._path(node, 0)
        self._set(node, value.item() if isinstance(value, torch.Tensor) else value)

    def _size(self, node: Any) -> None:
        (tensor,) = self._arguments(node)
        if not isinstance(tensor, _Tensor):
            raise self._unknown(node, "its input is no quantized activation")
        # Only how many there are is ever asked for: the batch is free.
        self._set(node, [None] * (1 + len(tensor.activation.shape)))

    def _length(self, node: Any) -> None:
        self._set(node, len(self._plain(node)[0]))

    def _differs(self, node: Any) -> None:
        one, other = self._plain(node)
        self._set(node, one != other)

    def _branch(self, node: Any) -> None:
        (condition,) = self._plain(node)
        block = list(node.blocks())[0 if condition else 1]
        self._run(block)
        self._set(node, *(self.values[value.debugName()] for value in block.outputs()))

    def _raise(self, node: Any) -> None:
        raise self._unknown(node, f"it raises: {self._plain(node)[0]}")

    # Rule 6

    def _called(self, node: Any) -> None:
        called, *arguments = self._arguments(node)
        if node.s("name") != "forward" or not isinstance(called, torch.jit.ScriptModule):
            raise self._unknown(node, f"a call of {node.s('name')}")
        outer, path = (self.values, self.paths, self.place), self._path(node, 0)
        itself, *names = [value.debugName() for value in called.graph.inputs()]
        self.values = dict(zip(names, arguments, strict=True)) | {itself: called}
        self.paths, self.place = {itself: path}, path
        self._run(called.graph)
        result = self.values[next(called.graph.outputs()).debugName()]
        self.values, self.paths, self.place = outer
        self._set(node, result)

    def _plain_tensor(self, node: Any, value: Any) -> _Tensor:
        """``value``, a tensor of real numbers, which the images are, too."""
        if isinstance(value, _Images) and not self.quantized:
            self.input = Activation("images", IMAGE_SHAPE, None)
            return _Tensor(replace(self.input, nchw=value.nchw))
        if not isinstance(value, _Tensor) or value.activation.grid is not None:
            raise self._unknown(node, "an input that is not computed from the images")
        return value

    def _seen(self, node: Any, value: Any) -> Any:
        """``value``; the images of a float network as the tensor that they are."""
        return self._plain_tensor(node, value) if isinstance(value, _Images) and not self.quantized else value

    def _facts(self, node: Any, path: str) -> dict[str, Any]:
        """Name, nodes and kernel of a layer whose parameters are at ``path``."""
        if not self.quantized:
            return {"name": self._place_name(), "kernel": "float", "nodes": (self.place,)}
        return {"name": self._layer_name(node, path), "nodes": (node.output().debugName(),)}

    def _real_convolution(self, node: Any) -> None:
        source, weights, bias, strides, padding, dilation, transposed, _, groups = self._arguments(node)[:9]
        if transposed or groups != 1 or list(dilation) != [1, 1]:
            raise self._unknown(node, "groups or dilations")
        kernel = np.ascontiguousarray(_numbers(weights).transpose(2, 3, 1, 0))
        given = {"bias": np.zeros(kernel.shape[3], np.float32) if bias is None else _numbers(bias)}
        paths = {"weights": self._path(node, 1)} | ({} if bias is None else {"bias": self._path(node, 2)})
        w, tensor = Constant(paths["weights"], kernel, None), self._plain_tensor(node, source)
        self._convolved(node, tensor, w, None, paths=paths, strides=strides, padding=padding, **given)

    def _real_matmul(self, node: Any) -> None:
        source, matrix = self._arguments(node)
        if not isinstance(matrix, torch.Tensor):
            raise self._unknown(node, "weights that are computed")
        self._dense(node, source, Constant(self._path(node, 1), _numbers(matrix), None), None)

    def _real_elementwise(self, node: Any) -> None:
        arguments = self._arguments(node)
        if node.kind() == "aten::add" and arguments[2] != 1:
            raise self._unknown(node, f"alpha {arguments[2]}")
        a, b = (
            Constant(self._path(node, i), _numbers(one), None) if isinstance(one, torch.Tensor) else one
            for i, one in enumerate(arguments[:2])
        )
        self._joined(node, a, b, None)

    def _real_relu(self, node: Any) -> None:
        x = self._plain_tensor(node, self._arguments(node)[0]).activation
        out = self._output(node, x.shape, None, nchw=x.nchw)
        self.layers.append(Rescale(**self._facts(node, ""), output=out, x=x, relu=True))

    # Rules 1 and 3

    def _quantize(self, node: Any) -> None:
        source, scale, zero_point, code = self._arguments(node)
        dtype = _DTYPES.get(code)
        if dtype is None:
            raise self._unknown(node, f"codes of type {code}; quint8 and qint8 are supported")
        params = self._grid(node, scale, zero_point, dtype)
        if isinstance(source, _Images):
            self.input = self._output(node, IMAGE_SHAPE, params, nchw=source.nchw)
        elif isinstance(source, torch.Tensor):
            self._set(node, Constant(self._path(node, 0) or node.output().debugName(), _coded(source, params), params))
        elif isinstance(source, _Tensor) and source.real:
            self._requantize(node, source, params)
        else:
            raise self._unknown(node, "its input is neither images nor a parameter nor dequantized codes")

    def _requantize(self, node: Any, source: _Tensor, params: QParams) -> None:
        x = source.activation
        if not params.same_as(x.params):
            name = self._layer_name(node, self._path(node, 1))
            nodes = (node.output().debugName(),)
            out = self._output(node, x.shape, params, nchw=x.nchw)
            self.layers.append(Rescale(name=name, output=out, x=x, kernel="float", nodes=nodes))
            if source.pads != _NO_PADS:
                self.margins[out.name] = source.pads
            x = out
        self._set(node, _Tensor(x, pads=source.pads))

    def _dequantize(self, node: Any) -> None:
        (source,) = self._arguments(node)
        if isinstance(source, _Scores):
            self._set(node, source)
        else:
            self._set(node, _Tensor(self._activation(node, source), real=True))

    def _pad(self, node: Any) -> None:
        source, sides, mode, value = self._arguments(node)
        source = self._seen(node, source)
        if not isinstance(source, _Tensor) or source.real is not self.quantized or not source.activation.nchw:
            raise self._unknown(node, "its input is no map of real numbers, channels first")
        if mode != "constant" or value not in (None, 0) or len(sides) != 4 or min(sides) < 0:
            raise self._unknown(node, f"mode {mode}, value {value}, sides {sides}; zeros around a map are supported")
        left, right, top, bottom = sides
        self._set(node, replace(source, pads=_sum(source.pads, (top, left, bottom, right))))

    # Rule 2

    def _convolution(self, node: Any) -> None:
        source, packed, scale, zero_point = self._arguments(node)
        if not isinstance(source, _Tensor) or source.real:
            raise self._unknown(node, "its input is no quantized activation")
        x, path = source.activation, self._path(node, 1)
        strides, padding = self._strides(node, packed), torch.ops.quantized.conv2d_padding(packed)
        weights, params, bias = _unpacked(packed)
        real = np.zeros(weights.shape[3], np.float32) if bias is None else bias
        given = {"bias": self._whole_bias(node, real, x, params), "real_bias": real}
        paths = {"weights": path} | ({} if bias is None else {"bias": path})
        out = self._grid(node, scale, zero_point, x.params.dtype)
        w = Constant(path, weights, params)
        self._convolved(node, source, w, out, paths=paths, strides=strides, padding=padding, **given)

    def _convolved(
        self,
        node: Any,
        source: _Tensor,
        w: Constant,
        out: QParams | None,
        *,
        paths: dict[str, str],
        strides: Sequence[int],
        padding: Sequence[int],
        **bias: Any,
    ) -> None:
        weights = w.codes
        x, (rows, columns), (down, across) = source.activation, strides, padding
        if len(x.shape) != 3 or not x.nchw or weights.shape[2] != x.shape[2]:
            raise self._unknown(node, f"weights {weights.shape} for an input {x.shape}")
        pads = _sum(source.pads, (down, across, down, across))
        height = (x.shape[0] + pads[0] + pads[2] - weights.shape[0]) // rows + 1
        width = (x.shape[1] + pads[1] + pads[3] - weights.shape[1]) // columns + 1
        layer = Weighted(
            **self._facts(node, w.name),
            output=self._output(node, (height, width, weights.shape[3]), out, nchw=True),
            relu=node.kind().endswith("_relu"),
            parameters=paths,
            x=x,
            weights=weights,
            weight_grid=w.grid,
            **bias,
            has_bias="bias" in paths,
            strides=(rows, columns),
            pads=pads,
        )
        self.layers.append(layer)

    def _strides(self, node: Any, packed: Any) -> tuple[int, int]:
        """The strides, where there is nothing else."""
        operators = torch.ops.quantized
        if operators.conv2d_groups(packed) != 1 or list(operators.conv2d_dilation(packed)) != [1, 1]:
            raise self._unknown(node, "groups or dilations")
        rows, columns = operators.conv2d_stride(packed)
        return int(rows), int(columns)

    def _whole_bias(self, node: Any, real: NDArray[np.float32], x: Activation, weights: QParams) -> NDArray[np.int32]:
        whole = accumulator_bias(real, x, weights)
        low, high = limits("int32")
        if not ((whole >= low) & (whole <= high)).all():
            raise self._unknown(node, f"a bias of {np.abs(whole).max():.3g} accumulator steps, more than int32 holds")
        return whole.astype(np.int32)

    def _elementwise(self, node: Any) -> None:
        a, b, scale, zero_point = self._arguments(node)
        x = self._activation(node, b if isinstance(a, Constant) else a)
        self._joined(node, a, b, self._grid(node, scale, zero_point, x.params.dtype))

    def _joined(self, node: Any, a: Any, b: Any, grid: QParams | None) -> None:
        """The sum or the product of two operands; both operators commute."""
        if isinstance(a, Constant):
            a, b = b, a
        x = self._activation(node, a)
        other = self._channelwise(node, x, b) if isinstance(b, Constant) else self._activation(node, b)
        if isinstance(other, Activation) and (other.shape, other.nchw) != (x.shape, x.nchw):
            raise self._unknown(node, f"shapes {x.shape} and {other.shape}")
        adds = node.kind().partition("::")[2].startswith("add")
        if not adds and isinstance(other, Activation):
            raise self._unknown(node, "a product of two activations")
        facts = self._facts(node, self._path(node, 2) if self.quantized else "")
        facts["relu"] = node.kind().endswith("_relu")
        facts["output"] = self._output(node, x.shape, grid, nchw=x.nchw)
        if isinstance(other, Constant):
            facts["parameters"] = {"constant": other.name}
        if adds:
            # ATen dequantizes both, adds in float32 and quantizes.
            self.layers.append(Sum(**facts | {"kernel": "float"}, a=x, b=other))
        elif isinstance(other, Constant):
            self.layers.append(Product(**facts, x=x, constant=other.codes, constant_grid=other.grid))

    def _channelwise(self, node: Any, x: Activation, constant: Constant) -> Constant:
        channels = x.shape[-1]
        behind = len(x.shape) - 1 if x.nchw else 0  # axes after the channels, as the graph has them
        shape = constant.codes.shape
        if constant.codes.size != 1 and (
            constant.codes.size != channels or len(shape) <= behind or shape[len(shape) - 1 - behind] != channels
        ):
            raise self._unknown(node, f"a constant of shape {shape} for an input {x.shape}")
        return replace(constant, codes=np.broadcast_to(constant.codes.reshape(-1), (channels,)).copy())

    def _matmul(self, node: Any) -> None:
        source, w, scale, zero_point = self._arguments(node)
        if not isinstance(w, Constant):
            raise self._unknown(node, "weights that are computed")
        x = self._activation(node, source)
        self._dense(node, source, w, self._grid(node, scale, zero_point, x.params.dtype))

    def _dense(self, node: Any, source: Any, w: Constant, grid: QParams | None) -> None:
        x = self._activation(node, source)
        if w.codes.ndim != 2 or x.shape != w.codes.shape[:1]:
            raise self._unknown(node, f"no matrix for an input {x.shape}")
        channels = w.codes.shape[1]
        layer = Weighted(
            # ATen's only kernel on x86, and not fbgemm's (see there): its sum is the BLAS library's.
            **self._facts(node, self._path(node, 2) if self.quantized else "") | {"kernel": "float"},
            output=self._output(node, (channels,), grid, nchw=False),
            parameters={"weights": w.name},
            x=x,
            weights=np.ascontiguousarray(w.codes[None, None]),
            weight_grid=w.grid,
            bias=np.zeros(channels, np.float32 if w.grid is None else np.int32),
            has_bias=False,
            dense=True,
        )
        self.layers.append(layer)

    def _pool(self, node: Any) -> None:
        source, window, _, pads, _, _, divisor = self._arguments(node)
        x = self._activation(node, source)
        if len(x.shape) != 3 or not x.nchw or list(window) != list(x.shape[:2]) or any(pads) or divisor is not None:
            raise self._unknown(node, f"a window {window} on a map {x.shape[:2]}; the whole map is supported")
        facts = self._facts(node, "")
        out = self._output(node, (1, 1, x.shape[2]), x.grid, nchw=True)
        self.layers.append(AveragePool(**facts, output=out, x=x))

    # Rule 4

    def _permute(self, node: Any) -> None:
        source, order = self._arguments(node)
        nchw = getattr(source, "nchw", None) if isinstance(source, _Images) else None
        if isinstance(source, _Tensor) and len(source.activation.shape) == 3:
            nchw = source.activation.nchw
        if list(order) != _NCHW or nchw is not False:
            raise self._unknown(node, f"order {order}; from NHWC to NCHW is supported")
        if isinstance(source, _Images):
            self._set(node, _Images(nchw=True))
        else:
            self._set(node, replace(source, activation=replace(source.activation, nchw=True)))

    def _flatten(self, node: Any) -> None:
        source, first, last = self._arguments(node)
        source = self._seen(node, source)
        if not isinstance(source, _Tensor) or source.pads != _NO_PADS or first != 1 or last not in (-1, 3):
            raise self._unknown(node, f"axes {first} to {last}; all but the batch of a map are supported")
        x = source.activation
        if len(x.shape) != 3 or x.shape[:2] != (1, 1):
            raise self._unknown(node, f"a map of shape {x.shape}; 1 x 1 is supported")
        self._set(node, replace(source, activation=replace(x, shape=x.shape[2:], nchw=False)))

    # Rule 5

    def _softmax(self, node: Any) -> None:
        source, axis, *rest = self._arguments(node)
        source = self._seen(node, source)
        quantized = node.kind() == "quantized::softmax"
        reals = isinstance(source, _Tensor) and (source.real or not self.quantized)
        if not isinstance(source, _Tensor) or reals is quantized or len(source.activation.shape) != 1:
            raise self._unknown(node, "its input is no vector of class scores")
        if axis not in (1, -1):
            raise self._unknown(node, f"axis {axis}; along the classes is supported")
        x = source.activation
        grid = self._grid(node, rest[0], rest[1], x.params.dtype) if quantized else None
        self._set(node, _Scores(x, grid))


def _sum(one: Pads, other: Pads) -> Pads:
    top, left, bottom, right = (a + b for a, b in zip(one, other, strict=True))
    return top, left, bottom, right


def _numbers(parameter: torch.Tensor) -> NDArray[np.float32]:
    values: NDArray[np.float32] = parameter.detach().numpy().astype(np.float32)
    return values


def _coded(parameter: torch.Tensor, params: QParams) -> NDArray[Any]:
    """The codes of a parameter, as PyTorch makes them each time it runs the file."""
    kind = torch.quint8 if params.dtype == "uint8" else torch.qint8
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the deprecation of quantized tensors: known, and pinned
        coded = torch.quantize_per_tensor(parameter.detach(), float(params.scale), int(params.zero_point), kind)
    codes: NDArray[Any] = coded.int_repr().numpy()
    return codes


def _unpacked(packed: Any) -> tuple[NDArray[Any], QParams, NDArray[np.float32] | None]:
    """Weights (kernel rows, kernel columns, channels in, channels out), their grid, and the float bias."""
    weights, bias = torch.ops.quantized.conv2d_unpack(packed)
    codes = np.ascontiguousarray(weights.int_repr().numpy().transpose(2, 3, 1, 0))
    dtype: Dtype = "int8" if weights.dtype == torch.qint8 else "uint8"
    if weights.qscheme() == torch.per_tensor_affine:
        params = qparams(weights.q_scale(), weights.q_zero_point(), dtype)
    else:
        scales = weights.q_per_channel_scales().numpy().astype(np.float32)
        params = QParams(scales, weights.q_per_channel_zero_points().numpy().astype(np.int32), dtype)
    return codes, params, None if bias is None else bias.detach().numpy().astype(np.float32)


_DTYPES: Mapping[int, Dtype] = {12: "int8", 13: "uint8"}
"""c10::ScalarType QInt8 and QUInt8, as a graph writes data types."""

_HANDLERS: Mapping[str, Callable[[_Reader, Any], None]] = (
    {
        "prim::Constant": _Reader._constant,
        "prim::GetAttr": _Reader._get_attribute,
        "prim::ListConstruct": _Reader._list,
        "prim::TupleUnpack": _Reader._unpack,
        "prim::If": _Reader._branch,
        "prim::RaiseException": _Reader._raise,
        "prim::CallMethod": _Reader._called,
        "aten::_convolution": _Reader._real_convolution,
        "aten::matmul": _Reader._real_matmul,
        "aten::add": _Reader._real_elementwise,
        "aten::mul": _Reader._real_elementwise,
        "aten::relu": _Reader._real_relu,
        "aten::FloatImplicit": _Reader._number,
        "aten::IntImplicit": _Reader._number,
        "aten::size": _Reader._size,
        "aten::len": _Reader._length,
        "aten::ne": _Reader._differs,
        "aten::quantize_per_tensor": _Reader._quantize,
        "aten::dequantize": _Reader._dequantize,
        "aten::pad": _Reader._pad,
        "aten::permute": _Reader._permute,
        "aten::flatten": _Reader._flatten,
        "aten::avg_pool2d": _Reader._pool,
        "aten::softmax": _Reader._softmax,
        "quantized::matmul": _Reader._matmul,
        "quantized::softmax": _Reader._softmax,
    }
    | dict.fromkeys(("quantized::conv2d", "quantized::conv2d_relu"), _Reader._convolution)
    | dict.fromkeys(
        ("quantized::mul", "quantized::mul_relu", "quantized::add", "quantized::add_relu"), _Reader._elementwise
    )
)
