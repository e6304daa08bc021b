"""What each way to requantize changes: fixed-point multipliers of several widths, powers of two, four roundings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from resnet8 import environment, results
from resnet8.evaluation import evaluate_split
from resnet8.integer import engine
from resnet8.integer.program import Weighted
from resnet8.results import RequantizationRow, RequantizationStudy, from_digits
from resnet8.runtimes.integer import IntegerPredictor
from resnet8.variants import MULTIPLIERS, ROUNDINGS, Requantization
from resnet8.workers import no_progress

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from resnet8.cifar10 import Split
    from resnet8.integer.program import AnyLayer, Program
    from resnet8.results import Evaluation, ModelDescription
    from resnet8.workers import Progress

ISOLATED_IMAGES = 1_000
"""Images on which each layer is compared alone; top-1 is on all."""

VARIANTS = tuple(Requantization(multiplier, rounding) for multiplier in MULTIPLIERS for rounding in ROUNDINGS)

_BATCH = 50


def study(
    model: ModelDescription,
    program: Program,
    split: Split,
    variants: Sequence[Requantization] = VARIANTS,
    progress: Progress = no_progress,
) -> RequantizationStudy:
    """Run ``program`` with each of ``variants`` on ``split``.

    Args:
        model: The file.
        program: What it computes.
        split: The images.
        variants: Ways to requantize.
        progress: Called after each batch; the total is the images of all runs.
    """
    few = split.first(min(ISOLATED_IMAGES, len(split)))
    total = len(few) + (1 + len(variants)) * len(split)
    alone = _alone(program, few, variants, lambda done, _: progress(done, total))
    runs: list[tuple[Evaluation, NDArray[Any]]] = []
    for variant in (Requantization(), *variants):
        before = len(few) + len(runs) * len(split)
        runs.append(_run(model, program, split, variant, lambda done, _, b=before: progress(b + done, total)))
    (reference, reference_logits), *others = runs
    expected = from_digits(reference.predictions)
    return RequantizationStudy(
        model=model,
        data=split.source,
        images=len(split),
        isolated_images=len(few),
        rows=tuple(
            RequantizationRow(
                multiplier=variant.multiplier,
                rounding=variant.rounding,
                codes=codes,
                changed=changed,
                largest_difference=largest,
                changed_logits=int((logits != reference_logits).sum()),
                changed_predictions=int((from_digits(evaluation.predictions) != expected).sum()),
                overall=evaluation.overall,
            )
            for variant, (codes, changed, largest), (evaluation, logits) in zip(variants, alone, others, strict=True)
        ),
        environment=environment.current(),
        created=results.now(),
    )


class _Keeping(IntegerPredictor):
    """Keeps the logits of every batch, by the batch's first image, whose pixels name it."""

    def __init__(self, model: ModelDescription, program: Program, variant: Requantization) -> None:
        super().__init__(model, program, variant)
        self.kept: dict[bytes, NDArray[Any]] = {}

    def logits(self, images: NDArray[Any]) -> NDArray[Any]:
        codes = super().logits(images)
        self.kept[images.astype(np.uint8).tobytes()] = codes
        return codes


def _run(
    model: ModelDescription, program: Program, split: Split, variant: Requantization, progress: Progress
) -> tuple[Evaluation, NDArray[Any]]:
    predictor = _Keeping(model, program, variant)
    evaluation, _ = evaluate_split(predictor, split, _BATCH, progress)
    starts = range(0, len(split), _BATCH)
    logits = np.concatenate([predictor.kept[split.images[i : i + _BATCH].tobytes()] for i in starts])
    return evaluation, logits


def _alone(
    program: Program, split: Split, variants: Sequence[Requantization], progress: Progress
) -> list[tuple[int, int, int]]:
    """Codes compared, codes that differ, and the largest difference, with every layer fed the reference's codes."""
    counts = np.zeros((len(variants), 3), np.int64)
    for start in range(0, len(split), _BATCH):
        codes = engine.input_codes(program, split.images[start : start + _BATCH])
        values = {program.input.name: codes}

        def keep(layer: AnyLayer, written: NDArray[Any], values: dict[str, NDArray[Any]] = values) -> None:
            values[layer.output.name] = written

        engine.run(program, codes, watch=keep)
        for layer in program.layers:
            sums = _once(layer, values)
            expected = values[layer.output.name].astype(np.int16)
            for i, variant in enumerate(variants):
                difference = np.abs(engine.step(layer, values, variant, sums) - expected)
                counts[i, 0] += difference.size
                counts[i, 1] += np.count_nonzero(difference)
                counts[i, 2] = max(counts[i, 2], difference.max())
        progress(min(start + _BATCH, len(split)), len(split))
    return [(int(one), int(two), int(three)) for one, two, three in counts]


def _once(layer: AnyLayer, values: dict[str, NDArray[Any]]) -> engine.Accumulate:
    """The layer's accumulators, computed now and given whenever they are asked for."""
    if not isinstance(layer, Weighted):
        return engine.accumulate
    sums = engine.accumulate(layer, values[layer.x.name])
    return lambda layer, codes: sums  # noqa: ARG005
