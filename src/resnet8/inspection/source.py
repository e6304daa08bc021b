"""The ONNX file that is inspected: opened once, and its tensors by name."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import onnx

from resnet8.errors import ModelError
from resnet8.files import read_bytes
from resnet8.inspection.records import GraphTensor, Parameter
from resnet8.network.onnx_graph import Graph, axes
from resnet8.network.onnx_read import extract
from resnet8.runtimes import onnx_file
from resnet8.runtimes.base import identify

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from resnet8.network.program import Program
    from resnet8.results import ModelDescription


@dataclass(frozen=True)
class Source:
    """An ONNX file.

    Attributes:
        path: Where it was read from.
        model: The graph, a ResNet8 by its shapes.
        description: What the file is.
    """

    path: Path
    model: onnx.ModelProto
    description: ModelDescription

    @cached_property
    def graph(self) -> Graph:
        """Its constants and the writers of its tensors."""
        return Graph(self.model)

    @cached_property
    def program(self) -> Program:
        """The integer program.

        Raises:
            ModelError: when the file is not quantized, or has an operator or pattern that the engine does not know.
        """
        return extract(self.model, str(self.path))

    def parameter(self, name: str) -> Parameter:
        """What initializer ``name`` is."""
        shape, dtype = self.graph.values(name).shape, self.graph.dtype(name)
        size = -(-math.prod(shape) * onnx_file.element_bits(dtype) // 8)
        return Parameter(initializer=name, dtype=dtype, shape=shape, size_bytes=size)

    def tensor(self, name: str) -> GraphTensor:
        """What tensor ``name`` is, as far as that is known."""
        return self._tensors.get(name) or GraphTensor(name, None, None)

    @cached_property
    def _tensors(self) -> Mapping[str, GraphTensor]:
        """The constants, and what ONNX infers; the program knows what other domains' operators write."""
        graph = onnx.shape_inference.infer_shapes(self.model).graph
        known = {value.name: _inferred(value) for value in (*graph.input, *graph.value_info, *graph.output)}
        for name, one in self.program.activations.items():
            if name not in known or known[name].shape is None:
                shape = (one.shape[2], *one.shape[:2]) if one.nchw else one.shape
                known[name] = GraphTensor(name, one.params.dtype, ("batch", *shape))
        return known | {
            name: GraphTensor(name, _dtype(one.data_type), tuple(one.dims))
            for name, one in self.graph.constants.items()
        }


def read_onnx(path: Path) -> Source:
    """Open an ONNX file.

    Raises:
        StorageError: when the file cannot be read.
        ModelError: when it is no ONNX file, damaged, or no ResNet8.
    """
    content = read_bytes(path)
    _require_onnx(path, content)
    model = onnx_file.read(path, content)
    return Source(path, model, onnx_file.describe(path, content, model))


def _require_onnx(path: Path, content: bytes) -> None:
    expected, remedy = "an ONNX file", "name an .onnx file; «resnet8 convert» and «resnet8 quantize» write them"
    try:
        runtime = identify(path, content)
    except ModelError as error:  # a pickle, or nothing known: its words name files that are not looked into here
        raise ModelError(f"{path} is no ONNX file", found=error.found, expected=expected, remedy=remedy) from error
    if runtime.format != "onnx":
        raise ModelError(
            f"{path} is no ONNX file",
            found=f"{runtime.format}, a file for {runtime.label}",
            expected=expected,
            remedy=remedy,
        )


def _inferred(value: onnx.ValueInfoProto) -> GraphTensor:
    tensor = value.type.tensor_type
    return GraphTensor(value.name, _dtype(tensor.elem_type), axes(value) if tensor.HasField("shape") else None)


def _dtype(kind: int) -> str | None:
    """An element type as NumPy calls it."""
    return None if kind == onnx.TensorProto.UNDEFINED else onnx.helper.tensor_dtype_to_np_dtype(kind).name
