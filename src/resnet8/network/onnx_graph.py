"""An ONNX graph's constants, writers and readers by name."""

from __future__ import annotations

from collections import defaultdict
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import numpy_helper

from resnet8.numeric.grid import storage

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

PACKED = ("int4", "uint4", "int2", "uint2")
"""The types of which a byte of a file holds several elements."""


class Graph:
    """Indexes of the graph of ``model``, each made when it is asked for; they do not follow changes of it."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._graph = model.graph
        self._values: dict[str, NDArray[Any]] = {}

    @cached_property
    def nodes(self) -> tuple[onnx.NodeProto, ...]:
        """The nodes, in the order of computation."""
        return tuple(self._graph.node)

    @cached_property
    def constants(self) -> Mapping[str, onnx.TensorProto]:
        """The initializers."""
        return {tensor.name: tensor for tensor in self._graph.initializer}

    @cached_property
    def inputs(self) -> tuple[onnx.ValueInfoProto, ...]:
        """The inputs that are no initializers."""
        return tuple(value for value in self._graph.input if value.name not in self.constants)

    @cached_property
    def writers(self) -> Mapping[str, int]:
        """Index of the node that writes each tensor."""
        return {name: index for index, node in enumerate(self.nodes) for name in node.output if name}

    @cached_property
    def readers(self) -> Mapping[str, list[onnx.NodeProto]]:
        """The nodes that read each tensor; one that reads it twice stands there twice."""
        found: dict[str, list[onnx.NodeProto]] = defaultdict(list)
        for node in self.nodes:
            for name in node.input:
                found[name].append(node)
        return found

    def values(self, name: str) -> NDArray[Any]:
        """The elements of the constant ``name``, in its own type and shape; codes of 4 or 2 bits as in memory.

        What a Mul makes of two constants is one too, float32.
        """
        if name not in self._values:
            self._values[name] = self._stored(name) if name in self.constants else self._product(name)
        return self._values[name]

    def _stored(self, name: str) -> NDArray[Any]:
        values, dtype = numpy_helper.to_array(self.constants[name]), self.dtype(name)
        return values.astype(storage(dtype)) if dtype in PACKED else values

    def _product(self, name: str) -> NDArray[Any]:
        one, other = map(self.values, self.nodes[self.writers[name]].input)
        return np.asarray(one * other, np.float32)

    def dtype(self, name: str) -> str:
        """The type of the elements of the constant ``name``: ``float32``, ``int8``, ``int4`` and so on."""
        return onnx.helper.tensor_dtype_to_np_dtype(self.constants[name].data_type).name


def axes(value: onnx.ValueInfoProto) -> tuple[int | str, ...]:
    """The shape of ``value``: sizes, named axes as their names."""
    dims = value.type.tensor_type.shape.dim
    return tuple(dim.dim_value if dim.HasField("dim_value") else dim.dim_param or "?" for dim in dims)


def attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:
    """The attribute ``name`` of ``node``; ``default`` where it has none."""
    return next((onnx.helper.get_attribute_value(one) for one in node.attribute if one.name == name), default)
