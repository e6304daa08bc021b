"""What a TorchScript file is, without torch."""

from __future__ import annotations

import io
import zipfile
from typing import TYPE_CHECKING

from resnet8.results import ModelDescription
from resnet8.results.storage import fields_of
from resnet8.runtimes import torchscript
from resnet8.runtimes.base import FORMATS

if TYPE_CHECKING:
    from pathlib import Path

    from resnet8.network.program import Program

SOURCE_FILE = "source.json"
"""Extra file in the archive: ``{"onnx_sha256": …}``, of the ONNX file that the module comes from."""


def describe(path: Path, content: bytes) -> ModelDescription:
    """What the file with this ``content`` is, by the code in it and the types of its tensors.

    PyTorch's kernels know one pair of types only: quint8 activations, qint8 weights. Weights that lie in the file as
    quint8 are computed with in float.
    """
    return checked(path, content)[1]


def checked(path: Path, content: bytes) -> tuple[bytes, ModelDescription]:
    """The archive that PyTorch may load (:func:`resnet8.runtimes.torchscript.checked`), and what it is.

    Raises:
        ModelError: when the file is damaged, or could do anything but compute.
    """
    archive, code, stored = torchscript.checked(path, content)
    weights = "uint8" if "QUInt8" in stored else "int8"
    types = ("uint8", weights) if "quantize_per_tensor" in code else ("float32", "float32")
    return archive, ModelDescription.of(path, content, "torchscript", *types)


def read(path: Path, content: bytes, *, quantized: bool = False) -> tuple[ModelDescription, Program]:
    """What :func:`resnet8.runtimes.pytorch.read` gives, from PyTorch's own process.

    Raises:
        ModelError: its own, or when the process ended.
        MissingExtraError: when PyTorch is not installed.
    """
    return FORMATS["torchscript"].call(path, _read, path, content=content, quantized=quantized)


def _read(path: Path, *, content: bytes, quantized: bool) -> tuple[ModelDescription, Program]:
    found: tuple[ModelDescription, Program] = FORMATS["torchscript"].load().read(path, content, quantized=quantized)
    return found


def source_sha256(content: bytes) -> str | None:
    """SHA-256 of the ONNX file that the file with this ``content`` was converted from; none where it does not say."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        member = next((name for name in archive.namelist() if name.endswith(f"extra/{SOURCE_FILE}")), None)
        return fields_of(archive.read(member)).get("onnx_sha256") if member else None
