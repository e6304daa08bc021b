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
from resnet8.render import markdown
from resnet8.results import Comparison, Evaluation, Parity, Quantization

ANALYSIS = Path("docs/QUANTIZATION_ANALYSIS.md")
COMPARISON = Path("results/comparison.json")
PARITY = Path("results/parity.json")

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
    blocks = {"comparison": markdown.comparison(comparison)}
    wanted = {root / ANALYSIS: markdown.analysis(comparison, results.load(Parity, root / PARITY), evaluations)}
    for path in sorted([root / "README.md", *(root / "docs").rglob("*.md")]):
        if path.is_file() and path not in wanted:
            wanted[path] = _filled(path, blocks)
    return {path: text for path, text in wanted.items() if not path.is_file() or read_bytes(path).decode() != text}


def _filled(path: Path, blocks: dict[str, str]) -> str:
    def fill(match: re.Match[str]) -> str:
        name = match["name"]
        if name not in blocks:
            raise ResultError(f"{path} has a block that is not known", found=name, expected=", ".join(blocks))
        return f"{match[1]}{blocks[name]}{match[3]}"

    return _BLOCK.sub(fill, read_bytes(path).decode())
