"""Static quantization with PyTorch 2 export (PT2E) in torchao: int8 weights in fbgemm's kernels, uint8 in a reference.

The network that is exported is the one with its batch normalizations folded. What is on a grid: the images, what each
convolution, dense layer and sum writes (behind its ReLU), and what pads, averages and flattens, on the grid of its
input. What PT2E makes of it computes in float on dequantized codes; :mod:`resnet8.quantization.lowering` puts that into
TorchScript, which is read before it is loaded. A .pt2 archive of ``torch.export.save`` may hold pickles that are run.
"""

from __future__ import annotations

import logging
import threading
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
import torch.fx.config
from tqdm import tqdm

from resnet8.conversion.onnx_to_pytorch import save, to_module
from resnet8.facts import IMAGE_SHAPE
from resnet8.files import read_bytes, scratch_folder
from resnet8.quantization.lowering import lowered
from resnet8.quantization.wide import Wide, batches, in_parts, narrow, observe, source
from resnet8.results import sha256
from resnet8.runtimes.onnx_file import read_float
from resnet8.runtimes.pytorch import ENGINE
from resnet8.workers import no_progress

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from resnet8.quantization.recipes import Recipe
    from resnet8.workers import Progress


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what torchao and torch say of each other, known and pinned, and the many records of a trace."""
    # torch's own progress bar, which it shows nobody, would make a lock among processes, and leave it behind.
    tqdm.set_lock(threading.RLock())
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


with _quiet():
    from torchao.quantization.pt2e import HistogramObserver, MinMaxObserver, PerChannelMinMaxObserver
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
    from torchao.quantization.pt2e.quantizer import (
        QuantizationAnnotation,
        QuantizationSpec,
        Quantizer,
        SharedQuantizationSpec,
    )

__all__ = ["quantize", "source"]

_aten = torch.ops.aten
_WEIGHTED = (_aten.conv2d.default, _aten.linear.default)
_SAME_GRID = (_aten.avg_pool2d.default, _aten.flatten.using_ints, _aten.pad.default)
_ANNOTATION = "quantization_annotation"


class _Histogram(Wide, HistogramObserver):  # type: ignore[misc]
    def __init__(self, **how: Any) -> None:
        super().__init__(**how | {"factory_kwargs": {"dtype": torch.float64}})


class _MinMax(Wide, MinMaxObserver):  # type: ignore[misc]
    def __init__(self, **how: Any) -> None:
        super().__init__(**how | {"factory_kwargs": {"dtype": torch.float64}})


class _PerChannel(Wide, PerChannelMinMaxObserver):  # type: ignore[misc]
    pass


_OBSERVERS = {"histogram": _Histogram, "minmax": _MinMax}
"""The activations' observers, by the recipe's name for them."""

_SCHEMES = {
    ("int8", False): torch.per_tensor_symmetric,
    ("int8", True): torch.per_channel_symmetric,
    ("uint8", False): torch.per_tensor_affine,
    ("uint8", True): torch.per_channel_affine,
}
"""By the weights' type and whether each channel has a scale of its own: signed ones are symmetric."""


def quantize(
    model: Path,
    recipe: Recipe,
    images: NDArray[np.uint8],
    progress: Progress = no_progress,  # noqa: ARG001 - the framework tells none
) -> bytes:
    """Quantize a float ResNet8.

    Args:
        model: Its ONNX file.
        recipe: The settings. With int8 weights the file computes with fbgemm's kernels; with uint8 weights, which they
            refuse, it dequantizes codes and computes in float.
        images: Calibration images, uint8 (N, 32, 32, 3), fed as in evaluation.
        progress: Not told.

    Returns:
        The quantized TorchScript file's content: the same bytes on every CPU.

    Raises:
        QuantizationError: for a recipe that asks for what is not done here.
        ModelError: when the file is damaged, quantized already, or no ResNet8.
    """
    recipe.require(activations=("uint8",), observer=_OBSERVERS, observed_in=("float64",), fold=(True,))
    content = read_bytes(model)
    read_float(model, content)
    torch.backends.quantized.engine = ENGINE
    with _quiet():
        converted = _converted(_folded(model, content), recipe, images)
        module = lowered(converted, kernels=recipe.weights == "int8")
    return save(lambda: torch.jit.script(module), {"onnx_sha256": sha256(content), "recipe": recipe.name})


