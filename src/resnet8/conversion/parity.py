"""The proof of a conversion: every two runtimes, on every image."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from resnet8 import environment, results
from resnet8.errors import ConversionError
from resnet8.results import PairParity, Parity

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from resnet8.results import DataSource, FoldedConstant, ModelDescription, Structure

TOLERANCE = 1e-4
"""Largest difference of a class probability that passes: float32 sums in another order differ by some 1e-6."""

TIE = 1e-6
"""Two classes are tied when their probabilities differ by no more: what the order of float32 sums alone can swap."""


def compare_pair(a: str, b: str, first: NDArray[np.float32], second: NDArray[np.float32]) -> PairParity:
    """Compare two runtimes' probabilities, float32 (N, 10) each, on the same images."""
    difference = np.abs(first.astype(np.float64) - second)
    worst = int(difference.max(axis=1).argmax())
    differing = np.flatnonzero(first.argmax(axis=1) != second.argmax(axis=1))
    ties = sum(_is_tie(first[image], second[image]) for image in differing)
    return PairParity(a, b, float(difference.max()), worst, len(differing), ties)


def _is_tie(first: NDArray[np.float32], second: NDArray[np.float32]) -> bool:
    classes = [first.argmax(), second.argmax()]
    return bool(np.ptp(first[classes]) <= TIE and np.ptp(second[classes]) <= TIE)


def certify(
    models: Mapping[str, ModelDescription],
    probabilities: Mapping[str, NDArray[np.float32]],
    data: DataSource,
    structure: Structure,
    folding: tuple[FoldedConstant, ...],
    *,
    known_file: bool | None,
) -> Parity:
    """The certificate for runtimes by name, each with its model and its probabilities, float32 (N, 10)."""
    pairs = tuple(compare_pair(a, b, probabilities[a], probabilities[b]) for a, b in combinations(probabilities, 2))
    return Parity(
        models=dict(models),
        data=data,
        images=len(next(iter(probabilities.values()))),
        structure=structure,
        known_file=known_file,
        folding=folding,
        pairs=pairs,
        tolerance=TOLERANCE,
        passed=all(_passes(pair) for pair in pairs),
        environment=environment.current(),
        created=results.now(),
    )


def require(*pairs: PairParity) -> None:
    """Check that every two runtimes agree.

    Raises:
        ConversionError: for the first two that do not, naming the largest difference, and the image where it occurs.
    """
    for pair in pairs:
        if not _passes(pair):
            raise ConversionError(
                f"the conversion changed the model: {pair.a} and {pair.b} differ",
                found=f"probabilities by up to {pair.max_abs_difference:.2e} (image {pair.worst_image}), "
                f"{pair.differing_predictions} predictions, {pair.ties} of them ties",
                expected=f"at most {TOLERANCE:.0e}, and no differing prediction but ties",
                remedy="the files were written, but do not use them",
            )


def _passes(pair: PairParity) -> bool:
    return pair.max_abs_difference <= TOLERANCE and pair.differing_predictions == pair.ties
