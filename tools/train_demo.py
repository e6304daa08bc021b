"""Train the demo's network: a ResNet8 of MLPerf Tiny's architecture, on the demo's digits.

    python tools/train_demo.py [--output src/resnet8/data/demo/resnet8_digits.h5] [--epochs N] [--seed N]

The file that it writes is package data. Everything is seeded and every operation deterministic: the same
releases on the same kind of CPU give the same weights; elsewhere sums are rounded in another order, and the
weights differ. It learns from the training batches only, for a fixed number of epochs; the test batch is
looked at once, at the end.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from resnet8.data.cifar10 import SPLIT_FILES, preprocess
from resnet8.data.demo import batches
from resnet8.facts import CLASSES, IMAGE_SHAPE, PARAMETERS
from resnet8.files import atomic_path

if TYPE_CHECKING:
    from numpy.typing import NDArray

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
os.environ["KERAS_BACKEND"] = "tensorflow"

OUTPUT = Path(__file__).parents[1] / "src" / "resnet8" / "data" / "demo" / "resnet8_digits.h5"
EPOCHS = 30
BATCH_SIZE = 32
LEARNING_RATE = 2e-3
MAX_SHIFT = 2


def build_resnet8() -> Any:
    """The architecture: a convolution, three residual blocks of 16, 32 and 64 filters, mean, dense, softmax.

    Layers are made in the order of the reference (mlcommons/tiny, image classification): Keras names them
    alike.

    Returns:
        A ``keras.Model``: float32 (batch, 32, 32, 3), raw pixels 0 to 255, to probabilities, float32
        (batch, 10).
    """
    import keras
    from keras import layers

    def convolution(x: Any, filters: int, size: int, stride: int) -> Any:
        return layers.Conv2D(
            filters,
            size,
            strides=stride,
            padding="same",
            kernel_initializer="he_normal",
            kernel_regularizer=keras.regularizers.L2(1e-4),
        )(x)

    def relu(x: Any) -> Any:
        return layers.Activation("relu")(x)

    inputs = keras.Input(IMAGE_SHAPE, name="input_1")
    x = relu(layers.BatchNormalization()(convolution(inputs, 16, 3, 1)))
    for filters, stride in ((16, 1), (32, 2), (64, 2)):
        y = relu(layers.BatchNormalization()(convolution(x, filters, 3, stride)))
        y = convolution(y, filters, 3, 1)
        if stride == 1:
            x = layers.Add()([x, layers.BatchNormalization()(y)])
        else:
            shortcut = convolution(x, filters, 1, stride)
            x = layers.Add()([shortcut, layers.BatchNormalization()(y)])
        x = relu(x)
    x = layers.AveragePooling2D(8)(x)
    x = layers.Flatten()(x)
    outputs = layers.Dense(CLASSES, activation="softmax", kernel_initializer="he_normal")(x)
    model = keras.Model(inputs, outputs, name="model")
    if model.count_params() != PARAMETERS:
        raise AssertionError(f"{model.count_params()} parameters, expected {PARAMETERS}")
    return model


def shifted(images: NDArray[np.float32], generator: np.random.Generator) -> NDArray[np.float32]:
    """Images, each moved by up to :data:`MAX_SHIFT` pixels, edges repeated: float32 (N, 32, 32, 3)."""
    padded = np.pad(images, ((0, 0), (MAX_SHIFT, MAX_SHIFT), (MAX_SHIFT, MAX_SHIFT), (0, 0)), mode="edge")
    moves = generator.integers(0, 2 * MAX_SHIFT + 1, (len(images), 2))
    height, width, _ = IMAGE_SHAPE
    return np.stack([image[y : y + height, x : x + width] for image, (y, x) in zip(padded, moves, strict=True)])


def train(epochs: int, seed: int) -> Any:
    """A trained ``keras.Model``; prints its progress and its accuracy on both splits."""
    import keras
    import tensorflow as tf

    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()
    generator = np.random.default_rng(seed)

    data = batches()
    images = preprocess(np.concatenate([data[name][0] for name in SPLIT_FILES["train"]]))
    labels = np.concatenate([data[name][1] for name in SPLIT_FILES["train"]])
    test_images, test_labels = preprocess(data["test_batch"][0]), data["test_batch"][1]

    model = build_resnet8()
    steps = epochs * -(-len(images) // BATCH_SIZE)
    model.compile(
        optimizer=keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(LEARNING_RATE, steps)),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    for epoch in range(epochs):
        order = generator.permutation(len(images))
        history = model.fit(
            shifted(images[order], generator), labels[order], batch_size=BATCH_SIZE, shuffle=False, verbose=0
        ).history
        print(
            f"epoch {epoch + 1:2}  loss {history['loss'][0]:.3f}  accuracy {history['accuracy'][0]:.4f}",
            flush=True,
        )
    for name, x, truth in (("train", images, labels), ("test", test_images, test_labels)):
        correct = int(np.sum(model.predict(x, batch_size=200, verbose=0).argmax(axis=1) == truth))
        print(f"{name:5} {correct} of {len(truth)} correct, {correct / len(truth):.2%}")
    return model


def main() -> None:
    """Read the arguments, train, write the file."""
    parser = argparse.ArgumentParser(description="Train the demo's ResNet8 on the demo's digits.")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="the .h5 file to write (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="passes over the images (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=42, help="of weights, order and shifts (default: %(default)s)")
    arguments = parser.parse_args()

    model = train(arguments.epochs, arguments.seed)
    with atomic_path(arguments.output) as part:
        # Keras tells the format by the suffix.
        written = part.with_suffix(".h5")
        model.save(written, include_optimizer=False)
        written.replace(part)
    print(f"{arguments.output}: {arguments.output.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
