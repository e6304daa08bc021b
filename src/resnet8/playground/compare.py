"""The original and the changed network on the same images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from resnet8.playground.activations import INPUT, Capture, capture, predictions, sqnr
from resnet8.results import Score, score
from resnet8.workers import no_progress

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from resnet8.network.program import Program
    from resnet8.workers import Progress


@dataclass(frozen=True)
class Difference:
    """One layer in the original and in the changed network; SQNR in dB, infinite without noise.

    Attributes:
        layer: Its name; ``input`` for the images.
        activation: Name of what it writes.
        moved: Share of the elements whose real value is another, 0 to 1.
        change: SQNR of the changed network's values against the original's.
        original: SQNR of the original against the float network; none without one.
        changed: SQNR of the changed network against the float network; none without one.
    """

    layer: str
    activation: str
    moved: float
    change: float
    original: float | None
    changed: float | None


@dataclass(frozen=True, eq=False)
class Comparison:
    """Both networks on a few images.

    Attributes:
        original: Its activations and probabilities; the float network's are here too.
        changed: The changed network's.
        layers: What differs, in the order of computation.
    """

    original: Capture
    changed: Capture
    layers: tuple[Difference, ...]


@dataclass(frozen=True)
class Flip:
    """An image whose predicted class is another.

    Attributes:
        image: Its index among the images compared.
        label: Its class.
        before: What the original predicts.
        after: What the changed network predicts.
    """

    image: int
    label: int
    before: int
    after: int


@dataclass(frozen=True)
class Flips:
    """Top-1 of both networks, and the images on which they differ."""

    original: Score
    changed: Score
    images: tuple[Flip, ...]


def compare(original: Capture, changed: Program, images: NDArray[Any]) -> Comparison:
    """Two networks on a few ``images``, (N, 32, 32, 3), pixels 0 to 255; every activation is kept.

    Args:
        original: What :func:`resnet8.playground.activations.capture` found in one on these images; where it holds the
            float network's values, both are compared with them.
        changed: What :func:`resnet8.playground.change.apply` made of that network.
        images: The images.
    """
    after = capture(changed, None, images)
    program = original.quantized
    writers = {layer.output.name: layer.name for layer in program.layers}
    layers = []
    for name in program.activations:
        one, other = original.real(name), after.real(name)
        real = original.reference.get(name)
        layers.append(
            Difference(
                layer=writers.get(name, INPUT),
                activation=name,
                moved=float((one != other).mean()),
                change=sqnr(one, other),
                original=None if real is None else sqnr(real, one),
                changed=None if real is None else sqnr(real, other),
            )
        )
    return Comparison(original, after, tuple(layers))


def flips(
    original: Program,
    changed: Program,
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
    *,
    progress: Progress = no_progress,
) -> Flips:
    """Top-1 of both networks on ``images``, and the images whose predicted class is another.

    Args:
        original: A network.
        changed: What was made of it.
        images: uint8 (N, 32, 32, 3).
        labels: int64 (N,).
        progress: Called after each batch, of twice as many images; may raise to stop.
    """
    total = 2 * len(images)
    before = predictions(original, images, lambda done, _: progress(done, total))
    after = predictions(changed, images, lambda done, _: progress(len(images) + done, total))
    rows = zip(range(len(labels)), labels.tolist(), before.tolist(), after.tolist(), strict=True)
    return Flips(
        original=score(int((before == labels).sum()), len(labels)),
        changed=score(int((after == labels).sum()), len(labels)),
        images=tuple(Flip(*row) for row in rows if row[2] != row[3]),
    )
