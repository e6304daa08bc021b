"""The front, against every combination there is."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from resnet8.sweeps.front import Point, front, spread


@pytest.mark.parametrize("seed", range(20))
def test_the_front_is_what_trying_everything_finds(seed: int) -> None:
    rng = np.random.default_rng(seed)
    layers = [
        [(int(size), float(cost)) for size, cost in zip(rng.integers(0, 12, 3), rng.integers(0, 9, 3) / 4, strict=True)]
        for _ in range(5)
    ]
    every = [
        (sum(layers[i][c][0] for i, c in enumerate(choice)), sum(layers[i][c][1] for i, c in enumerate(choice)))
        for choice in product(range(3), repeat=5)
    ]
    unbeaten = {
        (size, cost)
        for size, cost in every
        if not any(s <= size and c <= cost and (s, c) != (size, cost) for s, c in every)
    }
    found = front(layers)
    assert [(one.size, one.cost) for one in found] == sorted(unbeaten)
    for one in found:
        chosen = [layers[i][c] for i, c in enumerate(one.choices)]
        assert (sum(size for size, _ in chosen), sum(cost for _, cost in chosen)) == (one.size, one.cost)


def test_a_front_by_hand() -> None:
    assert front([[(1, 4.0), (2, 1.0), (3, 1.0)], [(10, 2.0), (20, 0.0)]]) == (
        Point(11, 6.0, (0, 0)),
        Point(12, 3.0, (1, 0)),
        Point(22, 1.0, (1, 1)),
    )


def test_spread() -> None:
    assert spread(0, 96, 8) == (0, 14, 27, 41, 55, 69, 82, 96)
    assert spread(3, 6, 8) == (3, 4, 5, 6)
    assert spread(4, 4, 8) == (4,)
    assert spread(5, 4, 8) == ()
