"""Quantized TorchScript modules, run faster with the same results.

What is left of a batch normalization in a quantized file is a product with, and a sum with, one constant for each
channel. PyTorch computes such a pair of a map and a (1, C, 1, 1) constant element by element, which takes longer than
the convolutions; a pair of maps it computes with vectors. So the constant is spread over the map's
height and width, after all 256 codes of every channel were computed in both ways: where they would differ, it is not.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch

_OPERATORS = {f"quantized::{name}": getattr(torch.ops.quantized, name) for name in ("mul", "add", "add_relu")}


def freeze(module: torch.jit.ScriptModule) -> torch.jit.ScriptModule:
    """A frozen copy of ``module``, in evaluation mode."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the deprecation of torch.jit: known, and pinned
        return torch.jit.freeze(module)


def spread(module: torch.jit.ScriptModule, images: torch.Tensor) -> torch.jit.ScriptModule:
    """A frozen copy of a quantized ``module`` that gives the same codes, its constants as large as the maps they meet.

    Args:
        module: In evaluation mode; not changed.
        images: What it is run on once to learn the sizes of its maps: float32 (N, 32, 32, 3).
    """
    frozen = freeze(module)
    nodes = _with_constants(frozen.graph)
    for node, maps in zip(nodes, _maps(frozen, images), strict=True):
        _, small, *rest = node.inputs()
        output = [value.toIValue() for value in rest]
        if (large := _spread(_OPERATORS[node.kind()], maps, small.toIValue(), output)) is not None:
            value = frozen.graph.insertConstant(large)
            value.node().moveBefore(node)
            node.replaceInputWith(small, value)
    return frozen


def _with_constants(graph: Any) -> list[Any]:
    """The nodes of :data:`_OPERATORS` all of whose operands but the first are constants."""
    return [
        node
        for node in graph.nodes()
        if node.kind() in _OPERATORS
        and all(value.node().kind() == "prim::Constant" for value in list(node.inputs())[1:])
    ]


def _maps(frozen: torch.jit.ScriptModule, images: torch.Tensor) -> list[torch.Tensor]:
    """The first operand of each of :func:`_with_constants`."""
    graph = frozen.graph.copy()
    function = as_function(graph, [next(node.inputs()) for node in _with_constants(graph)])
    with torch.inference_mode():
        return list(function(frozen._c, images))


def as_function(graph: Any, outputs: list[Any]) -> Any:
    """``graph``, which is changed, as a function of the module and the images that returns its values ``outputs``."""
    together = graph.create("prim::TupleConstruct", outputs, 1)
    graph.appendNode(together)
    together.output().setType(torch._C.TupleType([value.type() for value in outputs]))
    graph.eraseOutput(0)
    graph.registerOutput(together.output())
    return torch._C._create_function_from_graph("values", graph)


def _spread(operator: Any, maps: torch.Tensor, constant: torch.Tensor, output: list[Any]) -> torch.Tensor | None:
    """``constant``, (1, C, 1, 1), as (1, C, H, W), if all codes of ``maps``, (N, C, H, W), come out the same."""
    if maps.dim() != 4 or constant.shape != (1, maps.shape[1], 1, 1):
        return None
    every = torch.arange(256, dtype=torch.uint8).reshape(1, 256, 1, 1).expand(1, 256, maps.shape[1], 1)
    codes = _coded(every.contiguous().permute(0, 2, 1, 3), maps)  # channels last, as the maps are
    same = torch.equal(
        operator(codes, constant, *output).int_repr(), operator(codes, _larger(constant, codes), *output).int_repr()
    )
    return _larger(constant, maps) if same else None


def _larger(constant: torch.Tensor, maps: torch.Tensor) -> torch.Tensor:
    wide = constant.int_repr().expand(1, *maps.shape[1:]).contiguous(memory_format=torch.channels_last)
    return _coded(wide, constant)


def _coded(codes: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    result: torch.Tensor = torch._make_per_tensor_quantized_tensor(codes, like.q_scale(), like.q_zero_point())
    return result
