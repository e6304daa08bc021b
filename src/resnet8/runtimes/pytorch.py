"""TorchScript files in PyTorch, on the CPU: opened, and looked into.

TorchScript is the one PyTorch format that loads without unpickling Python objects and without the code that made the
model: ``torch.load`` of a module needs onnx2torch and runs whatever the pickle says, and ``torch.export.load`` falls
back to unrestricted unpickling when a file asks for it.
"""

from __future__ import annotations

import io
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from resnet8.environment import cpu
from resnet8.errors import ModelError
from resnet8.facts import IMAGE_SHAPE
from resnet8.runtimes import torchscript_file
from resnet8.runtimes.base import Predictor, require_shapes
from resnet8.runtimes.pytorch_constants import as_function, freeze, spread
from resnet8.workers import limited

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from resnet8.network.program import Program
    from resnet8.network.tensors import Activation
    from resnet8.results import ModelDescription

ENGINE = "fbgemm"
"""PyTorch's kernels for quantized networks on x86."""

MEMORY = 4 * 2**30
SECONDS = 20
"""Bytes and processor time for opening a file in a worker; PyTorch itself takes some 800 MB, a file half a second."""


def open_content(path: Path, content: bytes) -> Predictor:
    """Open the TorchScript model in ``content``.

    Torch is set to one thread per call, process-wide, and called from one thread per CPU. What runs is frozen, and
    computes the same as the file's module (:mod:`resnet8.runtimes.pytorch_constants`).

    Raises:
        ModelError: when it is no ResNet8.
    """
    predictor, _ = _opened(path, content)
    return predictor


@limited(MEMORY, SECONDS)
def _opened(path: Path, content: bytes) -> tuple[Predictor, torch.jit.ScriptModule]:
    """The model, open, and its module as it is in the file."""
    checked, description = torchscript_file.checked(path, content)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the deprecation of torch.jit, and of quantized tensors: known, and pinned
        if description.quantized:  # else C++ says it when loading, past Python
            torch.backends.quantized.engine = ENGINE
            torch.quantize_per_tensor(torch.zeros(1), 1.0, 0, torch.quint8)
        try:
            module = torch.jit.load(io.BytesIO(checked), map_location="cpu").eval()
        except Exception as error:
            raise ModelError(
                f"{path} cannot be loaded by PyTorch",
                found=_last_line(error),
                expected="TorchScript (.pt written by this project)",
                remedy="it is damaged; make it again with «resnet8 convert» or «resnet8 quantize»",
            ) from error
    torch.set_num_threads(1)
    # The file states no shapes: two images tell them, and that the batch is free.
    try:
        runs = spread(module, torch.zeros(1, *IMAGE_SHAPE)) if description.quantized else freeze(module)

        def probabilities(images: NDArray[np.float32]) -> NDArray[np.float32]:
            with torch.inference_mode():
                output: NDArray[np.float32] = runs(torch.from_numpy(images)).numpy()
            return output

        answer = probabilities(np.zeros((2, *IMAGE_SHAPE), np.float32))
    except RuntimeError as error:
        raise ModelError(
            f"{path} does not take CIFAR-10 images",
            found=_last_line(error),
            expected="a ResNet8 with NHWC input (batch, 32, 32, 3)",
            remedy="make the file with «resnet8 convert»",
        ) from error
    require_shapes(path, IMAGE_SHAPE, answer.shape[1:])
    return Predictor("pytorch", description, probabilities, threads=cpu().logical_cpus), module


def _last_line(error: Exception) -> str:
    """What is wrong, of a message that begins with the place in TorchScript's code."""
    return (str(error).strip().splitlines() or [type(error).__name__])[-1][:200]


def read(path: Path, content: bytes, *, quantized: bool = False) -> tuple[ModelDescription, Program]:
    """What the file with this ``content`` is, and its network.

    Args:
        path: Names the file in errors.
        content: The TorchScript file.
        quantized: Whether a float file is refused.

    Raises:
        ModelError: when it is no ResNet8, not of supported operators, or not quantized where it has to be.
    """
    from resnet8.network import torch_read  # here and below: it imports onnx, which an evaluation does without

    predictor, module = _opened(path, content)
    program = torch_read.extract(module, str(path)).program if quantized else torch_read.read(module, str(path))
    return predictor.model, program


def traces(path: Path, content: bytes) -> Mapping[str, Trace]:
    """What shows the codes of the quantized TorchScript model in ``content``: by one graph, the file's."""
    return {"TorchScript": Trace(path, content)}


class Trace:
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
        from resnet8.network import torch_read

        _, module = _opened(path, content)
        extraction = torch_read.extract(module, str(path))
        self.program: Program = extraction.program
        self._activations = tuple(self.program.activations.values())
        self._margins = extraction.margins
        self._module = module._c  # the object that the graph's first input is
        graph = extraction.graph
        values = {value.debugName(): value for node in graph.nodes() for value in node.outputs()}
        shown = [next(graph.outputs()), *(values[activation.name] for activation in self._activations)]
        self._function = as_function(graph, shown)

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
