"""Numbers, sizes and shapes in words."""

from __future__ import annotations

import numpy as np
import pytest

from resnet8 import words


@pytest.mark.parametrize(
    ("fraction", "text"), [(0.8719, "87.19 %"), (0, "0.00 %"), (1, "100.00 %"), (2 / 3, "66.67 %")]
)
def test_percent(fraction: float, text: str) -> None:
    assert words.percent(fraction) == text


@pytest.mark.parametrize(("size", "text"), [(1024, "1.0 KB"), (125_431, "122.5 KB"), (0, "0.0 KB")])
def test_kilobytes(size: int, text: str) -> None:
    assert words.kilobytes(size) == text


@pytest.mark.parametrize(
    ("zero_points", "text"), [(128, "128"), (-7, "−7"), ([3, 3], "3"), ([5, -128, 127], "−128 … 127")]
)
def test_zeros(zero_points: object, text: str) -> None:
    assert words.zeros(np.asarray(zero_points)) == text


@pytest.mark.parametrize(("factor", "text"), [(2.0, "× 2"), (0.125, "× 0.125")])
def test_times(factor: float, text: str) -> None:
    assert words.times(factor) == text


def test_grid() -> None:
    assert words.grid(np.float32(0.05), -7) == "s 0.05, z −7"
    assert words.grid(np.array([0.01, 0.03]), [0, 1]) == "s 0.01 … 0.03 per channel, z 0 … 1"


@pytest.mark.parametrize(
    ("value", "text"), [(1.0, "1.000"), (0.05, "0.050"), (0.001, "0.001"), (0.0009999, "< 0.001"), (0.0, "< 0.001")]
)
def test_p_value(value: float, text: str) -> None:
    assert words.p_value(value) == text


@pytest.mark.parametrize(("value", "text"), [(0.3, "0.3"), (1 / 3, "0.33333334"), (1e-7, "1e-07"), (2, "2.0")])
def test_a_float32_in_as_few_digits_as_tell_it_from_others(value: float, text: str) -> None:
    assert words.exact(np.float32(value)) == text
    assert np.float32(text) == np.float32(value)
