"""Static quantization with ONNX Runtime: QDQ format, MinMax ranges."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnxruntime.quantization import (
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quant_pre_process,
    quantize_static,
)
from onnxruntime.quantization.calibrate import TensorsData, save_tensors_data

from resnet8.facts import IR_VERSION
from resnet8.files import read_bytes, scratch_folder
from resnet8.quantization.ranges import ranges
from resnet8.runtimes.onnx_file import read_float
from resnet8.workers import no_progress

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from resnet8.quantization.recipes import Recipe
    from resnet8.workers import Progress

log = logging.getLogger(__name__)

_TYPES = {"int8": QuantType.QInt8, "uint8": QuantType.QUInt8}

_OBSERVERS = {"minmax": ranges}
"""What finds the range of every tensor, by the recipe's name for it."""


def source(model: Path) -> Path:
    """The ONNX file to quantize from: ``model`` itself."""
    return model


def quantize(
    model: Path,
    recipe: Recipe,
    images: NDArray[np.uint8],
    progress: Progress = no_progress,  # noqa: ARG001 - the framework tells none
) -> bytes:
    """Quantize a float ONNX ResNet8.

    Args:
        model: The file.
        recipe: The settings.
        images: Calibration images, uint8 (N, 32, 32, 3), fed as in evaluation.
        progress: Not told.

    Returns:
        The quantized ONNX file's content, of the source's opset and IR version: the same bytes on every CPU where the
        recipe observes in float64.

    Raises:
        QuantizationError: for a recipe that asks for what is not done here.
        ModelError: when the file is damaged, quantized already, or no ResNet8.
    """
    recipe.require(observer=_OBSERVERS)
    if recipe.activations == "int8":  # quantize_static has no other weights for them
        recipe.require("give it int8 weights, or uint8 activations, which go with both", weights=("int8",))
    content = read_bytes(model)
    network = read_float(model, content)
    with scratch_folder() as folder:
        given, result = folder / "float.onnx", folder / "quantized.onnx"
        given.write_bytes(content)
        if recipe.fold:
            folded = folder / "folded.onnx"
            # The shapes here need no symbolic inference, and it imports sympy.
            quant_pre_process(str(given), str(folded), skip_symbolic_shape=True)
            log.info("folded: %d nodes of %d", len(onnx.load(folded).graph.node), len(network.graph.node))
        observed = folded if recipe.fold else given
        known = folder / "ranges.json"
        save_tensors_data(_ranges(observed, recipe, images), known)
        quantize_static(
            str(observed),
            str(result),
            None,
            calibration_cache_path=str(known),
            quant_format=QuantFormat.QDQ,
            per_channel=recipe.per_channel,
            reduce_range=recipe.reduce_range,
            activation_type=_TYPES[recipe.activations],
            weight_type=_TYPES[recipe.weights],
            calibrate_method=CalibrationMethod.MinMax,
        )
        quantized = onnx.load(result)
    # Pre-processing declares every operator set that ONNX Runtime knows, used or not.
    used = {node.domain for node in quantized.graph.node}
    kept = [entry for entry in quantized.opset_import if entry.domain in used]
    del quantized.opset_import[:]
    quantized.opset_import.extend(kept)
    quantized.ir_version = IR_VERSION
    onnx.checker.check_model(quantized)
    return bytes(quantized.SerializeToString())


def _ranges(model: Path, recipe: Recipe, images: NDArray[np.uint8]) -> TensorsData:
    """What the recipe's observer finds, in ONNX Runtime's form of a calibration."""
    inferred = onnx.shape_inference.infer_shapes(onnx.load(model))
    found = _OBSERVERS[recipe.observer](inferred, images, recipe.observed_in).items()
    return TensorsData(CalibrationMethod.MinMax, {name: (np.array(low), np.array(high)) for name, (low, high) in found})
