"""What each way to requantize changes: fixed-point multipliers of several widths, powers of two, four roundings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from resnet8 import environment, results
from resnet8.audit.runs import logits, predictions, top1
from resnet8.batches import batched
from resnet8.execute import engine
from resnet8.network.layers import Weighted
from resnet8.numeric.variants import MULTIPLIERS, ROUNDINGS, Requantization
from resnet8.results import RequantizationRow, RequantizationStudy
from resnet8.workers import no_progress

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from resnet8.data.cifar10 import Split
    from resnet8.network.layers import AnyLayer
    from resnet8.network.program import Program
    from resnet8.results import ModelDescription
    from resnet8.workers import Progress

ISOLATED_IMAGES = 1_000
"""Images on which each layer is compared alone; top-1 is on all."""

VARIANTS = tuple(Requantization(multiplier, rounding) for multiplier in MULTIPLIERS for rounding in ROUNDINGS)


def audit_requantization(
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
    runs: list[NDArray[Any]] = []
    for variant in (Requantization(), *variants):
        before = len(few) + len(runs) * len(split)
        runs.append(logits(program, split, variant, progress=lambda done, _, b=before: progress(b + done, total)))
    reference, *others = runs
    expected, *predicted = (predictions(program, one) for one in runs)
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
                changed_logits=int((scores != reference).sum()),
                changed_predictions=int((classes != expected).sum()),
                overall=top1(classes, split),
            )
            for variant, (codes, changed, largest), scores, classes in zip(
                variants, alone, others, predicted, strict=True
            )
        ),
        environment=environment.current(),
        created=results.now(),
    )


def _alone(
    program: Program, split: Split, variants: Sequence[Requantization], progress: Progress
) -> list[tuple[int, int, int]]:
    """Codes compared, codes that differ, and the largest difference, with every layer fed the reference's codes."""

    def count(part: slice) -> NDArray[np.int64]:
        counts = np.zeros((len(variants), 3), np.int64)
        values = engine.activations(program, engine.input_codes(program, split.images[part]))
        for layer in program.layers:
            sums = _once(layer, values)
            expected = values[layer.output.name].astype(np.int16)
            for row, variant in zip(counts, variants, strict=True):
                difference = np.abs(engine.step(layer, values, variant, sums) - expected)
                row[0] += difference.size
                row[1] += np.count_nonzero(difference)
                row[2] = max(row[2], difference.max())
        return counts

    parts = np.stack(list(batched(count, len(split), progress)))
    totals, largest = parts[:, :, :2].sum(axis=0), parts[:, :, 2].max(axis=0)
    return [(int(codes), int(changed), int(most)) for (codes, changed), most in zip(totals, largest, strict=True)]


def _once(layer: AnyLayer, values: dict[str, NDArray[Any]]) -> engine.Accumulate:
    """The layer's accumulators, computed now and given whenever they are asked for."""
    if not isinstance(layer, Weighted):
        return engine.accumulate
    sums = engine.accumulate(layer, values[layer.x.name])
    return lambda layer, codes: sums  # noqa: ARG005
