"""The integer engine against a runtime, code by code."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from resnet8.environment import Environment
from resnet8.results.evaluation import DataSource, ModelDescription
from resnet8.results.storage import SCHEMA_VERSION, STRICT


@dataclass(frozen=True)
class LayerAgreement:
    """One layer of a quantized network, in the integer engine and in ONNX Runtime, fed with the same codes.

    Attributes:
        layer: Its name.
        operator: ``conv``, ``dense``, ``mul``, ``add``, ``average-pool`` or ``rescale``.
        kernel: How ONNX Runtime computes it: ``integer``, or ``float`` between DequantizeLinear and QuantizeLinear.
        codes: How many were compared.
        differing: How many differ.
        causes: How many differ by each cause (:mod:`resnet8.audit.agreement`).
        largest_difference: In code steps.
    """

    layer: str
    operator: str
    kernel: str
    codes: int
    differing: int
    causes: dict[str, int]
    largest_difference: int


@dataclass(frozen=True)
class PredictionDifference:
    """An image that engine and ONNX Runtime classify differently.

    Attributes:
        image: Its index in the split.
        engine: Class by the engine.
        ort: Class by ONNX Runtime.
        layer: The first layer where a code of this image differs; ``logits`` where none does.
        cause: Of that difference.
        tie: Whether ONNX Runtime's two greatest logits are one code.
    """

    image: int
    engine: int
    ort: int
    layer: str
    cause: str
    tie: bool


@dataclass(frozen=True)
class GraphAgreement:
    """Engine and ONNX Runtime on one form of the graph.

    Attributes:
        graph: ``optimized`` or ``as in the file``.
        integer_layers: Layers that ONNX Runtime computes with integer kernels.
        engine_correct: Images right in the engine, every layer fed with the engine's own codes.
        ort_correct: Images right in ONNX Runtime.
    """

    graph: str
    integer_layers: int
    engine_correct: int
    ort_correct: int
    layers: tuple[LayerAgreement, ...]
    prediction_differences: tuple[PredictionDifference, ...]

    @property
    def runtime(self) -> str:
        """Name, for people, of the runtime that the engine is compared with."""
        return "PyTorch" if self.graph == "TorchScript" else "ONNX Runtime"


@dataclass(frozen=True)
class Agreement:
    """The integer engine against ONNX Runtime, layer by layer."""

    model: ModelDescription
    data: DataSource
    images: int
    graphs: tuple[GraphAgreement, ...]
    environment: Environment
    created: str
    kind: Literal["agreement"] = "agreement"
    schema_version: Literal[1] = SCHEMA_VERSION
    __pydantic_config__ = STRICT
