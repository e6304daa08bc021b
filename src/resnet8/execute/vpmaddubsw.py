"""What ONNX Runtime's int8 kernels compute on x86 CPUs without VNNI.

There a product of uint8 activations and int8 weights is taken by VPMADDUBSW: it multiplies bytes, adds neighbouring
products in pairs, and *saturates* each sum to int16; VPMADDWD then widens and adds the pairs (Intel Software
Developer's Manual, volume 2; ONNX Runtime documentation, «Quantize ONNX models», on U8S8 and AVX2). A pair saturates
only where ``x1 * w1 + x2 * w2`` leaves int16, so only where two neighbouring weights of one sign add up to more than
128: few do, and :func:`saturating` corrects the exact accumulator for those alone.

Neighbours are adjacent along the depth of the matrix product: kernel row, kernel column, channel (channels last, as
ONNX Runtime arranges quantized convolutions). int8 activations are shifted to uint8 first, by 128, as ONNX Runtime
does; padding has the zero point's code. Layers whose weights are uint8 use VPMADDWD on int16, which is exact, and so is
float.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from resnet8.execute import engine
from resnet8.execute.patches import patches
from resnet8.numeric.grid import storage

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from resnet8.network.layers import Weighted

INT16 = (-(2**15), 2**15 - 1)
_LARGEST = 255


def affected(layer: Weighted) -> bool:
    """Whether ONNX Runtime computes this layer with VPMADDUBSW on such a CPU."""
    return layer.kernel == "integer" and layer.weights.params.dtype == "int8"


def pairs(layer: Weighted) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The pairs of neighbouring weights that can saturate: index of the pair along the depth, output channel."""
    codes = _even(layer.weights.columns.astype(np.int64))
    one, other = codes[::2], codes[1::2]
    most = _LARGEST * (np.maximum(one, 0) + np.maximum(other, 0))
    least = _LARGEST * (np.minimum(one, 0) + np.minimum(other, 0))
    pair, channel = np.nonzero((most > INT16[1]) | (least < INT16[0]))
    return pair, channel


def saturating(layer: Weighted, codes: NDArray[Any]) -> NDArray[Any]:
    """The accumulators of :func:`resnet8.execute.engine.accumulate`, with pairs saturated to int16 where they are.

    Args:
        layer: The layer; exact where it is not :func:`affected`.
        codes: (N, H, W, C) or (N, C).

    Returns:
        (N, *output shape), whole numbers.
    """
    exact = engine.accumulate(layer, codes)
    if not affected(layer):
        return exact
    pair, channel = pairs(layer)
    if not len(pair):
        return exact
    shift = -int(np.iinfo(storage(layer.x.params.dtype)).min)  # int8 codes become uint8
    maps = codes.reshape(len(codes), *layer.map_shape)
    # Depth first: each pair reads two whole rows.
    rows = _even(patches(maps, layer, np.float32, -shift).T)
    weights = _even(layer.weights.columns.astype(np.float32))
    flat = exact.reshape(-1, exact.shape[-1]).T.copy()
    for p, c in zip(pair.tolist(), channel.tolist(), strict=True):
        total = rows[2 * p] * weights[2 * p, c]
        total += rows[2 * p + 1] * weights[2 * p + 1, c]
        # total - clip(total), in place of the sums that do not fit
        lost = total - np.clip(total, *INT16)
        if lost.any():
            flat[c] -= lost
    return flat.T.reshape(exact.shape)


def _even(rows: NDArray[Any]) -> NDArray[Any]:
    """``rows`` with a row of zeros at the end where their number is odd."""
    if len(rows) % 2 == 0:
        return np.ascontiguousarray(rows)
    return np.concatenate([rows, np.zeros((1, *rows.shape[1:]), rows.dtype)])
