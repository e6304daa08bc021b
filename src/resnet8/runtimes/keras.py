"""Keras .h5 files in Keras with TensorFlow, on the CPU. Keep it in a process without torch (see resnet8.workers)."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

# Before the import: TensorFlow reads these once. Its start-up messages are no news to the user.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
os.environ["KERAS_BACKEND"] = "tensorflow"

import keras
import tensorflow as tf

from resnet8.errors import ModelError, Resnet8Error
from resnet8.files import scratch_folder
from resnet8.results import ModelDescription
from resnet8.runtimes.base import Predictor, require_shapes

if TYPE_CHECKING:
    from pathlib import Path


def load(path: Path, content: bytes) -> keras.Model:
    """The Keras model in ``content``, checked to be a ResNet8 by its shapes; ``path`` only names it in errors.

    Raises:
        ModelError: when it cannot be loaded or has other shapes.
    """
    try:
        with scratch_folder() as folder:  # Keras goes by a file's name
            copy = folder / "model.h5"
            copy.write_bytes(content)
            # safe_mode: a Lambda layer in the file would run code.
            network = keras.models.load_model(copy, compile=False, safe_mode=True)
    except Resnet8Error:
        raise
    except Exception as error:
        raise ModelError(
            f"{path} is no Keras model that can be loaded",
            found=f"{type(error).__name__}: {error!s:.160}",
            expected="a complete Keras .h5 file",
            remedy="it is truncated or damaged: fetch it anew with «resnet8 fetch»",
        ) from error
    require_shapes(path, network.input_shape[1:], network.output_shape[1:])
    return network


def open_content(path: Path, content: bytes) -> Predictor:
    """Open the Keras model in ``content``; TensorFlow divides the work among CPUs itself.

    Raises:
        ModelError: as :func:`load`.
    """
    network = load(path, content)
    call = tf.function(lambda images: network(images, training=False), reduce_retracing=True)
    description = ModelDescription.of(path, content, "keras-h5", "float32", "float32")
    return Predictor("keras", description, lambda images: call(tf.constant(images)).numpy())
