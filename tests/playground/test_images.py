"""Numbers as pictures that any program reads."""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING

import numpy as np
import pytest

from resnet8.playground.images import GAP, feature_maps, grey, mosaic, png, upscaled

if TYPE_CHECKING:
    from numpy.typing import NDArray


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


def test_feature_maps_are_one_picture_for_each_channel() -> None:
    values = np.arange(24).reshape(1, 2, 3, 4)
    maps = feature_maps(values)
    assert maps.shape == (4, 2, 3)
    np.testing.assert_array_equal(maps[1], values[0, :, :, 1])
    assert feature_maps(np.arange(5).reshape(1, 5)).shape == (5, 1, 1)


def test_feature_maps_make_one_picture() -> None:
    maps = np.arange(3 * 2 * 2, dtype=np.uint8).reshape(3, 2, 2)
    picture, factor = mosaic(maps, side=50)
    gap = GAP
    assert picture.tolist() == [
        [0, 1, gap, 4, 5],
        [2, 3, gap, 6, 7],
        [gap, gap, gap, gap, gap],
        [8, 9, gap, gap, gap],
        [10, 11, gap, gap, gap],
    ]
    assert factor == 10
    assert mosaic(np.zeros((1, 64, 64), np.uint8), side=10)[1] == 1
