"""Results are values: frozen dataclasses that go to JSON and come back the same.

Tables, documents and plots are renderings of these. Every file says what it is (``kind``) and in which version of its
schema it is written; a file of another kind or version is refused when read.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import statistics
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

import numpy as np
from pydantic import ConfigDict, TypeAdapter, ValidationError

from resnet8.environment import Environment
from resnet8.errors import ResultError
from resnet8.files import read_bytes, write_bytes, write_text

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

SCHEMA_VERSION: Literal[1] = 1

STRICT = ConfigDict(extra="forbid", ser_json_inf_nan="constants")
"""Unknown fields are an error; every result's ``__pydantic_config__``."""


@dataclass(frozen=True)
class Score:
    """Top-1 on a set of images: ``accuracy`` is ``correct / total``, a fraction from 0 to 1."""

    correct: int
    total: int
    accuracy: float


@dataclass(frozen=True)
class ClassScore:
    """Top-1 on the images of one class (recall of that class)."""

    class_name: str
    correct: int
    total: int
    accuracy: float


def score(correct: int, total: int) -> Score:
    """The :class:`Score` of ``correct`` among ``total`` images; accuracy 0 where there are none."""
    return Score(correct, total, correct / total if total else 0.0)


@dataclass(frozen=True)
class DataSource:
    """Which images were used.

    Attributes:
        directory: The folder they were read from.
        dataset: ``CIFAR-10`` or ``demo digits`` when every byte is that of the known set, else ``unofficial``.
        split: ``test`` or ``train``.
        subset: ``all``, ``first-N`` or ``mlperf-perf``.
        fingerprint: SHA-256 of the whole split's decoded pixels (uint8, NHWC, in file order), then its labels (uint8).
    """

    directory: str
    dataset: str
    split: str
    subset: str
    fingerprint: str


@dataclass(frozen=True)
class ModelDescription:
    """What a model file is.

    Attributes:
        path: Where it was read from.
        sha256: Of the file.
        size_bytes: Of the file.
        format: ``keras-h5``, ``onnx``, ``torchscript`` or ``tflite``.
        activations: Data type of the activations: ``float32``, ``int8`` or ``uint8``.
        weights: Data type of the weights.
    """

    path: str
    sha256: str
    size_bytes: int
    format: str
    activations: str
    weights: str

    @property
    def quantized(self) -> bool:
        """Whether the weights are integers."""
        return self.weights != "float32"

    @property
    def dtype(self) -> str:
        """One name for both types: ``int8`` where they agree, else ``uint8/int8`` (activations/weights)."""
        return self.weights if self.activations == self.weights else f"{self.activations}/{self.weights}"


@dataclass(frozen=True)
class Calibration:
    """Which training images set the ranges.

    Attributes:
        data: The images' source.
        method: Name of the draw (:mod:`resnet8.calibration`).
        seed: Its seed.
        samples_per_class: Images of each class.
        per_class: How many of each class were drawn, counted from the labels of the drawn images.
        indices: Of the images in the training split, in the order they were fed.
    """

    data: DataSource
    method: str
    seed: int
    samples_per_class: int
    per_class: dict[str, int]
    indices: tuple[int, ...]


@dataclass(frozen=True)
class Quantization:
    """How a quantized model was made, or why it could not be.

    Attributes:
        recipe: Name of the recipe.
        settings: The recipe's fields, as used.
        source_sha256: Of the float model.
        model_sha256: Of the quantized model; none when refused.
        calibration: The images that set the ranges; none when the backend refused before it needed them.
        refusal: The backend's own words when it refused, else none.
        seconds: Wall time of quantizing.
    """

    recipe: str
    settings: dict[str, str | bool | int]
    source_sha256: str
    model_sha256: str | None
    calibration: Calibration | None
    refusal: str | None
    seconds: float
    environment: Environment
    created: str
    kind: Literal["quantization"] = "quantization"
    schema_version: Literal[1] = SCHEMA_VERSION
    __pydantic_config__ = STRICT


