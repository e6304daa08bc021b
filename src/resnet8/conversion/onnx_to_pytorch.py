"""ONNX to PyTorch, with onnx2torch. Runs in a process without TensorFlow (see resnet8.workers)."""

from __future__ import annotations

import importlib
import io
import json
import logging
import re
import sys
import warnings
import zipfile
from itertools import groupby
from types import ModuleType
from typing import TYPE_CHECKING

import torch

from resnet8.facts import IMAGE_SHAPE
from resnet8.results import sha256
from resnet8.runtimes.onnx_file import read_float
from resnet8.runtimes.torchscript_file import SOURCE_FILE

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

log = logging.getLogger(__name__)


def _import_onnx2torch() -> ModuleType:
    """onnx2torch, without torchvision.

    Two of its converters, of operators that no ResNet8 has, would import it, and with it torch's compiler, which takes
    longer than torch itself.
    """
    absent = [name for name in ("torchvision", "torchvision.ops") if name not in sys.modules]
    for name in absent:
        sys.modules[name] = ModuleType(name)
    if "torchvision.ops" in absent:
        sys.modules["torchvision.ops"].roi_align = None  # type: ignore[attr-defined]
    try:
        return importlib.import_module("onnx2torch")
    finally:
        for name in absent:
            del sys.modules[name]


onnx2torch = _import_onnx2torch()


def to_module(onnx_model: Path, content: bytes) -> torch.fx.GraphModule:
    """The onnx2torch module of a float ResNet8: float32 (batch, 32, 32, 3) NHWC to (batch, 10), in evaluation mode.

    Args:
        onnx_model: Names the ONNX file in errors.
        content: The file.

    Raises:
        ModelError: when the ONNX file is damaged, quantized or no ResNet8.
    """
    module = onnx2torch.convert(read_float(onnx_model, content)).eval()
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


def onnx_to_pytorch(onnx_model: Path, content: bytes) -> bytes:
    """Convert a float ONNX ResNet8, given as :func:`to_module` takes it, to TorchScript.

    Returns:
        The content of a .pt file that ``torch.jit.load`` reads without onnx2torch and without running Python code.

    Raises:
        ModelError: as :func:`to_module`.
    """
    module = to_module(onnx_model, content)
    log.info("converted %s: %d modules", onnx_model, sum(1 for _ in module.modules()))
    return save(lambda: torch.jit.trace(module, torch.zeros(2, *IMAGE_SHAPE)), {"onnx_sha256": sha256(content)})


def save(compile_module: Callable[[], torch.jit.ScriptModule], source: dict[str, str]) -> bytes:
    """A TorchScript file's content, with ``source`` in its :data:`SOURCE_FILE`: the same bytes for the same module.

    Without the records that only debuggers read: they hold the paths of the machine that wrote the file, which would
    make its size and digest depend on where this package is installed.

    Args:
        compile_module: Traces or scripts the module.
        source: Where it comes from.
    """
    written, content = io.BytesIO(), io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the deprecation of torch.jit: known, and pinned
        _forget_classes()
        torch.jit.save(compile_module(), written, _extra_files={SOURCE_FILE: json.dumps(source)})
    with zipfile.ZipFile(written) as full:
        records = {
            record: full.read(record)
            for record in full.namelist()
            if not record.endswith((".debug_pkl", "/serialization_id"))
        }
    with zipfile.ZipFile(content, "w", zipfile.ZIP_STORED) as kept:
        for name, data in _settled(records).items():
            kept.writestr(zipfile.ZipInfo(name), data)
    return content.getvalue()


def _forget_classes() -> None:
    """Let the next compilation name its classes as if it were the first one of the process, but for their numbers."""
    torch._C._jit_clear_class_registry()
    torch.jit._recursive.concrete_type_store = torch.jit._recursive.ConcreteTypeStore()
    torch.jit._state._clear_class_state()


def _settled(records: dict[str, bytes]) -> dict[str, bytes]:
    """The records of an archive, without what differs from process to process.

    TorchScript numbers a class whose name is taken, by all the names that were taken before in the process: here by
    those of the archive. It lists the constants of a class in the order of a Python set: here by the alphabet.
    """
    texts = [*(name.encode() for name in records), *(data for name, data in records.items() if _holds_names(name))]
    numbers = sorted({int(match[1]) for text in texts for match in _MANGLED.finditer(text)})
    places = {number: place for place, number in enumerate(numbers)}

    def renumbered(text: bytes) -> bytes:
        return _MANGLED.sub(lambda match: b"___torch_mangle_%d" % places[int(match[1])], text)

    return {
        renumbered(name.encode()).decode(): _sorted_constants(renumbered(data)) if _holds_names(name) else data
        for name, data in records.items()
    }


_MANGLED = re.compile(rb"___torch_mangle_(\d+)")


def _holds_names(record: str) -> bool:
    """Whether a record names classes: as code, or as a pickle's globals, which end at a line's end."""
    return record.endswith((".py", "/data.pkl"))


def _sorted_constants(code: bytes) -> bytes:
    lines = code.split(b"\n")
    for constant, group in groupby(list(enumerate(lines)), lambda item: b" : Final[" in item[1]):
        if constant:
            places, texts = zip(*group, strict=True)
            lines[places[0] : places[-1] + 1] = sorted(texts)
    return b"\n".join(lines)
