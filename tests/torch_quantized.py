"""Small quantized TorchScript modules with every operator that is read, built of PyTorch's own quantized operators."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.ao.nn import quantized
from torch.ao.nn.intrinsic import quantized as fused
from torch.nn import functional

from resnet8.numeric.grid import dequantize, saturate
from resnet8.runtimes.pytorch import ENGINE

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from resnet8.network.layers import Weighted


def tensor(codes: NDArray[Any], scale: float, zero_point: int) -> torch.Tensor:
    """Codes of a type with 8 bits as a quantized tensor."""
    result: torch.Tensor = torch._make_per_tensor_quantized_tensor(
        torch.from_numpy(np.ascontiguousarray(codes)), scale, zero_point
    )
    return result


def matmul_codes(layer: Weighted, codes: NDArray[Any]) -> NDArray[Any]:
    """What ``quantized::matmul`` gives for ``layer``, bit for bit: the float product is this CPU's, as its is."""
    real, weights = dequantize(codes, layer.x.params), dequantize(layer.weights.codes[0, 0], layer.weights.params)
    # Copies, because the product may depend on how its operands are aligned in memory.
    product = torch.matmul(torch.from_numpy(real).clone(), torch.from_numpy(weights).clone()).numpy()
    scaled = product * (np.float32(1) / layer.output.scale)
    return saturate(np.rint(scaled) + np.float32(layer.output.zero_point), layer.output.params.dtype)


def require_near_borders(layer: Weighted, codes: NDArray[Any], found: NDArray[Any], wanted: NDArray[Any]) -> int:
    """Require that a dense float layer's two results, (N, channels out), differ by rounding only; how many codes do.

    Where they differ, one is the other's neighbour, and the exact value is nearer to the border between them than what
    float32 rounding moves a sum in any order (Higham 2002, section 3.1): its products and additions, and at most eight
    more, of scales and quotients.
    """
    x, matrix = codes.astype(np.int64) - layer.x.zero_point, layer.matrix
    exact = (x @ matrix * layer.real_multiplier)[found != wanted]
    magnitude = (np.abs(x) @ np.abs(matrix) * layer.real_multiplier)[found != wanted]
    ours, theirs = (values[found != wanted].astype(np.float64) for values in (found, wanted))
    border = np.maximum(ours, theirs) - 0.5 - layer.output.zero_point
    np.testing.assert_array_equal(np.abs(ours - theirs), 1)
    np.testing.assert_array_less(np.abs(exact - border), 1.001 * (len(matrix) + 8) * 2.0**-24 * magnitude)
    return len(exact)


def coded_weights(rng: np.random.Generator, shape: tuple[int, ...], *, per_channel: bool = True) -> torch.Tensor:
    """Random qint8 weights, output channels first."""
    codes = torch.from_numpy(rng.integers(-128, 128, shape).astype(np.int8))
    scales = rng.uniform(0.002, 0.02, shape[0]).astype(np.float32).astype(np.float64)
    result: torch.Tensor
    if not per_channel:
        result = torch._make_per_tensor_quantized_tensor(codes, float(scales[0]), 0)
    else:
        zeros = torch.zeros(shape[0], dtype=torch.int64)
        result = torch._make_per_channel_quantized_tensor(codes, torch.from_numpy(scales), zeros, 0)
    return result


def convolution(
    seed: int,
    channels: tuple[int, int],
    kernel: int,
    scale: float,
    zero_point: int,
    *,
    relu: bool = False,
    bias: float = 0.5,
    per_channel: bool = True,
    **how: Any,
) -> torch.nn.Module:
    """A quantized convolution with random weights; ``bias`` is its standard deviation, 0 for none."""
    torch.backends.quantized.engine = ENGINE
    rng = np.random.default_rng(seed)
    module = (fused.ConvReLU2d if relu else quantized.Conv2d)(*channels, kernel, bias=bool(bias), **how)
    values = torch.from_numpy(rng.normal(0, bias, channels[1]).astype(np.float32)) if bias else None
    shape = (channels[1], channels[0] // how.get("groups", 1), kernel, kernel)
    module.set_weight_bias(coded_weights(rng, shape, per_channel=per_channel), values)
    module.scale, module.zero_point = scale, zero_point
    result: torch.nn.Module = module
    return result


class Network(torch.nn.Module):
    """Images to ten probabilities, every supported operator once at least."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        rng = np.random.default_rng(seed)
        self.scale, self.zero = 2.0, 3
        self.first = convolution(seed + 1, (3, 8), 3, 40.0, 70, padding=1)
        self.strided = convolution(seed + 2, (8, 16), 3, 12.0, 61, stride=2)
        self.shortcut = convolution(seed + 3, (8, 16), 1, 9.0, 20, stride=2, relu=True, bias=0)
        for name, shape in (("factor", (1, 8, 1, 1)), ("shift", (1, 8, 1, 1)), ("matrix", (16, 10)), ("bias", (10,))):
            self.register_buffer(name, torch.from_numpy(rng.normal(0, 0.7, shape).astype(np.float32)))
        self.register_buffer("pooled_scale", torch.tensor(3.0))
        self.register_buffer("pooled_zero_point", torch.tensor(5))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        kind = torch.quint8
        x = torch.permute(torch.quantize_per_tensor(images, self.scale, self.zero, kind), [0, 3, 1, 2])
        x = self.first(x)
        x = torch.ops.quantized.mul(x, torch.quantize_per_tensor(self.factor, 0.02, 90, kind), 21.0, 66)
        x = torch.ops.quantized.add_relu(x, torch.quantize_per_tensor(self.shift, 0.03, 80, kind), 14.0, 11)
        padded = functional.pad(torch.dequantize(x), [0, 1, 2, 1])
        y = self.strided(torch.quantize_per_tensor(padded, 15.0, 9, kind))
        same = functional.pad(torch.dequantize(x), [0, 0, 1, 1])
        z = self.shortcut(torch.quantize_per_tensor(same, 14.0, 11, kind))
        y = torch.ops.quantized.add(y, z, 16.0, 50)
        y = torch.dequantize(functional.avg_pool2d(y, [17, 16]))
        y = torch.quantize_per_tensor(torch.flatten(y, 1), self.pooled_scale, self.pooled_zero_point, kind)
        y = torch.ops.quantized.matmul(y, torch.quantize_per_tensor(self.matrix, 0.015, 120, kind), 2.5, 101)
        y = torch.ops.quantized.add(y, torch.quantize_per_tensor(self.bias, 0.02, 60, kind), 2.6, 99)
        return torch.dequantize(torch.ops.quantized.softmax(y, -1, 1 / 256, 0))


class Around(torch.nn.Module):
    """Quantized images, NCHW, through ``middle``; what it gives is dequantized."""

    def __init__(self, middle: torch.nn.Module) -> None:
        super().__init__()
        self.middle = middle

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = torch.permute(torch.quantize_per_tensor(images, 2.0, 3, torch.quint8), [0, 3, 1, 2])
        return torch.dequantize(self.middle(x))


def scripted(module: torch.nn.Module) -> torch.jit.ScriptModule:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the deprecation of torch.jit
        return torch.jit.script(module.eval())


def saved(module: torch.nn.Module, path: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(scripted(module), path)
    return path
