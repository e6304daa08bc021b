"""What is out of date and what is not: with small stages for the rules, and on the demo's run for the real ones."""

from __future__ import annotations

import os
import shutil
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from builders import noise_study

from resnet8 import environment, pipeline
from resnet8.errors import DataError, Resnet8Error
from resnet8.pipeline import ANALYSIS, COMPARISON, STAMPS, Reproduction, Stage, execute, reproduce
from resnet8.quantization.recipes import RECIPES
from resnet8.report.documents import NOISE
from resnet8.results import Comparison, Evaluation, load, save
from resnet8.workers import no_progress

if TYPE_CHECKING:
    from collections.abc import Callable

    from resnet8.data.assets import Assets
    from resnet8.workers import Progress


@dataclass
class Chain:
    """Three stages on text files: ``a`` from the source, ``b`` from a, ``c`` from a and b."""

    root: Path
    options: dict[str, dict[str, object]] = field(default_factory=dict)
    ran: list[str] = field(default_factory=list)
    failing: dict[str, Callable[[], None]] = field(default_factory=dict)
    elsewhere: dict[str, Path] = field(default_factory=dict)

    def file(self, name: str) -> Path:
        return self.elsewhere.get(name, self.root / f"{name}.txt")

    def stage(self, name: str, *inputs: str) -> Stage:
        def run(step: object) -> None:
            self.ran.append(name)
            if name in self.failing:
                self.failing.pop(name)()
            read = " ".join(self.file(one).read_text() for one in inputs)
            self.file(name).write_text(f"{name}{self.options.get(name, {})} of ({read})")

        return Stage(
            name=name,
            inputs=tuple(self.file(one) for one in inputs),
            outputs=(self.file(name),),
            options=self.options.get(name, {}),
            run=run,
        )

    def execute(self) -> list[str]:
        self.ran.clear()
        seconds = execute(
            [self.stage("a", "source"), self.stage("b", "a"), self.stage("c", "a", "b")],
            self.root,
            lambda _: no_progress,
            lambda _, __: None,
        )
        assert list(seconds) == self.ran
        return list(self.ran)


@pytest.fixture
def chain(tmp_path: Path) -> Chain:
    one = Chain(tmp_path)
    one.file("source").write_text("source")
    assert one.execute() == ["a", "b", "c"]
    return one


def test_nothing_changed_nothing_runs(chain: Chain) -> None:
    before = {path: path.stat().st_mtime_ns for path in chain.root.rglob("*")}
    assert chain.execute() == []
    assert {path: path.stat().st_mtime_ns for path in chain.root.rglob("*")} == before


def test_touching_a_file_is_no_change(chain: Chain) -> None:
    for name in ("source", "a", "b"):
        chain.file(name).touch()
    assert chain.execute() == []


def test_a_moved_folder_is_no_change(chain: Chain) -> None:
    chain.root = chain.root.rename(chain.root.with_name("moved"))
    assert chain.execute() == []


@pytest.mark.parametrize("source", ["below", "beside"])
@pytest.mark.parametrize("assets", ["relative", "absolute", "link"])
@pytest.mark.parametrize("output", ["relative", "absolute", "link", "from above"])
def test_another_name_of_a_folder_is_no_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, assets: str, output: str
) -> None:
    root = tmp_path / "work" / "output"
    read = root / "assets" if source == "below" else tmp_path / "assets"
    read.mkdir(parents=True)
    root.mkdir(exist_ok=True, parents=True)
    (read / "source.txt").write_text("source")
    (tmp_path / "link").symlink_to(root)
    (tmp_path / "data").symlink_to(read)
    chain = Chain(root, elsewhere={"source": read / "source.txt"})
    assert chain.execute() == ["a", "b", "c"]
    monkeypatch.chdir(root)
    relative = Path("assets") if source == "below" else Path("../../assets")
    chain.root = {"relative": Path(), "absolute": root, "link": tmp_path / "link", "from above": Path("../output")}[
        output
    ]
    chain.elsewhere["source"] = {"relative": relative, "absolute": read, "link": tmp_path / "data"}[
        assets
    ] / "source.txt"
    assert chain.execute() == []


@pytest.mark.parametrize(("name", "expected"), [("a", ["a"]), ("b", ["b"]), ("c", ["c"])])
@pytest.mark.parametrize("damage", ["deleted", "altered", "emptied"])
def test_a_damaged_output_is_made_again_and_what_hangs_on_it_only_if_it_differs(
    chain: Chain, name: str, expected: list[str], damage: str
) -> None:
    whole = chain.file(name).read_text()
    if damage == "deleted":
        chain.file(name).unlink()
    else:
        chain.file(name).write_text(whole + "!" if damage == "altered" else "")
    assert chain.execute() == expected
    assert chain.file(name).read_text() == whole
    assert chain.execute() == []


def test_a_changed_input_runs_what_depends_on_it(chain: Chain) -> None:
    chain.file("source").write_text("another source")
    assert chain.execute() == ["a", "b", "c"]
    assert "another source" in chain.file("c").read_text()
    assert chain.execute() == []


