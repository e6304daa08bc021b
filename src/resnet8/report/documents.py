"""The generated parts of the documents: filled in from ``results/``, and checked against them.

A block stands between ``<!-- NAME:begin -->`` and ``<!-- NAME:end -->``; what is between is replaced.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TypeVar

from resnet8 import results
from resnet8.comparison import compare, name_of, noise_of
from resnet8.errors import ResultError
from resnet8.files import read_bytes, write_text
from resnet8.report import blocks, cpus, markdown
from resnet8.results import (
    AccumulatorAudit,
    Agreement,
    Comparison,
    CpuTrial,
    DataSource,
    Evaluation,
    NoiseStudy,
    Parity,
    PlaygroundUse,
    Quantization,
    RequantizationStudy,
    WorkedArithmetic,
)

Evidence = TypeVar("Evidence", AccumulatorAudit, Agreement, Evaluation, RequantizationStudy, WorkedArithmetic)

ANALYSIS = Path("docs/QUANTIZATION_ANALYSIS.md")
COMPARISON = Path("results/comparison.json")
PARITY = Path("results/parity.json")
ARITHMETIC = Path("results/arithmetic")
CPUS = Path("results/cpus")
PLAYGROUND = Path("results/playground")
NOISE = Path("results/noise")
"""Where noise studies are kept, if there are any: «resnet8 audit noise» makes them, which takes minutes."""

_BLOCK = re.compile(r"(<!-- (?P<name>[\w-]+):begin -->\n).*?(<!-- (?P=name):end -->)", re.DOTALL)


def write_comparison(root: Path, evaluations: list[Path], refusals: list[Path]) -> None:
    """Write the comparison of some results, and the analysis document, below ``root``.

    What is known of the noise (:data:`NOISE`) goes into both.

    Raises:
        ResultError: when a result is unreadable or they are not comparable.
    """
    records = [results.load(Quantization, path) for path in refusals]
    refused = {record.recipe: record.refusal for record in records if record.refusal is not None}
    loaded = [results.load(Evaluation, path) for path in evaluations]
    studies = _studies(root)
    comparison = compare(loaded, refused=refused, noise=studies, files=[path.name for path in evaluations])
    results.save(comparison, root / COMPARISON)
    write_text(root / ANALYSIS, _analysis(root, comparison, loaded, studies))


def noise_files(root: Path) -> list[Path]:
    """The noise studies below ``root``."""
    return sorted((root / NOISE).glob("*.json"))


def _studies(root: Path) -> list[NoiseStudy]:
    return [results.load(NoiseStudy, path) for path in noise_files(root)]


def _analysis(root: Path, comparison: Comparison, evaluations: list[Evaluation], studies: list[NoiseStudy]) -> str:
    used = [study for one in evaluations if (study := noise_of(one, studies)) is not None]
    return markdown.analysis(
        comparison,
        results.load(Parity, root / PARITY),
        evaluations,
        noise=used,
        exact=_same_files(root, "exact", evaluations),
        saturated=_same_files(root, "emulated-avx2", evaluations),
    )


def _same_files(root: Path, prefix: str, evaluations: list[Evaluation]) -> dict[str, Evaluation]:
    """The evaluations in :data:`ARITHMETIC` of that kind that are of the very files that are compared, by recipe."""
    there = {name_of(one): (one.model_sha256, one.data_fingerprint, one.data.subset) for one in evaluations}
    found = [results.load(Evaluation, path) for path in sorted((root / ARITHMETIC).glob(f"{prefix}_*.json"))]
    return {
        name_of(one): one
        for one in found
        if there.get(name_of(one)) == (one.model_sha256, one.data_fingerprint, one.data.subset)
    }


def stale(root: Path) -> dict[Path, str]:
    """The documents below ``root`` that do not say what ``results/`` says, with what they should hold.

    Raises:
        StorageError: when a result is missing.
        ResultError: when a result is unreadable, or a document names a block that is not known.
    """
    comparison = results.load(Comparison, root / COMPARISON)
    evaluations = [results.load(Evaluation, root / "results" / row.file) for row in comparison.rows]
    known = {"comparison": markdown.comparison(comparison)} | _arithmetic(root, comparison, evaluations)
    if used := [results.load(PlaygroundUse, path) for path in sorted((root / PLAYGROUND).glob("*.json"))]:
        known["playground"] = blocks.playground(used)
    wanted = {root / ANALYSIS: _analysis(root, comparison, evaluations, _studies(root))}
    for path in sorted([root / "README.md", *(root / "docs").rglob("*.md")]):
        if path.is_file() and path not in wanted:
            wanted[path] = _filled(path, known)
    return {path: text for path, text in wanted.items() if not path.is_file() or read_bytes(path).decode() != text}


def _arithmetic(root: Path, comparison: Comparison, evaluations: list[Evaluation]) -> dict[str, str]:
    """The blocks of the results in :data:`ARITHMETIC`, whose files are named KIND_RECIPE.json, and in :data:`CPUS`."""
    measured = {Path(row.file).stem: one for row, one in zip(comparison.rows, evaluations, strict=True)}
    evidence = _Evidence(root / ARITHMETIC, measured)
    sums = evidence.of(AccumulatorAudit, "accumulators")
    exact, emulated = evidence.of(Evaluation, "exact"), evidence.of(Evaluation, "emulated-avx2")
    filled = {"recommendations": blocks.recommendations(comparison)}
    for name, agreement in evidence.of(Agreement, "agreement").items():
        filled |= blocks.agreement(name, agreement)
    for name, study in evidence.of(RequantizationStudy, "requantization").items():
        filled |= blocks.requantization(name, study)
    for name, audit in sums.items():
        filled |= blocks.accumulators(name, audit)
    for name, worked in evidence.of(WorkedArithmetic, "worked").items():
        filled |= blocks.worked(name, worked) | blocks.expanded(name, worked)
        filled |= blocks.pitfalls(name, worked, sums.get(name))
    if emulated and emulated.keys() == exact.keys():
        filled["portability"] = cpus.portability(exact, emulated, measured)
    if optioned := evidence.of(Evaluation, "x64quantprecision"):
        filled["precision"] = cpus.precision(optioned, exact, measured)
    if trials := [_trial(path, measured) for path in sorted((root / CPUS).glob("*.json"))]:
        filled |= cpus.trials(trials, measured, exact, emulated)
    return filled


class _Evidence:
    """Results about the models of the comparison, in files KIND_RECIPE.json."""

    def __init__(self, folder: Path, measured: dict[str, Evaluation]) -> None:
        self._folder, self._measured = folder, measured

    def of(self, kind: type[Evidence], prefix: str) -> dict[str, Evidence]:
        """By recipe."""
        found = {}
        for path in sorted(self._folder.glob(f"{prefix}_*.json")):
            name = path.stem.removeprefix(f"{prefix}_")
            found[name] = results.load(kind, path)
            _require_same(path, name, found[name].model.sha256, found[name].data, self._measured)
        return found


def _trial(path: Path, measured: dict[str, Evaluation]) -> CpuTrial:
    trial = results.load(CpuTrial, path)
    for one in trial.files:
        if one.evaluated_sha256 is not None:
            _require_same(path, one.name, one.evaluated_sha256, trial.data, measured)
    return trial


def _require_same(path: Path, name: str, sha256: str, data: DataSource, measured: dict[str, Evaluation]) -> None:
    """Check that evidence is about the file and the images that were evaluated under that name."""
    there = measured.get(name)
    if there is None or (there.model_sha256, there.data_fingerprint) != (sha256, data.fingerprint):
        raise ResultError(
            f"{path} is about another model, or other images, than results/{name}.json",
            found=f"model {sha256[:12]}…, images {data.fingerprint[:12]}…",
            expected="a model of the comparison"
            if there is None
            else f"model {there.model_sha256[:12]}…, images {there.data_fingerprint[:12]}…",
            remedy="make it again (tools/arithmetic_evidence, tools/other_cpus), or delete it",
        )


def _filled(path: Path, known: dict[str, str]) -> str:
    def fill(match: re.Match[str]) -> str:
        name = match["name"]
        if name not in known:
            raise ResultError(f"{path} has a block that is not known", found=name, expected=", ".join(known))
        return f"{match[1]}{known[name]}{match[3]}"

    return _BLOCK.sub(fill, read_bytes(path).decode())
