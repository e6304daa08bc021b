"""TorchScript files in PyTorch, on the CPU.

TorchScript is the one PyTorch format that loads without unpickling Python objects and without the code that made the
model: ``torch.load`` of a module needs onnx2torch and runs whatever the pickle says, and ``torch.export.load`` falls
back to unrestricted unpickling when a file asks for it.
"""

from __future__ import annotations

import io
import warnings
import zipfile
from types import MappingProxyType
from typing import TYPE_CHECKING

import torch

from resnet8.environment import cpu
from resnet8.errors import ModelError
from resnet8.facts import IMAGE_SHAPE
from resnet8.results import ModelDescription, sha256
from resnet8.runtimes.base import require_shapes
from resnet8.runtimes.pytorch_constants import freeze, spread

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

ENGINE = "fbgemm"


class TorchPredictor:
    """A TorchScript model (see :class:`resnet8.runtimes.base.Predictor`).

    Torch is set to one thread per call, process-wide, and called from one thread per CPU.

    Attributes:
        module: The module as it is in the file; what runs is frozen, and computes the same
            (:mod:`resnet8.runtimes.pytorch_constants`).
    """

    backend = "pytorch"
    requantization: str | None = None
    session_options: Mapping[str, str] = MappingProxyType({})

    def __init__(self, model: ModelDescription, module: torch.jit.ScriptModule) -> None:
        self.model = model
        self.threads = cpu().logical_cpus
        self.module = module
        torch.set_num_threads(1)
        self._runs = spread(module, torch.zeros(1, *IMAGE_SHAPE)) if model.quantized else freeze(module)

    def probabilities(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Class probabilities, float32 (N, 10)."""
        with torch.inference_mode():
            output: NDArray[np.float32] = self._runs(torch.from_numpy(images)).numpy()
        return output


def open_content(path: Path, content: bytes) -> TorchPredictor:
    """Open the TorchScript model in ``content``.

    Raises:
        ModelError: when it is no ResNet8.
    """
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        code = b"".join(archive.read(name) for name in archive.namelist() if name.endswith(".py"))
    quantized = b"quantize_per_tensor" in code
    if quantized:
        torch.backends.quantized.engine = ENGINE
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the deprecation of torch.jit, and of quantized tensors: known, and pinned
        if quantized:  # else C++ says it when loading, past Python
            torch.quantize_per_tensor(torch.zeros(1), 1.0, 0, torch.quint8)
        module = torch.jit.load(io.BytesIO(content), map_location="cpu").eval()
    description = ModelDescription(
        path=str(path),
        sha256=sha256(content),
        size_bytes=len(content),
        format="torchscript",
        # fbgemm knows one pair only: quint8 activations, qint8 weights.
        activations="uint8" if quantized else "float32",
        weights="int8" if quantized else "float32",
    )
    # The file states no shapes: two images tell them, and that the batch is free.
    try:
        predictor = TorchPredictor(description, module)
        probe = predictor.probabilities(torch.zeros(2, *IMAGE_SHAPE).numpy())
    except RuntimeError as error:
        raise ModelError(
            f"{path} does not take CIFAR-10 images",
            found=str(error).strip().splitlines()[-1][:200],
            expected="a ResNet8 with NHWC input (batch, 32, 32, 3)",
            remedy="make the file with «resnet8 convert»",
        ) from error
    require_shapes(path, IMAGE_SHAPE, probe.shape[1:])
    return predictor
