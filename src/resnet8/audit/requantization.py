"""What each way to requantize changes: fixed-point multipliers of several widths, powers of two, four roundings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from resnet8 import environment, results
from resnet8.batches import batched
from resnet8.execute import engine
from resnet8.numeric.variants import MULTIPLIERS, ROUNDINGS, Requantization
from resnet8.results import RequantizationRow, RequantizationStudy, score
from resnet8.workers import no_progress, within

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from resnet8.data.cifar10 import Split
    from resnet8.network.layers import Weighted
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
    alone = _alone(program, few, variants, within(progress, 0, total))
    reference, *others = (
        _logits(program, split, variant, within(progress, len(few) + number * len(split), total))
        for number, variant in enumerate((Requantization(), *variants))
    )
    expected, *predicted = (engine.probabilities(program, one).argmax(axis=1) for one in (reference, *others))
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
                overall=score(int((classes == split.labels).sum()), len(split)),
            )
            for variant, (codes, changed, largest), scores, classes in zip(
                variants, alone, others, predicted, strict=True
            )
        ),
        environment=environment.current(),
        created=results.now(),
    )


def _logits(program: Program, split: Split, variant: Requantization, progress: Progress) -> NDArray[Any]:
    """The codes of the class scores of every image, (N, classes)."""

    def run(part: slice) -> NDArray[Any]:
        return engine.run(program, engine.input_codes(program, split.images[part]), variant)

    return np.concatenate(list(batched(run, len(split), progress)))


def _alone(
    program: Program, split: Split, variants: Sequence[Requantization], progress: Progress
) -> list[tuple[int, int, int]]:
    """Codes compared, codes that differ, and the largest difference, with every layer fed the reference's codes."""

    def count(part: slice) -> NDArray[np.int64]:
        counts = np.zeros((len(variants), 3), np.int64)
        values = engine.activations(program, engine.input_codes(program, split.images[part]))
        for layer in program.layers:
            sums = _once()
            expected = values[layer.output.name].astype(np.int64)
            for row, variant in zip(counts, variants, strict=True):
                difference = np.abs(engine.step(layer, values, variant, sums) - expected)
                row[0] += difference.size
                row[1] += np.count_nonzero(difference)
                row[2] = max(row[2], difference.max())
        return counts

    parts = np.stack(list(batched(count, len(split), progress)))
    totals, largest = parts[:, :, :2].sum(axis=0), parts[:, :, 2].max(axis=0)
    return [(int(codes), int(changed), int(most)) for (codes, changed), most in zip(totals, largest, strict=True)]


def _once() -> engine.Accumulate:
    """A layer's accumulators, computed when they are first asked for, and given whenever they are again."""
    kept: list[NDArray[Any]] = []

    def accumulate(layer: Weighted, codes: NDArray[Any]) -> NDArray[Any]:
        if not kept:
            kept.append(engine.accumulate(layer, codes))
        return kept[0]

    return accumulate
