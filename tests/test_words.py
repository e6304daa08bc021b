"""Numbers, sizes and shapes in words."""

from __future__ import annotations

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
    ("value", "text"), [(1.0, "1.000"), (0.05, "0.050"), (0.001, "0.001"), (0.0009999, "< 0.001"), (0.0, "< 0.001")]
)
def test_p_value(value: float, text: str) -> None:
    assert words.p_value(value) == text
