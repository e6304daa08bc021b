"""Quantized TorchScript files, looked into: their integer program, and the codes of every activation in PyTorch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from resnet8.network.torch_read import Extraction, extract
from resnet8.network.torch_read import read as read_any
from resnet8.runtimes.pytorch import open_content

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from resnet8.network.program import Program
    from resnet8.network.tensors import Activation
    from resnet8.results import ModelDescription


def read(path: Path, content: bytes, *, quantized: bool = False) -> tuple[ModelDescription, Program]:
    """What the file with this ``content`` is, and its network.

    Args:
        path: Names the file in errors.
        content: The TorchScript file.
        quantized: Whether a float file is refused.

    Raises:
        ModelError: when it is no ResNet8, not of supported operators, or not quantized where it has to be.
    """
    predictor = open_content(path, content)
    network = extract(predictor.module, str(path)).program if quantized else read_any(predictor.module, str(path))
    return predictor.model, network


class TorchTrace:
    """A quantized TorchScript model that shows the codes of every activation (see :class:`resnet8.runtimes.ort.Trace`).

    What runs is the file's own graph, with more outputs.

    Attributes:
        program: The integer program of the graph.

    Args:
        path: Names the file in errors.
        content: The TorchScript file.

    Raises:
        ModelError: as :func:`read`.
    """

    def __init__(self, path: Path, content: bytes) -> None:
        module = open_content(path, content).module
        extraction = extract(module, str(path))
        self.program: Program = extraction.program
        self._activations = tuple(self.program.activations.values())
        self._margins = extraction.margins
        self._module = module._c  # the object that the graph's first input is
        self._function = _with_outputs(extraction, [activation.name for activation in self._activations])

    def run(self, images: NDArray[np.float32]) -> tuple[NDArray[np.float32], dict[str, NDArray[Any]]]:
        """Probabilities, and the codes of every activation by name, (N, *shape), NHWC."""
        with torch.inference_mode():
            probabilities, *tensors = self._function(self._module, torch.from_numpy(images))
        return probabilities.numpy(), {
            activation.name: self._codes(activation, tensor)
            for activation, tensor in zip(self._activations, tensors, strict=True)
        }

    def _codes(self, activation: Activation, tensor: torch.Tensor) -> NDArray[Any]:
        codes: NDArray[Any] = tensor.int_repr().numpy()
        if activation.nchw and codes.ndim == 4:
            codes = codes.transpose(0, 2, 3, 1)
        if activation.name in self._margins:
            top, left, bottom, right = self._margins[activation.name]
            codes = codes[:, top : codes.shape[1] - bottom, left : codes.shape[2] - right]
        return np.ascontiguousarray(codes).reshape(len(codes), *activation.shape)


def _with_outputs(extraction: Extraction, names: list[str]) -> Any:
    """The graph as a function of the module and the images; returns the graph's output and the named values."""
    graph = extraction.graph
    values = {value.debugName(): value for node in graph.nodes() for value in node.outputs()}
    outputs = [next(graph.outputs()), *(values[name] for name in names)]
    together = graph.create("prim::TupleConstruct", outputs, 1)
    graph.appendNode(together)
    together.output().setType(torch._C.TupleType([value.type() for value in outputs]))
    graph.eraseOutput(0)
    graph.registerOutput(together.output())
    return torch._C._create_function_from_graph("traced", graph)
