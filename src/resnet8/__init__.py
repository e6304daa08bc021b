"""Post-training quantization of the MLPerf Tiny ResNet8, every step proved.

The functions below have the names and the meaning of the commands; each is imported when first used, so that
``import resnet8`` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from resnet8.comparison import compare
    from resnet8.conversion import convert
    from resnet8.data.assets import fetch
    from resnet8.data.calibration import calibrate
    from resnet8.evaluation import evaluate
    from resnet8.pipeline import reproduce
    from resnet8.quantization import quantize
    from resnet8.workers import Workers

__all__ = ["Workers", "calibrate", "compare", "convert", "evaluate", "fetch", "quantize", "reproduce"]

_HOME = {
    "Workers": "workers",
    "calibrate": "calibration",
    "compare": "comparison",
    "convert": "conversion",
    "evaluate": "evaluation",
    "fetch": "assets",
    "quantize": "quantization",
    "reproduce": "pipeline",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
