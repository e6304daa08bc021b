"""Keras to ONNX to PyTorch, each step proved equivalent."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from resnet8.conversion import parity
from resnet8.environment import library_versions
from resnet8.errors import ConversionError
from resnet8.evaluation import probe
from resnet8.facts import CONVERTED_WITH, MINIMUM_ACCURACY, ONNX_FILES
from resnet8.files import read_bytes, write_bytes
from resnet8.results import Evaluation, PairParity, Parity, save, sha256
from resnet8.runtimes.base import RUNTIMES
from resnet8.workers import no_progress

if TYPE_CHECKING:
    from collections.abc import Callable

    from resnet8.conversion.structure import Converted
    from resnet8.workers import Progress, Workers


@dataclass(frozen=True)
class Conversion:
    """A Keras ResNet8 in ONNX and in PyTorch.

    Attributes:
        onnx: The ONNX file's content.
        pytorch: The TorchScript file's content.
        parity: The certificate, passed or not.
        evaluations: Those of the three models, by runtime.
    """

    onnx: bytes
    pytorch: bytes
    parity: Parity
    evaluations: dict[str, Evaluation]

    def save(self, certificate: Path) -> None:
        """Write the two models where the certificate says that they are, and the certificate.

        Raises:
            StorageError: when one cannot be written.
        """
        for runtime, content in (("onnxruntime", self.onnx), ("pytorch", self.pytorch)):
            write_bytes(Path(self.parity.models[runtime].path), content)
        save(self.parity, certificate)

    def require(self) -> None:
        """Check that the three models are equivalent and what they must be.

        Raises:
            ConversionError: when they are not equivalent, not as accurate on CIFAR-10's images as the published weights
                must be, or a known Keras file made another ONNX file than it makes everywhere with the tested versions.
        """
        parity.require(*self.parity.pairs)
        models = self.parity.models
        # Other libraries than those that made the known file may make another one of the same network.
        if self.parity.known_file is False and library_versions(tuple(CONVERTED_WITH)) == CONVERTED_WITH:
            raise ConversionError(
                f"{models['keras'].path} does not make the ONNX file that it makes on other machines",
                found=f"sha256 {models['onnxruntime'].sha256}",
                expected=ONNX_FILES[models["keras"].sha256],
                remedy="the files were written, but are not those that the results were measured on; please report it",
            )
        for runtime, evaluation in self.evaluations.items():  # random images have no right answers
            if evaluation.data.split == "test" and evaluation.overall.accuracy < MINIMUM_ACCURACY:
                raise ConversionError(
                    f"the {runtime} model is not as accurate as it must be",
                    found=f"{evaluation.overall.accuracy:.2%} of {evaluation.overall.total:,} images",
                    expected=f"at least {MINIMUM_ACCURACY:.0%}",
                    remedy="check that weights and images belong together",
                )


def convert_keras(keras_model: Path) -> Converted:
    """Keras to ONNX (:func:`resnet8.conversion.keras_to_onnx.keras_to_onnx`), importing TensorFlow only here."""
    from resnet8.conversion.keras_to_onnx import keras_to_onnx

    return keras_to_onnx(keras_model)


def convert_onnx(onnx_model: Path, content: bytes) -> bytes:
    """ONNX to TorchScript (:func:`resnet8.conversion.onnx_to_pytorch.onnx_to_pytorch`), importing torch only here."""
    from resnet8.conversion.onnx_to_pytorch import onnx_to_pytorch

    return onnx_to_pytorch(onnx_model, content)


def convert_to_pytorch(onnx_model: Path, pytorch_model: Path, workers: Workers) -> tuple[bytes, PairParity]:
    """Convert a float ONNX ResNet8 to PyTorch, and compare the two on seeded random images.

    Args:
        onnx_model: The ONNX file.
        pytorch_model: Where the TorchScript file will be, for errors.
        workers: The processes to work in: ``onnxruntime`` and ``pytorch``.

    Returns:
        The TorchScript file's content, and the proof (:func:`resnet8.conversion.parity.require`).

    Raises:
        ModelError: when the ONNX file is unusable.
    """
    content = workers["pytorch"].call(convert_onnx, onnx_model, content=read_bytes(onnx_model))
    _, first = workers["onnxruntime"].call(probe, onnx_model, None)
    _, second = workers["pytorch"].call(probe, pytorch_model, None, content=content)
    return content, parity.compare_pair("onnxruntime", "pytorch", first, second)


def convert(
    keras_model: Path,
    workers: Workers,
    *,
    onnx_model: Path = Path("models/resnet8.onnx"),
    pytorch_model: Path = Path("models/resnet8.pt"),
    data_dir: Path | None = None,
    step: Callable[[str], Progress] = lambda _: no_progress,
) -> Conversion:
    """Convert a Keras ResNet8 to ONNX and PyTorch, and compare the three.

    Args:
        keras_model: The .h5 file.
        workers: The processes to work in: ``keras``, ``onnxruntime`` and ``pytorch``.
        onnx_model: Where the ONNX file will be, for the results.
        pytorch_model: Where the TorchScript file will be.
        data_dir: Folder of CIFAR-10, whose test images are compared; without it, 1,000 seeded random images are.
        step: Told what begins; returns what is called with its progress.

    Returns:
        The models, for the caller to save (:meth:`Conversion.save`), and the proof, for the caller to insist on
        (:meth:`Conversion.require`).

    Raises:
        ModelError: when the Keras file is unusable.
        ConversionError: when the graph that comes of it is not ResNet8's.
    """
    workers["keras"].warm("resnet8.conversion.keras_to_onnx")
    workers["pytorch"].warm("resnet8.conversion.onnx_to_pytorch")
    step("Keras → ONNX")
    converted = workers["keras"].call(convert_keras, keras_model)
    step("ONNX → PyTorch")
    pytorch = workers["pytorch"].call(convert_onnx, onnx_model, content=converted.content)
    answers = {
        name: workers[name].call(
            probe, model, data_dir, progress=step(f"prove: {RUNTIMES[name].label}"), content=content
        )
        for name, model, content in (
            ("keras", keras_model, None),
            ("onnxruntime", onnx_model, converted.content),
            ("pytorch", pytorch_model, pytorch),
        )
    }
    workers["keras"].close()  # the largest process, and the last that is asked of it
    evaluations = {runtime: evaluation for runtime, (evaluation, _) in answers.items()}
    known = ONNX_FILES.get(evaluations["keras"].model.sha256)
    proof = parity.certify(
        {runtime: evaluation.model for runtime, evaluation in evaluations.items()},
        {runtime: probabilities for runtime, (_, probabilities) in answers.items()},
        evaluations["keras"].data,
        converted.structure,
        converted.folding,
        known_file=None if known is None else sha256(converted.content) == known,
    )
    return Conversion(converted.content, pytorch, proof, evaluations)
