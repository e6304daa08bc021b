"""The committed documents say what the committed results say, and name commands and options that exist."""

from __future__ import annotations

import re
import shlex
import shutil
from dataclasses import replace
from pathlib import Path

import builders
import pytest
import typer

from resnet8 import results
from resnet8.cli import app
from resnet8.comparison import compare
from resnet8.environment import Cpu
from resnet8.errors import ResultError
from resnet8.facts import CLASSES, PARAMETERS, PUBLISHED_PER_CLASS
from resnet8.pipeline import FLOAT_RESULTS, REFERENCE
from resnet8.quantization.recipes import RECIPES
from resnet8.report.documents import ANALYSIS, COMPARISON, PARITY, noise_files, stale, write_comparison
from resnet8.results import (
    Comparison,
    CpuFile,
    CpuTrial,
    Evaluation,
    NoiseStudy,
    Parity,
    Quantization,
    load,
)

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
    loaded = [load(Evaluation, path) for path in evaluations()]
    records = [load(Quantization, ROOT / f"results/{name}.json") for name in RECIPES if RECIPES[name].refused]
    refused = {record.recipe: record.refusal for record in records if record.refusal is not None}
    studies = [load(NoiseStudy, path) for path in noise_files(ROOT)]
    assert compare(loaded, refused=refused, noise=studies, files=[path.name for path in evaluations()]) == comparison
    for one in loaded:
        right = results.from_digits(one.labels) == results.from_digits(one.predictions)
        assert int(right.sum()) == one.overall.correct
    for one in loaded[:3]:
        assert tuple(score.correct for score in one.per_class) == PUBLISHED_PER_CLASS


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
            assert recipe in RECIPES, words


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