@dataclass(frozen=True)
class Evaluation:
    """Top-1 of one model in one runtime on one set of images.

    Attributes:
        backend: The runtime: ``keras``, ``onnxruntime``, ``pytorch``, ``litert``, ``integer`` (this package's engine),
        or
            ``emulated-avx2`` (what ONNX Runtime computes on an x86 CPU without VNNI, emulated).
        model: The file.
        data: The images.
        overall: Top-1 on all of them.
        per_class: Top-1 by true class, in class order.
        confusion_matrix: ``[true][predicted]`` counts.
        labels: True class of each image, one decimal digit each, in order.
        predictions: Predicted class of each image, likewise: two results on the same images can be compared in pairs.
        batch_size: Images fed at once.
        run_seconds: Wall time inside the runtime.
        images_per_second: Images over ``run_seconds``.
        quantization: How the model was quantized, where a record beside the file says so; else none.
        requantization: How the integer engine brought accumulators to codes; none in other runtimes.
        session_options: Configuration entries of ONNX Runtime's session by name; empty in other runtimes.
    """

    backend: str
    model_path: str
    model_sha256: str
    data_dir: str
    data_fingerprint: str
    model: ModelDescription
    data: DataSource
    overall: Score
    per_class: tuple[ClassScore, ...]
    confusion_matrix: tuple[tuple[int, ...], ...]
    labels: str
    predictions: str
    batch_size: int
    run_seconds: float
    images_per_second: float
    quantization: Quantization | None
    environment: Environment
    created: str
    requantization: str | None = None
    session_options: dict[str, str] = field(default_factory=dict)
    kind: Literal["evaluation"] = "evaluation"
    schema_version: Literal[1] = SCHEMA_VERSION
    __pydantic_config__ = STRICT


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
        a: One backend.
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
        models: The files compared, by backend.
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


@dataclass(frozen=True)
class NoiseSpread:
    """The counts of a recipe when the last bit of its float constants moves (:class:`NoiseStudy`).

    Attributes:
        mean: Of the counts.
        deviation: Their standard deviation (of a sample: divided by the number of runs less one).
        least: The smallest count.
        greatest: The largest.
        runs: How many there are.
    """

    mean: float
    deviation: float
    least: int
    greatest: int
    runs: int


@dataclass(frozen=True)
class ComparisonRow:
    """One model of a comparison.

    Attributes:
        file: Name of the evaluation's file in ``results/``; empty where it is not known.
        name: Recipe name, or ``fp32``.
        framework: The runtime's name for people.
        dtype: Activations and weights (:attr:`ModelDescription.dtype`).
        overall: Top-1.
        accuracy_interval: 95 % Wilson score interval of the accuracy (Wilson 1927).
        delta_points: Accuracy minus the baseline's, in percentage points.
        delta_interval: 95 % interval of ``delta_points`` for paired proportions (Wald, from the discordant pairs).
        lost: Images that the baseline has right and this model wrong.
        gained: Images that the baseline has wrong and this model right.
        p_value: Two-sided exact McNemar test of ``lost`` against ``gained`` (McNemar 1947, binomial form).
        flagged: Drop of more than the allowed points.
        size_bytes: Of the model file.
        reduction: ``1 - size / baseline size``, by the same framework's float file where there is one.
        images_per_second: Measured with this model, on the CPU of the results.
        published_correct: The published count, where the images are those of the publication.
        vnni: Whether it was measured on a CPU with VNNI.
        portable: Whether the count holds on all x86 CPUs, with VNNI or without; none where that is not known.
        candidate: Whether it may be recommended (quantized, and made by a recipe of this project).
        noise: The counts that the recipe gives when the last bit of the float constants moves; none where no study of
            the same model, images and kind of CPU is known.
    """

    file: str
    name: str
    framework: str
    dtype: str
    overall: Score
    accuracy_interval: tuple[float, float]
    delta_points: float
    delta_interval: tuple[float, float]
    lost: int
    gained: int
    p_value: float
    flagged: bool
    size_bytes: int
    reduction: float
    images_per_second: float
    published_correct: int | None
    vnni: bool
    portable: bool | None
    candidate: bool
    noise: NoiseSpread | None = None


