"""TensorFlow Lite files in LiteRT: the reference's own models, as a row to compare with."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from resnet8.environment import cpu
from resnet8.facts import IMAGE_SHAPE
from resnet8.results import ModelDescription, sha256
from resnet8.runtimes.base import require_shapes

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray


class LiteRtPredictor:
    """A TensorFlow Lite model (see :class:`resnet8.runtimes.base.Predictor`); an interpreter serves one thread.

    A full-integer model takes and gives int8: the images are quantized, and the probabilities dequantized, with the
    scale and zero point in the file (round half to even, as LiteRT's own Quantize operator need not be asked).
    """

    backend = "litert"
    requantization: str | None = None
    session_options: Mapping[str, str] = MappingProxyType({})
    threads = 1

    def __init__(self, model: ModelDescription, interpreter: Interpreter) -> None:
        self.model = model
        self._interpreter = interpreter
        self._input = interpreter.get_input_details()[0]
        self._output = interpreter.get_output_details()[0]
        self._batch = 0

    def probabilities(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Class probabilities, float32 (N, 10)."""
        if self._batch != len(images):
            self._interpreter.resize_tensor_input(self._input["index"], (len(images), *IMAGE_SHAPE))
            self._interpreter.allocate_tensors()
            self._batch = len(images)
        fed: NDArray[np.generic] = images
        if self._input["dtype"] == np.int8:
            scale, zero_point = self._input["quantization"]
            fed = np.clip(np.rint(images / np.float32(scale)) + zero_point, -128, 127).astype(np.int8)
        self._interpreter.set_tensor(self._input["index"], fed)
        self._interpreter.invoke()
        output: NDArray[np.float32] = self._interpreter.get_tensor(self._output["index"])
        if self._output["dtype"] == np.int8:
            scale, zero_point = self._output["quantization"]
            output = (output.astype(np.float32) - zero_point) * np.float32(scale)
        return output


def open_content(path: Path, content: bytes) -> LiteRtPredictor:
    """Open the TensorFlow Lite model in ``content``.

    Raises:
        ModelError: when it is no ResNet8.
    """
    interpreter = Interpreter(model_content=content, num_threads=cpu().logical_cpus)
    interpreter.allocate_tensors()
    inputs, outputs = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    require_shapes(path, tuple(inputs["shape"][1:].tolist()), tuple(outputs["shape"][1:].tolist()))
    kind = "int8" if inputs["dtype"] == np.int8 else "float32"
    description = ModelDescription(
        path=str(path),
        sha256=sha256(content),
        size_bytes=len(content),
        format="tflite",
        activations=kind,
        weights=kind,
    )
    return LiteRtPredictor(description, interpreter)
