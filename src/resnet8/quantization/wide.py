"""What PyTorch's recipes share: where they start from, and how they observe activations in float64.

Which of a histogram's bins a range ends at does not depend, in float64, on the last bits that the CPU's float32 kernels
leave open. So the network that is observed, and its observers, are widened; each scale is rounded to float32 once.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import torch

from resnet8.data.cifar10 import preprocess
from resnet8.errors import ModelError, StorageError
from resnet8.files import read_bytes, sha256_file
from resnet8.runtimes import identify
from resnet8.runtimes.torchscript_file import source_sha256

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

FEW = 32
"""Images per calibration step, as published: the histogram observers depend on it."""

_AT_ONCE = 4
"""Images whose patches are in memory at once in float64."""


def source(model: Path) -> Path:
    """The ONNX file to quantize from: ``model`` itself, or the one beside a .pt that it was converted from.

    Quantizing needs the module's Python form, which a TorchScript file has not; the module is made anew from ONNX.

    Raises:
        ModelError: when ``model`` is neither, or its source is not beside it.
    """
    content = read_bytes(model)
    kind = identify(model, content).format
    if kind == "onnx":
        return model
    if kind != "torchscript":
        raise ModelError(f"{model} cannot be quantized with PyTorch", found=kind, expected="an ONNX file, or its .pt")
    if (wanted := source_sha256(content)) is None:
        raise ModelError(
            f"{model} does not say which ONNX file it was converted from",
            expected="a float .pt written by «resnet8 convert»",
            remedy="name the ONNX file instead",
        )
    for candidate in sorted(model.parent.glob("*.onnx")):
        with suppress(StorageError):  # something else that lies there
            if sha256_file(candidate) == wanted:
                return candidate
    raise ModelError(
        f"the ONNX file that {model} was converted from is not beside it",
        found=f"no .onnx file in {model.parent} with sha256 {wanted[:12]}…",
        expected="the file that «resnet8 convert» wrote with it",
        remedy="put it there, or name it as the model to quantize",
    )


def batches(images: NDArray[np.uint8]) -> list[torch.Tensor]:
    """Calibration images, uint8 (N, 32, 32, 3), as they are shown to observers: float64, a few dozen at once."""
    return [torch.from_numpy(preprocess(images[start : start + FEW])).double() for start in range(0, len(images), FEW)]


def in_parts(convolve: Callable[..., torch.Tensor], images: torch.Tensor, *operands: Any) -> torch.Tensor:
    """A convolution in float64, a few images at once: the patches of a whole batch outgrow the cache."""
    return torch.cat([convolve(part, *operands) for part in images.split(_AT_ONCE)])


class Wide:
    """An observer in float64, which looks at activations later, and whose scale is rounded to float32 once.

    To be put before an observer of PyTorch's in a class's bases.
    """

    seen: list[tuple[Wide, torch.Tensor]]
    """Where it notes what it is to look at; none of its own."""

    def forward(self, x_orig: torch.Tensor) -> torch.Tensor:
        """Note an activation, for :meth:`observe` to look at."""
        self.seen.append((self, x_orig))
        return x_orig

    def observe(self, activation: torch.Tensor) -> None:
        """Look at an activation, and widen the range."""
        super().forward(activation)  # type: ignore[misc]

    def calculate_qparams(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Scale, float32, and zero point."""
        scale, zero_point = super().calculate_qparams()  # type: ignore[misc]
        return scale.float(), zero_point


def observe(prepared: torch.nn.Module, shown: list[torch.Tensor]) -> None:
    """Show every activation of every batch to its observer; one thread observes while the next batch is computed."""
    observers = [part for part in prepared.modules() if isinstance(part, Wide)]

    def look(seen: list[tuple[Wide, torch.Tensor]]) -> None:
        with torch.inference_mode():
            for observer, activation in seen:
                observer.observe(activation)

    seen: list[tuple[Wide, torch.Tensor]] = []
    for observer in observers:
        observer.seen = seen
    with ThreadPoolExecutor(1) as pool:
        pending = pool.submit(look, [])
        for batch in shown:
            with torch.inference_mode():
                prepared(batch)
            pending.result()  # no more than two batches' activations in memory
            pending = pool.submit(look, seen.copy())
            seen.clear()
        pending.result()


def narrow(part: torch.nn.Module) -> None:
    """Give a module its own float32 weights back: they were float32 before they were widened."""
    for values in (part._parameters, part._buffers):
        for name, value in values.items():
            if value is not None and value.dtype == torch.float64:
                values[name] = type(value)(value.float()) if isinstance(value, torch.nn.Parameter) else value.float()
