"""Keras .h5 to ONNX, with tf2onnx. Runs in a process without torch (see resnet8.workers)."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import onnx

# The runtime first: it sets what TensorFlow reads when it is imported.
from resnet8.runtimes import keras as runtime

# isort: split
import tensorflow as tf
import tf2onnx

from resnet8.conversion import structure
from resnet8.errors import ConversionError
from resnet8.network import IMAGE_SHAPE, INPUT_NAME, IR_VERSION, OPSET

if TYPE_CHECKING:
    from pathlib import Path

    from resnet8.results import Structure

log = logging.getLogger(__name__)


def keras_to_onnx(keras_model: Path) -> tuple[bytes, Structure]:
    """Convert a Keras ResNet8 to ONNX and verify its structure.

    Returns:
        The ONNX file's content (input ``input``, float32 (batch, 32, 32, 3) NHWC, dynamic batch; output (batch, 10),
        softmax; opset 13, IR 7), and what it was found to contain.

    Raises:
        ModelError: when the Keras file cannot be loaded.
        ConversionError: when the graph is not ResNet8's.
    """
    network = runtime.load(keras_model)
    log.info("loaded %s: %d parameters", keras_model, network.count_params())
    structure.require_parameters(network.count_params())
    signature = (tf.TensorSpec((None, *IMAGE_SHAPE), tf.float32, name=INPUT_NAME),)
    try:
        model, _ = tf2onnx.convert.from_keras(network, input_signature=signature, opset=OPSET)
    except Exception as error:
        raise ConversionError(
            f"tf2onnx cannot convert {keras_model}",
            found=f"{type(error).__name__}: {error!s:.160}",
            expected="MLPerf Tiny's ResNet8",
        ) from error
    # onnx's helpers write the newest version they know, which runtimes read only later.
    model.ir_version = IR_VERSION
    structure.settle(model)
    onnx.checker.check_model(model, full_check=True)
    found = structure.describe(model, network.count_params())
    structure.require(found)
    log.info("converted: %s", found)
    return model.SerializeToString(), found