@dataclass(frozen=True)
class Recommendation:
    """The choice for one kind of target, and why; no choice when no candidate qualifies."""

    target: str
    choice: str | None
    reason: str


@dataclass(frozen=True)
class Comparison:
    """Models on the same images, against one baseline."""

    data: DataSource
    baseline: str
    rows: tuple[ComparisonRow, ...]
    refused: dict[str, str]
    rule: str
    recommendations: tuple[Recommendation, ...]
    kind: Literal["comparison"] = "comparison"
    schema_version: Literal[1] = SCHEMA_VERSION
    __pydantic_config__ = STRICT


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


@dataclass(frozen=True)
class RequantizationRow:
    """One way to requantize, against float32 multipliers rounded half to even.

    Attributes:
        multiplier: How multipliers are held (:data:`resnet8.variants.Multiplier`).
        rounding: How products are rounded (:data:`resnet8.variants.Rounding`).
        codes: Codes compared with every layer fed the same codes in both, on the first ``isolated_images``.
        changed: How many of them differ.
        largest_difference: In code steps (LSB).
        changed_logits: Logits that differ, each variant fed with its own codes from the input on, on all images.
        changed_predictions: Images whose predicted class differs.
        overall: Top-1.
    """

    multiplier: str
    rounding: str
    codes: int
    changed: int
    largest_difference: int
    changed_logits: int
    changed_predictions: int
    overall: Score


@dataclass(frozen=True)
class RequantizationStudy:
    """What each way to requantize changes."""

    model: ModelDescription
    data: DataSource
    images: int
    isolated_images: int
    rows: tuple[RequantizationRow, ...]
    environment: Environment
    created: str
    kind: Literal["requantization"] = "requantization"
    schema_version: Literal[1] = SCHEMA_VERSION
    __pydantic_config__ = STRICT


@dataclass(frozen=True)
class AccumulatorRow:
    """The accumulator of one layer: ``sum((x - zero_x) * (w - zero_w)) + bias``.

    Attributes:
        layer: Its name.
        operator: ``conv`` or ``dense``.
        depth: Products in each sum.
        observed: Least and greatest, over the images and all channels.
        worst_case: Least and greatest that any codes of the input's type can give with these weights.
        observed_bits: Width of the two's complement number that holds ``observed``.
        safe_bits: Likewise ``worst_case``: the least width that is safe for every input.
    """

    layer: str
    operator: str
    depth: int
    observed: tuple[int, int]
    worst_case: tuple[int, int]
    observed_bits: int
    safe_bits: int


@dataclass(frozen=True)
class WidthRow:
    """What a narrower accumulator does.

    Attributes:
        bits: Its width, in every layer.
        overflow: ``wrap`` (the low bits are kept) or ``saturate`` (of the whole sum, at its end).
        layers: Layers whose sums leave that width on these images.
        overall: Top-1.
    """

    bits: int
    overflow: str
    layers: tuple[str, ...]
    overall: Score


@dataclass(frozen=True)
class AccumulatorAudit:
    """How wide accumulators are, and how wide they must be."""

    model: ModelDescription
    data: DataSource
    images: int
    layers: tuple[AccumulatorRow, ...]
    exact: Score
    widths: tuple[WidthRow, ...]
    environment: Environment
    created: str
    kind: Literal["accumulators"] = "accumulators"
    schema_version: Literal[1] = SCHEMA_VERSION
    __pydantic_config__ = STRICT


@dataclass(frozen=True)
class NoiseRun:
    """One quantization and evaluation of a noise study.

    Attributes:
        seed: Of the perturbation; none for the float constants as they are.
        model_sha256: Of the quantized file.
        overall: Top-1.
        predictions: Predicted class of each image, one decimal digit each.
    """

    seed: int | None
    model_sha256: str
    overall: Score
    predictions: str


