"""A folder with whole inputs of every kind, which the trials damage one at a time."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from trial import BAD

from resnet8.data import demo
from resnet8.files import write_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from resnet8.data.assets import Assets
    from resnet8.pipeline import Reproduction


def place(item: pytest.Item) -> Path | None:
    """The file for the outcomes of a trial, where «--kept» names a folder."""
    folder = item.config.getoption("--kept")
    return Path(folder, re.sub(r"\W+", "-", item.name) + ".json") if folder else None


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a trial whose outcomes are there from before, and good; and make nothing for it."""
    path = place(item)
    if path and path.is_file() and not any(set(one) & set(BAD) for one in json.loads(path.read_text()).values()):
        pytest.skip(f"kept in {path}")


@pytest.fixture
def keep(request: pytest.FixtureRequest) -> Callable[[dict[str, dict[str, int]]], None]:
    """Writes the outcomes of a trial where «--kept» says."""

    def write(outcomes: dict[str, dict[str, int]]) -> None:
        path = place(request.node)
        if path:
            write_text(path, json.dumps(outcomes))

    return write


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory, demo_assets: Assets, reproduced: Reproduction) -> Path:
    """The demo's models with their records, its results and its images, some of them as links."""
    folder = tmp_path_factory.mktemp("whole") / "template"
    folder.mkdir()
    run = Path(demo.__file__).parent / "run"
    for name in ("resnet8.onnx", "resnet8_int8.onnx", "resnet8_int8.onnx.json"):
        shutil.copy(run / "models" / name, folder)
    for name in ("resnet8.pt", "resnet8_int8.pt"):
        shutil.copy(reproduced.output_dir / "models" / name, folder)
    for name in ("fp32-onnx.json", "published-int8.json"):
        shutil.copy(run / "results" / name, folder)
    (folder / "results").symlink_to(".")  # where the page looks for them
    shutil.copy(demo_assets.keras_model, folder / "pretrainedResnet.h5")
    for part in ("results", "docs"):
        shutil.copytree(reproduced.output_dir / part, folder / "run" / part)
    data = folder / "cifar-10-batches-py"
    data.mkdir()
    for path in demo_assets.data_dir.iterdir():
        if path.name in ("test_batch", "data_batch_1", "batches.meta"):
            shutil.copy(path, data)
        else:
            (data / path.name).symlink_to(path)
    (folder / "mine.toml").write_text(
        'framework = "onnxruntime"\nactivations = "uint8"\nweights = "int8"\nper_channel = true\nreduce_range = true\n'
    )
    return folder
