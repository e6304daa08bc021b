"""Results are values: frozen dataclasses that go to JSON and come back the same.

Tables, documents and plots are renderings of these. Every file says what it is (``kind``) and in which version of its
schema it is written; a file of another kind or version is refused when read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from resnet8.files import read_bytes
from resnet8.results.agreement import Agreement, GraphAgreement, LayerAgreement, PredictionDifference
from resnet8.results.arithmetic import (
    AccumulatorAudit,
    AccumulatorRow,
    RequantizationRow,
    RequantizationStudy,
    WidthRow,
)
from resnet8.results.cim import ArrayCell, ArrayLayer, ArrayRun, CimAudit, KeptArrays, MeasuredArrays
from resnet8.results.comparison import Comparison, ComparisonRow, NoiseSpread, Recommendation
from resnet8.results.conversion import FoldedConstant, PairParity, Parity, Structure
from resnet8.results.cpus import CpuFile, CpuTrial
from resnet8.results.evaluation import (
    Calibration,
    ClassScore,
    DataSource,
    Evaluation,
    ModelDescription,
    Quantization,
    Score,
    score,
)
from resnet8.results.exhaustive import (
    CoveredLayer,
    DifferingCase,
    ExhaustiveRow,
    ExhaustiveStudy,
    LayerDifferences,
)
from resnet8.results.firmware import FirmwareLibrary, FirmwareStudy
from resnet8.results.noise import NoiseRun, NoiseStudy
from resnet8.results.playground import PlaygroundUse
from resnet8.results.reliability import Reliability
from resnet8.results.rtl import RtlCheck, RtlRun, RtlUnit
from resnet8.results.seeds import SeedRun, SeedStudy
from resnet8.results.storage import (
    SCHEMA_VERSION,
    STRICT,
    AnyResult,
    Result,
    digits,
    fields_of,
    from_digits,
    from_json,
    load,
    now,
    save,
    save_array,
    sha256,
    to_json,
)
from resnet8.results.sweeps import (
    FrontPoint,
    Ground,
    KeptCell,
    LayerCost,
    LayerSensitivity,
    Measured,
    Search,
    Sensitivity,
    Sweep,
    SweepCell,
)
from resnet8.results.worked import (
    ClassExample,
    GridRange,
    LayerFacts,
    PixelExample,
    Term,
    WorkedArithmetic,
    WorkedExample,
)

if TYPE_CHECKING:
    from pathlib import Path

__all__ = [
    "SCHEMA_VERSION",
    "STRICT",
    "AccumulatorAudit",
    "AccumulatorRow",
    "Agreement",
    "AnyResult",
    "ArrayCell",
    "ArrayLayer",
    "ArrayRun",
    "Calibration",
    "CimAudit",
    "ClassExample",
    "ClassScore",
    "Comparison",
    "ComparisonRow",
    "CoveredLayer",
    "CpuFile",
    "CpuTrial",
    "DataSource",
    "DifferingCase",
    "Evaluation",
    "ExhaustiveRow",
    "ExhaustiveStudy",
    "FirmwareLibrary",
    "FirmwareStudy",
    "FoldedConstant",
    "FrontPoint",
    "GraphAgreement",
    "GridRange",
    "Ground",
    "KeptArrays",
    "KeptCell",
    "LayerAgreement",
    "LayerCost",
    "LayerDifferences",
    "LayerFacts",
    "LayerSensitivity",
    "Measured",
    "MeasuredArrays",
    "ModelDescription",
    "NoiseRun",
    "NoiseSpread",
    "NoiseStudy",
    "PairParity",
    "Parity",
    "PixelExample",
    "PlaygroundUse",
    "PredictionDifference",
    "Quantization",
    "Recommendation",
    "Reliability",
    "RequantizationRow",
    "RequantizationStudy",
    "Result",
    "RtlCheck",
    "RtlRun",
    "RtlUnit",
    "Score",
    "Search",
    "SeedRun",
    "SeedStudy",
    "Sensitivity",
    "Structure",
    "Sweep",
    "SweepCell",
    "Term",
    "WidthRow",
    "WorkedArithmetic",
    "WorkedExample",
    "digits",
    "fields_of",
    "from_digits",
    "from_json",
    "load",
    "now",
    "read_any",
    "save",
    "save_array",
    "score",
    "sha256",
    "to_json",
]


_COMPARED = {"evaluation": Evaluation, "quantization": Quantization, "noise": NoiseStudy, "seeds": SeedStudy}


def read_any(path: Path) -> Evaluation | Quantization | NoiseStudy | SeedStudy | None:
    """Read what a comparison is made of, by the kind that the file says it is; none for another kind.

    Raises:
        StorageError: when the file cannot be read.
        ResultError: when it does not say what it is, or is not what it says.
    """
    content = read_bytes(path)
    kind = fields_of(content).get("kind")
    if isinstance(kind, str) and kind not in _COMPARED:
        return None
    return from_json(_COMPARED.get(str(kind), Evaluation), content, str(path))
