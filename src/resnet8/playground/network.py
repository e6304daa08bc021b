"""A model file, opened to be looked into."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from resnet8.errors import ModelError, Resnet8Error, missing_extra
from resnet8.files import read_bytes
from resnet8.network.layers import Activation, Constant, Product, Sum, Weighted
from resnet8.network.onnx_read import extract
from resnet8.playground import float_onnx
from resnet8.playground.export import without_clips
from resnet8.playground.matching import behind
from resnet8.playground.quantized import Quantized
from resnet8.qparams import limits
from resnet8.runtimes import integer, onnx_file
from resnet8.runtimes.base import identify

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from resnet8.network.layers import AnyLayer
    from resnet8.playground.reference import RealLayer, RealNetwork
    from resnet8.qparams import QParams
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
    """An open model: exactly one of ``quantized`` and ``real`` is there.

    Attributes:
        description: What the file is; its path and SHA-256 are a key for whatever is computed from it.
        layers: In the order of computation.
        quantized: What a quantized file computes.
        real: What a float file computes.
    """

    description: ModelDescription
    layers: tuple[LayerView, ...]
    quantized: Quantized | None = None
    real: RealNetwork | None = None

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

    def require_quantized(self) -> Quantized:
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

    def require_real(self) -> RealNetwork:
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


def reference(network: Network, of: Network) -> RealNetwork:
    """The float network behind a quantized one, with its layers and names.

    Args:
        network: The quantized model.
        of: The float model that it was made from.

    Raises:
        ModelError: when ``network`` is not quantized, ``of`` is no float model, or their layers do not agree.
    """
    return behind(network.require_quantized().program, of.require_real())


def _open_onnx(path: Path, content: bytes) -> Network:
    model = onnx_file.read(path, content)
    description = onnx_file.describe(path, content, model)
    if (description.activations, description.weights) == ("float32", "float32"):
        return _of_real(description, float_onnx.read(model, str(path)))
    plain, narrow = without_clips(model)
    return of_quantized(description, Quantized(extract(plain, str(path)).as_integer(), narrow))


def _open_torchscript(path: Path, content: bytes) -> Network:
    try:
        from resnet8.playground import float_torchscript  # an ONNX file is looked into without torch
        from resnet8.runtimes import pytorch
    except ImportError as error:
        raise missing_extra("torch", "torch") from error
    description = pytorch.open_content(path, content).model
    if description.quantized:
        predictor = integer.open_content(path, content)
        return of_quantized(predictor.model, Quantized(predictor.program))
    return _of_real(description, float_torchscript.read(content, str(path)))


# Quantized layers


def of_quantized(description: ModelDescription, quantized: Quantized) -> Network:
    """What ``quantized`` computes, as a network to be looked into; ``description`` says of which file."""
    layers = tuple(_quantized_layer(quantized, layer) for layer in quantized.program.layers)
    return Network(description, layers, quantized=quantized)


def _quantized_layer(quantized: Quantized, layer: AnyLayer) -> LayerView:
    conv = isinstance(layer, Weighted) and not layer.dense
    inputs = tuple(_codes(quantized, one) for one in read_by(layer))
    return LayerView(
        name=layer.name,
        operator=layer.operator,
        residual=len(inputs) == 2,
        relu=layer.relu,
        inputs=inputs,
        output=_codes(quantized, layer.output),
        weights=_constant(layer),
        strides=layer.strides if isinstance(layer, Weighted) and conv else None,
        pads=layer.pads if isinstance(layer, Weighted) and conv else None,
        parameters=layer.parameters,
        nodes=layer.nodes,
        macs=layer.macs if isinstance(layer, Weighted) else 0,
    )


def read_by(layer: AnyLayer) -> Iterator[Activation]:
    """The activations that a layer reads, in order."""
    for one in (layer.a, layer.b) if isinstance(layer, Sum) else (layer.x,):
        if isinstance(one, Activation):
            yield one


def _codes(quantized: Quantized, one: Activation) -> Tensor:
    return Tensor(one.name, one.shape, one.params.dtype, one.params, quantized.limits(one.name))


def _constant(layer: AnyLayer) -> Tensor | None:
    if isinstance(layer, Weighted):
        name, codes, params = layer.parameters["weights"], layer.weights, layer.weight_params
    elif isinstance(layer, Product):
        name, codes, params = layer.parameters["constant"], layer.constant, layer.constant_params
    elif isinstance(layer, Sum) and isinstance(layer.b, Constant):
        name, codes, params = layer.b.name, layer.b.codes, layer.b.params
    else:
        return None
    return Tensor(name, codes.shape, params.dtype, params, limits(params.dtype))


# Float layers


def _of_real(description: ModelDescription, real: RealNetwork) -> Network:
    shapes = {layer.output: layer.shape for layer in real.layers}
    return Network(description, tuple(_real_layer(layer, shapes) for layer in real.layers), real=real)


def _real_layer(layer: RealLayer, shapes: Mapping[str, tuple[int, ...]]) -> LayerView:
    conv = layer.operator == "conv"
    weights = None
    if layer.weights is not None:
        role = "weights" if layer.operator in ("conv", "dense") else "constant"
        weights = Tensor(layer.parameters[role], layer.weights.shape, "float32")
    return LayerView(
        name=layer.name,
        operator=layer.operator,
        residual=len(layer.inputs) == 2,
        relu=layer.relu,
        inputs=tuple(Tensor(name, shapes.get(name, (32, 32, 3)), "float32") for name in layer.inputs),
        output=Tensor(layer.output, layer.shape, "float32"),
        weights=weights,
        strides=layer.strides if conv else None,
        pads=layer.pads if conv else None,
        parameters=layer.parameters,
        nodes=layer.nodes,
        macs=layer.macs,
    )