@pytest.mark.parametrize(("name", "expected"), [("a", ["a", "b", "c"]), ("b", ["b", "c"]), ("c", ["c"])])
def test_a_changed_option_runs_its_stage_and_what_depends_on_it(chain: Chain, name: str, expected: list[str]) -> None:
    chain.options[name] = {"seed": 7}
    assert chain.execute() == expected
    assert chain.execute() == []


def test_other_versions_or_another_cpu_run_everything(chain: Chain, monkeypatch: pytest.MonkeyPatch) -> None:
    now = environment.current()
    versions = replace(now, libraries=now.libraries | {"onnxruntime": "0.0.1"})
    monkeypatch.setattr(environment, "current", lambda: versions)
    assert chain.execute() == ["a", "b", "c"]
    plainer = replace(versions, cpu=replace(versions.cpu, flags=("avx2",)))
    monkeypatch.setattr(environment, "current", lambda: plainer)
    assert chain.execute() == ["a", "b", "c"]
    assert chain.execute() == []


@pytest.mark.parametrize("damage", ["deleted", "empty", "nonsense", "deep", "no text", "of another"])
def test_a_stage_without_its_stamp_runs_again(chain: Chain, damage: str) -> None:
    stamp = chain.root / STAMPS / "b.json"
    if damage == "deleted":
        stamp.unlink()
    else:
        other = (chain.root / STAMPS / "a.json").read_bytes()
        contents = {"empty": b"", "nonsense": b"{", "deep": b"[" * 200_000, "no text": b"\xff", "of another": other}
        stamp.write_bytes(contents[damage])
    assert chain.execute() == ["b"]
    assert chain.execute() == []


def fail() -> None:
    raise DataError("this stage fails")


def interrupt() -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize(("how", "kind"), [(fail, Resnet8Error), (interrupt, KeyboardInterrupt)])
def test_a_stage_that_fails_keeps_the_earlier_ones(
    tmp_path: Path, how: Callable[[], None], kind: type[BaseException]
) -> None:
    chain = Chain(tmp_path, failing={"b": how})
    chain.file("source").write_text("source")
    with pytest.raises(kind):
        chain.execute()
    assert chain.ran == ["a", "b"]
    assert not chain.file("c").exists()
    assert chain.execute() == ["b", "c"]
    assert chain.execute() == []


def test_a_stage_that_fails_when_run_again_is_not_up_to_date(chain: Chain) -> None:
    chain.options["b"] = {"seed": 1}
    chain.failing["b"] = fail
    with pytest.raises(DataError):
        chain.execute()
    assert chain.execute() == ["b", "c"]


def test_a_stage_interrupted_between_its_output_and_its_stamp_runs_again(chain: Chain) -> None:
    chain.options["b"] = {"seed": 1}

    def half() -> None:
        chain.file("b").write_text("half of it")
        interrupt()

    chain.failing["b"] = half
    with pytest.raises(KeyboardInterrupt):
        chain.execute()
    assert chain.execute() == ["b", "c"]
    del chain.options["b"]  # back to what an old stamp says: its output is another now
    assert chain.execute() == ["b", "c"]


def test_leavings_of_a_killed_run_are_no_outputs(chain: Chain) -> None:
    chain.file("b").rename(chain.root / ".b.txt.123.part")
    (chain.root / STAMPS / ".b.json.123.part").write_text("{")
    assert chain.execute() == ["b"]
    assert chain.execute() == []


def test_it_tells_what_begins_and_ends(chain: Chain) -> None:
    heard: list[object] = []

    def begin(stage: str) -> Progress:
        heard.append(stage)
        return no_progress

    chain.file("b").unlink()
    seconds = execute(
        [chain.stage("a", "source"), chain.stage("b", "a")], chain.root, begin, lambda *ended: heard.append(ended)
    )
    assert seconds["b"] >= 0
    assert heard == [("a", None), "b", ("b", seconds["b"])]


# --- the real stages ---


@pytest.fixture
def output(reproduced: Reproduction, tmp_path: Path) -> Path:
    """A copy of the demo's run, to change."""
    return shutil.copytree(reproduced.output_dir, tmp_path / "run")


def test_a_second_run_runs_no_stage(reproduced: Reproduction, demo_assets: Assets) -> None:
    again = reproduce(reproduced.output_dir, assets=demo_assets)
    assert again.seconds == {}
    assert again.comparison == load(Comparison, reproduced.output_dir / COMPARISON)
    assert again.parity == reproduced.parity


