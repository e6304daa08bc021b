"""ONNX to PyTorch, with onnx2torch. Runs in a process without TensorFlow (see resnet8.workers)."""

from __future__ import annotations

import io
import json
import logging
import warnings
import zipfile
from typing import TYPE_CHECKING

import onnx2torch
import torch

from resnet8.errors import ModelError
from resnet8.files import read_bytes, sha256_file
from resnet8.network import IMAGE_SHAPE
from resnet8.runtimes import ort
from resnet8.runtimes.base import require_shapes

if TYPE_CHECKING:
    from pathlib import Path

log = logging.getLogger(__name__)

SOURCE_FILE = "source.json"
"""Extra file in the TorchScript archive: ``{"onnx_sha256": …}``, of the ONNX file that the module comes from."""


def to_module(onnx_model: Path) -> torch.fx.GraphModule:
    """The onnx2torch module of a float ResNet8: float32 (batch, 32, 32, 3) NHWC to (batch, 10), in evaluation mode.

    Raises:
        ModelError: when the ONNX file is damaged, quantized or no ResNet8.
    """
    model = ort.parse(onnx_model, read_bytes(onnx_model))
    inputs, outputs = ort.shapes(model)
    require_shapes(onnx_model, inputs[1:], outputs[1:])
    if ort.dtypes(model) != ("float32", "float32"):
        raise ModelError(
            f"{onnx_model} is quantized already",
            found="/".join(ort.dtypes(model)),
            expected="a float32 model",
            remedy="name the file that «resnet8 convert» wrote",
        )
    module = onnx2torch.convert(model).eval()
    _flatten_instead_of_reshape(module)
    return module


def _flatten_instead_of_reshape(module: torch.fx.GraphModule) -> None:
    """Reshape to (-1, features) holds what a tracer sees of its batch; Flatten keeps the batch free."""
    for node in module.graph.nodes:
        if node.op == "call_module" and node.target.endswith("Reshape"):
            module.add_submodule(f"{node.target}_flatten", torch.nn.Flatten())
            node.target = f"{node.target}_flatten"
            node.args = node.args[:1]
    module.graph.lint()
    module.delete_all_unused_submodules()
    module.recompile()


def onnx_to_pytorch(onnx_model: Path) -> bytes:
    """Convert a float ONNX ResNet8 to TorchScript.

    Returns:
        The content of a .pt file that ``torch.jit.load`` reads without onnx2torch and without running Python code.

    Raises:
        ModelError: as :func:`to_module`.
    """
    module = to_module(onnx_model)
    log.info("converted %s: %d modules", onnx_model, sum(1 for _ in module.modules()))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the deprecation of torch.jit: known, and pinned
        traced = torch.jit.trace(module, torch.zeros(2, *IMAGE_SHAPE))
    source = sha256_file(onnx_model)
    return save(traced, {"onnx_sha256": source})


def save(module: torch.jit.ScriptModule, source: dict[str, str]) -> bytes:
    """A TorchScript file's content, with ``source`` in its :data:`SOURCE_FILE`.

    Without the records that only debuggers read: they hold the paths of the machine that wrote the file, which would
    make its size and digest depend on where this package is installed.
    """
    written, content = io.BytesIO(), io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(module, written, _extra_files={SOURCE_FILE: json.dumps(source)})
    with zipfile.ZipFile(written) as full, zipfile.ZipFile(content, "w", zipfile.ZIP_STORED) as kept:
        for record in full.infolist():
            if not record.filename.endswith((".debug_pkl", "/serialization_id")):
                kept.writestr(zipfile.ZipInfo(record.filename), full.read(record))
    return content.getvalue()
