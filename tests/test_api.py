"""The public names: what there is, what importing them costs, and that type checkers see the same."""

from __future__ import annotations

import ast
import doctest
import inspect
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

import resnet8
from resnet8.data import demo
from resnet8.report import api
from resnet8.results import Evaluation

if TYPE_CHECKING:
    from resnet8.data.assets import Assets

SOURCE = Path(resnet8.__file__)


def test_dir_shows_exactly_the_public_names() -> None:
    assert dir(resnet8) == sorted(resnet8.__all__)
    assert {"convert", "quantize", "evaluate", "compare", "audit_noise", "inspect_operations"} <= set(dir(resnet8))


@pytest.mark.parametrize("name", resnet8.__all__)
def test_every_name_is_what_its_home_calls_so(name: str) -> None:
    assert getattr(resnet8, name).__name__ == name
    assert getattr(resnet8, name).__doc__


def test_type_checkers_see_the_same_names() -> None:
    (block,) = [node for node in ast.parse(SOURCE.read_text()).body if isinstance(node, ast.If)]
    seen = {
        alias.asname: f"resnet8.{resnet8._HOMES[alias.name]}" == node.module
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert seen == dict.fromkeys(resnet8.__all__, True)


def test_another_name_is_an_error() -> None:
    with pytest.raises(AttributeError, match="module 'resnet8' has no attribute 'nonsense'"):
        _ = resnet8.nonsense


def test_importing_the_package_is_free() -> None:
    code = "import sys; before = set(sys.modules); import resnet8; dir(resnet8); print(*(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {name.partition(".")[0] for name in done.stdout.split()} - sys.stdlib_module_names == {"resnet8"}


# --- the page ---

EXAMPLES = [
    test for name in resnet8.__all__ for test in doctest.DocTestFinder(recurse=False).find(getattr(resnet8, name), name)
]


def test_there_are_examples() -> None:
    assert sum(bool(test.examples) for test in EXAMPLES) >= 10


@pytest.mark.parametrize("name", [test.name for test in EXAMPLES if test.examples])
def test_the_examples_run(name: str, demo_assets: Assets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(shutil.copytree(Path(demo.__file__).parent / "run", tmp_path / "run"))
    known = {"Path": Path, "np": np, "resnet8": resnet8, "Evaluation": Evaluation, "data": demo_assets.data_dir}
    (test,) = [test for test in EXAMPLES if test.name == name]
    test.globs = known
    said: list[str] = []
    assert doctest.DocTestRunner().run(test, out=said.append).failed == 0, "".join(said)


def test_the_page_shows_every_name_once() -> None:
    shown = [name for names in api.SECTIONS.values() for name in names]
    assert sorted(shown) == dir(resnet8)
    text = api.page()
    for name in shown:
        assert f"\n### {name}\n\n```python\nresnet8.{name}(" in text
        start = text.index(f"\n### {name}\n")
        shown_here = text[start : text.index("```\n", text.index("```python", start) + 9)]
        assert all(f"{one}" in shown_here for one in inspect.signature(getattr(resnet8, name)).parameters)
    assert "### convert\n" in text
    assert "- `data_dir`: Folder of CIFAR-10, whose test images are compared" in text
    assert ":func:" not in text
    assert "0x" not in text
