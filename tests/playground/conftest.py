"""Models for the page: the embedded demo's, as they are brought along, and a small quantized TorchScript file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from torch_quantized import Network, saved

from resnet8.data import demo
from resnet8.data.cifar10 import read_split

if TYPE_CHECKING:
    from pathlib import Path

    from resnet8.data.assets import Assets
    from resnet8.data.cifar10 import Split


@pytest.fixture(scope="session")
def demo_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``models``, of which three are quantized, and ``results``; to be read only."""
    return demo.materialize_models(tmp_path_factory.mktemp("demo") / "run")


@pytest.fixture(scope="session")
def demo_split(demo_assets: Assets) -> Split:
    """The demo's test images."""
    return read_split(demo_assets.data_dir, "test")


@pytest.fixture(scope="session")
def torch_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights, float biases; to be read only."""
    return saved(Network(), tmp_path_factory.mktemp("torch") / "network.pt")
