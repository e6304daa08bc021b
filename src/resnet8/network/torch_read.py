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
7. ``conv2d``, ``linear``, ``add``, ``avg_pool2d`` and ``relu`` on dequantized codes, then ``quantize_per_tensor``: one
   layer, its kernel ``float``. ``dequantize`` of a parameter is the parameter.
8. Whatever computes with numbers alone (attributes, lists, scales; branches on them) is computed.

Anything else is refused, by name.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch

from resnet8.errors import ModelError, opening
from resnet8.network import reading
from resnet8.network.layers import AnyLayer, Rescale
from resnet8.network.reading import NCHW, NO_PADS, Images, Scores, Tensor, Unfit, clean
from resnet8.network.rewrite import merged
from resnet8.network.tensors import Activation, Constant
from resnet8.network.torch_codes import coded, required, weight_grid, whole_bias
from resnet8.network.torch_script import ScriptReader
from resnet8.numeric.grid import QParams, qparams

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from resnet8.network.program import Program
    from resnet8.network.reading import Pads
    from resnet8.numeric.grid import Dtype

SUPPORTED = (
    "quantize_per_tensor, dequantize, quantized::conv2d, quantized::conv2d_relu, quantized::linear, quantized::mul, "
    "quantized::mul_relu, quantized::add, quantized::add_relu, quantized::matmul, quantized::softmax; avg_pool2d over "
    "the whole map, permute, flatten, softmax; pad with zeros, conv2d, linear, add and relu between dequantize and "
    "quantize_per_tensor"
)
_DTYPES: Mapping[int, Dtype] = {12: "int8", 13: "uint8"}
"""c10::ScalarType QInt8 and QUInt8, as a graph writes data types."""


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
    with opening(source, "the reader of TorchScript networks"):
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
    with opening(source, "the reader of TorchScript networks"):
        return _Reader(module, graph, source, quantized=True).extraction()


def _is_quantized(graph: Any) -> bool:
    return any(node.kind() == "aten::quantize_per_tensor" for node in graph.nodes())


