"""Float TorchScript files: read module by module, and refused by name."""

from __future__ import annotations

import io
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from builders import noise

from resnet8.errors import ModelError
from resnet8.execute import real
from resnet8.facts import IMAGE_SHAPE
from resnet8.network import torch_read
from resnet8.network.layers import Weighted

if TYPE_CHECKING:
    from collections.abc import Callable

    from resnet8.network.program import Program

IMAGES = noise(5, 2)
MATRIX = torch.ones(3, 3)


def saved(module: torch.nn.Module) -> bytes:
    content = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.trace(module.eval(), torch.zeros(2, *IMAGE_SHAPE)), content)
    return content.getvalue()


def read(content: bytes, source: str) -> Program:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch_read.read(torch.jit.load(io.BytesIO(content)).eval(), source)


class Small(torch.nn.Module):
    """A residual network with whatever is read."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(4)
        self.padded = torch.nn.Sequential(torch.nn.ZeroPad2d((0, 1, 2, 3)), torch.nn.Conv2d(3, 4, 3, stride=2))
        self.second = torch.nn.Conv2d(4, 4, 3, padding=1, bias=False)
        self.factor = torch.nn.Parameter(torch.randn(1, 4, 1, 1))
        self.addend = torch.nn.Parameter(torch.randn(4, 1, 1))
        self.matrix = torch.nn.Parameter(torch.randn(4, 10) * 0.1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.padded(images.permute(0, 3, 1, 2)))
        y = self.second(x) * self.factor + self.addend
        y = torch.relu(y + x)
        y = torch.nn.functional.avg_pool2d(y, (18, 16))
        return torch.softmax(torch.matmul(torch.flatten(y, 1), self.matrix), 1)


def test_it_computes_what_torch_computes() -> None:
    module = Small()
    network = read(saved(module), "small.pt")
    with torch.inference_mode():
        expected = module(torch.from_numpy(IMAGES.astype(np.float32))).numpy()
    np.testing.assert_allclose(real.probabilities(network, real.run(network, IMAGES)), expected, atol=1e-5)
    assert [(layer.name, layer.operator) for layer in network.layers][:2] == [("padded", "conv"), ("second", "conv")]
    first = network.layers[0]
    assert isinstance(first, Weighted)
    assert (first.pads, first.strides, first.relu) == ((2, 0, 3, 1), (2, 2), True)
    assert first.parameters == {"weights": "padded.1.weight", "bias": "padded.1.bias"}
    assert set(network.layers[1].parameters) == {"weights"}
    assert [layer.operator for layer in network.layers][2:] == ["mul", "add", "add", "average-pool", "dense"]
    assert network.layers[2].parameters == {"constant": "factor"}


class Function(torch.nn.Module):
    def __init__(self, function: Callable[[torch.Tensor], Any]) -> None:
        super().__init__()
        self.function = function
        self.pair = torch.nn.Parameter(torch.zeros(2, 1, 1))

    def forward(self, images: torch.Tensor) -> Any:
        return self.function(images)


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (torch.tanh, "aten::tanh: an operator that is not supported"),
        (lambda x: x.permute(0, 2, 1, 3), "aten::permute: order [0, 2, 1, 3]"),
        (lambda x: torch.flatten(x, 1), "aten::flatten: a map of shape (32, 32, 3)"),
        (lambda x: torch.softmax(x, 2), "aten::softmax: its input is no vector"),
        (lambda x: torch.add(x, x, alpha=2), "aten::add: alpha 2"),
        (lambda x: x * x, "aten::mul: a product of two activations"),
        (lambda x: torch.matmul(x, MATRIX), "aten::matmul: weights (3, 3) for an input (32, 32, 3)"),
        (lambda x: torch.nn.functional.avg_pool2d(x.permute(0, 3, 1, 2), 4), "aten::avg_pool2d: a window [4, 4]"),
        (lambda x: torch.nn.functional.pad(x, (1, 1), value=1.0), "aten::pad: its input is no map"),
    ],
)
def test_what_is_not_read_is_refused_by_name(function: Callable[[torch.Tensor], Any], words: str) -> None:
    with pytest.raises(ModelError) as caught:
        read(saved(Function(function)), "small.pt")
    assert words in str(caught.value)
    assert "small.pt cannot be looked into" in str(caught.value)


def test_groups_are_refused() -> None:
    class Grouped(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = torch.nn.Conv2d(3, 3, 1, groups=3)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            result: torch.Tensor = self.conv(images.permute(0, 3, 1, 2))
            return result

    with pytest.raises(ModelError, match="module «conv», aten::_convolution: groups"):
        read(saved(Grouped()), "small.pt")
