"""The generated parts of the documents: filled in from ``results/``, and checked against them.

A block stands between ``<!-- NAME:begin -->`` and ``<!-- NAME:end -->``; what is between is replaced.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from resnet8 import results
from resnet8.comparison import compare, name_of, noise_of
from resnet8.errors import ResultError
from resnet8.files import read_bytes, read_text, write_text
from resnet8.quantization.recipes import RECIPES
from resnet8.report import api, blocks, choice, cim, cpus, exhaustive
from resnet8.report.analysis import analysis, comparison, recommendations
from resnet8.report.document import Cell, markdown, table
from resnet8.report.limit import Limits
from resnet8.report.rtl import rtl
from resnet8.results import AccumulatorAudit, Agreement, CpuTrial, Evaluation, RequantizationStudy, WorkedArithmetic

if TYPE_CHECKING:
    from collections.abc import Callable

Question = TypeVar("Question", AccumulatorAudit, Agreement, Evaluation, RequantizationStudy, WorkedArithmetic)

ANALYSIS = Path("docs/QUANTIZATION_ANALYSIS.md")
COMPARISON = Path("results/comparison.json")
PARITY = Path("results/parity.json")
ARITHMETIC = Path("results/arithmetic")
EXHAUSTIVE = Path("results/exhaustive")
"""Proofs about requantization: «resnet8 audit requantization --exhaustive» makes them."""
CPUS = Path("results/cpus")
CIM = Path("results/cim")
"""What compute-in-memory arrays make of a recipe's file: RECIPE.json, or RECIPE_WORDS.json; «resnet8 audit cim»."""
PLAYGROUND = Path("results/playground")
FIRMWARE = Path("results/firmware/cortex-m4.json")
RTL = Path("results/rtl")
RELIABILITY = Path("results/reliability/trial.json")
NOISE = Path("results/noise")
"""Where noise studies are kept, if there are any: «resnet8 audit noise» makes them, which takes minutes."""
SEEDS = Path("results/seeds")
"""Likewise the studies of calibration draws: «resnet8 audit seeds»."""
SWEEPS = Path("results/sweeps")
"""Likewise sweeps, sensitivities and searches; ``bound.json`` is the sweep whose weights stay fine."""
FURTHER = tuple(name for name, one in RECIPES.items() if not (one.reproduced or one.refused))
"""Recipes that ``reproduce`` does not make; what is in ``results/NAME.json`` of them is compared too."""

_BLOCK = re.compile(r"(<!-- (?P<name>[\w-]+):begin -->\n).*?(<!-- (?P=name):end -->)", re.DOTALL)


def write_comparison(root: Path, evaluations: list[Path], refusals: list[Path]) -> None:
    """Write the comparison of some results, and the analysis document, below ``root``.

    What is known of noise, draws and bits (:data:`NOISE`, :data:`SEEDS`, :data:`SWEEPS`) goes into both, and results of
    further recipes (:data:`FURTHER`) of the same float model and images.

    Raises:
        ResultError: when a result is unreadable or they are not comparable.
    """
    records = [results.load(results.Quantization, path) for path in refusals]
    refused = {record.recipe: record.refusal for record in records if record.refusal is not None}
    measured = {path.name: results.load(Evaluation, path) for path in evaluations}
    measured |= _further(root, measured)
    loaded = list(measured.values())
    compared = compare(loaded, refused=refused, noise=_studies(root), seeds=_draws(root), files=list(measured))
    results.save(compared, root / COMPARISON)
    write_text(root / ANALYSIS, _analysis(_Evidence(root, compared, loaded)))


def noise_files(root: Path) -> list[Path]:
    """The noise studies below ``root``."""
    return sorted((root / NOISE).glob("*.json"))


def evidence_files(root: Path) -> list[Path]:
    """All below ``root`` that the comparison and the analysis take, beside what ``reproduce`` makes."""
    further = [path for name in FURTHER if (path := root / f"results/{name}.json").is_file()]
    return [
        *further,
        *noise_files(root),
        *(path for of in (SEEDS, SWEEPS) for path in sorted((root / of).glob("*.json"))),
    ]


