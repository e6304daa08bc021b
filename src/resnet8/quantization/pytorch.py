"""Static quantization with PyTorch: FX graph mode on the onnx2torch module, fbgemm kernels."""

from __future__ import annotations

import copy
import logging
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
import torch.fx.config
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

from resnet8.conversion.onnx_to_pytorch import save, to_module
from resnet8.data.cifar10 import preprocess
from resnet8.errors import BackendRefusal, ModelError, StorageError
from resnet8.files import read_bytes, sha256_file
from resnet8.results import sha256
from resnet8.runtimes import identify
from resnet8.runtimes.pytorch import ENGINE
from resnet8.runtimes.torchscript_file import source_sha256

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from resnet8.quantization.recipes import Recipe

log = logging.getLogger(__name__)

_BATCH = 32
"""Images per calibration step, as published: the histogram observers depend on it."""

_AT_ONCE = 4
"""Images whose patches are in memory at once in float64."""


def source(model: Path) -> Path:
    """The ONNX file to quantize from: ``model`` itself, or the one beside a .pt that it was converted from.

    FX graph mode needs the module's Python form, which a TorchScript file has not; the module is made anew from ONNX.

    Raises:
        ModelError: when ``model`` is neither, or its source is not beside it.
    """
    content = read_bytes(model)
    kind = identify(model, content).format
    if kind == "onnx":
        return model
    if kind != "torchscript":
        raise ModelError(f"{model} cannot be quantized with PyTorch", found=kind, expected="an ONNX file, or its .pt")
    if (wanted := source_sha256(content)) is None:
        raise ModelError(
            f"{model} does not say which ONNX file it was converted from",
            expected="a float .pt written by «resnet8 convert»",
            remedy="name the ONNX file instead",
        )
    for candidate in sorted(model.parent.glob("*.onnx")):
        with suppress(StorageError):  # something else that lies there
            if sha256_file(candidate) == wanted:
                return candidate
    raise ModelError(
        f"the ONNX file that {model} was converted from is not beside it",
        found=f"no .onnx file in {model.parent} with sha256 {wanted[:12]}…",
        expected="the file that «resnet8 convert» wrote with it",
        remedy="put it there, or name it as the model to quantize",
    )


def quantize(model: Path, recipe: Recipe, images: NDArray[np.uint8]) -> bytes:
    """Quantize a float ResNet8.

    Args:
        model: Its ONNX file.
        recipe: The settings.
        images: Calibration images, uint8 (N, 32, 32, 3), fed as in evaluation.

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
        _require_integer_convolutions(_converted(module, recipe, images[:_BATCH]), module, recipe)
    quantized = _converted(module, recipe, images)
    _require_integer_convolutions(quantized, module, recipe)
    return save(lambda: torch.jit.script(quantized), {"onnx_sha256": sha256(content), "recipe": recipe.name})


def _converted(module: torch.fx.GraphModule, recipe: Recipe, images: NDArray[np.uint8]) -> torch.fx.GraphModule:
    """A quantized copy of ``module``, its ranges observed on ``images``.

    The network that is observed, and the observers, work in float64: which of a histogram's bins a range ends at does
    not depend on the last bits that the CPU's float32 kernels leave open.
    """
    batches = [
        torch.from_numpy(preprocess(images[start : start + _BATCH])).double() for start in range(0, len(images), _BATCH)
    ]
    # Nobody reads where in the source a node was traced, and finding it out imports a compiler.
    torch.fx.config.do_not_emit_stack_traces = True
    wide = copy.deepcopy(module).double()
    for part in wide.modules():
        if type(part) is torch.nn.Conv2d:
            part._conv_forward = partial(_in_parts, part._conv_forward)
    prepared = prepare_fx(wide, _mapping(recipe), (batches[0][:1],))
    _observe(prepared, batches)
    for part in prepared.modules():
        if not isinstance(part, ObserverBase):
            _narrow(part)
    return convert_fx(prepared)


def _in_parts(convolve: Callable[..., torch.Tensor], images: torch.Tensor, *operands: Any) -> torch.Tensor:
    """A convolution in float64, a few images at once: the patches of a whole batch outgrow the cache."""
    return torch.cat([convolve(part, *operands) for part in images.split(_AT_ONCE)])


def _observe(prepared: torch.fx.GraphModule, batches: list[torch.Tensor]) -> None:
    """Show every activation of every batch to its observer; one thread observes while the next batch is computed."""
    observers = [part for part in prepared.modules() if isinstance(part, _Histogram)]

    def count(seen: list[tuple[_Histogram, torch.Tensor]]) -> None:
        with torch.inference_mode():
            for observer, activation in seen:
                observer.observe(activation)

    seen: list[tuple[_Histogram, torch.Tensor]] = []
    for observer in observers:
        observer.seen = seen
    with ThreadPoolExecutor(1) as pool:
        pending = pool.submit(count, [])
        for batch in batches:
            with torch.inference_mode():
                prepared(batch)
            pending.result()  # no more than two batches' activations in memory
            pending = pool.submit(count, seen.copy())
            seen.clear()
        pending.result()


def _narrow(part: torch.nn.Module) -> None:
    """Give a module its own float32 weights back: they were float32 before they were widened."""
    for values in (part._parameters, part._buffers):
        for name, value in values.items():
            if value is not None and value.dtype == torch.float64:
                values[name] = type(value)(value.float()) if isinstance(value, torch.nn.Parameter) else value.float()


class _Histogram(HistogramObserver):  # type: ignore[misc]
    """The default observer of fbgemm's activations, in float64; its scale is rounded to float32 once."""

    def __init__(self) -> None:
        super().__init__(reduce_range=True, factory_kwargs={"dtype": torch.float64})
        self.seen: list[tuple[_Histogram, torch.Tensor]] = []

    def forward(self, x_orig: torch.Tensor) -> torch.Tensor:
        """Note an activation, for :meth:`observe` to look at."""
        self.seen.append((self, x_orig))
        return x_orig

    def observe(self, activation: torch.Tensor) -> None:
        """Count the values of an activation, and widen the range."""
        super().forward(activation)

    def calculate_qparams(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Scale, float32, and zero point."""
        scale, zero_point = super().calculate_qparams()
        return scale.float(), zero_point


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
