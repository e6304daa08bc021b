"""What the cells of a question share: the float network, the images they are asked about, and what it answers there."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from resnet8 import results
from resnet8.batches import batched
from resnet8.data.calibration import sample
from resnet8.data.cifar10 import read_split
from resnet8.errors import QuantizationError
from resnet8.evaluation import choose
from resnet8.execute import real
from resnet8.files import read_bytes
from resnet8.network import onnx_read
from resnet8.quantization.native import fold
from resnet8.results import score
from resnet8.runtimes import onnx_file
from resnet8.runtimes.base import require_format

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from numpy.typing import NDArray

    from resnet8.data.cifar10 import Split
    from resnet8.network.program import Program
    from resnet8.quantization.scheme import Scheme
    from resnet8.results import ModelDescription

BATCH = 10
"""Images at once: the patches of one convolution stay in the cache."""


@dataclass(frozen=True, eq=False)
class Material:
    """What the cells of a question share.

    Attributes:
        model: What the float file is.
        network: The float network in it.
        layers: Names of its weighted layers.
        asked: The images that each cell is asked about.
        reference: The float network's logits on them, float32 (N, 10).
        calibrations: The calibration images, uint8 (M, 32, 32, 3), by the seed of their draw.
        samples_per_class: How many of each class.
    """

    model: ModelDescription
    network: Program
    layers: tuple[str, ...]
    asked: Split
    reference: NDArray[np.float32]
    calibrations: dict[int, NDArray[np.uint8]]
    samples_per_class: int

    @property
    def large(self) -> tuple[Any, ...]:
        """What tasks share, and a cluster's workers should have from the beginning."""
        return self.network, *self.calibrations.values(), self.asked.images, self.asked.labels, self.reference

    def ground(self, scheme: Scheme, *changed: str) -> results.Ground:
        """The record of it, with the fields of ``scheme`` but those that cells change."""
        correct = int((self.reference.argmax(axis=1) == self.asked.labels).sum())
        return results.Ground(
            model=self.model,
            data=self.asked.source,
            images_sha256=images_digest(self.asked),
            baseline=score(correct, len(self.asked)),
            samples_per_class=self.samples_per_class,
            calibrations={seed: digest(images) for seed, images in self.calibrations.items()},
            settings={name: value for name, value in settings(scheme).items() if name not in changed},
        )


def prepare(
    model: Path,
    data_dir: Path,
    seeds: Iterable[int],
    samples_per_class: int,
    ask: Callable[[Split, tuple[NDArray[np.int64], ...]], Split],
) -> Material:
    """Read a float model and the images.

    Args:
        model: The float ONNX file.
        data_dir: Folder of CIFAR-10.
        seeds: Of the calibration draws.
        samples_per_class: Calibration images of each class.
        ask: The images to ask about, of the training images and the indices of each calibration draw.

    Raises:
        ModelError: when the model is no float ONNX ResNet8.
        QuantizationError: when it is of another architecture, or there is no seed.
        DataError: for unusable images.
    """
    content = read_bytes(model)
    require_format(
        model,
        content,
        "onnx",
        "cannot be swept",
        expected="the float ONNX file",
        remedy="name the file that «resnet8 convert» wrote",
    )
    parsed = onnx_file.read_float(model, content)
    network = onnx_read.read(parsed, str(model))
    layers = tuple(layer.name for layer in fold(network).weighted)
    seeds = tuple(dict.fromkeys(seeds))
    if not seeds:
        raise QuantizationError("there is no calibration draw", found="no seed", expected="at least one")
    train = read_split(data_dir, "train")
    drawn = {seed: sample(train, samples_per_class, seed, "first") for seed in seeds}
    asked = ask(train, tuple(np.array(record.indices, np.int64) for _, record in drawn.values()))

    def answered(part: slice) -> NDArray[np.float32]:
        return real.run(network, asked.images[part])

    return Material(
        model=onnx_file.describe(model, content, parsed),
        network=network,
        layers=layers,
        asked=asked,
        reference=np.concatenate(list(batched(answered, len(asked), size=BATCH))),
        calibrations={seed: images.images for seed, (images, _) in drawn.items()},
        samples_per_class=samples_per_class,
    )


def test_images(data_dir: Path, max_samples: int | None) -> Split:
    """The test images, or the first of them.

    Raises:
        DataError: for unusable data.
    """
    return choose(read_split(data_dir, "test"), None, max_samples)


def settings(scheme: Scheme) -> dict[str, Any]:
    """The fields of a scheme as JSON holds them."""
    return {name: _plain(value) for name, value in asdict(scheme).items()}


def _plain(value: Any) -> Any:
    return [_plain(one) for one in value] if isinstance(value, tuple) else value


def digest(pixels: NDArray[np.uint8]) -> str:
    """Hex SHA-256 of images."""
    return hashlib.sha256(np.ascontiguousarray(pixels).data).hexdigest()


def images_digest(split: Split) -> str:
    """Hex SHA-256 of images and their labels."""
    found = hashlib.sha256(np.ascontiguousarray(split.images).data)
    found.update(split.labels.astype(np.uint8).data)
    return found.hexdigest()