def test_another_place_and_other_names_run_no_stage(
    output: Path, demo_assets: Assets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data").symlink_to(demo_assets.data_dir)
    monkeypatch.chdir(output)
    named = replace(
        demo_assets,
        keras_model=Path(os.path.relpath(demo_assets.keras_model)),
        data_dir=tmp_path / "data",
    )
    assert reproduce(Path(), assets=named).seconds == {}


def test_every_stage_ran_once_and_left_its_files(reproduced: Reproduction) -> None:
    assert next(iter(reproduced.seconds)) == "convert"
    assert list(reproduced.seconds)[-1] == "compare"
    assert {f"quantize {name}" for name, recipe in RECIPES.items() if recipe.reproduced} <= set(reproduced.seconds)
    assert "evaluate torch-uint8" not in reproduced.seconds
    files = {
        str(path.relative_to(reproduced.output_dir)) for path in reproduced.output_dir.rglob("*") if path.is_file()
    }
    assert {
        "models/resnet8.onnx",
        "models/resnet8.pt",
        "models/resnet8_int8.onnx",
        "models/resnet8_uint8.onnx",
        "models/resnet8_int8.pt",
        "results/fp32-keras.json",
        "results/fp32-onnx.json",
        "results/fp32-pytorch.json",
        "results/parity.json",
        "results/comparison.json",
        "docs/QUANTIZATION_ANALYSIS.md",
        "logs/keras.log",
        "logs/onnxruntime.log",
        "logs/pytorch.log",
        *(f"results/{name}.json" for name, recipe in RECIPES.items() if recipe.reproduced),
    } <= files
    assert not [name for name in files if name.endswith(".part")]
    assert "models/resnet8_uint8.pt" not in files


def test_a_deleted_document_needs_only_the_comparison(output: Path, demo_assets: Assets) -> None:
    document = (output / ANALYSIS).read_text()
    (output / ANALYSIS).unlink()
    assert list(reproduce(output, assets=demo_assets).seconds) == ["compare"]
    assert (output / ANALYSIS).read_text() == document


def test_a_noise_study_needs_only_the_comparison(output: Path, demo_assets: Assets) -> None:
    study = noise_study(load(Evaluation, output / "results/ort-portable.json"), [range(3), range(5)])
    path = output / NOISE / "ort-portable.json"
    save(study, path)
    again = reproduce(output, assets=demo_assets)
    assert list(again.seconds) == ["compare"]
    assert {row.name: row.noise for row in again.comparison.rows if row.noise} == {"ort-portable": study.spread}
    path.unlink()
    without = reproduce(output, assets=demo_assets)
    assert list(without.seconds) == ["compare"]
    assert not any(row.noise for row in without.comparison.rows)


def test_an_altered_model_is_made_again_and_an_altered_result_measured_again(output: Path, demo_assets: Assets) -> None:
    model, result = output / "models/resnet8_ort-portable.onnx", output / "results/ort-uint8.json"
    content, before = model.read_bytes(), load(Evaluation, result)
    model.write_bytes(content[:-5])
    result.write_text(result.read_text().replace('"correct"', '"wrong"', 1))
    # The same bytes come of it; the record beside it says how long it took, so what reads that runs too.
    assert list(reproduce(output, assets=demo_assets).seconds) == [
        "evaluate ort-uint8",
        "quantize ort-portable",
        "evaluate ort-portable",
        "compare",
    ]
    assert model.read_bytes() == content
    assert load(Evaluation, result).predictions == before.predictions


class Planned(Exception):  # noqa: N818 - carries the stages out
    pass


def test_the_options_reach_the_recipes_that_leave_them_open(
    demo_assets: Assets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def plan(stages: list[Stage], *rest: object) -> None:
        raise Planned({stage.name: dict(stage.options) for stage in stages})

    monkeypatch.setattr(pipeline, "execute", plan)
    with pytest.raises(Planned) as one:
        reproduce(tmp_path, assets=demo_assets)
    with pytest.raises(Planned) as other:
        reproduce(tmp_path, assets=demo_assets, samples_per_class=20, seed=7)
    changed = {name for name, options in one.value.args[0].items() if other.value.args[0][name] != options}
    assert changed == {
        f"quantize {name}" for name, recipe in RECIPES.items() if recipe.reproduced and not recipe.published
    }


def test_everything_a_demo_run_writes_says_so(reproduced: Reproduction) -> None:
    document = (reproduced.output_dir / ANALYSIS).read_text()
    assert "**Not a CIFAR-10 result.**" in document
    assert "demo digits (handwritten digits, not CIFAR-10)" in document
    assert "--demo" in document
    assert "8,719" not in document
    assert reproduced.comparison.data.dataset == "demo digits"
    assert all(row.published_correct is None for row in reproduced.comparison.rows)
    for path in (reproduced.output_dir / "results").glob("*.json"):
        assert '"dataset": "demo digits"' in path.read_text()


def test_the_document_is_complete(reproduced: Reproduction) -> None:
    document = (reproduced.output_dir / ANALYSIS).read_text()
    for row in reproduced.comparison.rows:
        assert row.name in document
        assert f"{row.overall.correct:,}" in document
    for recommendation in reproduced.comparison.recommendations:
        assert recommendation.reason in document
    for refusal in reproduced.comparison.refused.values():
        assert refusal in document
    assert asdict(reproduced.comparison)["rule"] in document
