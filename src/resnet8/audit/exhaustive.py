"""What each way to requantize changes on *every* accumulator that any input can give: a proof, not a sample.

**Why comparing steps covers every accumulator.** Of one output channel, let ``f`` be the exact rule,
``clamp(round(M * n) + zero)`` with the rational ``M`` of the float32 scales, and ``g`` a rule as the engine computes
it. Neither decreases as ``n`` grows:

1. ``M``, an integer multiplier and a float32 one are not negative. Each of the four roundings never decreases; nor does
   a shift to the right with rounding, which is the rounding of the exact quotient
   (:func:`resnet8.numeric.rounding.round_shift`); nor a float32 operation with a constant, which is the rounding of an
   exact result that does not decrease (IEEE 754); nor clamping. What is composed of such functions does not decrease.
2. So ``f`` is fixed by the least ``n`` at which it reaches each code, at most 255 of them, and ``g`` likewise. Those of
   ``f`` are found in whole numbers (:func:`resnet8.numeric.steps.exact_stairs`), those of ``g`` by bisecting the
   engine's own function (:func:`resnet8.execute.engine.requantize`).
3. Between two neighbouring steps of either, both are constant. So the codes at one ``n`` are those of all ``n`` there,
   and the whole numbers on which ``f`` and ``g`` differ are counted by adding up lengths.

Tests compare this with the computation of every single accumulator. A sum has two addends of at most 256 values: all
pairs are computed, in rational arithmetic and by the engine.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import lcm
from typing import TYPE_CHECKING, Any

import numpy as np

from resnet8 import environment, results
from resnet8.audit.requantization import VARIANTS
from resnet8.execute import engine
from resnet8.execute.exact import exact_multipliers
from resnet8.numeric.grid import limits, storage
from resnet8.numeric.steps import exact_stairs, searched_stairs
from resnet8.numeric.variants import ROUNDINGS, Requantization
from resnet8.results import CoveredLayer, DifferingCase, ExhaustiveRow, ExhaustiveStudy, LayerDifferences
from resnet8.workers import no_progress

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from resnet8.network.layers import AnyLayer
    from resnet8.network.program import Program
    from resnet8.network.spans import Spans
    from resnet8.numeric.variants import Rounding
    from resnet8.results import ModelDescription
    from resnet8.workers import Progress

_Found = tuple[LayerDifferences | None, int]
"""Where a variant differs from the exact rule, rounded alike, and how often from the one rounded half to even."""


def audit_exhaustively(
    model: ModelDescription,
    program: Program,
    variants: Sequence[Requantization] = VARIANTS,
    progress: Progress = no_progress,
) -> ExhaustiveStudy:
    """Compare ways to requantize with rational arithmetic, on everything that any input can give; no image is needed.

    Args:
        model: The file.
        program: What it computes, every layer in integers.
        variants: Ways to requantize.
        progress: Called after each layer.

    Raises:
        QuantizationError: when a multiplier cannot be held in one of these ways.

    Example:
        >>> opened = resnet8.open_integer(Path("models/resnet8_uint8.onnx"))
        >>> study = resnet8.audit_exhaustively(opened.model, opened.program, [resnet8.Requantization("fixed32")])
        >>> study.cases > 10**8, study.rows[0].differing
        (True, 0)
    """
    layers = [layer for layer in program.layers if not layer.output.accumulated]
    covered, found = [], []
    for layer in layers:
        spans = layer.spans()
        question = _Pairs(layer) if spans is None else _Channels(layer, spans)
        covered.append(question.covered)
        found.append([question.compare(variant) for variant in variants])
        progress(len(found), len(layers))
    return ExhaustiveStudy(
        model=model,
        layers=tuple(covered),
        without=tuple(layer.name for layer in program.layers if layer.output.accumulated),
        rows=tuple(
            ExhaustiveRow(
                multiplier=variant.multiplier,
                rounding=variant.rounding,
                differing=sum(one.differing for one, _ in of if one is not None),
                from_half_even=sum(even for _, even in of),
                layers=tuple(one for one, _ in of if one is not None),
            )
            for variant, *of in zip(variants, *found, strict=True)
        ),
        environment=environment.current(),
        created=results.now(),
    )


@dataclass(frozen=True)
class _Difference:
    """Of one channel: how many whole numbers, the largest difference, the one nearest 0 and its two codes."""

    count: int
    largest: int
    nearest: int
    exact: int
    code: int


class _Channels:
    """A layer with accumulators: its channels' stairs."""

    def __init__(self, layer: AnyLayer, spans: Spans) -> None:
        self._layer, self._spans = layer, spans
        self._codes = range(layer.lowest + 1, layer.highest + 1)
        self._exact: dict[Rounding, NDArray[np.int64]] = {}
        sizes = spans.high - spans.low + 1
        self.covered = CoveredLayer(layer.name, layer.role, len(sizes), int(sizes.sum()), int(spans.filled.sum()))

    def compare(self, variant: Requantization) -> _Found:
        """Where ``variant`` differs from the exact rule."""

        def rule(steps: NDArray[np.int64]) -> NDArray[Any]:
            return engine.requantize(self._layer, steps * self._spans.step, variant)

        stairs = searched_stairs(rule, self._spans.low, self._spans.high, self._codes)
        same, even = (self._differences(rounding, stairs) for rounding in (variant.rounding, "half-even"))
        return self._summed(same), sum(one.count for one in even if one is not None)

    def _differences(self, rounding: Rounding, stairs: NDArray[np.int64]) -> list[_Difference | None]:
        exact = self._stairs(self._layer.rounding or rounding)
        ends = zip(self._spans.low.tolist(), self._spans.high.tolist(), strict=True)
        return [
            _difference(one, other, *span, self._layer.lowest)
            for one, other, span in zip(exact.T, stairs.T, ends, strict=True)
        ]

    def _stairs(self, rounding: Rounding) -> NDArray[np.int64]:
        """The exact rule's, (codes, channels), within the spans."""
        if rounding not in self._exact:
            zero, spans = self._layer.output.zero_point, self._spans
            columns = []
            for channel, (step, low, high) in enumerate(zip(spans.step, spans.low, spans.high, strict=True)):
                (multiplier,) = exact_multipliers(self._layer, channel)
                stairs = exact_stairs(multiplier * int(step), zero, self._codes, rounding)
                columns.append([min(max(one, int(low)), int(high) + 1) for one in stairs])
            self._exact[rounding] = np.array(columns, np.int64).T
        return self._exact[rounding]

    def _summed(self, found: list[_Difference | None]) -> LayerDifferences | None:
        differing = {channel: one for channel, one in enumerate(found) if one is not None}
        if not differing:
            return None
        step = self._spans.step.tolist()
        channel, first = min(differing.items(), key=lambda item: (abs(item[1].nearest * step[item[0]]), item[0]))
        return LayerDifferences(
            layer=self._layer.name,
            differing=sum(one.count for one in differing.values()),
            channels=tuple(0 if one is None else one.count for one in found),
            largest=max(one.largest for one in differing.values()),
            smallest=DifferingCase(channel, (first.nearest * step[channel],), first.exact, first.code),
        )


