"""What a conversion was proved by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from resnet8.environment import Environment
from resnet8.results.evaluation import DataSource, ModelDescription
from resnet8.results.storage import SCHEMA_VERSION, STRICT


@dataclass(frozen=True)
class Structure:
    """What a converted graph was found to contain.

    Attributes:
        parameters: Of the Keras model.
        graph_parameters: Float constants in the ONNX graph.
    """

    input_shape: tuple[int | str, ...]
    output_shape: tuple[int | str, ...]
    opset: int
    ir_version: int
    nodes: int
    operators: dict[str, int]
    convolutions: int
    dense_layers: int
    residual_adds: int
    parameters: int
    graph_parameters: int


@dataclass(frozen=True)
class FoldedConstant:
    """What the converter made of a constant of batch normalization on this machine, before it was rounded correctly.

    Attributes:
        name: The constant's, in the ONNX file.
        ulps: For each channel, how many float32 numbers the converter's value is above the correctly rounded one that
            the file has (below: negative).
    """

    name: str
    ulps: tuple[int, ...]

    @property
    def off(self) -> int:
        """How many of the values were not correctly rounded."""
        return sum(1 for steps in self.ulps if steps)

    @property
    def largest(self) -> int:
        """The largest difference, in ulp."""
        return max(map(abs, self.ulps), default=0)


@dataclass(frozen=True)
class PairParity:
    """Two runtimes' answers on the same images.

    Attributes:
        a: One of them.
        b: The other.
        max_abs_difference: Largest absolute difference of any class probability.
        worst_image: Index of the image where it occurs.
        differing_predictions: Images whose predicted class differs.
        ties: How many of those are ties: both runtimes give the two classes the same probability within 1e-6.
    """

    a: str
    b: str
    max_abs_difference: float
    worst_image: int
    differing_predictions: int
    ties: int


@dataclass(frozen=True)
class Parity:
    """The certificate of a conversion.

    Attributes:
        models: The files compared, by runtime.
        data: The images.
        images: How many.
        structure: Of the ONNX file.
        known_file: Whether the ONNX file is the one that this Keras file makes on every machine
            (:data:`resnet8.facts.ONNX_FILES`); none where that is not known.
        folding: How far off the folded constants were that the converter computed on this machine.
        pairs: Every two runtimes.
        tolerance: Largest difference of a probability that passes.
        passed: No difference above ``tolerance``, and no differing prediction that is no tie.
    """

    models: dict[str, ModelDescription]
    data: DataSource
    images: int
    structure: Structure
    known_file: bool | None
    folding: tuple[FoldedConstant, ...]
    pairs: tuple[PairParity, ...]
    tolerance: float
    passed: bool
    environment: Environment
    created: str
    kind: Literal["parity"] = "parity"
    schema_version: Literal[1] = SCHEMA_VERSION
    __pydantic_config__ = STRICT
