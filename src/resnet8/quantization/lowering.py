"""What PT2E makes of a network, in operators that TorchScript has.

PT2E's graph holds ``quantized_decomposed`` operators, which exist in Python only, and weights as plain integers. Here
codes become quantized tensors, and either

* each pattern of dequantized codes, float operator, quantization becomes the quantized operator that computes it
  (:mod:`resnet8.execute.fbgemm` says what that is), or
* the pattern stays as it is, in ``quantize_per_tensor``, ``dequantize`` and float operators: PyTorch's reference
  representation, which any types of 8 bits fit into.

Layers keep their names: a parameter lies at the path that the bias had.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from resnet8.errors import QuantizationError

if TYPE_CHECKING:
    from torch.fx import GraphModule, Node

# torchao defines them when it is imported.
_coded: Any = torch.ops.quantized_decomposed
_aten: Any = torch.ops.aten
_TYPES = {torch.int8: torch.qint8, torch.uint8: torch.quint8}


def lowered(converted: GraphModule, *, kernels: bool) -> GraphModule:
    """The same network as a module that TorchScript compiles.

    Args:
        converted: Of ``convert_pt2e``, its weights' codes folded.
        kernels: Whether quantized operators compute it; they take int8 weights only.

    Raises:
        QuantizationError: when an operator has no such form.
    """
    return _Lowering(converted, kernels=kernels).module()


class _Lowering:
    def __init__(self, converted: GraphModule, *, kernels: bool) -> None:
        self._converted = converted
        self._kernels = kernels
        self._root = torch.nn.Module()
        self._graph = torch.fx.Graph()
        self._done: dict[Node, Node] = {}

    def module(self) -> GraphModule:
        *_, end = self._converted.graph.nodes
        (images,) = (node for node in self._converted.graph.nodes if node.op == "placeholder")
        self._done[images] = self._graph.placeholder("images")
        (result,) = end.args[0]
        self._graph.output(self._value(result))
        return torch.fx.GraphModule(self._root, self._graph)

    def _value(self, node: Node) -> Node:
        """What computes ``node``: codes as a quantized tensor, real numbers as they are."""
        if node not in self._done:
            self._done[node] = self._made(node)
        return self._done[node]

    def _made(self, node: Node) -> Node:
        if node.target is _coded.quantize_per_tensor.default:
            return self._quantized(node)
        if node.target is _coded.dequantize_per_tensor.default:
            codes = node.args[0]
            first = next(reader for reader in codes.users if reader.target is node.target)
            if first is not node:  # one for each reader
                return self._value(first)
            return self._graph.call_function(torch.dequantize, (self._value(codes),))
        if node.target in (_aten.conv2d.default, _aten.linear.default):
            return self._weighted(node)
        if node.target in _PLAIN:
            return self._graph.call_function(node.target.overloadpacket, self._graph_arguments(node))
        raise QuantizationError(
            "PT2E made of the network what cannot be put into TorchScript",
            found=f"the operator {node.target}",
            expected="a ResNet8",
            remedy="use the tested versions of torch and torchao",
        )

    def _graph_arguments(self, node: Node) -> tuple[Any, ...]:
        return tuple(self._value(one) if isinstance(one, torch.fx.Node) else one for one in node.args)

    def _quantized(self, node: Node) -> Node:
        source, scale, zero_point, _, _, kind = node.args
        relu = source.target is _aten.relu.default
        made = source.args[0] if relu else source
        grid = (scale, zero_point)
        if self._kernels and made.target in _KERNELS:
            kernel, takes = _KERNELS[made.target]
            codes = [self._value(one.args[0]) for one in made.args[:takes]]
            parameters = [] if takes == 2 else [self._packed(made)]
            operator = getattr(torch.ops.quantized, kernel + "_relu" * relu)
            return self._graph.call_function(operator, (*codes, *parameters, *grid))
        if self._kernels and made.target in _ON_CODES and made.args[0].args[1:3] == grid:
            return self._graph.call_function(
                made.target.overloadpacket, (self._value(made.args[0].args[0]), *made.args[1:])
            )
        return self._graph.call_function(torch.quantize_per_tensor, (self._value(source), *grid, _TYPES[kind]))

    def _weighted(self, node: Node) -> Node:
        """A convolution or dense layer in float, its weights dequantized."""
        weights, bias = self._parameters(node)
        real = self._graph.call_function(torch.dequantize, (weights,))
        operands = (self._value(node.args[0]), real, bias, *node.args[3:])
        return self._graph.call_function(node.target.overloadpacket, operands)

    def _packed(self, node: Node) -> Node:
        """The parameters of a convolution or dense layer as its kernel takes them: packed whenever the file is run."""
        weights, bias = self._parameters(node)
        if node.target is _aten.linear.default:
            return self._graph.call_function(torch.ops.quantized.linear_prepack, (weights, bias))
        geometry = (*node.args[3:], *([1, 1], [0, 0], [1, 1], 1)[len(node.args) - 3 :])
        return self._graph.call_function(torch.ops.quantized.conv2d_prepack, (weights, bias, *geometry))

    def _parameters(self, node: Node) -> tuple[Node, Node]:
        """The weights as a quantized tensor, and the bias, which lie where the bias lay."""
        _, dequantized, bias = node.args[:3]
        codes, *grid = (self._stored(one) if isinstance(one, torch.fx.Node) else one for one in dequantized.args[:4])
        if dequantized.target is _coded.dequantize_per_channel.default:
            scales, zero_points, axis = grid
            weights = torch._make_per_channel_quantized_tensor(codes, scales.double(), zero_points, axis)
        else:
            weights = torch._make_per_tensor_quantized_tensor(codes, *grid[:2])
        name = bias.target.rpartition(".")[0]
        for role, tensor in (("weight", weights), ("bias", self._stored(bias).detach())):
            self._part(name).register_buffer(role, tensor)
        return self._graph.get_attr(f"{name}.weight"), self._graph.get_attr(f"{name}.bias")

    def _stored(self, node: Node) -> Any:
        value: Any = self._converted
        for name in str(node.target).split("."):
            value = getattr(value, name)
        return value

    def _part(self, name: str) -> torch.nn.Module:
        """The module at a path, made where it is not there yet."""
        part = self._root
        for one in name.split("."):
            if not hasattr(part, one):
                part.add_module(one, torch.nn.Module())
            part = getattr(part, one)
        return part


_PLAIN = (
    _aten.permute.default,
    _aten.relu.default,
    _aten.add.Tensor,
    _aten.pad.default,
    _aten.avg_pool2d.default,
    _aten.flatten.using_ints,
    _aten.softmax.int,
)
_KERNELS = {_aten.conv2d.default: ("conv2d", 1), _aten.linear.default: ("linear", 1), _aten.add.Tensor: ("add", 2)}
"""The quantized operator for each float one, and how many activations it takes."""

_ON_CODES = (_aten.avg_pool2d.default, _aten.flatten.using_ints)
"""What computes with codes and keeps their grid."""
