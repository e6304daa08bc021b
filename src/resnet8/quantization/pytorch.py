"""Static quantization with PyTorch: FX graph mode on the onnx2torch module, fbgemm kernels."""

from __future__ import annotations

import copy
import logging
from functools import partial
from typing import TYPE_CHECKING

import torch
import torch.fx.config

from resnet8.conversion.onnx_to_pytorch import save, to_module
from resnet8.errors import BackendRefusal, QuantizationError
from resnet8.facts import LAST_WITH_FX
from resnet8.files import read_bytes
from resnet8.quantization.wide import FEW, Wide, batches, in_parts, narrow, observe, source
from resnet8.results import sha256
from resnet8.runtimes.pytorch import ENGINE

try:
    from torch.ao.quantization import (
        HistogramObserver,
        MinMaxObserver,
        PerChannelMinMaxObserver,
        QConfig,
        QConfigMapping,
        get_default_qconfig_mapping,
    )
    from torch.ao.quantization.observer import ObserverBase
    from torch.ao.quantization.quantize_fx import convert_fx, prepare_fx
except ImportError as error:
    raise QuantizationError(
        "FX graph mode quantization is not in this PyTorch",
        found=f"torch {torch.__version__}: {error}",
        expected=f"torch {LAST_WITH_FX} or before: the last release that is known to have torch.ao.quantization",
        remedy=f"pip install 'torch=={LAST_WITH_FX}', or use the recipe torch-pt2e-int8",
    ) from error
from resnet8.workers import no_progress

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from resnet8.quantization.recipes import Recipe
    from resnet8.workers import Progress

__all__ = ["quantize", "source"]

log = logging.getLogger(__name__)


def quantize(
    model: Path,
    recipe: Recipe,
    images: NDArray[np.uint8],
    progress: Progress = no_progress,  # noqa: ARG001 - the framework tells none
) -> bytes:
    """Quantize a float ResNet8.

    Args:
        model: Its ONNX file.
        recipe: The settings.
        images: Calibration images, uint8 (N, 32, 32, 3), fed as in evaluation.
        progress: Not told.

    Returns:
        The quantized TorchScript file's content.

    Raises:
        QuantizationError: for a recipe that asks for what is not done here.
        ModelError: when the file is damaged, quantized already, or no ResNet8.
        BackendRefusal: when the backend does not compute with the recipe's data types.
    """
    # The engine's kernels know one type of activations.
    recipe.require(
        activations=("uint8",), observer=_OBSERVERS, observed_in=("float64",), fold=(False,), reduce_range=(False,)
    )
    content = read_bytes(model)
    module = to_module(model, content)
    torch.backends.quantized.engine = ENGINE
    if recipe.weights != "int8":
        # Whether the backend takes the types shows after one batch; only then is the whole set worth observing.
        _require_integer_convolutions(_converted(module, recipe, images[:FEW]), module, recipe)
    quantized = _converted(module, recipe, images)
    _require_integer_convolutions(quantized, module, recipe)
    return save(lambda: torch.jit.script(quantized), {"onnx_sha256": sha256(content), "recipe": recipe.name})


def _converted(module: torch.fx.GraphModule, recipe: Recipe, images: NDArray[np.uint8]) -> torch.fx.GraphModule:
    """A quantized copy of ``module``, its ranges observed in float64 on ``images``."""
    shown = batches(images)
    # Nobody reads where in the source a node was traced, and finding it out imports a compiler.
    torch.fx.config.do_not_emit_stack_traces = True
    wide = copy.deepcopy(module).double()
    for part in wide.modules():
        if type(part) is torch.nn.Conv2d:
            part._conv_forward = partial(in_parts, part._conv_forward)
    prepared = prepare_fx(wide, _mapping(recipe), (shown[0][:1],))
    observe(prepared, shown)
    for part in prepared.modules():
        if not isinstance(part, ObserverBase):
            narrow(part)
    return convert_fx(prepared)


class _Histogram(Wide, HistogramObserver):  # type: ignore[misc]
    """The default observer of fbgemm's activations, in float64."""

    def __init__(self) -> None:
        super().__init__(reduce_range=True, factory_kwargs={"dtype": torch.float64})


_OBSERVERS: dict[str, type[_Histogram]] = {"histogram": _Histogram}
"""The activations' observers, by the recipe's name for them."""

_WEIGHTS = {
    ("int8", False): MinMaxObserver.with_args(dtype=torch.qint8, qscheme=torch.per_tensor_symmetric),
    ("int8", True): PerChannelMinMaxObserver.with_args(dtype=torch.qint8, qscheme=torch.per_channel_symmetric),
    ("uint8", False): MinMaxObserver.with_args(dtype=torch.quint8, qscheme=torch.per_tensor_affine),
    ("uint8", True): PerChannelMinMaxObserver.with_args(dtype=torch.quint8, qscheme=torch.per_channel_affine),
}
"""The weights' observers, by data type and whether each channel has a scale of its own: signed ones are symmetric."""


def _mapping(recipe: Recipe) -> QConfigMapping:
    """The default configuration for fbgemm, with the recipe's weights, and activations observed in float64."""
    own = QConfig(activation=_OBSERVERS[recipe.observer], weight=_WEIGHTS[recipe.weights, recipe.per_channel])
    return get_default_qconfig_mapping(ENGINE).set_global(own)


def _require_integer_convolutions(
    quantized: torch.fx.GraphModule, module: torch.fx.GraphModule, recipe: Recipe
) -> None:
    left = sum(type(part) is torch.nn.Conv2d for part in quantized.modules())
    if left:
        raise BackendRefusal(
            f"PyTorch cannot quantize to {recipe.activations} activations and {recipe.weights} weights",
            found=f"FX graph mode leaves {left} convolutions in float32, and {ENGINE}'s conv2d_prepack says: "
            f"{_words_of_the_kernel(module)}",
            expected="int8 weights",
            remedy="use the recipe torch-int8",
        )


def _words_of_the_kernel(module: torch.fx.GraphModule) -> str:
    """What the backend's convolution says to the network's own weights as quint8."""
    convolution = next(part for part in module.modules() if type(part) is torch.nn.Conv2d)
    weights = convolution.weight.detach()
    scale = float(weights.max() - weights.min()) / 255
    zero_point = round(-float(weights.min()) / scale)
    coded = torch.quantize_per_tensor(weights, scale, zero_point, torch.quint8)
    try:
        torch.ops.quantized.conv2d_prepack(
            coded, None, convolution.stride, convolution.padding, convolution.dilation, convolution.groups
        )
    except RuntimeError as error:
        return str(error).strip().splitlines()[0]
    return "no objection"
