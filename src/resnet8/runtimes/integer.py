"""Quantized files in this package's integer engine: exact, or as ONNX Runtime's kernels for older CPUs compute."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from resnet8.environment import cpu
from resnet8.execute import engine
from resnet8.execute.fbgemm import biased
from resnet8.execute.vpmaddubsw import saturating
from resnet8.files import read_bytes
from resnet8.network.onnx_read import extract
from resnet8.numeric.variants import Requantization
from resnet8.runtimes import onnx_file, ort, torchscript_file
from resnet8.runtimes.base import Predictor, identify, require_format

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import onnx
    from numpy.typing import NDArray

    from resnet8.network.program import Program
    from resnet8.results import ModelDescription

EXACT = Requantization()

REAL_BIAS = ", bias in float32"
"""Behind the requantization's name in results, where a file's real biases are not rounded to accumulator steps."""


@dataclass(kw_only=True)
class IntegerPredictor(Predictor):
    """An integer program, open in the engine.

    Attributes:
        program: What is computed.
        logits: Codes of the class scores, (N, 10), of images, (N, 32, 32, 3), raw pixels 0 to 255 in any number type.
    """

    program: Program
    logits: Callable[[NDArray[Any]], NDArray[Any]]


def open_program(
    model: ModelDescription,
    program: Program,
    requantization: Requantization = EXACT,
    accumulators: engine.Accumulate = engine.accumulate,
    runtime: str = "integer",
) -> IntegerPredictor:
    """The network of a file that is open already, computed as told.

    Args:
        model: What the file is.
        program: The network.
        requantization: How accumulators become codes.
        accumulators: How they add up.
        runtime: Its name in results.
    """

    def logits(images: NDArray[Any]) -> NDArray[Any]:
        return engine.run(program, engine.input_codes(program, images), requantization, accumulators)

    real_bias = accumulators is biased and program.real_biases
    return IntegerPredictor(
        runtime,
        model,
        lambda images: engine.probabilities(program, logits(images)),
        threads=cpu().logical_cpus,
        requantization=requantization.name + (REAL_BIAS if real_bias else ""),
        program=program,
        logits=logits,
    )


def open_integer(
    model: Path, requantization: Requantization = EXACT, accumulators: engine.Accumulate | None = None
) -> IntegerPredictor:
    """Open a quantized model file, ONNX or TorchScript, in this package's integer engine.

    Args:
        model: The file.
        requantization: How accumulators become codes.
        accumulators: How convolutions and dense layers add up, for a model of hardware that does not do so exactly:
            called with the layer and the codes that it reads, (N, H, W, C) or (N, C), it returns whole numbers,
            (N, *output shape), bias included, for several threads at once. Without it sums are exact.

    Returns:
        The network, as ``program``, with what computes its class probabilities and the codes of its class scores.

    Raises:
        StorageError: when the file cannot be read.
        ModelError: when it is damaged, no ResNet8, not quantized, or not of supported operators.
        MissingExtraError: when it is TorchScript and PyTorch is not installed.

    Example:
        >>> opened = resnet8.open_integer(Path("models/resnet8_uint8.onnx"), resnet8.Requantization("fixed32"))
        >>> [layer.kind for layer in opened.program.layers[:3]]
        ['conv', 'mul', 'add']
        >>> images = resnet8.read_split(data, "test").first(2).images
        >>> opened.logits(images).shape, opened.logits(images).dtype
        ((2, 10), dtype('uint8'))
        >>> from resnet8.execute.engine import accumulate
        >>> def narrow(layer, codes):
        ...     return accumulate(layer, codes).clip(-(2**15), 2**15 - 1)
        >>> clipped = resnet8.open_integer(Path("models/resnet8_uint8.onnx"), accumulators=narrow)
        >>> bool((clipped.logits(images) == opened.logits(images)).all())
        False
    """
    return open_content(model, read_bytes(model), requantization, accumulators)


def open_content(
    path: Path,
    content: bytes,
    requantization: Requantization = EXACT,
    accumulators: engine.Accumulate | None = None,
) -> IntegerPredictor:
    """Open the quantized model in ``content``, ONNX or TorchScript, every layer in integers.

    Args:
        path: Names the file in errors.
        content: The file.
        requantization: How accumulators become codes.
        accumulators: How they add up. Without it exactly, but for the bias that a TorchScript file gives as real
            numbers: with float32 multipliers it is added as fbgemm adds it (:mod:`resnet8.execute.fbgemm`), with
            fixed-point multipliers it is rounded to whole accumulator steps.

    Raises:
        ModelError: when it is damaged, no ResNet8, not quantized, or not of supported operators.
        MissingExtraError: when it is TorchScript and PyTorch is not installed.
    """
    if identify(path, content).format == "torchscript":
        description, program = torchscript_file.read(path, content, quantized=True)
    else:
        model = read(path, content)
        description, program = onnx_file.describe(path, content, model), extract(model, str(path))
    if accumulators is None:
        accumulators = biased if requantization.multiplier == "float32" else engine.accumulate
    return open_program(description, program.as_integer(), requantization, accumulators)


def open_emulated(path: Path, content: bytes) -> IntegerPredictor:
    """Open the quantized ONNX model in ``content`` as ONNX Runtime computes it on an x86 CPU with AVX2, without VNNI.

    The graph is the one that ONNX Runtime makes of the file here; which operators it fuses does not depend on the CPU.

    Raises:
        ModelError: as :func:`open_content`.
    """
    description = onnx_file.describe(path, content, read(path, content))
    program = extract(ort.optimized(content), str(path))
    return open_program(description, program, EXACT, saturating, "emulated-avx2")


def read(path: Path, content: bytes) -> onnx.ModelProto:
    """The ONNX model in ``content``.

    Raises:
        ModelError: when it is of another format, damaged, or no ResNet8.
    """
    require_format(
        path,
        content,
        "onnx",
        "cannot be run in integers",
        expected="a quantized ONNX file",
        remedy="make one with «resnet8 quantize»",
    )
    return onnx_file.read(path, content)
