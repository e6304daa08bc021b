"""Facts of the MLPerf Tiny ResNet8: shapes, what a converted graph must contain, and the numbers published for it.

Source of the architecture: the image classification reference of MLPerf Tiny (mlcommons/tiny), a ResNet v1 with three
stacks of one basic block (16, 32, 64 filters) on 32x32 RGB images, softmax over ten classes.
"""

from __future__ import annotations

KERAS_MODEL = "pretrainedResnet.h5"
"""Name of the Keras file, MLPerf Tiny's and the demo's."""

KERAS_SHA256 = "5f938a8eea605438cc7360aa13c987bc6d7bd0c8d931b2917361ae7ae4eeda2f"
"""Of MLPerf Tiny's."""

IMAGE_SHAPE = (32, 32, 3)
"""Height, width, channels (RGB): one image, NHWC without its batch axis, raw pixels 0 to 255."""

VALUES_PER_IMAGE = 3072
"""Pixels of an image times its channels."""

CLASSES = 10

CLASS_NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
"""Of CIFAR-10, in the order of its labels."""

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

NARROW_VERSIONS = {4: (21, 10), 2: (25, 13)}
"""Operator set and file format version that have tensors of 4 and of 2 bits an element; files without them keep
:data:`OPSET` and :data:`IR_VERSION`."""

MAX_READABLE_OPSET = 26
"""The newest operator set that the tested ONNX Runtime reads."""

MAX_READABLE_IR_VERSION = 13
"""The newest file format version that it reads."""

LAST_WITH_FX = "2.15.0"
"""The last release of PyTorch that is known to have FX graph mode quantization (torch.ao.quantization, deprecated)."""

ONNX_FILES: dict[str, str] = {
    KERAS_SHA256: "50ed72a3404a58d026c7245aff0d3ff5aa56ba563d0e580f5f639f188f837024",
    "163f67c807ee9b02e8223a570797a8020f9cdd193faa5c10840fa3309a7fe540": (  # the demo's
        "b1085a71db4d14187dbab509ba32058b434a3f09aa467699c4a358991c6e711b"
    ),
}
"""SHA-256 of the ONNX file that each known Keras file makes with :data:`CONVERTED_WITH`, on every machine; by the
SHA-256 of the Keras file."""

CONVERTED_WITH: dict[str, str] = {"keras": "3.15.1", "tensorflow": "2.20.0", "tf2onnx": "1.17.0", "onnx": "1.23.2"}
"""Versions that :data:`ONNX_FILES` were made with. Others may name, order or annotate what is in the graph otherwise;
its constants are the same."""

MINIMUM_ACCURACY = 0.85
"""Top-1 below which a converted model of the published weights is not the published model (requirements EVAL, PT)."""

PUBLISHED_CORRECT: dict[str, int] = {
    "fp32": 8719,
    "published-uint8": 8675,
    "published-int8": 8558,
    "torch-int8": 8568,
}
"""Correct of the 10,000 CIFAR-10 test images, as published for the original scripts; by recipe name, or ``fp32``."""

PUBLISHED_SIZES: dict[tuple[str, str], tuple[int, int | None]] = {
    ("fp32", "onnxruntime"): (315, None),
    ("fp32", "pytorch"): (345, None),
    ("published-uint8", "onnxruntime"): (123, 61),
    ("published-int8", "onnxruntime"): (123, 61),
    ("torch-int8", "pytorch"): (165, 52),
}
"""Published sizes in KB and reductions in per cent, by recipe (or ``fp32``) and runtime."""

PUBLISHED_PER_CLASS = (877, 954, 839, 734, 872, 742, 946, 905, 924, 926)
"""Correct of each class's 1,000 test images for ``fp32``, airplane to truck."""

DEFAULT_SEED = 42
"""Of the calibration draw, as published."""

DEFAULT_PER_CLASS = 100
"""Calibration images of each class, as published."""

CMSIS_NN_SECONDS, CMSIS_NN_INFERENCES, CMSIS_NN_HERTZ = 38.955, 100, 120_000_000
"""MLPerf Tiny v1.0, closed division, image classification, by OctoML: microTVM with CMSIS-NN's kernels on a Cortex-M4
(NUCLEO-L4R5ZI). The median window of :data:`CMSIS_NN_SOURCE`; the clock from the system's description there."""

CMSIS_NN_SOURCE = (
    "https://github.com/mlcommons/tiny_results_v1.0/blob/cc81fd5c09d6a7b585f8c89f4d5566842d9f4487/closed/OctoML/results/"
    "microtvm_cmsis_nn/NUCLEO_L4R5ZI/ic/performance/results.txt"
)
"""Where it is published."""
