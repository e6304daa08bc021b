"""TensorFlow Lite files in LiteRT: the reference's own models, as a row to compare with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from resnet8.environment import cpu
from resnet8.results import ModelDescription
from resnet8.runtimes.base import Predictor, require_shapes

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


def open_content(path: Path, content: bytes) -> Predictor:
    """Open the TensorFlow Lite model in ``content``; an interpreter serves one thread.

    A full-integer model takes and gives int8: the images are quantized, and the probabilities dequantized, with the
    scale and zero point in the file (round half to even, as LiteRT's own Quantize operator need not be asked).

    Raises:
        ModelError: when it is no ResNet8.
    """
    interpreter = Interpreter(model_content=content, num_threads=cpu().logical_cpus)
    interpreter.allocate_tensors()
    source, sink = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    require_shapes(path, tuple(source["shape"][1:].tolist()), tuple(sink["shape"][1:].tolist()))
    fed_shape = tuple(source["shape"].tolist())

    def probabilities(images: NDArray[np.float32]) -> NDArray[np.float32]:
        nonlocal fed_shape
        if fed_shape != images.shape:
            interpreter.resize_tensor_input(source["index"], images.shape)
            interpreter.allocate_tensors()
            fed_shape = images.shape
        fed: NDArray[np.generic] = images
        if source["dtype"] == np.int8:
            scale, zero_point = source["quantization"]
            fed = np.clip(np.rint(images / np.float32(scale)) + zero_point, -128, 127).astype(np.int8)
        interpreter.set_tensor(source["index"], fed)
        interpreter.invoke()
        output: NDArray[np.float32] = interpreter.get_tensor(sink["index"])
        if sink["dtype"] == np.int8:
            scale, zero_point = sink["quantization"]
            output = (output.astype(np.float32) - zero_point) * np.float32(scale)
        return output

    kind = "int8" if source["dtype"] == np.int8 else "float32"
    return Predictor("litert", ModelDescription.of(path, content, "tflite", kind, kind), probabilities)
