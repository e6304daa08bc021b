"""Integer engine against the file's own runtime: layer by layer, code by code, every difference with its cause.

Each layer gets the very codes that the runtime fed to its own; so a difference arises in the layer where it is
counted. Its cause is decided from the exact value ``v`` before rounding, in code steps, and the border ``h`` between
the two codes:

* *tie*: ``v == h`` exactly (rational arithmetic), and the two differ in the direction of rounding.
* *float rounding*: ``|v - h|`` is at most the rounding error that the float32 operations of either side can make
  (Higham 2002, Accuracy and Stability of Numerical Algorithms, section 3.1: a chain of n operations errs by at most
  ``n u / (1 - n u)`` of the sum of magnitudes, in any order; ``u = 2**-24``).
* *saturation*: the code is the one that comes of the int16 saturation of VPMADDUBSW
  (:mod:`resnet8.execute.vpmaddubsw`).
* *float bias*: the code is the one that comes of adding the bias in float32 as fbgemm does, where the engine rounds it
  to int32 (:mod:`resnet8.execute.fbgemm`); or, of a float operator, the code of a value with the bias as it is, within
  the above rounding error. Only PyTorch's files have such.
* *other*: none of these. There must be none.
"""

from __future__ import annotations

import math
from fractions import Fraction
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from resnet8 import environment, results
from resnet8.batches import batched
from resnet8.data.cifar10 import preprocess
from resnet8.errors import ModelError
from resnet8.execute import engine
from resnet8.execute.exact import as_fraction, before_rounding, float32_bound, with_real_bias
from resnet8.execute.fbgemm import biased
from resnet8.execute.vpmaddubsw import saturating
from resnet8.results import Agreement, GraphAgreement, LayerAgreement, PredictionDifference
from resnet8.workers import no_progress, within

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from resnet8.data.cifar10 import Split
    from resnet8.network.layers import AnyLayer
    from resnet8.network.program import Program
    from resnet8.results import ModelDescription
    from resnet8.workers import Progress

CAUSES = ("tie", "float rounding", "saturation", "other")
FLOAT_BIAS = "float bias"
_BATCH = 100
_NEAR = 1e-6


class Trace(Protocol):
    """A quantized model, open in its own runtime, that shows the codes of every activation."""

    program: Program

    def run(self, images: NDArray[np.float32]) -> tuple[NDArray[np.float32], dict[str, NDArray[Any]]]:
        """Probabilities, and the codes of every activation by name, (N, *shape), NHWC."""


def audit_agreement(
    model: ModelDescription,
    traces: Mapping[str, Trace],
    split: Split,
    progress: Progress = no_progress,
) -> Agreement:
    """Compare the engine with the file's own runtime on ``split``.

    Args:
        model: The file.
        traces: By name of the graph: as optimized, as in the file.
        split: The images.
        progress: Called after each batch.
    """
    total = len(traces) * len(split)
    graphs = tuple(
        _graph(name, trace, split, within(progress, number * len(split), total))
        for number, (name, trace) in enumerate(traces.items())
    )
    return Agreement(
        model=model,
        data=split.source,
        images=len(split),
        graphs=graphs,
        environment=environment.current(),
        created=results.now(),
    )


def require_explained(result: Agreement) -> None:
    """Check that every differing code and every differing prediction has a cause.

    Raises:
        ModelError: when one has none.
    """
    for graph in result.graphs:
        codes = sum(layer.causes["other"] for layer in graph.layers)
        images = [one.image for one in graph.prediction_differences if one.cause == "other"]
        if codes or images:
            raise ModelError(
                f"{result.model.path}: engine and {graph.runtime} differ without a known cause (graph {graph.graph})",
                found=f"{codes:,} codes, {len(images):,} predictions",
                expected="ties, float rounding or saturation only",
                remedy="the engine does not compute what this runtime does: report it with the file and --json",
            )


