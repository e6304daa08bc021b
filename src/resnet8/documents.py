"""The generated parts of the documents: filled in from ``results/``, and checked against them.

A block stands between ``<!-- NAME:begin -->`` and ``<!-- NAME:end -->``; what is between is replaced.
"""

from __future__ import annotations

import re
from pathlib import Path

from resnet8 import results
from resnet8.comparison import compare
from resnet8.errors import ResultError
from resnet8.files import read_bytes, write_text
from resnet8.render import blocks, markdown
from resnet8.results import (
    AccumulatorAudit,
    Agreement,
    Comparison,
    Evaluation,
    Parity,
    PlaygroundUse,
    Quantization,
    RequantizationStudy,
    Result,
    WorkedArithmetic,
)

ANALYSIS = Path("docs/QUANTIZATION_ANALYSIS.md")
COMPARISON = Path("results/comparison.json")
PARITY = Path("results/parity.json")
ARITHMETIC = Path("results/arithmetic")
PLAYGROUND = Path("results/playground")

_BLOCK = re.compile(r"(<!-- (?P<name>[\w-]+):begin -->\n).*?(<!-- (?P=name):end -->)", re.DOTALL)


def write_comparison(root: Path, evaluations: list[Path], refusals: list[Path]) -> None:
    """Write the comparison of some results, and the analysis document, below ``root``.

    Raises:
        ResultError: when a result is unreadable or they are not comparable.
    """
    records = [results.load(Quantization, path) for path in refusals]
    refused = {record.recipe: record.refusal for record in records if record.refusal is not None}
    loaded = [results.load(Evaluation, path) for path in evaluations]
    comparison = compare(loaded, refused=refused, files=[path.name for path in evaluations])
    results.save(comparison, root / COMPARISON)
    write_text(root / ANALYSIS, markdown.analysis(comparison, results.load(Parity, root / PARITY), loaded))


def stale(root: Path) -> dict[Path, str]:
    """The documents below ``root`` that do not say what ``results/`` says, with what they should hold.

    Raises:
        StorageError: when a result is missing.
        ResultError: when a result is unreadable, or a document names a block that is not known.
    """
    comparison = results.load(Comparison, root / COMPARISON)
    evaluations = [results.load(Evaluation, root / "results" / row.file) for row in comparison.rows]
    measured = {row.name: one for row, one in zip(comparison.rows, evaluations, strict=True)}
    known = {"comparison": markdown.comparison(comparison)} | _arithmetic(root, measured)
    if used := [results.load(PlaygroundUse, path) for path in sorted((root / PLAYGROUND).glob("*.json"))]:
        known["playground"] = blocks.playground(used)
    wanted = {root / ANALYSIS: markdown.analysis(comparison, results.load(Parity, root / PARITY), evaluations)}
    for path in sorted([root / "README.md", *(root / "docs").rglob("*.md")]):
        if path.is_file() and path not in wanted:
            wanted[path] = _filled(path, known)
    return {path: text for path, text in wanted.items() if not path.is_file() or read_bytes(path).decode() != text}


def _arithmetic(root: Path, measured: dict[str, Evaluation]) -> dict[str, str]:
    """The blocks of the results in :data:`ARITHMETIC`, whose files are named KIND_RECIPE.json."""
    folder = root / ARITHMETIC
    sums = _by_recipe(AccumulatorAudit, folder, "accumulators")
    emulated = _by_recipe(Evaluation, folder, "emulated-avx2")
    genuine = _by_recipe(Evaluation, folder, "qemu-haswell")
    filled: dict[str, str] = {}
    for name, agreement in _by_recipe(Agreement, folder, "agreement").items():
        filled |= blocks.agreement(name, agreement)
    for name, study in _by_recipe(RequantizationStudy, folder, "requantization").items():
        filled |= blocks.requantization(name, study)
    for name, audit in sums.items():
        filled |= blocks.accumulators(name, audit)
    for name, worked in _by_recipe(WorkedArithmetic, folder, "worked").items():
        filled |= blocks.worked(name, worked) | blocks.pitfalls(name, worked, sums.get(name))
    if emulated:
        filled["portability"] = blocks.portability(emulated, measured)
    if genuine:
        filled["qemu"] = blocks.qemu(genuine, emulated)
    return filled


def _by_recipe(kind: type[Result], folder: Path, prefix: str) -> dict[str, Result]:
    paths = sorted(folder.glob(f"{prefix}_*.json"))
    return {path.stem.removeprefix(f"{prefix}_"): results.load(kind, path) for path in paths}


def _filled(path: Path, known: dict[str, str]) -> str:
    def fill(match: re.Match[str]) -> str:
        name = match["name"]
        if name not in known:
            raise ResultError(f"{path} has a block that is not known", found=name, expected=", ".join(known))
        return f"{match[1]}{known[name]}{match[3]}"

    return _BLOCK.sub(fill, read_bytes(path).decode())