def _folded(model: Path, content: bytes) -> torch.nn.Module:
    """The module of the network that ONNX Runtime's pre-processing makes of a file: its products are rounded once."""
    from onnxruntime.quantization import quant_pre_process

    with scratch_folder() as folder:
        given, result = folder / "float.onnx", folder / "folded.onnx"
        given.write_bytes(content)
        quant_pre_process(str(given), str(result), skip_symbolic_shape=True)
        return to_module(model, read_bytes(result))


def _converted(module: torch.nn.Module, recipe: Recipe, images: NDArray[np.uint8]) -> torch.fx.GraphModule:
    """What PT2E makes of ``module``, its ranges observed in float64 on ``images``."""
    # Nobody reads where in the source a node was traced.
    torch.fx.config.do_not_emit_stack_traces = True
    batch = ({0: torch.export.Dim("batch")},)
    exported = torch.export.export(module, (torch.zeros(2, *IMAGE_SHAPE),), dynamic_shapes=batch, strict=False)
    prepared = prepare_pt2e(exported.module(check_guards=False).double(), _Quantizer(recipe))
    convolutions = [node for node in prepared.graph.nodes if node.target is _aten.conv2d.default]
    for node in convolutions:
        node.target = _convolve
    prepared.recompile()
    observe(prepared, batches(images))
    for node in convolutions:
        node.target = _aten.conv2d.default
    for part in prepared.modules():
        if not isinstance(part, Wide):
            narrow(part)
    return convert_pt2e(prepared)


def _convolve(images: torch.Tensor, *operands: Any) -> torch.Tensor:
    return in_parts(_aten.conv2d.default, images, *operands)


class _Quantizer(Quantizer):  # type: ignore[misc]
    """Says what is put on which grid."""

    def __init__(self, recipe: Recipe) -> None:
        low, high = (-128, 127) if recipe.weights == "int8" else (0, 255)
        if recipe.reduce_range:
            low, high = low // 2, high // 2
        self._activations = QuantizationSpec(torch.uint8, _OBSERVERS[recipe.observer], 0, 255, torch.per_tensor_affine)
        self._weights = QuantizationSpec(
            torch.int8 if recipe.weights == "int8" else torch.uint8,
            _PerChannel if recipe.per_channel else _MinMax,
            low,
            high,
            _SCHEMES[recipe.weights, recipe.per_channel],
            0 if recipe.per_channel else None,
        )

    def annotate(self, model: torch.fx.GraphModule) -> torch.fx.GraphModule:
        """Note at each operator the grids of what it reads and writes."""
        for node in model.graph.nodes:
            if node.target in _WEIGHTED:
                self._note(node, {node.args[0]: self._activations, node.args[1]: self._weights})
            elif node.target is _aten.add.Tensor:
                self._note(node, dict.fromkeys(node.args[:2], self._activations))
            elif node.target in _SAME_GRID:
                read = node.args[0]
                shared = SharedQuantizationSpec((read, node))
                node.meta[_ANNOTATION] = QuantizationAnnotation({read: self._activations}, shared, _annotated=True)
        return model

    def _note(self, node: torch.fx.Node, read: dict[torch.fx.Node, QuantizationSpec]) -> None:
        node.meta[_ANNOTATION] = QuantizationAnnotation(read, _annotated=True)
        readers = list(node.users)
        if len(readers) == 1 and readers[0].target is _aten.relu.default:
            node = readers[0]
            node.meta[_ANNOTATION] = QuantizationAnnotation({}, _annotated=True)
        node.meta[_ANNOTATION].output_qspec = self._activations

    def validate(self, model: torch.fx.GraphModule) -> None:
        """Nothing to check: what is lowered afterwards is checked there."""
