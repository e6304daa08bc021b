"""The front of size and cost when each layer chooses one of a few options, and both are added up over the layers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, order=True)
class Point:
    """One choice for each layer.

    Attributes:
        size: The sum of the options' sizes.
        cost: The sum of their costs.
        choices: The index of each layer's option.
    """

    size: int
    cost: float
    choices: tuple[int, ...] = ()


def front(layers: Sequence[Sequence[tuple[int, float]]]) -> tuple[Point, ...]:
    """Every point that no other beats in size without a higher cost, or in cost without a larger size, by size.

    Dynamic programming over the layers (the multiple-choice knapsack problem; Kellerer, Pferschy and Pisinger 2004,
    Knapsack Problems, chapter 11, by dominance): a part of a point of the front is itself on the front of its layers,
    so points that are beaten there are left out at once. Exact.

    Args:
        layers: The options of each: size and cost, from whatever is common to all.
    """
    points: tuple[Point, ...] = (Point(0, 0.0),)
    for options in layers:
        extended = [
            Point(point.size + size, point.cost + cost, (*point.choices, index))
            for point in points
            for index, (size, cost) in enumerate(options)
        ]
        points = _unbeaten(extended)
    return points


def _unbeaten(points: Sequence[Point]) -> tuple[Point, ...]:
    kept: list[Point] = []
    for point in sorted(points):
        if not kept or point.cost < kept[-1].cost:
            kept.append(point)
    return tuple(kept)


def spread(first: int, last: int, count: int) -> tuple[int, ...]:
    """At most ``count`` indices from ``first`` to ``last``, evenly, with both ends."""
    span = last - first
    if span < count:
        return tuple(range(first, last + 1))
    return tuple(sorted({first + (2 * span * i + count - 1) // (2 * (count - 1)) for i in range(count)}))
