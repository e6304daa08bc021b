"""Keras .h5 to ONNX, with tf2onnx. Runs in a process without torch (see resnet8.workers)."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np
import onnx

# The runtime first: it sets what TensorFlow reads when it is imported.
from resnet8.runtimes import keras as runtime

# isort: split
import keras
import tensorflow as tf
import tf2onnx

from resnet8.conversion import folding, structure
from resnet8.errors import ConversionError
from resnet8.facts import IMAGE_SHAPE, INPUT_NAME, IR_VERSION, OPSET
from resnet8.files import read_bytes

if TYPE_CHECKING:
    from pathlib import Path

log = logging.getLogger(__name__)


def keras_to_onnx(keras_model: Path) -> structure.Converted:
    """Convert a Keras ResNet8 to ONNX and verify its structure: the same bytes on every machine.

    Raises:
        ModelError: when the Keras file cannot be loaded.
        ConversionError: when the graph is not ResNet8's.
    """
    network = runtime.load(keras_model, read_bytes(keras_model))
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
    folded = folding.settle(model, *_parts(network))
    onnx.checker.check_model(model, full_check=True)
    found = structure.describe(model, network.count_params())
    structure.require(found)
    log.info("converted: %s", found)
    for one in folded:
        log.info("folded %s: %d of %d values off, by up to %d ulp", one.name, one.off, len(one.ulps), one.largest)
    return structure.Converted(model.SerializeToString(), found, folded)


def _parts(network: keras.Model) -> tuple[list[folding.Convolution], list[folding.BatchNormalization]]:
    """The convolutions of a Keras network, and its batch normalizations."""
    convolutions = {
        layer.name: folding.Convolution(*(np.asarray(value) for value in layer.get_weights()))
        for layer in network.layers
        if isinstance(layer, keras.layers.Conv2D)
    }
    normalizations = []
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            before = layer.input._keras_history.operation.name
            if before not in convolutions:
                raise ConversionError(
                    f"the Keras model is no ResNet8: {layer.name}", found=f"it reads {before}", expected="a convolution"
                )
            gamma, beta, mean, variance = (np.asarray(value) for value in layer.get_weights())
            normalizations.append(
                folding.BatchNormalization(convolutions[before], gamma, beta, mean, variance, layer.epsilon)
            )
    return list(convolutions.values()), normalizations
