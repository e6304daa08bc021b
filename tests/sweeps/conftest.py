"""Fixtures of the tests of sweeps: a small network, and what its cells share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tiny_float import PER_CLASS, tiny

from resnet8.sweeps.ground import prepare, test_images

if TYPE_CHECKING:
    from pathlib import Path

    from resnet8.sweeps.ground import Material


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The file of a small float network, and a folder of data."""
    return tiny(tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="session")
def material(small: tuple[Path, Path]) -> Material:
    model, data = small
    return prepare(model, data, [42, 43], PER_CLASS, lambda *_: test_images(data, None))