class _Reader(ScriptReader):
    supported = SUPPORTED

    def __init__(self, module: torch.jit.ScriptModule, graph: Any, source: str, *, quantized: bool) -> None:
        super().__init__(module, graph, source, quantized=quantized)
        self.margins: dict[str, Pads] = {}

    def extraction(self) -> Extraction:
        self.run(self.graph.nodes())
        end = self.values[next(self.graph.outputs()).debugName()]
        if isinstance(end, Tensor) and end.real is self.quantized and end.pads == NO_PADS:
            end = Scores(end.activation, None, softmax=False)
        if not isinstance(end, Scores):
            raise self.refused(
                "an output that is neither dequantized codes nor a softmax of such", "logits or probabilities"
            )
        return Extraction(self.program(end), self.graph, self.margins)

    # Values

    def _activation(self, value: Any, *, real: bool = False) -> Activation:
        """``value`` without padding: codes, or real numbers in a float network; ``real``: dequantized codes."""
        if not isinstance(value, Tensor) or value.real is not real or value.pads != NO_PADS:
            raise Unfit("an input that is no activation as it was computed")
        return value.activation

    def _finished(self, node: Any, layer: AnyLayer, grid: QParams | None) -> Any:
        """What a layer writes; the layer itself, where its grid is not known yet."""
        return layer if self.quantized and grid is None else self.add(layer, self._written(node), grid)

    def _grid(self, scale: Any, zero_point: Any, dtype: Dtype) -> QParams:
        if not isinstance(scale, float | int | torch.Tensor) or not isinstance(zero_point, int | torch.Tensor):
            raise Unfit("a scale or a zero point that is no number")
        return qparams(float(scale), int(zero_point), dtype)

    def _place_name(self) -> str:
        above, _, last = self.within.rpartition(".")
        return clean(above if last.isdigit() else self.within)

    def _written(self, node: Any) -> str:
        """The name of what a layer writes."""
        name: str = node.output().debugName()
        return name if self.quantized else f"{self._place_name()}:{len(self.layers)}"

    def _facts(self, node: Any, path: str = "", *, floats: bool = False) -> dict[str, Any]:
        """Name and nodes of a layer whose parameters are at ``path``, its kernel (``floats``: a float one), its ReLU.

        A quantized graph is flat: its operators' names are those that their parameters' attributes have in front.
        """
        if not self.quantized:
            return {"name": self._place_name(), "kernel": "float", "nodes": (self.within,)}
        value = node.output().debugName()
        name = clean(re.sub(r"(\._packed_params|\.weight|_scale_\d+|\.scale)$", "", path))
        name = re.sub(r"\.\d+$", "", name) or re.sub(r"^model(_\d+)?_|\.\d+$", "", value)
        if any(name == layer.name for layer in self.layers):
            name = f"{name}.{value}"
        kernel = "float" if floats else "integer"
        return {"name": name, "nodes": (value,), "relu": node.kind().endswith("_relu"), "kernel": kernel}

    # Rules 6 and 7

    def _real_convolution(self, node: Any) -> Any:
        source, weights, bias, strides, padding, dilation, *rest = self.arguments(node)
        transposed, groups = (rest[0], rest[2]) if len(rest) > 1 else (False, rest[0])
        if transposed or groups != 1 or list(dilation) != [1, 1]:
            raise Unfit("groups or dilations")
        w, x = self._stored(node, 1, weights), self._padded(source, real=self.quantized)
        given = self._bias(node, bias, x.activation, w)
        return self._convolved(node, x, w, None, strides=strides, pads=padding, **given)

    def _bias(self, node: Any, bias: Any, x: Activation, w: Any) -> dict[str, Any]:
        """A float operator's bias: real numbers, of a quantized network in accumulator steps too."""
        given = self._stored(node, 2, bias)
        if given is None or not self.quantized:
            return {"bias": given}
        return {"bias": replace(given, codes=whole_bias(given.codes, x, required(w).params)), "real_bias": given.codes}

    def _stored(self, node: Any, index: int, value: Any) -> Any:
        """Input ``index`` of a float operator: a parameter as a constant."""
        if not isinstance(value, torch.Tensor):
            return value
        if self.quantized and index != 2:
            raise Unfit("a parameter that is on no grid")
        return Constant(self.path(node, index), value.detach().numpy().astype(np.float32), None)

    def _real_matmul(self, node: Any) -> Any:
        source, matrix = self.arguments(node)
        return self._dense(node, self._activation(source, real=self.quantized), self._stored(node, 1, matrix), None)

    def _real_linear(self, node: Any) -> Any:
        source, weights, bias = self.arguments(node)
        w, x = required(self._stored(node, 1, weights)), self._activation(source, real=self.quantized)
        return self._dense(node, x, replace(w, codes=w.codes.T), None, **self._bias(node, bias, x, w))

    def _real_elementwise(self, node: Any) -> Any:
        a, b, *alpha = self.arguments(node)
        if alpha not in ([], [1]):
            raise Unfit(f"alpha {alpha[0]}")
        return self._joined(node, self._stored(node, 0, a), self._stored(node, 1, b), None)

    def _real_relu(self, node: Any) -> Any:
        (source,) = self.arguments(node)
        if isinstance(source, AnyLayer):
            return replace(source, relu=True)
        x = self._activation(source)
        layer = Rescale(**self._facts(node) | {"relu": True}, output=x, x=x)
        return self.add(layer, self._written(node), None)

    # Rules 1 and 3

    def _quantize(self, node: Any) -> Any:
        source, scale, zero_point, code = self.arguments(node)
        if code not in _DTYPES:
            raise Unfit(f"codes of type {code}; quint8 and qint8 are supported")
        grid, name = self._grid(scale, zero_point, _DTYPES[code]), self._written(node)
        if isinstance(source, Images):
            return self.begin(source, name, grid)
        if isinstance(source, AnyLayer):
            return self.add(replace(source, nodes=(*source.nodes, name)), name, grid)
        if isinstance(source, torch.Tensor):
            return Constant(self.path(node, 0) or name, coded(source, grid), grid)
        if not isinstance(source, Tensor) or not source.real:
            raise Unfit("its input is neither images nor a parameter nor dequantized codes")
        result = self.rescale(source, name, grid, **self._facts(node, self.path(node, 1)))
        if result.pads != NO_PADS and result.activation is not source.activation:
            self.margins[name] = result.pads
        return result

    def _dequantize(self, node: Any) -> Scores | Tensor | Constant:
        (source,) = self.arguments(node)
        if isinstance(source, torch.Tensor) and source.is_quantized:
            return Constant(self.path(node, 0), source.int_repr().numpy(), weight_grid(source))
        return source if isinstance(source, Scores) else replace(self._padded(source), real=True)

    def _pad(self, node: Any) -> Tensor:
        source, sides, mode, value = self.arguments(node)
        if not isinstance(source, Tensor) or source.real is not self.quantized or not source.activation.nchw:
            raise Unfit("its input is no map of real numbers, channels first")
        if mode != "constant" or value not in (None, 0) or len(sides) != 4 or min(sides) < 0:
            raise Unfit(f"mode {mode}, value {value}, sides {sides}; zeros around a map are supported")
        left, right, top, bottom = sides
        return replace(source, pads=_sum(source.pads, (top, left, bottom, right)))

    # Rule 2

    def _prepack(self, node: Any) -> Any:
        """Parameters as a kernel takes them; they keep the name of the weights."""
        weights, bias, *geometry = self.plain(node)
        self.paths[node.output().debugName()] = self.path(node, 0)
        return getattr(torch.ops.quantized, node.kind().removeprefix("quantized::"))(weights, bias, *geometry)

    def _convolution(self, node: Any) -> Any:
        source, packed, scale, zero_point = self.arguments(node)
        operators = torch.ops.quantized
        if operators.conv2d_groups(packed) != 1 or list(operators.conv2d_dilation(packed)) != [1, 1]:
            raise Unfit("groups or dilations")
        x = self._padded(source).activation
        w, given = self._unpacked(node, x, *operators.conv2d_unpack(packed))
        grid = self._grid(scale, zero_point, x.params.dtype)
        geometry = {"strides": operators.conv2d_stride(packed), "pads": operators.conv2d_padding(packed)}
        return self._convolved(node, source, w, grid, **geometry, **given)

    def _linear(self, node: Any) -> Any:
        source, packed, scale, zero_point = self.arguments(node)
        x = self._activation(source)
        w, given = self._unpacked(node, x, *torch.ops.quantized.linear_unpack(packed))
        grid = self._grid(scale, zero_point, x.params.dtype)
        return self._dense(node, x, replace(w, codes=w.codes.T), grid, **given, **self._facts(node, w.name))

    def _unpacked(
        self, node: Any, x: Activation, weights: torch.Tensor, bias: torch.Tensor | None
    ) -> tuple[Constant, dict[str, Any]]:
        """Of packed parameters: the weights, channels out first, and the bias as :meth:`_bias` gives it."""
        w = Constant(self.path(node, 1), weights.int_repr().numpy(), weight_grid(weights))
        real = np.zeros(len(w.codes), np.float32) if bias is None else bias.detach().numpy().astype(np.float32)
        given = None if bias is None else Constant(w.name, whole_bias(real, x, w.params), None)
        return w, {"bias": given, "real_bias": real}

    def _padded(self, value: Any, *, real: bool = False) -> Tensor:
        """``value``, with the zeros around it that a convolution makes its own."""
        if not isinstance(value, Tensor) or value.real is not real:
            raise Unfit("an input that is no activation")
        return value

    def _convolved(self, node: Any, source: Tensor, w: Any, grid: QParams | None, **facts: Any) -> Any:
        down, across = facts["pads"]
        facts["pads"] = _sum(source.pads, (down, across, down, across))
        facts |= self._facts(node, required(w).name, floats=grid is None)
        return self._finished(node, reading.convolution(source.activation, w, **facts), grid)

    def _elementwise(self, node: Any) -> Any:
        a, b, scale, zero_point = self.arguments(node)
        x = self._activation(b if isinstance(a, Constant) else a)
        return self._joined(node, a, b, self._grid(scale, zero_point, x.params.dtype))

    def _joined(self, node: Any, a: Any, b: Any, grid: QParams | None) -> Any:
        real = self.quantized and grid is None
        operands = (one if isinstance(one, Constant) else self._activation(one, real=real) for one in (a, b))
        multiplies = "::mul" in node.kind()
        # ATen dequantizes both, adds in float32 and quantizes.
        facts = self._facts(node, "" if grid is None else self.path(node, 2), floats=not multiplies or grid is None)
        return self._finished(node, reading.joined(*operands, multiplies=multiplies, **facts), grid)

    def _matmul(self, node: Any) -> Any:
        source, w, scale, zero_point = self.arguments(node)
        x = self._activation(source)
        # ATen's only kernel on x86, and not fbgemm's (see there): its sum is the BLAS library's.
        facts = self._facts(node, self.path(node, 2), floats=True)
        return self._dense(node, x, w, self._grid(scale, zero_point, x.params.dtype), **facts)

    def _dense(self, node: Any, x: Activation, w: Any, grid: QParams | None, **facts: Any) -> Any:
        facts = {"bias": None, **self._facts(node, required(w).name, floats=True), **facts}
        return self._finished(node, reading.dense(x, w, **facts), grid)

    def _pool(self, node: Any) -> Any:
        source, window, _, pads, _, _, divisor = self.arguments(node)
        real = isinstance(source, Tensor) and source.real
        x = self._activation(source, real=real)
        facts = self._facts(node, floats=real)
        layer = reading.pooled(x, window, plain=not any(pads) and divisor is None, **facts)
        return self._finished(node, layer, None if real else x.grid)

    # Rule 4

    def _permute(self, node: Any) -> Images | Tensor:
        source, order = self.arguments(node)
        if list(order) != NCHW or not isinstance(source, Images | Tensor):
            raise Unfit(f"order {order}; from NHWC to NCHW is supported")
        return source.turned(nchw=True)

    def _flatten(self, node: Any) -> Tensor:
        source, first, last = self.arguments(node)
        if not isinstance(source, Tensor) or source.pads != NO_PADS or first != 1 or last not in (-1, 3):
            raise Unfit(f"axes {first} to {last}; all but the batch of a map are supported")
        return source.flat()

    # Rule 5

    def _softmax(self, node: Any) -> Scores:
        source, axis, *rest = self.arguments(node)
        coded = node.kind() == "quantized::softmax"
        # Codes are softmax's of its own kind, reals the other's.
        fits = isinstance(source, Tensor) and source.real is (self.quantized and not coded)
        if not fits or len(source.activation.shape) != 1:
            raise Unfit("its input is no vector of class scores")
        if axis not in (1, -1):
            raise Unfit(f"axis {axis}; along the classes is supported")
        x = source.activation
        return Scores(x, self._grid(rest[0], rest[1], x.params.dtype) if coded else None)

    handlers: ClassVar[Mapping[str, Callable[[Any, Any], Any]]] = {
        **ScriptReader.handlers,
        "aten::_convolution": _real_convolution,
        "aten::conv2d": _real_convolution,
        "aten::linear": _real_linear,
        "aten::matmul": _real_matmul,
        "aten::add": _real_elementwise,
        "aten::mul": _real_elementwise,
        "aten::relu": _real_relu,
        "aten::quantize_per_tensor": _quantize,
        "aten::dequantize": _dequantize,
        "aten::pad": _pad,
        "aten::permute": _permute,
        "aten::flatten": _flatten,
        "aten::avg_pool2d": _pool,
        "aten::softmax": _softmax,
        "quantized::conv2d_prepack": _prepack,
        "quantized::linear_prepack": _prepack,
        "quantized::linear": _linear,
        "quantized::linear_relu": _linear,
        "quantized::conv2d": _convolution,
        "quantized::conv2d_relu": _convolution,
        "quantized::add": _elementwise,
        "quantized::add_relu": _elementwise,
        "quantized::mul": _elementwise,
        "quantized::mul_relu": _elementwise,
        "quantized::matmul": _matmul,
        "quantized::softmax": _softmax,
    }


def _sum(one: Pads, other: Pads) -> Pads:
    top, left, bottom, right = (a + b for a, b in zip(one, other, strict=True))
    return top, left, bottom, right