def _graph(name: str, trace: Trace, split: Split, progress: Progress) -> GraphAgreement:
    program = trace.program.as_integer()
    vnni = environment.has_vnni(environment.cpu())
    causes = {layer.name: dict.fromkeys(_possible(program), 0) for layer in program.layers}
    largest = dict.fromkeys(causes, 0)
    first: dict[int, tuple[str, str]] = {}

    def run(part: slice) -> NDArray[np.int64]:
        """Of each image the engine's class, the runtime's, and whether the runtime's two greatest logits are one."""
        images = split.images[part]
        probabilities, codes = trace.run(preprocess(images))
        for layer, ran in zip(program.layers, trace.program.layers, strict=True):
            found = engine.step(layer, codes)
            differing = np.argwhere(found != codes[layer.output.name])
            if len(differing):
                each, most = _causes(layer, ran, codes, found, differing, vnni=vnni)
                largest[layer.name] = max(largest[layer.name], most)
                for (image, *_), cause in zip(differing.tolist(), each, strict=True):
                    causes[layer.name][cause] += 1
                    first.setdefault(part.start + image, (layer.name, cause))
        logits = engine.run(program, engine.input_codes(program, images))
        best = np.sort(codes[program.logits.name].reshape(len(images), -1), axis=1)
        classes = engine.probabilities(program, logits).argmax(axis=1), probabilities.argmax(axis=1)
        return np.stack([*classes, best[:, -1] == best[:, -2]])

    ours, theirs, tied = np.concatenate(list(batched(run, len(split), progress, _BATCH, threads=1)), axis=1)
    return GraphAgreement(
        graph=name,
        integer_layers=sum(layer.kernel == "integer" for layer in trace.program.layers),
        engine_correct=int((ours == split.labels).sum()),
        ort_correct=int((theirs == split.labels).sum()),
        layers=tuple(
            LayerAgreement(
                layer=layer.name,
                operator=layer.operator,
                kernel=layer.kernel,
                codes=len(split) * math.prod(layer.output.shape),
                differing=sum(causes[layer.name].values()),
                causes=causes[layer.name],
                largest_difference=largest[layer.name],
            )
            for layer in trace.program.layers
        ),
        prediction_differences=tuple(
            PredictionDifference(
                image,
                int(ours[image]),
                int(theirs[image]),
                *first.get(image, ("logits", "tie" if tied[image] else "other")),
                bool(tied[image]),
            )
            for image in np.flatnonzero(ours != theirs).tolist()
        ),
    )


def _possible(program: Program) -> tuple[str, ...]:
    """The causes that are counted: a column more where a file's biases are float."""
    return (*CAUSES[:-1], FLOAT_BIAS, CAUSES[-1]) if program.real_biases else CAUSES


def _causes(
    layer: AnyLayer,
    ran: AnyLayer,
    codes: Mapping[str, NDArray[Any]],
    found: NDArray[Any],
    differing: NDArray[np.int64],
    *,
    vnni: bool,
) -> tuple[list[str], int]:
    images, where = np.unique(differing[:, 0], return_inverse=True)
    local = (where, *differing[:, 1:].T)
    read = {name: codes[name][images] for name in layer.inputs}
    theirs = codes[layer.output.name][images][local].astype(np.int64)
    ours = found[images][local].astype(np.int64)
    exact, magnitude = before_rounding(layer, read, local)
    border = theirs + 0.5 * np.sign(ours - theirs) - layer.output.zero_point
    distance = np.abs(exact - border)
    # Accumulators as codes are so fine that the rounding of a float operator goes over several.
    adjacent = (np.abs(ours - theirs) == 1) | layer.output.accumulated
    bound = np.maximum(float32_bound(layer, exact, magnitude), float32_bound(ran, exact, magnitude))
    causes = np.where(adjacent & (distance <= bound), "float rounding", "other").astype(object)
    for i in np.flatnonzero(adjacent & (distance < _NEAR)).tolist():
        if as_fraction(layer, read, tuple(int(axis[i]) for axis in local)) == Fraction(float(border[i])):
            causes[i] = "tie"
    if ran.real_bias is not None and (causes == "other").any():
        floated = engine.step(ran, read, accumulators=biased)[local]
        near = np.abs(theirs - layer.output.zero_point - with_real_bias(ran, exact, local)) <= 0.5 + bound
        causes[(causes == "other") & ((floated == theirs) | (near & (ran.kernel == "float")))] = FLOAT_BIAS
    if not vnni and ran.kernel == "integer" and (causes == "other").any():
        saturated = engine.step(ran, read, accumulators=partial(biased, accumulators=saturating))[local]
        causes[(causes == "other") & (saturated == theirs)] = "saturation"
    return causes.tolist(), int(np.abs(ours - theirs).max())
