"""Numbers as pictures: pixels as PNG, activations as grey feature maps."""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

GAP = 128
"""Grey level between the pictures of a mosaic."""


def upscaled(pixels: NDArray[Any], factor: int = 8) -> NDArray[Any]:
    """Each pixel as a square of ``factor`` x ``factor``: (H, W, ...) to (H * factor, W * factor, ...)."""
    return pixels.repeat(factor, axis=0).repeat(factor, axis=1)


def png(pixels: NDArray[np.uint8], factor: int = 8) -> bytes:
    """A PNG file (ISO/IEC 15948), enlarged by ``factor``, of uint8 (H, W, 3) RGB or (H, W) grey."""
    large = np.ascontiguousarray(upscaled(pixels, factor), np.uint8)
    height, width = large.shape[:2]
    rows = np.zeros((height, large[0].size + 1), np.uint8)  # before each line stands its filter: none
    rows[:, 1:] = large.reshape(height, -1)
    colour = 2 if large.ndim == 3 else 0
    header = struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes())), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )


def grey(values: NDArray[Any], span: tuple[float, float] | None = None) -> NDArray[np.uint8]:
    """Numbers as grey levels, uint8 of the same shape: ``span`` (least and greatest without it) is black to white."""
    low, high = (float(values.min()), float(values.max())) if span is None else span
    if high <= low:
        return np.zeros(values.shape, np.uint8)
    scaled = (values.astype(np.float64) - low) * (255 / (high - low))
    levels: NDArray[np.uint8] = np.clip(np.rint(scaled), 0, 255).astype(np.uint8)
    return levels


def feature_maps(values: NDArray[Any]) -> NDArray[Any]:
    """An activation of one image as one picture for each channel: (1, H, W, C) to (C, H, W), (1, C) to (C, 1, 1)."""
    one: NDArray[Any] = values[0]
    return one.reshape(-1, 1, 1) if one.ndim == 1 else one.transpose(2, 0, 1)


def mosaic(levels: NDArray[np.uint8], side: int = 320) -> tuple[NDArray[np.uint8], int]:
    """Feature maps, uint8 (C, H, W), as one picture with lines between them, and how to enlarge it.

    Returns:
        The picture, uint8 (rows, columns), and the whole factor that makes it about ``side`` wide, at least 1.
    """
    count, height, width = levels.shape
    columns = int(np.ceil(np.sqrt(count)))
    rows = -(-count // columns)
    picture = np.full((rows * (height + 1) - 1, columns * (width + 1) - 1), GAP, np.uint8)
    for number, one in enumerate(levels):
        row, column = divmod(number, columns)
        top, left = row * (height + 1), column * (width + 1)
        picture[top : top + height, left : left + width] = one
    return picture, max(1, side // picture.shape[1])
