"""Which images to show, and as pictures that any program reads."""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING

import numpy as np
import pytest
from builders import evaluation

from resnet8.data.cifar10 import read_split
from resnet8.errors import DataError
from resnet8.playground.activations import predictions
from resnet8.playground.catalogue import evaluations, models
from resnet8.playground.images import grey, image, lost, of_class, png, stored_predictions, upscaled
from resnet8.playground.network import open_network

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from resnet8.data.assets import Assets
    from resnet8.pipeline import Reproduction


def decoded(data: bytes) -> NDArray[np.uint8]:
    """The pixels of a PNG without filters, every checksum verified."""
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    position, chunks = 8, {}
    while position < len(data):
        (size,) = struct.unpack(">I", data[position : position + 4])
        name, body = data[position + 4 : position + 8], data[position + 8 : position + 8 + size]
        (check,) = struct.unpack(">I", data[position + 8 + size : position + 12 + size])
        assert check == zlib.crc32(name + body)
        chunks[name] = body
        position += 12 + size
    assert list(chunks) == [b"IHDR", b"IDAT", b"IEND"]
    width, height, depth, colour, *rest = struct.unpack(">IIBBBBB", chunks[b"IHDR"])
    assert (depth, rest) == (8, [0, 0, 0])
    channels = {0: 1, 2: 3}[colour]
    rows = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8).reshape(height, 1 + width * channels)
    assert not rows[:, 0].any()
    return rows[:, 1:].reshape((height, width, 3) if channels == 3 else (height, width))


@pytest.mark.parametrize("shape", [(4, 5, 3), (3, 7)])
def test_a_png_holds_the_enlarged_pixels(shape: tuple[int, ...]) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, shape, np.uint8)
    np.testing.assert_array_equal(decoded(png(pixels, 1)), pixels)
    large = decoded(png(pixels, 3))
    np.testing.assert_array_equal(large, upscaled(pixels, 3))
    for row in range(3):
        for column in range(3):
            np.testing.assert_array_equal(large[row::3, column::3], pixels)


def test_numbers_as_grey_levels() -> None:
    values = np.array([[-1.0, 0.0], [0.5, 1.0]])
    assert grey(values).tolist() == [[0, 128], [191, 255]]
    assert grey(values, (0, 0.5)).tolist() == [[0, 0], [255, 255]]
    assert grey(np.full((2, 2), 7)).tolist() == [[0, 0], [0, 0]]


def test_images_by_class_and_by_index(demo_assets: Assets) -> None:
    split = read_split(demo_assets.data_dir, "test")
    chosen = of_class(split, 3)
    assert set(split.labels[chosen].tolist()) == {3}
    assert len(chosen) == (split.labels == 3).sum()
    np.testing.assert_array_equal(image(split, 5)[0], split.images[5])
    for label in (-1, 10):
        with pytest.raises(DataError, match="no such class"):
            of_class(split, label)
    for index in (-1, len(split)):
        with pytest.raises(DataError, match="no such image"):
            image(split, index)


def test_lost_images_are_right_in_one_and_wrong_in_the_other() -> None:
    labels = np.array([0, 1, 2, 3])
    assert lost(labels, np.array([0, 1, 0, 3]), np.array([0, 2, 2, 0])).tolist() == [1, 3]


def test_predictions_come_from_the_results_of_the_very_file(reproduced: Reproduction, demo_assets: Assets) -> None:
    split = read_split(demo_assets.data_dir, "test")
    known = evaluations(reproduced.output_dir)
    entry = next(
        one
        for one in models(reproduced.output_dir, evaluations(reproduced.output_dir))
        if one.path.name == "resnet8_uint8.onnx"
    )
    assert entry.description is not None
    assert entry.score is not None
    stored = stored_predictions(known, entry.description.sha256, split)
    assert stored is not None
    assert (stored == split.labels).sum() == entry.score.correct
    computed = predictions(open_network(entry.path).require_quantized(), split.images[:60])
    assert (stored[:60] == computed).mean() > 0.95
    assert stored_predictions(known, "unknown", split) is None
    assert stored_predictions(known, entry.description.sha256, split.first(10)) is None
    assert stored_predictions((evaluation("01", "01"),), "unknown", split) is None
