"""The committed documents say what the committed results say, and name commands and options that exist."""

from __future__ import annotations

import re
import shlex
import shutil
from dataclasses import replace
from pathlib import Path

import builders
import pytest
import quantized
import typer
from test_sweeps import SEARCH, SENSITIVITY, SWEEP

from resnet8 import results
from resnet8.audit.exhaustive import audit_exhaustively
from resnet8.cli import app
from resnet8.comparison import compare
from resnet8.environment import Cpu
from resnet8.errors import ResultError
from resnet8.facts import CLASSES, PARAMETERS, PUBLISHED_PER_CLASS
from resnet8.pipeline import FLOAT_RESULTS, REFERENCE
from resnet8.quantization.recipes import RECIPES
from resnet8.report.documents import (
    ANALYSIS,
    COMPARISON,
    EXHAUSTIVE,
    FURTHER,
    PARITY,
    SEEDS,
    SWEEPS,
    evidence_files,
    noise_files,
    stale,
    write_comparison,
)
from resnet8.results import (
    Comparison,
    CpuFile,
    CpuTrial,
    Evaluation,
    NoiseStudy,
    Parity,
    Quantization,
    Search,
    SeedStudy,
    load,
)
from resnet8.sweeps.search import chosen_scheme

ROOT = Path(__file__).resolve().parents[2]
REMEDY = "; run «resnet8 reproduce» and «resnet8 docs», and commit results/ and docs/"

FENCE = re.compile(r"^ *```[a-z]*\n(.*?)^ *```", re.DOTALL | re.MULTILINE)
COMMAND = re.compile(
    r"\s*(?:\$ )?(?:[A-Z0-9_]+=\S+ +)*(?:uv run +(?:--no-sync +)?)?(?:\S*python3? +-m +)?resnet8 +(?=[a-z-])(.*)"
)
COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]
DOCUMENTS = sorted(
    path.relative_to(ROOT) for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/**/*.md"))
)


def evaluations() -> list[Path]:
    """The committed results in the order of the pipeline."""
    names = [name for name, recipe in RECIPES.items() if recipe.reproduced and not recipe.refused]
    files = [*FLOAT_RESULTS.values(), *(f"results/{name}.json" for name in names)]
    if (ROOT / f"results/{REFERENCE}.json").exists():
        files.append(f"results/{REFERENCE}.json")
    return [ROOT / file for file in files]


@pytest.fixture(scope="module")
def comparison() -> Comparison:
    assert (ROOT / COMPARISON).is_file(), f"no {COMPARISON}{REMEDY}"
    return load(Comparison, ROOT / COMPARISON)


def test_the_evidence_is_complete(comparison: Comparison) -> None:
    missing = [path.name for path in evaluations() if not path.is_file()]
    assert not missing, f"no {missing} in results/{REMEDY}"
    assert comparison.data.dataset == "CIFAR-10"
    assert comparison.data.subset == "all"
    assert load(Parity, ROOT / PARITY).passed


def test_the_analysis_is_what_the_results_say(comparison: Comparison, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "results", tmp_path / "results")
    (tmp_path / COMPARISON).unlink()
    written = [tmp_path / path.relative_to(ROOT) for path in evaluations()]
    write_comparison(
        tmp_path, written, [tmp_path / f"results/{name}.json" for name in RECIPES if RECIPES[name].refused]
    )
    assert load(Comparison, tmp_path / COMPARISON) == comparison
    for name in (COMPARISON, ANALYSIS):
        assert (tmp_path / name).read_text() == (ROOT / name).read_text(), f"{name} is out of date{REMEDY}"


def test_no_generated_part_is_out_of_date(comparison: Comparison) -> None:
    assert [str(path.relative_to(ROOT)) for path in stale(ROOT)] == []


def test_the_readme_has_the_table(comparison: Comparison) -> None:
    text = (ROOT / "README.md").read_text()
    assert "<!-- comparison:begin -->" in text
    for row in comparison.rows:
        assert f"| {row.name} |" in text


