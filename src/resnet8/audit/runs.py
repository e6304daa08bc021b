"""Whole runs of an integer program over the test images, batch by batch on every CPU."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from resnet8.batches import batched
from resnet8.execute import engine
from resnet8.numeric.variants import Requantization
from resnet8.results import Score, score
from resnet8.workers import no_progress

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from resnet8.data.cifar10 import Split
    from resnet8.network.program import Program
    from resnet8.workers import Progress


def logits(
    program: Program,
    split: Split,
    requantization: Requantization = Requantization(),  # noqa: B008 - frozen
    accumulators: engine.Accumulate = engine.accumulate,
    progress: Progress = no_progress,
) -> NDArray[Any]:
    """The codes of the class scores of every image, (N, classes).

    Args:
        program: What to compute; it runs on several threads at once.
        split: The images.
        requantization: How accumulators become codes.
        accumulators: How they add up.
        progress: Called after each batch.
    """

    def run(part: slice) -> NDArray[Any]:
        return engine.run(program, engine.input_codes(program, split.images[part]), requantization, accumulators)

    return np.concatenate(list(batched(run, len(split), progress)))


def predictions(program: Program, scores: NDArray[Any]) -> NDArray[np.int64]:
    """The predicted class of each image, int64 (N,), from the codes of its logits."""
    classes: NDArray[np.int64] = engine.probabilities(program, scores).argmax(axis=1)
    return classes


def top1(predicted: NDArray[np.int64], split: Split) -> Score:
    """How many of ``predicted``, (N,), are the classes of ``split``."""
    return score(int((predicted == split.labels).sum()), len(split))
