"""Keras to ONNX to PyTorch, each step proved equivalent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from resnet8.conversion import parity
from resnet8.environment import library_versions
from resnet8.errors import ConversionError
from resnet8.evaluation import probe
from resnet8.facts import CONVERTED_WITH, MINIMUM_ACCURACY, ONNX_FILES
from resnet8.files import sha256_file, write_bytes
from resnet8.results import Evaluation, Parity, save, sha256
from resnet8.runtimes.base import RUNTIMES
from resnet8.workers import no_progress

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from resnet8.conversion.structure import Converted
    from resnet8.results import PairParity
    from resnet8.workers import Progress, Workers


@dataclass(frozen=True)
class Conversion:
    """A proved conversion: its certificate, and the evaluations of the three models, by runtime."""

    parity: Parity
    evaluations: dict[str, Evaluation]


def convert_keras(keras_model: Path) -> Converted:
    """Keras to ONNX (:func:`resnet8.conversion.keras_to_onnx.keras_to_onnx`), importing TensorFlow only here."""
    from resnet8.conversion.keras_to_onnx import keras_to_onnx

    return keras_to_onnx(keras_model)


def convert_onnx(onnx_model: Path) -> bytes:
    """ONNX to TorchScript (:func:`resnet8.conversion.onnx_to_pytorch.onnx_to_pytorch`), importing torch only here."""
    from resnet8.conversion.onnx_to_pytorch import onnx_to_pytorch

    return onnx_to_pytorch(onnx_model)


def convert_to_pytorch(onnx_model: Path, pytorch_model: Path, workers: Workers) -> PairParity:
    """Convert a float ONNX ResNet8 to PyTorch, and prove the two equivalent on seeded random images.

    Args:
        onnx_model: The ONNX file.
        pytorch_model: Written: the TorchScript file.
        workers: The processes to work in: ``onnxruntime`` and ``pytorch``.

    Raises:
        ModelError: when the ONNX file is unusable.
        ConversionError: when the two are not equivalent.
    """
    write_bytes(pytorch_model, workers["pytorch"].call(convert_onnx, onnx_model))
    _, first = workers["onnxruntime"].call(probe, onnx_model, None)
    _, second = workers["pytorch"].call(probe, pytorch_model, None)
    pair = parity.compare_pair("onnxruntime", "pytorch", first, second)
    parity.require_pair(pair)
    return pair


def convert(
    keras_model: Path,
    onnx_model: Path,
    pytorch_model: Path,
    certificate: Path,
    workers: Workers,
    *,
    data_dir: Path | None = None,
    step: Callable[[str], Progress] = lambda _: no_progress,
) -> Conversion:
    """Convert a Keras ResNet8 to ONNX and PyTorch, and prove the three equivalent.

    Args:
        keras_model: The .h5 file.
        onnx_model: Written: the ONNX file.
        pytorch_model: Written: the TorchScript file.
        certificate: Written: the certificate (:class:`resnet8.results.Parity`), passed or not.
        workers: The processes to work in: ``keras``, ``onnxruntime`` and ``pytorch``.
        data_dir: Folder of CIFAR-10, whose test images are compared; without it, 1,000 seeded random images are.
        step: Told what begins; returns what is called with its progress.

    Raises:
        ModelError: when the Keras file is unusable.
        ConversionError: when the results are not equivalent, not as accurate as the published weights must be, or a
            known Keras file makes another ONNX file than it makes everywhere with the tested versions.
    """
    workers["keras"].warm("resnet8.conversion.keras_to_onnx")
    workers["pytorch"].warm("resnet8.conversion.onnx_to_pytorch")
    step("Keras → ONNX")
    converted = workers["keras"].call(convert_keras, keras_model)
    write_bytes(onnx_model, converted.content)
    step("ONNX → PyTorch")
    write_bytes(pytorch_model, workers["pytorch"].call(convert_onnx, onnx_model))
    answers = {
        name: workers[name].call(probe, model, data_dir, progress=step(f"prove: {RUNTIMES[name].label}"))
        for name, model in (("keras", keras_model), ("onnxruntime", onnx_model), ("pytorch", pytorch_model))
    }
    workers["keras"].close()  # the largest process, and the last that is asked of it
    evaluations = {runtime: evaluation for runtime, (evaluation, _) in answers.items()}
    proof = parity.certify(
        {runtime: evaluation.model for runtime, evaluation in evaluations.items()},
        {runtime: probabilities for runtime, (_, probabilities) in answers.items()},
        next(iter(evaluations.values())).data,
        converted.structure,
        converted.folding,
        known_file=_known(keras_model, converted.content),
    )
    save(proof, certificate)
    parity.require(proof)
    _require_known(proof, keras_model)
    for runtime, evaluation in evaluations.items():
        if data_dir is not None and evaluation.overall.accuracy < MINIMUM_ACCURACY:
            raise ConversionError(
                f"the {runtime} model is not as accurate as it must be",
                found=f"{evaluation.overall.accuracy:.2%} of {evaluation.overall.total:,} images",
                expected=f"at least {MINIMUM_ACCURACY:.0%}",
                remedy="check that weights and images belong together",
            )
    return Conversion(proof, evaluations)


def _known(keras_model: Path, content: bytes) -> bool | None:
    """Whether a known Keras file made the ONNX file that it makes on every machine; none for another Keras file."""
    expected = ONNX_FILES.get(sha256_file(keras_model))
    return None if expected is None else sha256(content) == expected


def _require_known(proof: Parity, keras_model: Path) -> None:
    """Check that the ONNX file is the one of every machine, where the libraries are those that made that one."""
    if proof.known_file is False and library_versions(tuple(CONVERTED_WITH)) == CONVERTED_WITH:
        raise ConversionError(
            f"{keras_model} does not make the ONNX file that it makes on other machines",
            found=f"sha256 {proof.models['onnxruntime'].sha256}",
            expected=ONNX_FILES[proof.models["keras"].sha256],
            remedy="the files were written, but are not those that the results were measured on; please report it",
        )