@dataclass(frozen=True)
class NoiseStudy:
    """How far a recipe's count moves when nothing but the last bit of the float constants does.

    Attributes:
        recipe: Name of the recipe.
        settings: Its fields.
        source_sha256: Of the float model whose constants are perturbed.
        backend: The runtime of the evaluations.
        data: The images.
        labels: True class of each image, one decimal digit each.
        calibration: The images that set the ranges.
        runs: The unperturbed one first, then one for each seed.
        perturbed: How many float constants may move, each by one ulp up, one down, or not at all.
    """

    recipe: str
    settings: dict[str, str | bool | int]
    source_sha256: str
    backend: str
    data: DataSource
    labels: str
    calibration: Calibration
    runs: tuple[NoiseRun, ...]
    perturbed: int
    environment: Environment
    created: str
    kind: Literal["noise"] = "noise"
    schema_version: Literal[1] = SCHEMA_VERSION
    __pydantic_config__ = STRICT

    @property
    def counts(self) -> tuple[int, ...]:
        """Correct images of each perturbed run."""
        return tuple(run.overall.correct for run in self.runs if run.seed is not None)

    @property
    def spread(self) -> NoiseSpread:
        """Of the perturbed runs' counts."""
        counts = self.counts
        return NoiseSpread(statistics.fmean(counts), statistics.stdev(counts), min(counts), max(counts), len(counts))

    @property
    def agreements(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Images that two runs predict alike: each perturbed run and the unperturbed one; each two perturbed runs."""
        unperturbed, *others = (from_digits(run.predictions) for run in self.runs)
        return (
            tuple(int((one == unperturbed).sum()) for one in others),
            tuple(int((one == other).sum()) for one, other in itertools.combinations(others, 2)),
        )


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


@dataclass(frozen=True)
class GridRange:
    """Scale and zero point of a tensor; least and greatest where each channel has its own."""

    dtype: str
    scales: tuple[float, float]
    zero_points: tuple[int, int]
    channels: int | None


@dataclass(frozen=True)
class LayerFacts:
    """The parameters of one integer layer.

    Attributes:
        layer: Its name.
        operator: ``conv``, ``dense``, ``mul``, ``bias-add``, ``residual-add``, ``average-pool`` or ``rescale``.
        reads: Activations it reads.
        writes: The activation it writes.
        output_shape: NHWC without the batch axis.
        weight_shape: (kernel rows, kernel columns, channels in, channels out).
        inputs: GridRange of each input.
        weights: GridRange of the weights, or of the constant factor.
        bias: Whether there is one; none where there cannot be.
        output: GridRange of the output.
        multipliers: Real multipliers, least and greatest of the channels; two for a sum.
        fixed_multipliers: The same as 32-bit integers.
        shifts: And how far their products are shifted to the right.
        parameters: Where each parameter lives: role to initializer.
    """

    layer: str
    operator: str
    reads: tuple[str, ...]
    writes: str
    output_shape: tuple[int, ...]
    weight_shape: tuple[int, ...] | None
    inputs: tuple[GridRange, ...]
    weights: GridRange | None
    bias: bool | None
    output: GridRange
    multipliers: tuple[tuple[float, float], ...]
    fixed_multipliers: tuple[tuple[int, int], ...]
    shifts: tuple[tuple[int, int], ...]
    parameters: dict[str, str]


@dataclass(frozen=True)
class PixelExample:
    """A pixel of the input and its code."""

    row: int
    column: int
    channel: int
    real: float
    code: int


@dataclass(frozen=True)
class Term:
    """A term of a sum, less the zero points: ``a * b``, or ``a`` alone."""

    a: int
    b: int | None


@dataclass(frozen=True)
class WorkedExample:
    """One output code, step by step.

    Attributes:
        layer: Its layer.
        operator: As in :class:`LayerFacts`.
        at: Row, column, channel of the output.
        terms: What is summed up; the two addends of a sum.
        bias: What is added to it.
        accumulator: The sum; none for a sum of two tensors, which are multiplied first.
        multipliers: Real multipliers of this channel.
        fixed_multipliers: As 32-bit integers.
        shift: To the right.
        before_rounding: The exact value, in code steps.
        zero_point: Added after rounding.
        code: The result with float32 multipliers.
        code_fixed: The result with 32-bit fixed point.
    """

    layer: str
    operator: str
    at: tuple[int, ...]
    terms: tuple[Term, ...]
    bias: int | None
    accumulator: int | None
    multipliers: tuple[float, ...]
    fixed_multipliers: tuple[int, ...]
    shift: int
    before_rounding: float
    zero_point: int
    code: int
    code_fixed: int


@dataclass(frozen=True)
class ClassExample:
    """What becomes of one class behind the last integer layer.

    Attributes:
        class_name: Its name.
        code: Of its logit.
        real: The logit, dequantized.
        probability: By softmax, in float32; none where the graph has no softmax.
        probability_code: Of the probability, where the file quantizes it; else none.
    """

    class_name: str
    code: int
    real: float
    probability: float | None
    probability_code: int | None


@dataclass(frozen=True)
class WorkedArithmetic:
    """A model's arithmetic in numbers.

    Attributes:
        image: Index of the image that is worked through.
        label: Its class.
        input: Grid of the input.
        pixels: Some of its pixels.
        layers: The parameters of every layer.
        examples: One output of each kind of layer.
        logits: Grid of the logits.
        probabilities: Grid of the probabilities, where the file quantizes them; else none.
        classes: From logit to probability, in class order.
    """

    model: ModelDescription
    data: DataSource
    image: int
    label: str
    input: GridRange
    pixels: tuple[PixelExample, ...]
    layers: tuple[LayerFacts, ...]
    examples: tuple[WorkedExample, ...]
    logits: GridRange
    probabilities: GridRange | None
    classes: tuple[ClassExample, ...]
    environment: Environment
    created: str
    kind: Literal["worked"] = "worked"
    schema_version: Literal[1] = SCHEMA_VERSION
    __pydantic_config__ = STRICT


@dataclass(frozen=True)
class PlaygroundUse:
    """How long the playground's page takes to answer in a browser, from the click to the text, and its memory.

    Attributes:
        model: Which one was looked into.
        images: Over how many the noise and the top-1 were computed.
        opening_seconds: From the request of the page until all of it is there, in a fresh server.
        layer_seconds: Until another layer is shown, of each time.
        change_seconds: From *Run* until the page says what one image is now, of each changed scale.
        sqnr_seconds: The SQNR of every layer.
        alone_seconds: Each layer alone.
        compared_seconds: Top-1 of original and changed model.
        resident_mb: Server and kernel after each ten changes of layer and scale, MB of 1,000,000 bytes.
        load: Average of the processes that wanted to run in the minute before.
        browser: Its version.
    """

    model: ModelDescription
    images: int
    opening_seconds: float
    layer_seconds: tuple[float, ...]
    change_seconds: tuple[float, ...]
    sqnr_seconds: float
    alone_seconds: float
    compared_seconds: float
    resident_mb: tuple[int, ...]
    load: float
    browser: str
    environment: Environment
    created: str
    kind: Literal["playground"] = "playground"
    schema_version: Literal[1] = SCHEMA_VERSION
    __pydantic_config__ = STRICT


class AnyResult(Protocol):
    """A frozen dataclass that says what it is, and in which version of its schema."""

    @property
    def kind(self) -> str:
        """Name of the kind of result."""

    @property
    def schema_version(self) -> int:
        """Version of the schema."""


Result = TypeVar("Result", bound=AnyResult)


def sha256(content: bytes) -> str:
    """Hex SHA-256."""
    return hashlib.sha256(content).hexdigest()


def now() -> str:
    """The time in UTC, ISO 8601, to the second."""
    return datetime.now(UTC).replace(microsecond=0).isoformat()


def digits(classes: NDArray[np.integer[Any]]) -> str:
    """Class indices below ten as one decimal digit each."""
    return (np.asarray(classes, np.uint8) + ord("0")).tobytes().decode("ascii")


def from_digits(text: str) -> NDArray[np.int64]:
    """The int64 class indices that :func:`digits` wrote."""
    return np.frombuffer(text.encode("ascii"), np.uint8).astype(np.int64) - ord("0")


def to_json(result: AnyResult) -> str:
    """The result as indented JSON; lists of plain numbers or words stay on one line."""
    return _layout(_adapter(type(result)).dump_python(result, mode="json")) + "\n"


def from_json(kind: type[Result], text: str | bytes, source: str) -> Result:
    """The result of type ``kind`` in ``text``, validated.

    Raises:
        ResultError: when it is no JSON, or not a result of this kind and schema version; ``source`` is named.
    """
    refused = ResultError(
        f"{source} is no {kind.__name__.lower()} result of this version",
        expected=f"JSON of kind {kind.__name__.lower()}, schema version {SCHEMA_VERSION}",
        remedy="write it again with this version of resnet8",
    )
    try:
        result: Result = _adapter(kind).validate_json(text)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_input=False)
        # A file of another kind or version lacks fields too: that is not what is wrong with it.
        first = next((one for one in problems if one["loc"] in {("kind",), ("schema_version",)}), problems[0])
        where = ".".join(str(part) for part in first["loc"])
        refused.found = f"{where + ': ' if where else ''}{first['msg']}"
        raise refused from error
    if missing := {"kind", "schema_version"} - _fields(text).keys():  # they have defaults, for whoever makes a result
        refused.found = f"no {' and no '.join(sorted(missing))}"
        raise refused
    return result


@cache
def _adapter(kind: type[Any]) -> TypeAdapter[Any]:
    return TypeAdapter(kind)  # it compiles a validator: once for each kind


def save(result: AnyResult, path: Path) -> None:
    """Write the result to ``path`` as JSON, whole or not at all.

    Raises:
        StorageError: when it cannot be written.
    """
    write_text(path, to_json(result))


def load(kind: type[Result], path: Path) -> Result:
    """Read a result of type ``kind``.

    Raises:
        StorageError: when the file cannot be read.
        ResultError: as :func:`from_json`.
    """
    return from_json(kind, read_bytes(path), str(path))


def read_any(path: Path) -> Evaluation | Quantization | NoiseStudy | None:
    """Read what a comparison is made of, by the kind that the file says it is; none for another kind.

    Raises:
        StorageError: when the file cannot be read.
        ResultError: when it does not say what it is, or is not what it says.
    """
    content = read_bytes(path)
    kind = _fields(content).get("kind")
    if kind == "quantization":
        return from_json(Quantization, content, str(path))
    if kind == "noise":
        return from_json(NoiseStudy, content, str(path))
    if isinstance(kind, str) and kind != "evaluation":
        return None
    return from_json(Evaluation, content, str(path))


def save_array(array: NDArray[Any], path: Path) -> None:
    """Write an array as .npy, whole or not at all.

    Raises:
        StorageError: when it cannot be written.
    """
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    write_bytes(path, buffer.getvalue())


def _fields(content: str | bytes) -> dict[str, Any]:
    """The top level of a JSON object; nothing when it is none."""
    try:
        fields = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    return fields if isinstance(fields, dict) else {}


def _layout(value: Any, indent: str = "") -> str:
    inner = indent + "  "
    if isinstance(value, dict) and value:
        items = (f"{inner}{json.dumps(key)}: {_layout(item, inner)}" for key, item in value.items())
        return "{\n" + ",\n".join(items) + f"\n{indent}}}"
    if isinstance(value, list) and any(isinstance(item, dict | list) for item in value):
        return "[\n" + ",\n".join(inner + _layout(item, inner) for item in value) + f"\n{indent}]"
    return json.dumps(value, ensure_ascii=False)
