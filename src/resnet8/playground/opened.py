"""A model file, opened to be looked into."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from resnet8.errors import ModelError, opening
from resnet8.files import read_bytes
from resnet8.network import onnx_read
from resnet8.network.rewrite import behind
from resnet8.runtimes import onnx_file, torchscript_file
from resnet8.runtimes.base import identify

if TYPE_CHECKING:
    from pathlib import Path

    from resnet8.network.layers import AnyLayer
    from resnet8.network.program import Program
    from resnet8.results import ModelDescription


@dataclass(frozen=True, eq=False)
class Opened:
    """An open model.

    Attributes:
        description: What the file is; its path and SHA-256 are a key for whatever is computed from it.
        network: What it computes, on codes or on real numbers.
    """

    description: ModelDescription
    network: Program

    @property
    def key(self) -> tuple[str, str]:
        """Path and SHA-256."""
        return self.description.path, self.description.sha256

    @property
    def quantized(self) -> bool:
        """Whether it computes on codes."""
        return self.network.quantized

    def layer(self, name: str) -> AnyLayer:
        """The layer of that name.

        Raises:
            ModelError: when there is none.
        """
        for layer in self.network.layers:
            if layer.name == name:
                return layer
        raise ModelError(
            f"{self.description.path} has no such layer",
            found=name,
            expected=", ".join(layer.name for layer in self.network.layers[:3]) + ", …",
        )

    def require_quantized(self) -> Program:
        """What the file computes.

        Raises:
            ModelError: when it is not quantized.
        """
        if not self.quantized:
            raise self._refused("is not quantized", "an int8 or uint8 model", "choose a quantized model")
        return self.network

    def require_real(self) -> Program:
        """What the file computes.

        Raises:
            ModelError: when it is quantized.
        """
        if self.quantized:
            remedy = "choose the file that «resnet8 convert» wrote"
            raise self._refused("is no float model", "the float32 model", remedy)
        return self.network

    def reference(self, of: Opened) -> Program:
        """The float network behind a quantized model, with its layers and names.

        Args:
            of: The float model that it was made from.

        Raises:
            ModelError: when it is not quantized, ``of`` is no float model, or their layers do not agree.
        """
        return behind(self.require_quantized(), of.require_real())

    def _refused(self, what: str, expected: str, remedy: str) -> ModelError:
        found = f"a {self.description.dtype} model"
        return ModelError(f"{self.description.path} {what}", found=found, expected=expected, remedy=remedy)


def open_file(path: Path) -> Opened:
    """Open a model file, ONNX or TorchScript, float or quantized.

    Raises:
        StorageError: when the file cannot be read.
        ModelError: when it is no model, damaged, no ResNet8, or has operators that cannot be looked into.
        MissingExtraError: when it is TorchScript and PyTorch is not installed.
    """
    return open_content(path, read_bytes(path))


def open_content(path: Path, content: bytes) -> Opened:
    """Open what a file holds, or will hold, as :func:`open_file`; ``path`` names it."""
    runtime = identify(path, content)
    if runtime.format not in ("onnx", "torchscript"):
        raise ModelError(
            f"{path} cannot be looked into",
            found=f"a file for {runtime.label}",
            expected="an ONNX or a TorchScript file",
            remedy="convert it with «resnet8 convert»",
        )
    with opening(path, runtime.label):
        if runtime.format == "onnx":
            model = onnx_file.read(path, content)
            description, network = onnx_file.describe(path, content, model), onnx_read.read(model, str(path))
        else:
            description, network = torchscript_file.read(path, content)
    return Opened(description, network.as_integer() if network.quantized else network)
