"""How wide accumulators are on the images, how wide they must be for any input, and what narrower ones cost.

Two's complement sums that wrap around are right in the end whenever the *final* sum fits, whatever happens on the way,
in any order. Sums that saturate on the way depend on the order; here the whole sum saturates, once, at its end, which
is the best that saturating hardware can do.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import numpy as np

from resnet8 import environment, results
from resnet8.evaluation import evaluate_split
from resnet8.execute import engine
from resnet8.numeric.grid import signed_bits
from resnet8.results import AccumulatorAudit, AccumulatorRow, WidthRow
from resnet8.runtimes.integer import EXACT, open_program
from resnet8.workers import no_progress, within

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from resnet8.data.cifar10 import Split
    from resnet8.network.layers import Weighted
    from resnet8.network.program import Program
    from resnet8.results import ModelDescription, Score
    from resnet8.workers import Progress

WIDTHS = (16, 18, 20, 24)
OVERFLOWS = ("wrap", "saturate")


def audit_accumulators(
    model: ModelDescription,
    program: Program,
    split: Split,
    widths: Sequence[int] = WIDTHS,
    progress: Progress = no_progress,
) -> AccumulatorAudit:
    """Measure the accumulators of every convolution and dense layer on ``split``.

    Args:
        model: The file.
        program: What it computes.
        split: The images.
        widths: Of narrower accumulators to try, in bits.
        progress: Called after each batch; the total is the images of all runs.

    Example:
        >>> opened = resnet8.open_integer(Path("models/resnet8_uint8.onnx"))
        >>> images = resnet8.read_split(data, "test").first(5)
        >>> audit = resnet8.audit_accumulators(opened.model, opened.program, images, widths=(16,))
        >>> audit.layers[0].operator, audit.layers[0].observed_bits <= audit.layers[0].safe_bits
        ('conv', True)
    """
    total = len(split) * (1 + len(widths) * len(OVERFLOWS))

    def run(sums: engine.Accumulate, before: int) -> Score:
        predictor = open_program(model, program, EXACT, sums)
        return evaluate_split(predictor, split, progress=within(progress, before, total))[0].overall

    observed = Ranges()
    exact = run(observed, 0)
    rows: list[WidthRow] = []
    for bits in widths:
        narrow = tuple(name for name, sums in observed.ranges.items() if signed_bits(*sums) > bits)
        for overflow in OVERFLOWS:
            done = len(split) * (1 + len(rows))
            # where every exact sum fits, nothing changes
            rows.append(WidthRow(bits, overflow, narrow, run(Narrow(bits, overflow), done) if narrow else exact))
            progress(done + len(split), total)
    return AccumulatorAudit(
        model=model,
        data=split.source,
        images=len(split),
        layers=tuple(_row(layer, observed) for layer in program.weighted),
        exact=exact,
        widths=tuple(rows),
        environment=environment.current(),
        created=results.now(),
        requantization=EXACT.name,
    )


class Ranges:
    """Exact accumulators, whose range in each layer is kept; for several threads.

    Attributes:
        ranges: Layer to least and greatest.
    """

    def __init__(self) -> None:
        self.ranges: dict[str, tuple[int, int]] = {}
        self._lock = threading.Lock()

    def __call__(self, layer: Weighted, codes: NDArray[Any]) -> NDArray[Any]:
        """As :func:`resnet8.execute.engine.accumulate`."""
        sums = engine.accumulate(layer, codes)
        low, high = int(sums.min()), int(sums.max())
        with self._lock:
            before = self.ranges.get(layer.name, (low, high))
            self.ranges[layer.name] = (min(low, before[0]), max(high, before[1]))
        return sums


class Narrow:
    """Accumulators of ``bits`` bits that ``wrap`` or ``saturate``."""

    def __init__(self, bits: int, overflow: str) -> None:
        self._half = 1 << (bits - 1)
        self._overflow = overflow

    def __call__(self, layer: Weighted, codes: NDArray[Any]) -> NDArray[Any]:
        """As :func:`resnet8.execute.engine.accumulate`, in int64."""
        sums = engine.accumulate(layer, codes).astype(np.int64)
        if self._overflow == "saturate":
            return np.clip(sums, -self._half, self._half - 1)
        return ((sums + self._half) & (2 * self._half - 1)) - self._half


def _row(layer: Weighted, observed: Ranges) -> AccumulatorRow:
    worst = layer.partial_sums()
    seen = observed.ranges[layer.name]
    return AccumulatorRow(
        layer=layer.name,
        operator=layer.operator,
        depth=len(layer.matrix),
        observed=seen,
        worst_case=worst,
        observed_bits=signed_bits(*seen),
        safe_bits=signed_bits(*worst),
    )
