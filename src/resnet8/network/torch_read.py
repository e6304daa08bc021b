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
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch

from resnet8.errors import ModelError, opening
from resnet8.network import reading
from resnet8.network.layers import Rescale
from resnet8.network.reading import NCHW, NO_PADS, Images, Scores, Tensor, Unfit, clean
from resnet8.network.rewrite import merged
from resnet8.network.tensors import Activation, Constant, accumulator_bias
from resnet8.network.torch_script import ScriptReader
from resnet8.numeric.grid import QParams, limits, qparams

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from resnet8.network.program import Program
    from resnet8.network.reading import Pads
    from resnet8.numeric.grid import Dtype

SUPPORTED = (
    "quantize_per_tensor, dequantize, quantized::conv2d, quantized::conv2d_relu, quantized::mul, quantized::mul_relu, "
    "quantized::add, quantized::add_relu, quantized::matmul, quantized::softmax; avg_pool2d over the whole map, "
    "permute, flatten, softmax; pad with zeros between dequantize and quantize_per_tensor"
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

    def _activation(self, value: Any) -> Activation:
        """``value`` without padding: codes, or real numbers in a float network."""
        if not isinstance(value, Tensor) or value.real or value.pads != NO_PADS:
            raise Unfit("an input that is no activation as it was computed")
        return value.activation

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

    def _facts(self, node: Any, path: str = "") -> dict[str, Any]:
        """Name and nodes of a layer whose parameters are at ``path``, its kernel, its ReLU.

        A quantized graph is flat: its operators' names are those that their parameters' attributes have in front.
        """
        if not self.quantized:
            return {"name": self._place_name(), "kernel": "float", "nodes": (self.within,)}
        value = node.output().debugName()
        name = clean(re.sub(r"(\._packed_params|_scale_\d+|\.scale)$", "", path))
        name = re.sub(r"\.\d+$", "", name) or re.sub(r"^model(_\d+)?_|\.\d+$", "", value)
        if any(name == layer.name for layer in self.layers):
            name = f"{name}.{value}"
        return {"name": name, "nodes": (value,), "relu": node.kind().endswith("_relu")}

    # Rule 6

    def _real_convolution(self, node: Any) -> Tensor:
        source, weights, bias, strides, padding, dilation, transposed, _, groups = self.arguments(node)[:9]
        if transposed or groups != 1 or list(dilation) != [1, 1]:
            raise Unfit("groups or dilations")
        w, given = self._stored(node, 1, weights), self._stored(node, 2, bias)
        return self._convolved(node, self._padded(source), w, given, None, strides=strides, pads=padding)

    def _stored(self, node: Any, index: int, value: Any) -> Any:
        """Input ``index`` of a float operator: a parameter as a constant."""
        if not isinstance(value, torch.Tensor):
            return value
        return Constant(self.path(node, index), value.detach().numpy().astype(np.float32), None)

    def _real_matmul(self, node: Any) -> Tensor:
        source, matrix = self.arguments(node)
        return self._dense(node, source, self._stored(node, 1, matrix))

    def _real_elementwise(self, node: Any) -> Tensor:
        a, b, *alpha = self.arguments(node)
        if alpha not in ([], [1]):
            raise Unfit(f"alpha {alpha[0]}")
        return self._joined(node, self._stored(node, 0, a), self._stored(node, 1, b), None)

    def _real_relu(self, node: Any) -> Tensor:
        x = self._activation(self.arguments(node)[0])
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
        if isinstance(source, torch.Tensor):
            return Constant(self.path(node, 0) or name, _coded(source, grid), grid)
        if not isinstance(source, Tensor) or not source.real:
            raise Unfit("its input is neither images nor a parameter nor dequantized codes")
        result = self.rescale(source, name, grid, **self._facts(node, self.path(node, 1)))
        if result.pads != NO_PADS and result.activation is not source.activation:
            self.margins[name] = result.pads
        return result

    def _dequantize(self, node: Any) -> Scores | Tensor:
        (source,) = self.arguments(node)
        return source if isinstance(source, Scores) else Tensor(self._activation(source), real=True)

    def _pad(self, node: Any) -> Tensor:
        source, sides, mode, value = self.arguments(node)
        if not isinstance(source, Tensor) or source.real is not self.quantized or not source.activation.nchw:
            raise Unfit("its input is no map of real numbers, channels first")
        if mode != "constant" or value not in (None, 0) or len(sides) != 4 or min(sides) < 0:
            raise Unfit(f"mode {mode}, value {value}, sides {sides}; zeros around a map are supported")
        left, right, top, bottom = sides
        return replace(source, pads=_sum(source.pads, (top, left, bottom, right)))

    # Rule 2

    def _convolution(self, node: Any) -> Tensor:
        source, packed, scale, zero_point = self.arguments(node)
        operators = torch.ops.quantized
        if operators.conv2d_groups(packed) != 1 or list(operators.conv2d_dilation(packed)) != [1, 1]:
            raise Unfit("groups or dilations")
        weights, bias = operators.conv2d_unpack(packed)
        w = Constant(self.path(node, 1), weights.int_repr().numpy(), _weight_grid(weights))
        real = np.zeros(len(w.codes), np.float32) if bias is None else bias.detach().numpy().astype(np.float32)
        x = self._padded(source).activation
        given = None if bias is None else Constant(w.name, _whole(real, x, w.params), None)
        grid = self._grid(scale, zero_point, x.params.dtype)
        geometry = {"strides": operators.conv2d_stride(packed), "pads": operators.conv2d_padding(packed)}
        return self._convolved(node, source, w, given, grid, **geometry, real_bias=real)

    def _padded(self, value: Any) -> Tensor:
        """``value``, with the zeros around it that a convolution makes its own."""
        if not isinstance(value, Tensor) or value.real:
            raise Unfit("its input is no activation")
        return value

    def _convolved(
        self, node: Any, source: Tensor, w: Constant, bias: Constant | None, grid: QParams | None, **facts: Any
    ) -> Tensor:
        down, across = facts["pads"]
        facts["pads"] = _sum(source.pads, (down, across, down, across))
        layer = reading.convolution(source.activation, w, bias, **facts, **self._facts(node, w.name))
        return self.add(layer, self._written(node), grid)

    def _elementwise(self, node: Any) -> Tensor:
        a, b, scale, zero_point = self.arguments(node)
        x = self._activation(b if isinstance(a, Constant) else a)
        return self._joined(node, a, b, self._grid(scale, zero_point, x.params.dtype))

    def _joined(self, node: Any, a: Any, b: Any, grid: QParams | None) -> Tensor:
        operands = (one if isinstance(one, Constant) else self._activation(one) for one in (a, b))
        multiplies = "::mul" in node.kind()
        facts = self._facts(node, "" if grid is None else self.path(node, 2))
        if not multiplies:
            facts["kernel"] = "float"  # ATen dequantizes both, adds in float32 and quantizes.
        return self.add(reading.joined(*operands, multiplies=multiplies, **facts), self._written(node), grid)

    def _matmul(self, node: Any) -> Tensor:
        source, w, scale, zero_point = self.arguments(node)
        return self._dense(node, source, w, (scale, zero_point))

    def _dense(self, node: Any, source: Any, w: Any, written: tuple[Any, Any] | None = None) -> Tensor:
        if not isinstance(w, Constant):
            raise Unfit("weights that are computed")
        x = self._activation(source)
        grid = None if written is None else self._grid(*written, x.params.dtype)
        facts = self._facts(node, "" if grid is None else self.path(node, 2))
        # ATen's only kernel on x86, and not fbgemm's (see there): its sum is the BLAS library's.
        layer = reading.dense(x, w, None, **facts | {"kernel": "float"})
        return self.add(layer, self._written(node), grid)

    def _pool(self, node: Any) -> Tensor:
        source, window, _, pads, _, _, divisor = self.arguments(node)
        x = self._activation(source)
        layer = reading.pooled(x, window, plain=not any(pads) and divisor is None, **self._facts(node))
        return self.add(layer, self._written(node), x.grid)

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


def _whole(real: NDArray[np.float32], x: Activation, weights: QParams) -> NDArray[np.int32]:
    """A float bias in whole accumulator steps."""
    whole = accumulator_bias(real, x, weights)
    low, high = limits("int32")
    if not ((whole >= low) & (whole <= high)).all():
        raise Unfit(f"a bias of {np.abs(whole).max():.3g} accumulator steps, more than int32 holds")
    return whole.astype(np.int32)


def _coded(parameter: torch.Tensor, grid: QParams) -> NDArray[Any]:
    """The codes of a parameter, as PyTorch makes them each time it runs the file."""
    kind = torch.quint8 if grid.dtype == "uint8" else torch.qint8
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the deprecation of quantized tensors: known, and pinned
        coded = torch.quantize_per_tensor(parameter.detach(), float(grid.scale), int(grid.zero_point), kind)
    codes: NDArray[Any] = coded.int_repr().numpy()
    return codes


def _weight_grid(weights: torch.Tensor) -> QParams:
    dtype: Dtype = "int8" if weights.dtype == torch.qint8 else "uint8"
    if weights.qscheme() == torch.per_tensor_affine:
        return qparams(weights.q_scale(), weights.q_zero_point(), dtype)
    scales = weights.q_per_channel_scales().numpy().astype(np.float32)
    return QParams(scales, weights.q_per_channel_zero_points().numpy().astype(np.int32), dtype)
