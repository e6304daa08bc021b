"""Constants spread over the maps they meet: the same codes, faster kernels."""

from __future__ import annotations

import io
import warnings
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from resnet8.data.cifar10 import preprocess, read_split
from resnet8.runtimes.pytorch import ENGINE
from resnet8.runtimes.pytorch_constants import spread

if TYPE_CHECKING:
    from resnet8.data.assets import Assets
    from resnet8.pipeline import Reproduction

OPERATORS = ("quantized::mul", "quantized::add", "quantized::add_relu")


def constants(module: torch.jit.ScriptModule) -> list[tuple[int, ...]]:
    """Shapes of the constant second operands of the element-wise operators, in order."""
    operands = [list(node.inputs())[1] for node in module.graph.nodes() if node.kind() in OPERATORS]
    return [tuple(one.toIValue().shape) for one in operands if one.node().kind() == "prim::Constant"]


def test_a_whole_network_gives_the_same_probabilities(reproduced: Reproduction, demo_assets: Assets) -> None:
    content = (reproduced.output_dir / "models/resnet8_int8.pt").read_bytes()
    torch.backends.quantized.engine = ENGINE
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the deprecation of torch.jit
        module = torch.jit.load(io.BytesIO(content)).eval()
    images = torch.from_numpy(preprocess(read_split(demo_assets.data_dir, "test").images[:60]))
    found = spread(module, images[:1])
    assert [shape for shape in constants(found) if len(shape) == 4] == [
        *[(1, 16, 32, 32)] * 6,
        *[(1, 32, 16, 16)] * 4,
        *[(1, 64, 8, 8)] * 4,
    ]
    with torch.inference_mode():
        np.testing.assert_array_equal(found(images).numpy(), module(images).numpy())


class Product(torch.nn.Module):
    """Images times one constant of a given shape."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.factor = torch.linspace(-1, 1, int(np.prod(shape))).reshape(shape)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps = torch.quantize_per_tensor(images, 1.0, 3, torch.quint8).permute(0, 3, 1, 2)
        factor = torch.quantize_per_tensor(self.factor, 0.01, 100, torch.quint8)
        return torch.ops.quantized.mul(maps, factor, 2.0, 128).dequantize()


@pytest.mark.parametrize(
    ("shape", "wanted"), [((1, 3, 1, 1), (1, 3, 32, 32)), ((1, 1, 1, 1), (1, 1, 1, 1)), ((3, 1, 1), (3, 1, 1))]
)
def test_only_constants_for_each_channel_are_spread(shape: tuple[int, ...], wanted: tuple[int, ...]) -> None:
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)).astype(np.float32))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the deprecation of torch.jit
        module = torch.jit.script(Product(shape)).eval()
    found = spread(module, images)
    assert constants(found) == [wanted]
    with torch.inference_mode():
        np.testing.assert_array_equal(found(images).numpy(), module(images).numpy())