def _further(root: Path, measured: dict[str, Evaluation]) -> dict[str, Evaluation]:
    """The results of further recipes that are of the float model and the images of the others; others are passed over."""
    sources = {one.model_sha256 for one in measured.values() if not one.model.quantized}
    images = {(one.data_fingerprint, one.data.subset, one.labels) for one in measured.values()}
    paths = [path for name in FURTHER if (path := root / f"results/{name}.json").is_file()]
    return {
        path.name: one
        for path in paths
        if (one := results.load(Evaluation, path)).quantization is not None
        and one.quantization.source_sha256 in sources
        and (one.data_fingerprint, one.data.subset, one.labels) in images
    }


def _draws(root: Path) -> list[results.SeedStudy]:
    return [results.load(results.SeedStudy, path) for path in sorted((root / SEEDS).glob("*.json"))]


def _limits(root: Path, evaluations: list[Evaluation]) -> Limits:
    """What is known of the float model; what is about another one is passed over.

    Raises:
        ResultError: when a file is of no kind that belongs there, or damaged.
    """
    sources = {one.model_sha256 for one in evaluations if not one.model.quantized}
    found: dict[str, results.Sweep | results.Sensitivity | results.Search] = {}
    for path in sorted((root / SWEEPS).glob("*.json")):
        content = read_bytes(path)
        kind = _ASKED.get(str(results.fields_of(content).get("kind")), results.Sweep)
        one = results.from_json(kind, content, str(path))
        if one.ground.model.sha256 in sources:
            found[path.stem] = one
    bound = found.pop("bound", None)
    return Limits(
        seeds=tuple(_draws(root)),
        bound=bound if isinstance(bound, results.Sweep) else None,
        maps=tuple(one for one in found.values() if isinstance(one, results.Sweep)),
        sensitivities=tuple(one for one in found.values() if isinstance(one, results.Sensitivity)),
        searches=tuple(one for one in found.values() if isinstance(one, results.Search)),
    )


_ASKED: dict[str, type[results.Sweep | results.Sensitivity | results.Search]] = {
    "sweep": results.Sweep,
    "sensitivity": results.Sensitivity,
    "search": results.Search,
}


def _studies(root: Path) -> list[results.NoiseStudy]:
    return [results.load(results.NoiseStudy, path) for path in noise_files(root)]


def stale(root: Path) -> dict[Path, str]:
    """The documents below ``root`` that do not say what ``results/`` says, with what they should hold.

    Raises:
        StorageError: when a result is missing.
        ResultError: when a result is unreadable, or a document names a block that is not known.
    """
    compared = results.load(results.Comparison, root / COMPARISON)
    evidence = _Evidence(
        root, compared, [results.load(Evaluation, root / "results" / row.file) for row in compared.rows]
    )
    known = {name: text for blocks_of in _BLOCKS for name, text in blocks_of(evidence).items()}
    wanted = {root / ANALYSIS: _analysis(evidence)}
    for path in sorted([root / "README.md", *(root / "docs").rglob("*.md")]):
        if path.is_file() and path not in wanted:
            wanted[path] = _filled(path, known)
    return {path: text for path, text in wanted.items() if not path.is_file() or read_text(path) != text}


def _filled(path: Path, known: dict[str, str]) -> str:
    def fill(match: re.Match[str]) -> str:
        name = match["name"]
        if name not in known:
            raise ResultError(f"{path} has a block that is not known", found=name, expected=", ".join(known))
        return f"{match[1]}{known[name]}{match[3]}"

    return _BLOCK.sub(fill, read_text(path))


