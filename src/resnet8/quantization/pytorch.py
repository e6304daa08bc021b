"""Static quantization with PyTorch: FX graph mode on the onnx2torch module, fbgemm kernels."""

from __future__ import annotations

import copy
import json
import logging
import zipfile
from typing import TYPE_CHECKING

import torch
from torch.ao.quantization import (
    HistogramObserver,
    MinMaxObserver,
    QConfig,
    QConfigMapping,
    get_default_qconfig_mapping,
)
from torch.ao.quantization.quantize_fx import convert_fx, prepare_fx

from resnet8.cifar10 import preprocess
from resnet8.conversion.onnx_to_pytorch import SOURCE_FILE, save, to_module
from resnet8.errors import BackendRefusal, ModelError
from resnet8.files import read_bytes, sha256_file
from resnet8.runtimes import identify
from resnet8.runtimes.pytorch import ENGINE

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from resnet8.recipes import Recipe

log = logging.getLogger(__name__)

_BATCH = 32
"""Images per calibration step, as published: the histogram observers depend on it."""


def source_onnx(model: Path) -> Path:
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
    with zipfile.ZipFile(model) as archive:
        member = next((name for name in archive.namelist() if name.endswith(f"extra/{SOURCE_FILE}")), None)
        wanted = json.loads(archive.read(member)).get("onnx_sha256") if member else None
    if wanted is None:
        raise ModelError(
            f"{model} does not say which ONNX file it was converted from",
            expected="a float .pt written by «resnet8 convert»",
            remedy="name the ONNX file instead",
        )
    for candidate in sorted(model.parent.glob("*.onnx")):
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
        ModelError: when the file is damaged, quantized already, or no ResNet8.
        BackendRefusal: when the backend does not compute with the recipe's data types.
    """
    module = to_module(model)
    torch.backends.quantized.engine = ENGINE
    batches = [torch.from_numpy(preprocess(images[start : start + _BATCH])) for start in range(0, len(images), _BATCH)]
    if recipe.weights == "int8":
        quantized = _converted(module, get_default_qconfig_mapping(ENGINE), batches)
    else:
        # Whether the backend takes the types shows after one batch; only then is the whole set worth observing.
        _require_integer_convolutions(_converted(module, _uint8_mapping(), batches[:1]), module, recipe)
        quantized = _converted(module, _uint8_mapping(), batches)
    _require_integer_convolutions(quantized, module, recipe)
    source = {"onnx_sha256": sha256_file(model), "recipe": recipe.name}
    return save(torch.jit.script(quantized), source)


def _converted(
    module: torch.fx.GraphModule, mapping: QConfigMapping, batches: Sequence[torch.Tensor]
) -> torch.fx.GraphModule:
    """A quantized copy of ``module``, its ranges observed on ``batches``."""
    prepared = prepare_fx(copy.deepcopy(module), mapping, (batches[0][:1],))
    with torch.inference_mode():
        for batch in batches:
            prepared(batch)
    return convert_fx(prepared)


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


def _uint8_mapping() -> QConfigMapping:
    return QConfigMapping().set_global(
        QConfig(
            activation=HistogramObserver.with_args(reduce_range=True),
            weight=MinMaxObserver.with_args(dtype=torch.quint8, qscheme=torch.per_tensor_affine),
        )
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
