"""Test images: which to show, and as pictures."""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np

from resnet8.errors import DataError
from resnet8.playground.catalogue import of_model
from resnet8.results import from_digits

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from resnet8.data.cifar10 import Split
    from resnet8.results import Evaluation


def of_class(split: Split, label: int) -> NDArray[np.int64]:
    """The indices of the images of one class, in order.

    Raises:
        DataError: when there is no such class.
    """
    if not 0 <= label < len(split.class_names):
        raise DataError(
            "there is no such class",
            found=str(label),
            expected=f"0 to {len(split.class_names) - 1}",
            remedy="choose one of these",
        )
    return np.flatnonzero(split.labels == label)


def image(split: Split, index: int) -> NDArray[np.uint8]:
    """The image at ``index``, uint8 (1, 32, 32, 3).

    Raises:
        DataError: when there is none.
    """
    if not 0 <= index < len(split):
        raise DataError(
            "there is no such image", found=str(index), expected=f"0 to {len(split) - 1}", remedy="choose one of these"
        )
    return split.images[index : index + 1]


def lost(labels: NDArray[np.int64], reference: NDArray[np.int64], quantized: NDArray[np.int64]) -> NDArray[np.int64]:
    """The indices of the images that one model has right and the other wrong, by labels and predictions, int64 (N,)."""
    return np.flatnonzero((reference == labels) & (quantized != labels))


def stored_predictions(known: tuple[Evaluation, ...], digest: str, split: Split) -> NDArray[np.int64] | None:
    """The predicted classes of all images of ``split`` by the model with this SHA-256, int64 (N,).

    Args:
        known: What was measured (:func:`resnet8.playground.catalogue.evaluations`).
        digest: Of the model file.
        split: The whole test split; its fingerprint must be that of the evaluation.

    Returns:
        None where nothing was stored for this file and these images: compute them then, over a sample.
    """
    evaluation = of_model(tuple(one for one in known if one.data_fingerprint == split.source.fingerprint), digest)
    if evaluation is None or len(evaluation.predictions) != len(split):
        return None
    return from_digits(evaluation.predictions)


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