def _difference(
    exact: NDArray[np.int64], other: NDArray[np.int64], low: int, high: int, lowest: int
) -> _Difference | None:
    """Two stairs of one channel on the whole numbers ``low … high``; none where they are the same."""
    starts = np.unique(np.concatenate([[low], exact, other]))
    starts = starts[starts <= high]
    sizes = np.diff(starts, append=high + 1)
    codes, theirs = (lowest + np.searchsorted(stairs, starts, side="right") for stairs in (exact, other))
    differs = codes != theirs
    if not differs.any():
        return None
    # The number of each piece that is nearest to 0.
    nearest = np.clip(0, starts, starts + sizes - 1)
    at = np.flatnonzero(differs)[np.abs(nearest[differs]).argmin()]
    return _Difference(
        count=int(sizes[differs].sum()),
        largest=int(np.abs(codes - theirs).max()),
        nearest=int(nearest[at]),
        exact=int(codes[at]),
        code=int(theirs[at]),
    )


class _Pairs:
    """A sum: all pairs of codes."""

    def __init__(self, layer: AnyLayer) -> None:
        # One axis for each activation, and one for the channels where a constant tells them apart.
        names = tuple(dict.fromkeys(layer.inputs))
        channels = layer.output.shape[-1] if layer.parameter is not None else 1
        sizes = {one.name: limits(one.params.dtype) for one in layer.reads}
        shape = tuple(sizes[name][1] - sizes[name][0] + 1 for name in names)
        shape = (*(1,) * (2 - len(shape)), *shape, channels)
        self._layer = layer.on(lambda one: replace(one, shape=shape))
        self._values = {}
        for axis, one in zip((1, 0), {one.name: one for one in reversed(layer.reads)}.values(), strict=False):
            low, high = sizes[one.name]
            codes = np.arange(low, high + 1).astype(storage(one.params.dtype))
            along = codes.reshape((-1, 1, 1) if axis == 0 else (1, -1, 1))
            self._values[one.name] = np.broadcast_to(along, shape)[None]
        self._addends = tuple(np.broadcast_to(one, (1, *shape))[0] for one in engine.addends(self._layer, self._values))
        self._exact = dict(zip(ROUNDINGS, _rounded(self._layer, self._addends), strict=True))
        # Of a sum of codes every case is one that input codes give.
        self.covered = CoveredLayer(layer.name, layer.role, channels, int(np.prod(shape)), channels)

    def compare(self, variant: Requantization) -> _Found:
        """Where ``variant`` differs from the exact rule."""
        found = engine.step(self._layer, self._values, variant)[0].astype(np.int64)
        low, high = self._layer.lowest, self._layer.highest
        same, even = (
            np.clip(self._exact[self._layer.rounding or rounding] + self._layer.output.zero_point, low, high)
            for rounding in (variant.rounding, "half-even")
        )
        return self._summed(same, found), int((even != found).sum())

    def _summed(self, exact: NDArray[np.int64], found: NDArray[np.int64]) -> LayerDifferences | None:
        differs = exact != found
        if not differs.any():
            return None
        size = sum(np.abs(one) for one in self._addends)
        at = np.unravel_index(np.where(differs, size, np.iinfo(np.int64).max).argmin(), differs.shape)
        channel = None if self._layer.parameter is None else int(at[-1])
        return LayerDifferences(
            layer=self._layer.name,
            differing=int(differs.sum()),
            channels=tuple(differs.sum(axis=(0, 1)).tolist()),
            largest=int(np.abs(exact - found).max()),
            smallest=DifferingCase(
                channel, tuple(int(one[at]) for one in self._addends), int(exact[at]), int(found[at])
            ),
        )


def _rounded(layer: AnyLayer, addends: Sequence[NDArray[np.int64]]) -> list[NDArray[np.int64]]:
    """The exact sums of both products, rounded in each way, int64: in Python's whole numbers, over one denominator."""
    multipliers = exact_multipliers(layer, 0)
    under = lcm(*(one.denominator for one in multipliers))
    one, other = (part.astype(object) * int(by * under) for part, by in zip(addends, multipliers, strict=True))
    total: NDArray[Any] = one + other
    down = total // under
    rest = 2 * (total - down * under)
    beyond, tie, positive = (test.astype(np.int64) for test in (rest > under, rest == under, total > 0))
    whole = down.astype(np.int64)
    ties: dict[Rounding, Any] = {"half-even": whole & 1, "half-away": positive, "half-up": 1}
    return [whole if rounding == "truncate" else whole + beyond + tie * ties[rounding] for rounding in ROUNDINGS]
