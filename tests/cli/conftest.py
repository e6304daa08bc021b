"""Fixtures of the command line's tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from shell import Shell

if TYPE_CHECKING:
    from pathlib import Path

    from resnet8.data.assets import Assets
    from resnet8.pipeline import Reproduction


@pytest.fixture
def shell(tmp_path: Path, demo_assets: Assets) -> Shell:
    return Shell(tmp_path / "work", demo_assets)


@pytest.fixture
def onnx_model(reproduced: Reproduction) -> Path:
    return reproduced.output_dir / "models/resnet8.onnx"
