"""What pyproject.toml promises: every library that is imported is declared, and the tested versions are pinned."""

from __future__ import annotations

import ast
import functools
import re
import sys
import tomllib
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
NAME = re.compile(r"[A-Za-z0-9._-]+")


def names(requirements: list[str]) -> set[str]:
    """The distributions required, but this one."""
    return {match[0].lower() for one in requirements if (match := NAME.match(one))} - {"resnet8"}


LIGHT = names(PROJECT["project"]["dependencies"])
EXTRAS = {extra: names(ones) for extra, ones in PROJECT["project"]["optional-dependencies"].items()}


def imported(file: Path) -> set[str]:
    """The modules that a file imports, other than Python's and this package's."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module)
    return {name for name in found if name.partition(".")[0] not in sys.stdlib_module_names | {"resnet8"}}


brought = functools.cache(metadata.packages_distributions)


@functools.cache
def distributions(module: str) -> set[str]:
    """Which distributions bring a module; a namespace's are told apart by their files."""
    top = module.partition(".")[0]
    found = set(brought().get(top, [top]))
    if len(found) > 1:
        path = module.replace(".", "/")
        found = {
            one
            for one in found
            if any(str(file).startswith((f"{path}/", f"{path}.py")) for file in metadata.files(one) or [])
        }
    return {one.lower() for one in found}


def test_every_imported_library_is_declared() -> None:
    declared = LIGHT.union(*EXTRAS.values())
    files = [file for folder in ("src", "scripts", "playground") for file in (ROOT / folder).rglob("*.py")]
    assert len(files) > 50
    modules = {module for file in files for module in imported(file)}
    assert {"numpy", "requests", "numpy.typing"} <= modules
    assert {module for module in modules if not distributions(module) & declared} == set()


def test_every_declared_library_is_pinned_to_the_version_installed() -> None:
    pins = dict(pin.split("==") for pin in PROJECT["tool"]["uv"]["constraint-dependencies"])
    declared = LIGHT.union(*EXTRAS.values(), names(PROJECT["dependency-groups"]["dev"]))
    assert declared <= set(pins)
    assert {name: metadata.version(name).partition("+")[0] for name in LIGHT} == {name: pins[name] for name in LIGHT}
