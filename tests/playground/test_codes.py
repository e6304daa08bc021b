"""How codes are counted."""

from __future__ import annotations

import numpy as np

from resnet8.playground.codes import code_counts, use


def test_use_of_codes_counts_ends_and_gaps() -> None:
    codes = np.array([[-8, -8, 7], [0, 1, 0]], np.int8)
    found = use(codes, (-8, 7))
    assert (found.total, found.at_lowest, found.at_highest, found.used, found.unused) == (6, 2, 1, 4, 12)
    assert found.clipped == 0.5
    counts = code_counts(codes, (-8, 7))
    assert counts.tolist() == [2, 0, 0, 0, 0, 0, 0, 0, 2, 1, 0, 0, 0, 0, 0, 1]
    assert use(codes[:0], (-8, 7)).clipped == 0
    assert code_counts(np.array([0, 255, 255], np.uint8), (0, 255))[[0, 255]].tolist() == [1, 2]


def test_accumulators_are_counted_among_billions() -> None:
    found = use(np.array([-(2**31), -5, 7, 7], np.int32), (-(2**31), 2**31 - 1))
    assert (found.at_lowest, found.at_highest, found.used, found.unused) == (1, 0, 3, 2**32 - 3)