def test_an_altered_result_is_noticed(comparison: Comparison, tmp_path: Path) -> None:
    for folder in ("results", "docs"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    shutil.copy(ROOT / "README.md", tmp_path)
    assert stale(tmp_path) == {}
    readme = tmp_path / "README.md"
    readme.write_text(readme.read_text().replace("8,719", "8,720"))
    assert set(stale(tmp_path)) == {readme}


def test_the_evidence_agrees_with_itself(comparison: Comparison) -> None:
    further = [path for name in FURTHER if (path := ROOT / f"results/{name}.json").is_file()]
    paths = [*evaluations(), *further]
    loaded = [load(Evaluation, path) for path in paths]
    records = [load(Quantization, ROOT / f"results/{name}.json") for name in RECIPES if RECIPES[name].refused]
    refused = {record.recipe: record.refusal for record in records if record.refusal is not None}
    studies = [load(NoiseStudy, path) for path in noise_files(ROOT)]
    draws = [load(SeedStudy, path) for path in sorted((ROOT / SEEDS).glob("*.json"))]
    names = [path.name for path in paths]
    assert compare(loaded, refused=refused, noise=studies, seeds=draws, files=names) == comparison
    for one in loaded:
        right = results.from_digits(one.labels) == results.from_digits(one.predictions)
        assert int(right.sum()) == one.overall.correct
    for one in loaded[:3]:
        assert tuple(score.correct for score in one.per_class) == PUBLISHED_PER_CLASS


def test_the_recipe_mixed_is_what_the_search_chose() -> None:
    found = load(Search, ROOT / SWEEPS / "search.json")
    assert RECIPES["mixed"].scheme == chosen_scheme(found)


def evidence_root(root: Path) -> Path:
    """A folder with a comparison of two models, evidence about one of them, and a page with its blocks."""
    float32 = builders.evaluation("0123456789", "0123456789")
    described = builders.model("q.onnx", "int8", "int8")
    int8 = builders.evaluation("0123456789", "1123456789", described=described, recipe="ort-int8")
    results.save(builders.parity(), root / PARITY)
    written = {"fp32-onnx": float32, "ort-int8": int8}
    for name, one in written.items():
        results.save(one, root / f"results/{name}.json")
    write_comparison(root, [root / f"results/{name}.json" for name in written], [])
    for kind, runtime in (
        ("exact", "integer"),
        ("emulated-avx2", "emulated-avx2"),
        ("x64quantprecision", "onnxruntime"),
    ):
        results.save(replace(int8, runtime=runtime), root / f"results/arithmetic/{kind}_ort-int8.json")
    old = replace(builders.ENVIRONMENT, cpu=Cpu("Old CPU", ("avx2",), 2))
    files = tuple(
        CpuFile(name, one.model_sha256, None, one.model_sha256, one.predictions[:5]) for name, one in written.items()
    )
    data = replace(builders.CIFAR10, subset="first-5")
    results.save(CpuTrial(None, data, 5, (), files, old, builders.parity().created), root / "results/cpus/old.json")
    blocks = ("recommendations", "portability", "precision", "cpus-files", "cpus-predictions", "cpus-emulation")
    (root / "docs/page.md").write_text("".join(f"<!-- {name}:begin -->\n<!-- {name}:end -->\n" for name in blocks))
    return root


def test_evidence_about_models_and_cpus_is_filled_in(tmp_path: Path) -> None:
    page = tmp_path / "docs/page.md"
    filled = stale(evidence_root(tmp_path))
    assert set(filled) == {page}
    assert filled[page].count("| ort-int8 |") == 5
    assert "**none**" in filled[page]
    page.write_text(filled[page])
    assert stale(tmp_path) == {}


@pytest.mark.parametrize("file", ["arithmetic/exact_ort-int8.json", "cpus/old.json"])
@pytest.mark.parametrize("what", ["model", "images"])
def test_evidence_about_another_model_or_other_images_is_refused(file: str, what: str, tmp_path: Path) -> None:
    path = evidence_root(tmp_path) / "results" / file
    known = builders.model("q.onnx").sha256 if what == "model" else builders.CIFAR10.fingerprint
    path.write_text(path.read_text().replace(known, "0" * 64))
    with pytest.raises(ResultError, match=r"about another model, or other images, than results/\S+\.json"):
        stale(tmp_path)


def test_evidence_about_a_model_that_is_not_compared_is_refused(tmp_path: Path) -> None:
    folder = evidence_root(tmp_path) / "results/arithmetic"
    (folder / "exact_ort-int8.json").rename(folder / "exact_ort-uint8.json")
    with pytest.raises(ResultError, match="a model of the comparison"):
        stale(tmp_path)


def test_a_proof_about_another_model_is_refused(tmp_path: Path) -> None:
    root = evidence_root(tmp_path)
    program = quantized.network()
    study = audit_exhaustively(builders.model("q.onnx", "int8", "int8"), program, [])
    page = tmp_path / "docs/page.md"
    page.write_text("<!-- exhaustive-ort-int8:begin -->\n<!-- exhaustive-ort-int8:end -->\n")
    path = root / EXHAUSTIVE / "ort-int8.json"
    results.save(study, path)
    assert f"all {study.cases:,} cases" in stale(root)[page]
    results.save(replace(study, model=replace(study.model, sha256="0" * 64)), path)
    with pytest.raises(ResultError, match=r"another model, .* than results/ort-int8.json: found model 000000000000…,"):
        stale(root)


def further_root(root: Path, source: str, **changes: object) -> Path:
    """The folder above with a result of int4, made from the float model with the SHA-256 ``source``, and its draws."""
    evidence_root(root)
    described = builders.model("q4.onnx", "uint8", "int4+uint8", 45_000)
    int4 = builders.evaluation("0123456789", "0123456780", described=described, recipe="int4")
    assert int4.quantization is not None
    settings = {**int4.quantization.settings, "equalization": "balanced"}
    int4 = replace(int4, quantization=replace(int4.quantization, source_sha256=source, settings=settings), **changes)  # type: ignore[arg-type]
    results.save(int4, root / "results/int4.json")
    results.save(builders.seed_study(int4, {42: (9, 9), 43: (8, 9)}), root / SEEDS / "int4.json")
    write_comparison(root, [root / f"results/{name}.json" for name in ("fp32-onnx", "ort-int8")], [])
    return root


def test_results_of_recipes_that_reproduce_does_not_make_are_compared_too(tmp_path: Path) -> None:
    further_root(tmp_path, builders.model().sha256)
    rows = load(Comparison, tmp_path / COMPARISON).rows
    assert [(row.name, row.file, row.candidate) for row in rows] == [
        ("fp32", "fp32-onnx.json", False),
        ("ort-int8", "ort-int8.json", False),  # it drops ten points
        ("int4", "int4.json", False),
    ]
    assert [row.seeds.greatest if row.seeds else None for row in rows] == [None, None, 9]
    document = (tmp_path / ANALYSIS).read_text()
    assert "| int4 | 45,000 | 80,198 | -35,198 | 9 |" in document
    page = tmp_path / "docs/page.md"
    page.write_text("<!-- recipe-int4:begin -->\n<!-- recipe-int4:end -->\n")
    assert "*Measured:* 45,000 bytes, 9 of 10 correct" in stale(tmp_path)[page]
    names = {str(path.relative_to(tmp_path)) for path in evidence_files(tmp_path)}
    assert names == {"results/int4.json", "results/seeds/int4.json"}


@pytest.mark.parametrize("other", ["model", "images"])
def test_further_results_of_something_else_are_passed_over(other: str, tmp_path: Path) -> None:
    if other == "model":
        further_root(tmp_path, "0" * 64)
    else:
        further_root(tmp_path, builders.model().sha256, data_fingerprint="0" * 64)
    assert [row.name for row in load(Comparison, tmp_path / COMPARISON).rows] == ["fp32", "ort-int8"]


def test_sweeps_stand_in_the_analysis(tmp_path: Path) -> None:
    evidence_root(tmp_path)
    before = (tmp_path / ANALYSIS).read_text()
    for name, one in {"bound": SWEEP, "map": SWEEP, "layers": SENSITIVITY, "search": SEARCH}.items():
        results.save(one, tmp_path / SWEEPS / f"{name}.json")
    (filled,) = [text for path, text in stale(tmp_path).items() if path == tmp_path / ANALYSIS]
    assert "Quantization at the limit" not in before
    for words in ("**The map**", "**Where bits matter**", "**The front**"):
        assert words in filled
    for path in (tmp_path / SWEEPS).iterdir():
        path.write_text(path.read_text().replace(builders.model().sha256, "0" * 64))
    assert (tmp_path / ANALYSIS) not in stale(tmp_path)
    (tmp_path / SWEEPS / "map.json").write_text("{}")
    with pytest.raises(ResultError, match=r"map\.json is no sweep result"):
        stale(tmp_path)


def test_no_two_pages_export_to_one_folder() -> None:
    """«resnet8 vectors» refuses a folder that is there."""
    pages = [document for document in DOCUMENTS if document.parts[0] == "docs"]
    folders = [words[words.index("-o") + 1] for page in pages for words in commands(page) if words[0] == "vectors"]
    assert folders
    assert len(folders) == len(set(folders))


def code_lines(text: str) -> list[str]:
    """The lines of fenced and of indented code blocks."""
    fenced = [line for block in FENCE.findall(text) for line in block.replace("\\\n", " ").splitlines()]
    return fenced + [line for line in FENCE.sub("", text).splitlines() if line.startswith("    ")]


def commands(document: Path) -> list[list[str]]:
    """The words after «resnet8» of each command line in the document's code blocks."""
    found = []
    for line in code_lines((ROOT / document).read_text()):
        for part in re.split(r"&&|;", line.partition(" #")[0]):
            match = COMMAND.match(part)
            if match:
                found.append(shlex.split(re.sub(r"[\[\]|]", " ", match[1])))
    return found


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_every_command_in_a_document_exists(document: Path) -> None:
    for words in commands(document):
        if words[0].startswith("-"):
            assert words[0] in {"--help", "-h", "--version"}
            continue
        assert words[0] in COMMANDS, words
        command, arguments = COMMANDS[words[0]], words[1:]
        if hasattr(command, "commands"):
            assert arguments[0] in command.commands, words
            command, arguments = command.commands[arguments[0]], arguments[1:]
        known = {option for parameter in command.params for option in parameter.opts} | {"--help", "-h"}
        for word in arguments:
            if word.startswith("-"):
                assert word.partition("=")[0] in known, words
        if "--recipe" in words and (recipe := words[words.index("--recipe") + 1]).islower():
            assert recipe in RECIPES or recipe.endswith(".toml"), words


def test_the_readme_shows_every_command() -> None:
    assert set(COMMANDS) <= {words[0] for words in commands(Path("README.md"))} | {"docs"}


def test_every_file_that_a_document_links_to_is_there() -> None:
    for document in DOCUMENTS:
        for target in re.findall(r"\]\((?!https?:|#|mailto:)([^)#]+)", (ROOT / document).read_text()):
            assert ((ROOT / document).parent / target).exists(), f"{document}: {target}"


def test_the_readme_counts_the_parameters_of_the_network() -> None:
    """By the shapes of the published architecture: weights, biases, and four numbers a channel where a BN follows."""

    def convolution(rows: int, channels_in: int, channels_out: int, *, normalized: bool = True) -> int:
        return rows * rows * channels_in * channels_out + channels_out * (5 if normalized else 1)

    wanted = [
        convolution(3, 3, 16),
        2 * convolution(3, 16, 16),
        *(
            convolution(3, half, 2 * half)
            + convolution(3, 2 * half, 2 * half)
            + convolution(1, half, 2 * half, normalized=False)
            for half in (16, 32)
        ),
        64 * CLASSES + CLASSES,
    ]
    table = (ROOT / "README.md").read_text().partition("| part | layers |")[2].partition("\n\n")[0]
    rows = [line.split("|")[-2].strip() for line in table.splitlines() if line.startswith("| ")]
    assert [int(one.replace(",", "")) for one in rows if one and one[0].isdigit()] == wanted
    assert sum(wanted) == PARAMETERS
