"""Codes, grids and biases of PyTorch's quantized tensors."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from resnet8.network.reading import Unfit
from resnet8.network.tensors import Constant, accumulator_bias
from resnet8.numeric.grid import QParams, limits, qparams

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from resnet8.network.tensors import Activation
    from resnet8.numeric.grid import Dtype


def whole_bias(real: NDArray[np.float32], x: Activation, weights: QParams) -> NDArray[np.int32]:
    """A float bias in whole accumulator steps."""
    whole = accumulator_bias(real, x, weights)
    low, high = limits("int32")
    if not ((whole >= low) & (whole <= high)).all():
        raise Unfit(f"a bias of {np.abs(whole).max():.3g} accumulator steps, more than int32 holds")
    return whole.astype(np.int32)


def coded(parameter: torch.Tensor, grid: QParams) -> NDArray[Any]:
    """The codes of a parameter, as PyTorch makes them each time it runs the file."""
    kind = torch.quint8 if grid.dtype == "uint8" else torch.qint8
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the deprecation of quantized tensors: known, and pinned
        coded = torch.quantize_per_tensor(parameter.detach(), float(grid.scale), int(grid.zero_point), kind)
    codes: NDArray[Any] = coded.int_repr().numpy()
    return codes


def weight_grid(weights: torch.Tensor) -> QParams:
    """The grid of a quantized parameter, one for all or one for each channel."""
    dtype: Dtype = "int8" if weights.dtype == torch.qint8 else "uint8"
    if weights.qscheme() == torch.per_tensor_affine:
        return qparams(weights.q_scale(), weights.q_zero_point(), dtype)
    scales = weights.q_per_channel_scales().numpy().astype(np.float32)
    return QParams(scales, weights.q_per_channel_zero_points().numpy().astype(np.int32), dtype)


def required(weights: Any) -> Constant:
    """``weights``, which are stored."""
    if not isinstance(weights, Constant):
        raise Unfit("weights that are computed")
    return weights
