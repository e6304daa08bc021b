"""The public names: what there is, what importing them costs, and that type checkers see the same."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import resnet8

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
