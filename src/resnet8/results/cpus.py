"""What other CPUs make of the same recipes and files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from resnet8.environment import Environment
from resnet8.results.conversion import FoldedConstant
from resnet8.results.evaluation import DataSource
from resnet8.results.storage import SCHEMA_VERSION, STRICT


@dataclass(frozen=True)
class CpuFile:
    """A recipe, and the file that it makes, on another CPU.

    Attributes:
        name: Name of the recipe; ``fp32-onnx`` or ``fp32-pytorch`` for the float files.
        made_sha256: Of the file that the recipe makes on that CPU; none where it cannot, or was not asked to.
        refusal: Why it cannot, in a line; else none.
        evaluated_sha256: Of the file that was evaluated: that of the results, made elsewhere.
        predictions: Its predictions on that CPU, one decimal digit for each image; none where the runtime cannot run.
    """

    name: str
    made_sha256: str | None
    refusal: str | None
    evaluated_sha256: str | None
    predictions: str | None


@dataclass(frozen=True)
class CpuTrial:
    """Conversion, quantization and evaluation on another CPU.

    Attributes:
        emulator: What emulated it (``qemu-x86_64 7.2.22 -cpu Haswell``); none for a real CPU.
        data: The images: the first of the test split.
        images: How many.
        folding: What the converter made of the folded constants there, before they were rounded correctly.
        files: The float files, then each recipe's.
    """

    emulator: str | None
    data: DataSource
    images: int
    folding: tuple[FoldedConstant, ...]
    files: tuple[CpuFile, ...]
    environment: Environment
    created: str
    kind: Literal["cpu-trial"] = "cpu-trial"
    schema_version: Literal[1] = SCHEMA_VERSION
    __pydantic_config__ = STRICT
