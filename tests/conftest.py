"""Fixtures that many tests share: the demo's data and models, and the real assets where they are."""

from __future__ import annotations

import os
import pickle
import resource
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from filelock import FileLock

from resnet8.data import assets as known
from resnet8.data import demo
from resnet8.data.assets import Assets
from resnet8.facts import DEFAULT_PER_CLASS, KERAS_MODEL
from resnet8.pipeline import Reproduction, reproduce
from resnet8.quantization.recipes import RECIPES
from resnet8.workers import Workers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

ROOT = Path(__file__).resolve().parent.parent


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--faults", default="5", help="damaged inputs of each kind (default: 5)")
    parser.addoption(
        "--kills",
        default="4",
        help="signals to each command that writes, and other disturbances in proportion (default: 4)",
    )
    parser.addoption("--kept", help="folder for the outcomes of the trials; what ended well there is not tried again")


def pytest_configure() -> None:
    # Nothing outside the test's own folders may decide what is tested.
    for name in (known.ENVIRONMENT_VARIABLE, known.CACHE_VARIABLE):
        if name in os.environ:
            os.environ[f"TEST_{name}"] = os.environ.pop(name)


@pytest.fixture(scope="session")
def real_assets() -> Path:
    """The folder with the real model and data, or a skip that says where it was looked for."""
    named = os.environ.get(f"TEST_{known.ENVIRONMENT_VARIABLE}")
    folder = Path(named) if named else ROOT.parent / "shared" / "assets"
    if not (folder / KERAS_MODEL).is_file():
        pytest.skip(f"no real model and data: set {known.ENVIRONMENT_VARIABLE} to a folder that has them")
    return folder


@contextmanager
def no_room() -> Iterator[None]:
    """No file grows beyond a thousand bytes in this block, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture(name="no_room")
def _no_room() -> Callable[[], AbstractContextManager[None]]:
    return no_room


@pytest.fixture(scope="session")
def common(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for what is made once for all processes that the tests are divided among."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


def once(folder: Path, run: Callable[[Path], Reproduction]) -> Reproduction:
    """What ``run`` makes of ``folder`` and returns, in the process that asks first; the others read it."""
    value = folder.with_suffix(".pickle")
    with FileLock(folder.with_suffix(".lock")):
        if not value.exists():
            value.write_bytes(pickle.dumps(run(folder)))
    return pickle.loads(value.read_bytes())  # type: ignore[no-any-return]


@pytest.fixture(scope="session")
def demo_assets(common: Path) -> Assets:
    """The embedded demo's model and data."""
    located = known.locate(demo.materialize(common / "assets" / "demo"))
    return Assets(located.keras_model, located.data_dir, None, demo=True)


@pytest.fixture(scope="session")
def reproduced(demo_assets: Assets, common: Path) -> Reproduction:
    """The whole pipeline, run once on the demo; its models and results are for reading only."""
    return once(
        common / "reproduced",
        lambda folder: reproduce(folder, assets=demo_assets, samples_per_class=DEFAULT_PER_CLASS),
    )


@pytest.fixture(scope="session")
def real_run(real_assets: Path, common: Path) -> Reproduction:
    """The whole pipeline, run once on the real assets (a minute and a half); for reading only."""
    return once(common / "real", lambda folder: reproduce(folder, assets=known.locate(real_assets)))


@pytest.fixture(scope="session")
def real_models(real_run: Reproduction) -> dict[str, Path]:
    """The real quantized files, by recipe."""
    return {
        name: path for name, one in RECIPES.items() if (path := real_run.output_dir / "models" / one.output).is_file()
    }


@pytest.fixture(scope="session")
def workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workers]:
    """A process for each framework, shared: TensorFlow never runs in the process of the tests."""
    with Workers(tmp_path_factory.mktemp("logs")) as shared:
        yield shared