class _Evidence:
    """What documents are made of: a comparison, and the results about its models.

    Attributes:
        root: The folder with ``results/``.
        comparison: The models that the documents are about.
        evaluations: Theirs, in its order.
        measured: The same by name of the file in ``results/``.
        limits: What is known beside it of draws and bits.
    """

    def __init__(self, root: Path, comparison: results.Comparison, evaluations: list[Evaluation]) -> None:
        self.root, self.comparison, self.evaluations = root, comparison, evaluations
        self.limits = _limits(root, evaluations)
        self.measured = {Path(row.file).stem: one for row, one in zip(comparison.rows, evaluations, strict=True)}

    def of(self, kind: type[Question], prefix: str) -> dict[str, Question]:
        """The results in :data:`ARITHMETIC`, files PREFIX_RECIPE.json, by recipe.

        Raises:
            ResultError: when one is about another file or other images than were evaluated.
        """
        found = {}
        for path in sorted((self.root / ARITHMETIC).glob(f"{prefix}_*.json")):
            name = path.stem.removeprefix(f"{prefix}_")
            found[name] = results.load(kind, path)
            self.require_same(path, name, found[name].model.sha256, found[name].data)
        return found

    def exhaustive(self) -> dict[str, results.ExhaustiveStudy]:
        """The studies in :data:`EXHAUSTIVE`, files RECIPE.json, by recipe; they are about files, not about images.

        Raises:
            ResultError: as :meth:`of`.
        """
        paths = sorted((self.root / EXHAUSTIVE).glob("*.json"))
        found = {path.stem: results.load(results.ExhaustiveStudy, path) for path in paths}
        for path in paths:
            self.require_same(path, path.stem, found[path.stem].model.sha256)
        return found

    def same(self, prefix: str) -> dict[str, Evaluation]:
        """The evaluations there of the very files and images that are compared, by recipe; others are passed over."""
        found = [results.load(Evaluation, path) for path in sorted((self.root / ARITHMETIC).glob(f"{prefix}_*.json"))]
        there = {(name_of(one), one.model_sha256, one.data_fingerprint, one.data.subset) for one in self.evaluations}
        return {
            name_of(one): one
            for one in found
            if (name_of(one), one.model_sha256, one.data_fingerprint, one.data.subset) in there
        }

    def trials(self) -> list[CpuTrial]:
        """What other CPUs make of the models (:data:`CPUS`).

        Raises:
            ResultError: as :meth:`of`.
        """
        found = {path: results.load(CpuTrial, path) for path in sorted((self.root / CPUS).glob("*.json"))}
        for path, trial in found.items():
            for one in trial.files:
                if one.evaluated_sha256 is not None:
                    self.require_same(path, one.name, one.evaluated_sha256, trial.data)
        return list(found.values())

    def arrays(self) -> dict[str, results.CimAudit]:
        """What compute-in-memory arrays make of the models (:data:`CIM`), by the file's name.

        Raises:
            ResultError: as :meth:`of`.
        """
        found = {}
        for path in sorted((self.root / CIM).glob("*.json")):
            one = found[path.stem] = results.load(results.CimAudit, path)
            self.require_same(path, path.stem.split("_", 1)[0], one.model.sha256, one.data)
        return found

    def require_same(self, path: Path, name: str, sha256: str, data: results.DataSource | None = None) -> None:
        """Refuse a result in ``path`` about another file, or other images, than were evaluated as ``name``.

        Raises:
            ResultError: when it is.
        """
        there = self.measured.get(name)
        images = "" if there is None else there.data_fingerprint
        fingerprint = images if data is None else data.fingerprint
        if there is None or (there.model_sha256, images) != (sha256, fingerprint):
            raise ResultError(
                f"{path} is about another model, or other images, than results/{name}.json",
                found=f"model {sha256[:12]}…" + ("" if data is None else f", images {fingerprint[:12]}…"),
                expected="a model of the comparison"
                if there is None
                else f"model {there.model_sha256[:12]}…, images {there.data_fingerprint[:12]}…",
                remedy="make it again (tools/arithmetic_evidence, tools/other_cpus, tools/measure_export), or delete it",
            )


def _analysis(evidence: _Evidence) -> str:
    studies = _studies(evidence.root)
    return analysis(
        evidence.comparison,
        results.load(results.Parity, evidence.root / PARITY),
        evidence.evaluations,
        noise=[study for one in evidence.evaluations if (study := noise_of(one, studies)) is not None],
        exact=evidence.same("exact"),
        saturated=evidence.same("emulated-avx2"),
        limits=evidence.limits,
    )


