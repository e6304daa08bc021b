"""TorchScript's own part of a graph: modules that call modules, attributes, and what computes with numbers alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import torch

from resnet8.network.reading import Images, Reader, Scores, Tensor, Unfit
from resnet8.network.tensors import Constant

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class ScriptReader(Reader[Any]):
    """Values that do not depend on the images are Python's, but for quantized parameters, which are constants.

    Attributes:
        graph: ``torch.Graph``.
        paths: Of values that are attributes: their names from the module down.
        within: The module that is read, from the outermost down.
    """

    def __init__(self, module: torch.jit.ScriptModule, graph: Any, source: str, *, quantized: bool) -> None:
        super().__init__(source, quantized=quantized)
        self.graph = graph
        self.paths: dict[str, str] = {}
        self.within = ""
        itself, *images = [value.debugName() for value in graph.inputs()]
        if len(images) != 1:
            raise self.refused(f"{len(images)} inputs", "one, the images")
        self.values |= {itself: module, images[0]: self.images("images")}

    def operator(self, node: Any) -> str:
        """Its kind."""
        return str(node.kind())

    def outputs(self, node: Any) -> list[str]:
        """All of them."""
        return [value.debugName() for value in node.outputs()]

    def place(self, node: Any) -> str:
        """By its module in a float network; a quantized one is flat."""
        if not self.quantized:
            return f"module «{self.within}», {node.kind()}"
        return f"node «{next(iter(self.outputs(node)), '')}», operator {node.kind()}"

    def arguments(self, node: Any) -> list[Any]:
        """What the node reads."""
        return [self.values[value.debugName()] for value in node.inputs()]

    def plain(self, node: Any) -> list[Any]:
        """The arguments, none of which depends on the images."""
        arguments = self.arguments(node)
        for number, argument in enumerate(arguments):
            if isinstance(argument, Images | Tensor | Scores | Constant):
                raise Unfit(f"its input {number} is computed; a number is expected")
        return arguments

    def path(self, node: Any, index: int) -> str:
        """Where input ``index`` is stored; empty when it is no attribute."""
        return self.paths.get(list(node.inputs())[index].debugName(), "")

    def _constant(self, node: Any) -> Any:
        return node.output().toIValue()

    def _get_attribute(self, node: Any) -> Any:
        (owner,) = self.plain(node)
        name, path = node.s("name"), self.path(node, 0)
        self.paths[node.output().debugName()] = f"{path}.{name}" if path else name
        return getattr(owner, name)

    def _unpack(self, node: Any) -> Any:
        values = self.plain(node)[0]
        return values if len(values) > 1 else values[0]

    def _number(self, node: Any) -> Any:
        (value,) = self.plain(node)
        self.paths[node.output().debugName()] = self.path(node, 0)
        return value.item() if isinstance(value, torch.Tensor) else value

    def _size(self, node: Any) -> list[None]:
        (tensor,) = self.arguments(node)
        if not isinstance(tensor, Tensor):
            raise Unfit("its input is no quantized activation")
        # Only how many there are is ever asked for: the batch is free.
        return [None] * (1 + len(tensor.activation.shape))

    def _length(self, node: Any) -> int:
        return len(self.plain(node)[0])

    def _differs(self, node: Any) -> bool:
        one, other = self.plain(node)
        return bool(one != other)

    def _branch(self, node: Any) -> Any:
        (condition,) = self.plain(node)
        block = list(node.blocks())[0 if condition else 1]
        self.run(block.nodes())
        results = [self.values[value.debugName()] for value in block.outputs()]
        return results[0] if len(results) == 1 else results

    def _raise(self, node: Any) -> None:
        raise Unfit(f"it raises: {self.plain(node)[0]}")

    def _called(self, node: Any) -> Any:
        called, *arguments = self.arguments(node)
        if node.s("name") != "forward" or not isinstance(called, torch.jit.ScriptModule):
            raise Unfit(f"a call of {node.s('name')}")
        outer, path = (self.values, self.paths, self.within), self.path(node, 0)
        itself, *names = [value.debugName() for value in called.graph.inputs()]
        self.values = dict(zip(names, arguments, strict=True)) | {itself: called}
        self.paths, self.within = {itself: path}, path
        self.run(called.graph.nodes())
        result = self.values[next(called.graph.outputs()).debugName()]
        self.values, self.paths, self.within = outer
        return result

    handlers: ClassVar[Mapping[str, Callable[[Any, Any], Any]]] = {
        "prim::Constant": _constant,
        "prim::GetAttr": _get_attribute,
        "prim::ListConstruct": plain,
        "prim::TupleUnpack": _unpack,
        "prim::If": _branch,
        "prim::RaiseException": _raise,
        "prim::CallMethod": _called,
        "aten::FloatImplicit": _number,
        "aten::IntImplicit": _number,
        "aten::size": _size,
        "aten::len": _length,
        "aten::ne": _differs,
    }
