"""A convolution as a matrix product: the patches that it multiplies with its weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from resnet8.network.layers import Weighted


def patches(values: NDArray[Any], layer: Weighted, dtype: Any, offset: int = 0) -> NDArray[Any]:
    """The input of each output position as a row: im2col, depth in the order kernel row, kernel column, channel.

    Args:
        values: (N, H, W, C), codes or reals.
        layer: Whose geometry is used; padding has the zero point's code, or is real 0.
        dtype: Of the result.
        offset: Subtracted from each value.

    Returns:
        (N * rows * columns, depth).
    """
    count, height, width, channels = values.shape
    kernel_rows, kernel_columns = layer.weights.shape[:2]
    top, left, bottom, right = layer.pads
    outside = 0 if layer.x.grid is None else layer.x.zero_point - offset
    padded = np.full((count, height + top + bottom, width + left + right, channels), outside, dtype)
    np.subtract(values, offset, out=padded[:, top : top + height, left : left + width], dtype=dtype, casting="unsafe")
    rows, columns = layer.output.shape[:2] if len(layer.output.shape) == 3 else (1, 1)
    down, across = layer.strides
    if (kernel_rows, kernel_columns) == (1, 1):
        return np.ascontiguousarray(padded[:, : rows * down : down, : columns * across : across]).reshape(-1, channels)
    # The columns and channels of one kernel row lie side by side in memory: one run of numbers for each kernel row.
    image, line, pixel, _ = padded.strides
    windows = as_strided(
        padded,
        (count, rows, columns, kernel_rows, kernel_columns * channels),
        (image, down * line, across * pixel, line, padded.itemsize),
        writeable=False,
    )
    return windows.reshape(count * rows * columns, -1)
