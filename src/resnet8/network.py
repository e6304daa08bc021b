"""Facts of the MLPerf Tiny ResNet8: shapes, what a converted graph must contain, and the numbers published for it.

Source of the architecture: the image classification reference of MLPerf Tiny (mlcommons/tiny), a ResNet v1 with three
stacks of one basic block (16, 32, 64 filters) on 32x32 RGB images, softmax over ten classes.
"""

from __future__ import annotations

IMAGE_SHAPE = (32, 32, 3)
"""Height, width, channels (RGB): one image, NHWC without its batch axis, raw pixels 0 to 255."""

CLASSES = 10

INPUT_NAME = "input"
"""Name of the input tensor in the ONNX files written here: float32, (batch, 32, 32, 3)."""

PARAMETERS = 78_666
"""Parameters of the Keras model, batch normalization's moving averages included."""

GRAPH_PARAMETERS = 78_186
"""Of the ONNX graph, before its BatchNorms are folded into the convolutions: tf2onnx writes each as a factor and an
addend per channel, two numbers where Keras has four (7 of them, on 240 channels in all)."""

CONVOLUTIONS = 9
DENSE_LAYERS = 1
RESIDUAL_ADDS = 3

OPSET = 13
"""Operator set of the ONNX files written here: the oldest with per-channel QuantizeLinear, so the most widely read."""

IR_VERSION = 7
"""File format version that goes with :data:`OPSET`."""

MAX_READABLE_OPSET = 26
"""The newest operator set that the tested ONNX Runtime reads."""

MAX_READABLE_IR_VERSION = 13
"""The newest file format version that it reads."""

MINIMUM_ACCURACY = 0.85
"""Top-1 below which a converted model of the published weights is not the published model (requirements EVAL, PT)."""

PUBLISHED_CORRECT: dict[str, int] = {
    "fp32": 8719,
    "published-uint8": 8675,
    "published-int8": 8558,
    "torch-int8": 8568,
}
"""Correct of the 10,000 CIFAR-10 test images, as published for the original scripts; by recipe name, or ``fp32``."""

PUBLISHED_PER_CLASS = (877, 954, 839, 734, 872, 742, 946, 905, 924, 926)
"""Correct of each class's 1,000 test images for ``fp32``, airplane to truck."""