def _of_comparison(evidence: _Evidence) -> dict[str, str]:
    compared = evidence.comparison
    return {
        "comparison": markdown(*comparison(compared)),
        "recommendations": markdown(recommendations(compared)),
        "needs": choice.needs(compared, evidence.evaluations),
        **choice.recipes(compared, evidence.evaluations, evidence.limits),
    }


def _of_arithmetic(evidence: _Evidence) -> dict[str, str]:
    sums = evidence.of(AccumulatorAudit, "accumulators")
    made = [
        *(blocks.agreement(name, one) for name, one in evidence.of(Agreement, "agreement").items()),
        *(blocks.requantization(name, one) for name, one in evidence.of(RequantizationStudy, "requantization").items()),
        *(blocks.accumulators(name, one) for name, one in sums.items()),
    ]
    for name, one in evidence.of(WorkedArithmetic, "worked").items():
        made += [blocks.worked(name, one), blocks.pitfalls(name, one, sums.get(name))]
    studies = evidence.exhaustive()
    made += [exhaustive.blocks(name, study) for name, study in studies.items()]
    if studies:
        made.append({"exhaustive": exhaustive.summary(studies)})
    return {block: text for blocks_of in made for block, text in blocks_of.items()}


def _of_files(evidence: _Evidence) -> dict[str, str]:
    """``files``: which file of each recipe the pages are about."""
    quantized = {name: one for name, one in evidence.measured.items() if one.model.quantized}
    columns: dict[str, Callable[[tuple[str, Evaluation]], Cell]] = {
        "recipe": lambda one: one[0],
        "file": lambda one: f"`{Path(one[1].model.path).name}`",
        "bytes": lambda one: one[1].model.size_bytes,
        "SHA-256": lambda one: f"`{one[1].model_sha256}`",
    }
    return {"files": markdown(table(quantized.items(), columns, left=2))}


def _of_cpus(evidence: _Evidence) -> dict[str, str]:
    exact, emulated = evidence.of(Evaluation, "exact"), evidence.of(Evaluation, "emulated-avx2")
    filled = {}
    if emulated and emulated.keys() == exact.keys():
        filled["portability"] = cpus.portability(exact, emulated, evidence.measured)
    if optioned := evidence.of(Evaluation, "x64quantprecision"):
        filled["precision"] = cpus.precision(optioned, exact, evidence.measured)
    if trials := evidence.trials():
        filled |= cpus.trials(trials, evidence.measured, exact, emulated)
    return filled


def _of_cim(evidence: _Evidence) -> dict[str, str]:
    return {
        block: text
        for name, one in evidence.arrays().items()
        for block, text in cim.blocks(name.replace("_", "-"), one).items()
    }


def _of_page(evidence: _Evidence) -> dict[str, str]:
    paths = sorted((evidence.root / PLAYGROUND).glob("*.json"))
    return (
        {"playground": blocks.playground([results.load(results.PlaygroundUse, path) for path in paths])}
        if paths
        else {}
    )


def _of_reliability(evidence: _Evidence) -> dict[str, str]:
    path = evidence.root / RELIABILITY
    return {"reliability": blocks.reliability(results.load(results.Reliability, path))} if path.is_file() else {}


def _of_rtl(evidence: _Evidence) -> dict[str, str]:
    paths = sorted((evidence.root / RTL).glob("*.json"))
    return {"rtl": rtl([results.load(results.RtlCheck, path) for path in paths])} if paths else {}


def _of_firmware(evidence: _Evidence) -> dict[str, str]:
    path = evidence.root / FIRMWARE
    if not path.is_file():
        return {}
    study = results.load(results.FirmwareStudy, path)
    for one in study.libraries:
        evidence.require_same(path, one.recipe, one.model.sha256, study.data)
    return blocks.firmware(study)


_BLOCKS = (
    _of_comparison,
    _of_arithmetic,
    _of_files,
    _of_cpus,
    _of_cim,
    _of_page,
    _of_reliability,
    _of_firmware,
    _of_rtl,
    lambda _: {"api": api.page()},
)
"""What makes the blocks of the pages, by name, of what results there are."""
