"""Quantized TorchScript files as integer programs: what is read, and what is refused by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch.nn import functional
from torch_quantized import Around, Network, convolution, scripted

from resnet8.errors import ModelError
from resnet8.network.layers import Product, Sum, Weighted
from resnet8.network.tensors import Constant
from resnet8.network.torch_read import extract

if TYPE_CHECKING:
    from resnet8.network.program import Program

pytestmark = pytest.mark.filterwarnings(
    "ignore:torch.quantize_per_tensor:UserWarning", "ignore:An output with one or more elements was resized:UserWarning"
)


@pytest.fixture(scope="module")
def program() -> Program:
    return extract(scripted(Network()), "network.pt").program


def test_every_operator_is_a_layer(program: Program) -> None:
    assert [(layer.kind, layer.relu, layer.kernel, layer.output.shape) for layer in program.layers] == [
        ("conv", False, "integer", (32, 32, 8)),
        ("mul", False, "integer", (32, 32, 8)),
        ("add", True, "float", (32, 32, 8)),
        ("rescale", False, "float", (32, 32, 8)),
        ("conv", False, "integer", (17, 16, 16)),
        ("conv", True, "integer", (17, 16, 16)),
        ("add", False, "float", (17, 16, 16)),
        ("average-pool", False, "integer", (1, 1, 16)),
        ("rescale", False, "float", (16,)),
        ("conv", False, "float", (10,)),
        ("add", False, "float", (10,)),
    ]
    assert len({layer.name for layer in program.layers}) == len(program.layers)
    assert program.softmax
    assert program.probabilities is not None
    assert (float(program.probabilities.scale), int(program.probabilities.zero_point)) == (1 / 256, 0)


def test_scales_zero_points_and_the_order_of_layers(program: Program) -> None:
    grids = [(float(layer.output.scale), layer.output.zero_point) for layer in program.layers]
    wanted = [
        (40, 70),
        (21, 66),
        (14, 11),
        (15, 9),
        (12, 61),
        (9, 20),
        (16, 50),
        (16, 50),
        (3, 5),
        (2.5, 101),
        (2.6, 99),
    ]
    np.testing.assert_array_equal(grids, np.array(wanted, np.float32))
    assert (float(program.input.scale), program.input.zero_point, program.input.params.dtype) == (2, 3, "uint8")
    written = {program.input.name}
    for layer in program.layers:
        assert written.issuperset(layer.inputs)
        written.add(layer.output.name)
    assert program.logits is program.layers[-1].output


def test_padding_before_a_convolution_becomes_its_own(program: Program) -> None:
    first, strided, shortcut = (
        layer for layer in program.layers if isinstance(layer, Weighted) and layer.real_bias is not None
    )
    assert first.pads == (1, 1, 1, 1)
    assert (strided.pads, strided.strides) == ((2, 0, 1, 1), (2, 2))
    assert strided.x.name == program.layers[3].output.name  # on another grid
    assert (shortcut.pads, shortcut.strides) == ((1, 0, 1, 0), (2, 2))
    assert shortcut.x.name == program.layers[2].output.name  # on the same grid: no layer between


def test_parameters_are_those_of_the_module(program: Program) -> None:
    module = Network()
    first = program.layers[0]
    assert isinstance(first, Weighted)
    np.testing.assert_array_equal(first.weights.codes, module.first.weight().int_repr().numpy().transpose(2, 3, 1, 0))
    np.testing.assert_array_equal(first.weights.params.scale, module.first.weight().q_per_channel_scales().numpy())
    np.testing.assert_array_equal(first.real_bias, module.first.bias().detach().numpy())
    step = 2.0 * first.weights.params.scale.astype(np.float64)
    np.testing.assert_allclose(first.added * step, first.real_bias, rtol=0, atol=step.max() * 0.5000001)
    assert first.parameters == {"weights": "first._packed_params", "bias": "first._packed_params"}
    shortcut = program.layers[5]
    assert isinstance(shortcut, Weighted)
    assert (shortcut.bias, shortcut.added.any()) == (None, False)
    assert set(shortcut.parameters) == {"weights"}

    factor, shift = program.layers[1:3]
    assert isinstance(factor, Product)
    assert isinstance(shift, Sum)
    assert isinstance(shift.b, Constant)
    real = module.factor.numpy().ravel()
    np.testing.assert_array_equal(factor.constant.codes, np.clip(np.rint(real / np.float32(0.02)) + 90, 0, 255))
    assert factor.parameters == {"constant": "factor"}
    assert shift.b.name == "shift"
    dense = program.layers[9]
    assert isinstance(dense, Weighted)
    assert (dense.dense, dense.bias, dense.weights.shape) == (True, None, (1, 1, 16, 10))


class ConstantFirst(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        constant = torch.quantize_per_tensor(torch.ones(3, 1, 1) / 2, 0.25, 100, torch.quint8)
        return torch.ops.quantized.mul(constant, x, 1.0, 4)


class Buffer(torch.nn.Module):
    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.register_buffer("values", torch.ones(shape))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.ops.quantized.add(torch.quantize_per_tensor(self.values, 0.25, 100, torch.quint8), x, 1.0, 4)


@pytest.mark.parametrize("shape", [(1, 3, 1, 1), (3, 1, 1), (1,), ()])
def test_a_constant_may_stand_first_and_have_any_shape_of_channels(shape: tuple[int, ...]) -> None:
    program = extract(scripted(Around(Buffer(shape))), "network.pt").program
    (layer,) = program.layers
    assert isinstance(layer, Sum)
    assert isinstance(layer.b, Constant)
    assert layer.a.name == program.input.name
    assert layer.b.codes.tolist() == [104] * 3
    assert not program.softmax
    assert layer.parameters == {"constant": "middle.values"}


# --- what is refused ---


class Sigmoid(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid(x)


class FloatAdd(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.quantize_per_tensor(torch.dequantize(x) + 1.0, 1.0, 0, torch.quint8)


class Window(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.avg_pool2d(x, 2)


class Turned(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.permute(x, [0, 2, 3, 1])


class Padded(torch.nn.Module):
    def __init__(self, value: float, mode: str = "constant") -> None:
        super().__init__()
        self.value, self.mode = value, mode

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        real = functional.pad(torch.dequantize(x), [1, 1, 1, 1], self.mode, self.value)
        return torch.quantize_per_tensor(real, 1.0, 0, torch.quint8)


class PaddedThenAdded(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        padded = torch.quantize_per_tensor(functional.pad(torch.dequantize(x), [1, 1]), 2.0, 3, torch.quint8)
        return torch.ops.quantized.add(padded, padded, 4.0, 3)


class PaddedRows(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        padded = functional.pad(torch.dequantize(x), [1, 1, 1, 1])
        padded = torch.quantize_per_tensor(padded, 2.0, 3, torch.quint8)
        return torch.ops.quantized.add(padded, padded, 4.0, 3)


class Square(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.ops.quantized.mul(x, x, 1.0, 0)


class Wide(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.quantize_per_tensor(torch.dequantize(x), 1.0, 0, torch.qint32)


class Flat(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.flatten(x, 1)


class Scores(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.ops.quantized.softmax(x, 1, 1 / 256, 0)


class Reference(torch.nn.Module):
    """A convolution, a sum, a pool and a dense layer in float, between dequantized and quantized codes."""

    def __init__(self, zero_point: int = 0) -> None:
        super().__init__()
        rng = np.random.default_rng(4)
        kind = np.uint8 if zero_point else np.int8
        for name, shape in (("conv", (3, 3, 3, 3)), ("dense", (10, 3))):
            codes = torch.from_numpy(rng.integers(0, 128, shape).astype(kind))
            scales, zeros = torch.full((shape[0],), 0.01, dtype=torch.float64), torch.full((shape[0],), zero_point)
            self.register_buffer(name, torch._make_per_channel_quantized_tensor(codes, scales, zeros, 0))
            self.register_buffer(f"{name}_bias", torch.from_numpy(rng.normal(0, 3, shape[0]).astype(np.float32)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        kind = torch.quint8
        padded = functional.pad(torch.dequantize(x), [0, 1, 0, 1])
        padded = torch.dequantize(torch.quantize_per_tensor(padded, 2.0, 3, kind))
        y = functional.conv2d(padded, torch.dequantize(self.conv), self.conv_bias, padding=[1, 1])
        y = torch.dequantize(torch.quantize_per_tensor(torch.relu(y), 20.0, 0, kind))
        y = torch.dequantize(torch.quantize_per_tensor(y + y, 40.0, 5, kind))
        y = torch.dequantize(torch.quantize_per_tensor(functional.avg_pool2d(y, [33, 33]), 40.0, 5, kind))
        y = torch.flatten(y, 1)
        y = functional.linear(y, torch.dequantize(self.dense), self.dense_bias)
        return torch.quantize_per_tensor(y, 12.0, 100, kind)


@pytest.mark.parametrize("zero_point", [0, 90])
def test_reference_patterns_are_layers_of_float_kernels(zero_point: int) -> None:
    module = Reference(zero_point)
    program = extract(scripted(Around(module)), "reference.pt").program
    assert [(one.kind, one.name, one.relu, one.kernel, one.output.scale) for one in program.layers] == [
        ("conv", "middle.conv", True, "float", 20),
        ("add", program.layers[1].name, False, "float", 40),
        ("average-pool", program.layers[2].name, False, "float", 40),
        ("conv", "middle.dense", False, "float", 12),
    ]
    first, *_, last = program.layers
    assert isinstance(first, Weighted)
    assert isinstance(last, Weighted)
    assert first.pads == (1, 1, 2, 2)
    for layer, codes in ((first, module.conv), (last, module.dense)):
        axes = (2, 3, 1, 0) if layer is first else (1, 0)
        np.testing.assert_array_equal(layer.weights.codes.squeeze(), codes.int_repr().permute(axes).numpy().squeeze())
        assert layer.weights.params.dtype == ("uint8" if zero_point else "int8")
        np.testing.assert_array_equal(layer.weights.params.zero_point, zero_point)
    np.testing.assert_array_equal(last.real_bias, module.dense_bias.numpy())
    np.testing.assert_array_equal(last.added, np.rint(module.dense_bias.numpy() / (40 * np.float64(np.float32(0.01)))))


class Packed(torch.nn.Module):
    """Parameters that are packed when the file is run."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("weight", convolution(3, (3, 10), 32, 1.0, 0).weight())
        self.register_buffer("dense", convolution(4, (10, 10), 1, 1.0, 0).weight().reshape(10, 10))
        self.register_buffer("bias", torch.arange(10.0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        packed = torch.ops.quantized.conv2d_prepack(self.weight, self.bias, [1, 1], [0, 0], [1, 1], 1)
        y = torch.flatten(torch.ops.quantized.conv2d_relu(x, packed, 900.0, 0), 1)
        return torch.ops.quantized.linear(y, torch.ops.quantized.linear_prepack(self.dense, self.bias), 90.0, 60)


def test_packed_parameters_are_those_that_are_packed() -> None:
    module = Packed()
    first, last = extract(scripted(Around(module)), "packed.pt").program.layers
    assert isinstance(first, Weighted)
    assert isinstance(last, Weighted)
    assert [(one.name, one.relu, one.kernel, one.operator) for one in (first, last)] == [
        ("middle", True, "integer", "conv"),
        ("middle.dense", False, "integer", "dense"),
    ]
    np.testing.assert_array_equal(first.weights.codes, module.weight.int_repr().numpy().transpose(2, 3, 1, 0))
    np.testing.assert_array_equal(last.weights.codes[0, 0], module.dense.int_repr().numpy().T)
    np.testing.assert_array_equal(last.weights.params.scale, module.dense.q_per_channel_scales().numpy())
    np.testing.assert_array_equal(last.real_bias, np.arange(10))


class FloatParameter(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("weight", torch.ones(3, 3, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.quantize_per_tensor(functional.conv2d(torch.dequantize(x), self.weight), 1.0, 0, torch.quint8)


class RealAndCodes(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        real = functional.relu(torch.dequantize(x) + torch.dequantize(x))
        return torch.quantize_per_tensor(real + real, 1.0, 0, torch.quint8)


REFUSED: dict[str, tuple[Any, str]] = {
    "operator": (Sigmoid(), r"operator aten::sigmoid: an operator that is not supported"),
    "parameter on no grid": (FloatParameter(), r"operator aten::conv2d: a parameter that is on no grid"),
    "not quantized between": (RealAndCodes(), r"operator aten::add: an input that is no activation"),
    "float": (FloatAdd(), r"operator aten::add: an input that is no activation as it was computed"),
    "window": (Window(), r"operator aten::avg_pool2d: a window \[2, 2\] on a map \(32, 32\); the whole map"),
    "order": (Turned(), r"operator aten::permute: order \[0, 2, 3, 1\]; from NHWC to NCHW is supported"),
    "pad value": (Padded(1.0), r"operator aten::pad: mode constant, value 1\.0"),
    "pad mode": (Padded(0.0, "reflect"), r"operator aten::pad: mode reflect"),
    "pad of columns only": (PaddedThenAdded(), r"operator aten::pad: .*sides \[1, 1\]; zeros around a map"),
    "padded sum": (
        PaddedRows(),
        r"operator quantized::add: an input that is no activation as it was computed",
    ),
    "square": (Square(), r"operator quantized::mul: a product of two activations"),
    "constant": (Buffer((1, 1, 1, 32)), r"operator quantized::add: a constant of shape \(1, 1, 1, 32\)"),
    "int32": (Wide(), r"operator aten::quantize_per_tensor: codes of type 14; quint8 and qint8 are supported"),
    "flatten": (Flat(), r"operator aten::flatten: a map of shape \(32, 32, 3\); 1 x 1 is supported"),
    "softmax": (Scores(), r"operator quantized::softmax: its input is no vector of class scores"),
}
CONVOLUTIONS: dict[str, tuple[dict[str, Any], str]] = {
    "groups": ({"groups": 3}, r"operator quantized::conv2d: groups or dilations"),
    "dilation": ({"dilation": 2}, r"operator quantized::conv2d: groups or dilations"),
    "reflected": ({"padding": 1, "padding_mode": "reflect"}, r"operator prim::Loop: an operator that is not supported"),
    "bias": ({"bias": 1e12}, r"operator quantized::conv2d: a bias of .* accumulator steps, more than int32 holds"),
}


def refuse(module: torch.nn.Module, match: str) -> None:
    with pytest.raises(ModelError, match=match) as caught:
        extract(scripted(module), "folder/network.pt")
    error = caught.value
    assert error.what == "folder/network.pt cannot be run in integers"
    assert str(error.found).startswith("node «")
    assert "supported: quantize_per_tensor, dequantize, quantized::conv2d" in str(error)


@pytest.mark.parametrize(("module", "match"), REFUSED.values(), ids=REFUSED)
def test_what_is_outside_the_rules_is_refused_by_name(module: torch.nn.Module, match: str) -> None:
    refuse(Around(module), match)


@pytest.mark.parametrize(("how", "match"), CONVOLUTIONS.values(), ids=CONVOLUTIONS)
def test_other_convolutions_are_refused(how: dict[str, Any], match: str) -> None:
    refuse(Around(convolution(0, (3, 3), 3, 9.0, 60, **how)), match)


def test_weights_that_do_not_fit_the_map_are_refused() -> None:
    refuse(Around(convolution(0, (5, 3), 3, 9.0, 60)), r"weights \(3, 5, 3, 3\) for an input \(32, 32, 3\)")


class Float(torch.nn.Module):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.flatten(1)[:, :10]


class Codes(torch.nn.Module):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.quantize_per_tensor(images, 1.0, 0, torch.quint8)


class Parameter(torch.nn.Module):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.dequantize(torch.quantize_per_tensor(torch.dequantize(images), 1.0, 0, torch.quint8))


def test_a_float_module_is_refused() -> None:
    with pytest.raises(ModelError, match=r"float\.pt is not quantized: found no quantize_per_tensor, expected an int8"):
        extract(scripted(Float()), "float.pt")


def test_an_output_that_is_not_quantized_is_refused() -> None:
    with pytest.raises(ModelError, match=r"found an output that is neither dequantized codes nor a softmax"):
        extract(scripted(Codes()), "codes.pt")
    with pytest.raises(ModelError, match=r"operator aten::dequantize: an input that is no activation"):
        extract(scripted(Parameter()), "images.pt")
