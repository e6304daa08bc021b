"""Codes as words of several bytes, and the order in which hardware reads them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from resnet8.vectors.manifest import LayerRecord


def packed(codes: NDArray[Any], padding: int | NDArray[Any], word: int) -> NDArray[np.uint8]:
    """Codes of the last axis, the channels, in groups of ``word``: the last group filled up.

    Args:
        codes: (..., channels), int8 or uint8.
        padding: The code that fills up, the zero point: what it is multiplied with adds nothing; one number, or (...).
        word: Bytes of a word.

    Returns:
        Their bytes, (..., groups, word).
    """
    *outer, channels = codes.shape
    groups = -(-channels // word)
    filled = np.empty((*outer, groups * word), codes.dtype)
    filled[..., :channels] = codes
    filled[..., channels:] = np.asarray(padding)[..., None]
    return filled.view(np.uint8).reshape(*outer, groups, word)


def windows(codes: NDArray[Any], record: LayerRecord, word: int) -> NDArray[np.uint8]:
    """What a convolution or dense layer reads, in its order: im2col.

    Args:
        codes: (images, rows, columns, channels) or (images, channels), int8 or uint8.
        record: The layer; outside the map is its input's zero point.
        word: Bytes of a word.

    Returns:
        (images, rows out, columns out, kernel rows, kernel columns, groups, word), bytes.

    Raises:
        ValueError: when the layer has no kernel.
    """
    if record.weights_shape is None or record.strides is None or record.pads is None:
        raise ValueError(f"{record.folder} has no kernel")
    maps = codes if codes.ndim == 4 else codes[:, None, None]
    top, left, bottom, right = record.pads
    zero_point = record.inputs[0].zero_point
    padded = np.pad(maps, ((0, 0), (top, bottom), (left, right), (0, 0)), constant_values=zero_point)
    views = sliding_window_view(padded, record.weights_shape[1:3], axis=(1, 2))
    rows, columns = record.output.shape[:2] if len(record.output.shape) == 3 else (1, 1)
    views = views[:, :: record.strides[0], :: record.strides[1]][:, :rows, :columns]
    return packed(views.transpose(0, 1, 2, 4, 5, 3), zero_point, word)


def pooled(codes: NDArray[Any], padding: int, word: int) -> NDArray[np.uint8]:
    """What an average pool reads, in its order: one group of channels after the other.

    Args:
        codes: (images, rows, columns, channels), int8 or uint8.
        padding: The zero point.
        word: Bytes of a word.

    Returns:
        (images, groups, rows, columns, word), bytes.
    """
    return packed(codes, padding, word).transpose(0, 3, 1, 2, 4)


def hex_words(title: str, words: NDArray[np.uint8]) -> bytes:
    """Words for ``$readmemh``, one on a line behind a comment with ``title``; byte 0, lane 0, is the lowest.

    Args:
        title: What they are.
        words: (..., word), bytes.
    """
    width = words.shape[-1]
    digits = np.ascontiguousarray(words[..., ::-1]).tobytes().hex().encode()
    lines = np.full((words.size // width, 2 * width + 1), ord("\n"), np.uint8)
    lines[:, :-1] = np.frombuffer(digits, np.uint8).reshape(-1, 2 * width)
    return f"// {title}; words of {width} bytes, the first byte the lowest\n".encode() + lines.tobytes()
