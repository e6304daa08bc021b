"""A model file, opened to be looked into."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from resnet8.errors import ModelError, Resnet8Error
from resnet8.files import read_bytes
from resnet8.network import onnx_read
from resnet8.network.rewrite import behind
from resnet8.numeric.grid import limits, storage
from resnet8.runtimes import onnx_file
from resnet8.runtimes.base import FORMATS, identify

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from resnet8.network.layers import AnyLayer
    from resnet8.network.program import Program
    from resnet8.numeric.grid import QParams
    from resnet8.results import ModelDescription


@dataclass(frozen=True, eq=False)
class Tensor:
    """An activation, or a parameter.

    Attributes:
        name: In the file.
        shape: Activations without the batch axis, NHWC; weights (kernel rows, kernel columns, channels in, channels
            out); constants (channels,).
        dtype: ``float32``, ``int8`` or ``uint8``.
        params: Scale and zero point, of the tensor or of each output channel; none when it is float.
        limits: The least and the greatest code it may have; none when it is float.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    params: QParams | None = None
    limits: tuple[int, int] | None = None


@dataclass(frozen=True, eq=False)
class LayerView:
    """A layer as it is shown.

    Attributes:
        name: The operator's name in the graph, without what converters add to it.
        operator: ``conv``, ``dense``, ``mul``, ``add``, ``average-pool`` or ``rescale``.
        residual: Whether it adds two activations.
        relu: Whether a ReLU is part of it by an operator of its own. (In a quantized layer the zero point may do the
            same: where it is the least code, no negative number has one.)
        inputs: What it reads, in order.
        output: What it writes.
        weights: Its weights or its constant; none where it has neither.
        strides: Rows, columns; of convolutions.
        pads: Top, left, bottom, right; of convolutions.
        parameters: Where each parameter lives: role to name in the file.
        nodes: Names of the graph's nodes that make it up.
        macs: Multiply-accumulates of one image, padding included; 0 but for convolutions and dense layers.
    """

    name: str
    operator: str
    residual: bool
    relu: bool
    inputs: tuple[Tensor, ...]
    output: Tensor
    weights: Tensor | None
    strides: tuple[int, int] | None
    pads: tuple[int, int, int, int] | None
    parameters: Mapping[str, str] = field(default_factory=dict)
    nodes: tuple[str, ...] = ()
    macs: int = 0


@dataclass(frozen=True, eq=False)
class Network:
    """An open model.

    Attributes:
        description: What the file is; its path and SHA-256 are a key for whatever is computed from it.
        network: What it computes, on codes or on real numbers.
    """

    description: ModelDescription
    network: Program

    @cached_property
    def layers(self) -> tuple[LayerView, ...]:
        """The layers as they are shown, in the order of computation."""
        return tuple(map(_view, self.network.layers))

    @property
    def quantized(self) -> Program | None:
        """What a quantized file computes; none of a float one."""
        return self.network if self.network.quantized else None

    @property
    def real(self) -> Program | None:
        """What a float file computes; none of a quantized one."""
        return None if self.network.quantized else self.network

    @property
    def key(self) -> tuple[str, str]:
        """Path and SHA-256."""
        return self.description.path, self.description.sha256

    def layer(self, name: str) -> LayerView:
        """The layer of that name.

        Raises:
            ModelError: when there is none.
        """
        for layer in self.layers:
            if layer.name == name:
                return layer
        raise ModelError(
            f"{self.description.path} has no such layer",
            found=name,
            expected=", ".join(layer.name for layer in self.layers[:3]) + ", …",
        )

    def require_quantized(self) -> Program:
        """What the file computes.

        Raises:
            ModelError: when it is not quantized.
        """
        if self.quantized is None:
            raise ModelError(
                f"{self.description.path} is not quantized",
                found=f"a {self.description.dtype} model",
                expected="an int8 or uint8 model",
                remedy="choose a quantized model",
            )
        return self.quantized

    def require_real(self) -> Program:
        """What the file computes.

        Raises:
            ModelError: when it is quantized.
        """
        if self.real is None:
            raise ModelError(
                f"{self.description.path} is no float model",
                found=f"a {self.description.dtype} model",
                expected="the float32 model",
                remedy="choose the file that «resnet8 convert» wrote",
            )
        return self.real


def open_network(path: Path) -> Network:
    """Open a model file, ONNX or TorchScript, float or quantized.

    Raises:
        StorageError: when the file cannot be read.
        ModelError: when it is no model, damaged, no ResNet8, or has operators that cannot be looked into.
        MissingExtraError: when it is TorchScript and PyTorch is not installed.
    """
    content = read_bytes(path)
    runtime = identify(path, content)
    try:
        if runtime.format == "onnx":
            return _open_onnx(path, content)
        if runtime.format == "torchscript":
            return _open_torchscript(path, content)
    except Resnet8Error:
        raise
    except Exception as error:
        raise ModelError(
            f"{path} cannot be looked into",
            found=f"{type(error).__name__}: {error!s:.200}",
            expected="a complete model file",
            remedy="it is damaged or of another version; make it again",
        ) from error
    raise ModelError(
        f"{path} cannot be looked into",
        found=f"a file for {runtime.label}",
        expected="an ONNX or a TorchScript file",
        remedy="convert it with «resnet8 convert»",
    )


def reference(network: Network, of: Network) -> Program:
    """The float network behind a quantized one, with its layers and names.

    Args:
        network: The quantized model.
        of: The float model that it was made from.

    Raises:
        ModelError: when ``network`` is not quantized, ``of`` is no float model, or their layers do not agree.
    """
    return behind(network.require_quantized(), of.require_real())


def _open_onnx(path: Path, content: bytes) -> Network:
    model = onnx_file.read(path, content)
    network = onnx_read.read(model, str(path))
    return Network(onnx_file.describe(path, content, model), network.as_integer() if network.quantized else network)


def _open_torchscript(path: Path, content: bytes) -> Network:
    pytorch = FORMATS["torchscript"].load()  # an ONNX file is looked into without torch
    description, network = pytorch.read(path, content)
    return Network(description, network.as_integer() if network.quantized else network)


def _view(layer: AnyLayer) -> LayerView:
    conv = layer.window
    parameter = layer.parameter
    return LayerView(
        name=layer.name,
        operator=layer.operator,
        residual=layer.residual,
        relu=layer.relu,
        inputs=tuple(_tensor(one.name, one.shape, one.grid) for one in layer.reads),
        output=_tensor(layer.output.name, layer.output.shape, layer.output.grid),
        weights=None if parameter is None else _tensor(parameter.name, parameter.codes.shape, parameter.grid),
        strides=None if conv is None else conv.strides,
        pads=None if conv is None else conv.pads,
        parameters=layer.parameters,
        nodes=layer.nodes,
        macs=layer.macs,
    )


def _tensor(name: str, shape: tuple[int, ...], grid: QParams | None) -> Tensor:
    if grid is None:
        return Tensor(name, shape, "float32")
    return Tensor(name, shape, storage(grid.dtype).name, grid, limits(grid.dtype))
