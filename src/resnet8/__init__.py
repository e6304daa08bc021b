"""Post-training quantization of the MLPerf Tiny ResNet8, every step proved.

The functions below have the names and the meaning of the commands («resnet8 audit noise» is :func:`audit_noise`). They
take what they need and return values, which the caller saves. Each is imported when first used, so that ``import
resnet8`` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from resnet8.audit.accumulators import audit_accumulators as audit_accumulators
    from resnet8.audit.agreement import audit_agreement as audit_agreement
    from resnet8.audit.exhaustive import audit_exhaustively as audit_exhaustively
    from resnet8.audit.noise import audit_noise as audit_noise
    from resnet8.audit.requantization import audit_requantization as audit_requantization
    from resnet8.audit.worked import audit_worked as audit_worked
    from resnet8.comparison import compare as compare
    from resnet8.conversion import Conversion as Conversion
    from resnet8.conversion import convert as convert
    from resnet8.data.assets import fetch as fetch
    from resnet8.data.calibration import calibrate as calibrate
    from resnet8.data.cifar10 import read_split as read_split
    from resnet8.errors import Resnet8Error as Resnet8Error
    from resnet8.evaluation import evaluate as evaluate
    from resnet8.execute.cim import Array as Array
    from resnet8.export.c import export_c as export_c
    from resnet8.inspection.graph import inspect_graph as inspect_graph
    from resnet8.inspection.operations import inspect_operations as inspect_operations
    from resnet8.inspection.source import read_onnx as read_onnx
    from resnet8.numeric.variants import Requantization as Requantization
    from resnet8.pipeline import reproduce as reproduce
    from resnet8.quantization import Quantized as Quantized
    from resnet8.quantization import quantize as quantize
    from resnet8.quantization.recipes import Recipe as Recipe
    from resnet8.results import load as load
    from resnet8.results import save as save
    from resnet8.runtimes import open_model as open_model
    from resnet8.runtimes.integer import open_integer as open_integer
    from resnet8.sweeps.cim import audit_cim as audit_cim
    from resnet8.sweeps.search import search as search
    from resnet8.sweeps.seeds import audit_seeds as audit_seeds
    from resnet8.sweeps.sensitivity import sensitivity as sensitivity
    from resnet8.sweeps.sweep import sweep as sweep
    from resnet8.vectors import export_vectors as export_vectors
    from resnet8.workers import Workers as Workers

_HOMES = {
    "audit_accumulators": "audit.accumulators",
    "audit_agreement": "audit.agreement",
    "audit_cim": "sweeps.cim",
    "audit_exhaustively": "audit.exhaustive",
    "audit_noise": "audit.noise",
    "audit_requantization": "audit.requantization",
    "audit_seeds": "sweeps.seeds",
    "audit_worked": "audit.worked",
    "compare": "comparison",
    "Conversion": "conversion",
    "convert": "conversion",
    "fetch": "data.assets",
    "calibrate": "data.calibration",
    "read_split": "data.cifar10",
    "Resnet8Error": "errors",
    "evaluate": "evaluation",
    "Array": "execute.cim",
    "export_c": "export.c",
    "inspect_graph": "inspection.graph",
    "inspect_operations": "inspection.operations",
    "read_onnx": "inspection.source",
    "Requantization": "numeric.variants",
    "reproduce": "pipeline",
    "Quantized": "quantization",
    "quantize": "quantization",
    "Recipe": "quantization.recipes",
    "load": "results",
    "save": "results",
    "open_model": "runtimes",
    "open_integer": "runtimes.integer",
    "search": "sweeps.search",
    "sensitivity": "sweeps.sensitivity",
    "sweep": "sweeps.sweep",
    "export_vectors": "vectors",
    "Workers": "workers",
}

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
