"""Keras .h5 files in Keras with TensorFlow, on the CPU. Keep it in a process without torch (see resnet8.workers)."""

from __future__ import annotations

import os
from types import MappingProxyType
from typing import TYPE_CHECKING

# Before the import: TensorFlow reads these once. Its start-up messages are no news to the user.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
os.environ["KERAS_BACKEND"] = "tensorflow"

import keras
import tensorflow as tf

from resnet8.errors import ModelError
from resnet8.results import ModelDescription, sha256
from resnet8.runtimes.base import require_shapes

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray


class KerasPredictor:
    """A Keras model (see :class:`resnet8.runtimes.base.Predictor`); TensorFlow divides the work itself."""

    backend = "keras"
    requantization: str | None = None
    session_options: Mapping[str, str] = MappingProxyType({})
    threads = 1

    def __init__(self, model: ModelDescription, network: keras.Model) -> None:
        self.model = model
        self._call = tf.function(lambda images: network(images, training=False), reduce_retracing=True)

    def probabilities(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Class probabilities, float32 (N, 10)."""
        output: NDArray[np.float32] = self._call(tf.constant(images)).numpy()
        return output


def load(path: Path) -> keras.Model:
    """The Keras model in ``path``, checked to be a ResNet8 by its shapes.

    Raises:
        ModelError: when it cannot be loaded or has other shapes.
    """
    try:
        # safe_mode: a Lambda layer in the file would run code.
        network = keras.models.load_model(path, compile=False, safe_mode=True)
    except Exception as error:
        raise ModelError(
            f"{path} is no Keras model that can be loaded",
            found=f"{type(error).__name__}: {error!s:.160}",
            expected="a complete Keras .h5 file",
            remedy="it is truncated or damaged: fetch it anew with «resnet8 fetch»",
        ) from error
    require_shapes(path, network.input_shape[1:], network.output_shape[1:])
    return network


def open_content(path: Path, content: bytes) -> KerasPredictor:
    """Open the Keras model at ``path``, whose bytes are ``content``.

    Raises:
        ModelError: as :func:`load`.
    """
    description = ModelDescription(
        path=str(path),
        sha256=sha256(content),
        size_bytes=len(content),
        format="keras-h5",
        activations="float32",
        weights="float32",
    )
    return KerasPredictor(description, load(path))
