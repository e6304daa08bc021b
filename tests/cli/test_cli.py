"""The commands as their users run them, by what they print, write and answer."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from shell import INTERRUPTIBLE, assert_defaults_shown

from resnet8.cli.common import progress
from resnet8.data.cifar10 import FOLDER, perf_indices, read_split
from resnet8.facts import PARAMETERS
from resnet8.pipeline import FLOAT_RESULTS, Reproduction
from resnet8.quantization.recipes import RECIPES
from resnet8.results import Comparison, Evaluation, Parity, Quantization, load, sha256

if TYPE_CHECKING:
    from shell import Case, Shell

    from resnet8.data.assets import Assets

FRAMEWORKS = {"tensorflow", "keras", "torch", "onnx2torch", "onnxruntime", "onnx", "numpy", "scipy", "tf2onnx"}


def imported(shell: Shell, *arguments: object) -> set[str]:
    """Which of the frameworks a command imports."""
    code = (
        "import sys\nfrom resnet8.cli import main\ntry:\n    main()\nfinally:\n"
        "    print('IMPORTED', *{name.partition('.')[0] for name in sys.modules})"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=shell.folder,
        env=shell.environment,
        capture_output=True,
        text=True,
        check=True,
    )
    line = next(line for line in done.stdout.splitlines() if line.startswith("IMPORTED"))
    return FRAMEWORKS & set(line.split())


# --- what is imported ---


def test_help_imports_no_framework(shell: Shell) -> None:
    assert imported(shell, "--help") == set()
    assert imported(shell, "reproduce", "--help") == set()


def test_evaluating_onnx_imports_neither_torch_nor_tensorflow(shell: Shell, onnx_model: Path) -> None:
    found = imported(shell, "evaluate", onnx_model, "--demo", "--max-samples", 10)
    assert "onnxruntime" in found
    assert not {"torch", "onnx2torch", "tensorflow", "keras", "tf2onnx"} & found


def test_comparing_imports_no_runtime(shell: Shell, reproduced: Reproduction) -> None:
    files = [reproduced.output_dir / f"results/{name}.json" for name in ("fp32-onnx", "ort-int8")]
    assert imported(shell, "compare", *files) <= {"numpy", "scipy"}


# --- help ---


def test_help_names_every_command(shell: Shell) -> None:
    text = shell.good("--help")
    for command in ("reproduce", "fetch", "convert", "evaluate", "calibrate", "quantize", "compare"):
        assert command in text
        assert f"resnet8 {command}" in shell.good(command, "--help")


COMMANDS = [
    *("reproduce", "fetch", "convert", "evaluate", "calibrate", "quantize", "compare", "vectors", "playground", "docs"),
    *("sweep", "sensitivity", "search", "inspect operations", "inspect graph", "export c", "export rtl"),
    *("audit agreement", "audit requantization", "audit accumulators", "audit worked", "audit noise", "audit seeds"),
    "audit cim",
]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_what_everything_is_when_left_out(shell: Shell, command: str) -> None:
    assert_defaults_shown(shell.run(*command.split(), "-h").stdout)


def test_version(shell: Shell) -> None:
    assert re.fullmatch(r"resnet8 \d+\.\d+\.\d+", shell.good("--version"))


def test_no_command_shows_the_help(shell: Shell) -> None:
    done = shell.run()
    assert done.returncode == 2
    assert "Usage:" in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


# --- evaluate ---


def test_evaluate_writes_what_was_promised(shell: Shell, onnx_model: Path, demo_assets: Assets) -> None:
    text = shell.good("evaluate", onnx_model, "--demo", "--json", "out/result.json", "--predictions", "out/p.npy")
    for word in ("overall", "zero", "nine", "597", "not CIFAR-10", "images/s"):
        assert word in text
    result = json.loads((shell.folder / "out/result.json").read_text())
    assert result["schema_version"] == 1
    assert result["kind"] == "evaluation"
    assert result["backend"] == "onnxruntime"
    assert result["model_path"] == str(onnx_model)
    assert result["model_sha256"] == sha256(onnx_model.read_bytes())
    assert result["data_dir"] == str(demo_assets.data_dir)
    assert re.fullmatch("[0-9a-f]{64}", result["data_fingerprint"])
    overall = result["overall"]
    assert set(overall) == {"correct", "total", "accuracy"}
    assert overall["total"] == 597
    assert overall["accuracy"] == overall["correct"] / 597
    assert [set(one) for one in result["per_class"]] == [{"class_name", "correct", "total", "accuracy"}] * 10
    assert [one["class_name"] for one in result["per_class"]][::9] == ["zero", "nine"]
    assert sum(one["correct"] for one in result["per_class"]) == overall["correct"]
    confusion = np.array(result["confusion_matrix"])
    assert confusion.shape == (10, 10)
    assert int(confusion.trace()) == overall["correct"]
    assert int(confusion.sum()) == 597
    assert {"numpy", "onnx", "onnxruntime"} <= set(result["environment"]["libraries"])
    assert isinstance(result["environment"]["cpu"]["flags"], list)
    assert result["environment"]["cpu"]["model"]
    predictions = np.load(shell.folder / "out/p.npy")
    assert predictions.dtype == np.int64
    test = read_split(demo_assets.data_dir, "test")
    assert int((predictions == test.labels).sum()) == overall["correct"]
    assert load(Evaluation, shell.folder / "out/result.json").predictions == "".join(map(str, predictions))


def test_evaluate_leaves_a_log(shell: Shell, onnx_model: Path) -> None:
    shell.good("evaluate", onnx_model, "--demo", "--max-samples", 20)
    shell.good("evaluate", onnx_model, "--demo", "--max-samples", 30, "--logs", "elsewhere")
    (line,) = (shell.folder / "logs/evaluate.log").read_text().splitlines()
    assert re.search(r"INFO resnet8.evaluation: .*resnet8.onnx: \d+ of 20 correct in onnxruntime", line)
    assert "of 30 correct" in (shell.folder / "elsewhere/evaluate.log").read_text()


@pytest.mark.parametrize(
    ("name", "runtime", "dtype"),
    [
        ("resnet8.pt", "pytorch", "float32"),
        ("resnet8_int8.pt", "pytorch", "uint8/int8"),
        ("resnet8_ort-per-channel.onnx", "onnxruntime", "uint8/int8"),
    ],
)
def test_evaluate_opens_every_kind_by_its_content(
    shell: Shell, reproduced: Reproduction, name: str, runtime: str, dtype: str
) -> None:
    model = shutil.copy(reproduced.output_dir / "models" / name, shell.folder / "model.bin")
    shell.good("evaluate", model, "--demo", "--json", "r.json", "--max-samples", 100)
    result = load(Evaluation, shell.folder / "r.json")
    assert (result.runtime, result.model.dtype, result.overall.total) == (runtime, dtype, 100)


@pytest.mark.parametrize(("name", "backend"), [("model.h5", "torch"), ("model.keras", "nonsense")])
def test_evaluate_the_keras_file(
    shell: Shell, reproduced: Reproduction, demo_assets: Assets, name: str, backend: str
) -> None:
    """By its content, whatever it is called and Keras is set to; and TensorFlow keeps quiet."""
    shutil.copy(demo_assets.keras_model, shell.folder / name)
    done = shell.process("evaluate", name, "--demo", "--json", "r.json", KERAS_BACKEND=backend)
    assert (done.returncode, done.stderr) == (0, "")
    result = load(Evaluation, shell.folder / "r.json")
    recorded = load(Evaluation, reproduced.output_dir / FLOAT_RESULTS["keras"])
    assert (result.runtime, result.predictions) == ("keras", recorded.predictions)


def test_evaluate_the_performance_subset(shell: Shell, onnx_model: Path, demo_assets: Assets) -> None:
    shell.good("evaluate", onnx_model, "--demo", "--subset", "mlperf-perf", "--json", "r.json", "--batch-size", 7)
    result = load(Evaluation, shell.folder / "r.json")
    labels = read_split(demo_assets.data_dir, "test").labels
    assert result.data.subset == "mlperf-perf"
    assert result.overall.total == 200
    assert [one.total for one in result.per_class] == [20] * 10
    assert result.labels == "".join(str(labels[i]) for i in perf_indices(labels))
    assert result.batch_size == 7


def test_evaluate_the_first_images(shell: Shell, onnx_model: Path, reproduced: Reproduction) -> None:
    shell.good("evaluate", onnx_model, "--demo", "--max-samples", 33, "--json", "r.json")
    result = load(Evaluation, shell.folder / "r.json")
    assert result.data.subset == "first-33"
    whole = load(Evaluation, reproduced.output_dir / FLOAT_RESULTS["onnxruntime"])
    assert result.predictions == whole.predictions[:33]
    shell.good("evaluate", onnx_model, "--demo", "--max-samples", 100_000, "--json", "all.json")
    assert load(Evaluation, shell.folder / "all.json").predictions == whole.predictions


def test_data_may_be_named_by_either_folder_and_from_elsewhere(
    shell: Shell, onnx_model: Path, demo_assets: Assets
) -> None:
    shutil.copytree(demo_assets.data_dir, shell.folder / "data" / FOLDER)
    shutil.copy(onnx_model, shell.folder / "m.onnx")
    for folder in ("data", f"data/{FOLDER}"):
        text = shell.good("evaluate", "m.onnx", "--data-dir", folder, "--max-samples", 20)
        assert "first-20" in text
    text = shell.good("evaluate", "m.onnx", "--max-samples", 20, RESNET8_ASSETS=str(demo_assets.keras_model.parent))
    assert "demo digits" in text


def test_altered_data_is_used_and_named(shell: Shell, onnx_model: Path, demo_assets: Assets) -> None:
    folder = shutil.copytree(demo_assets.data_dir, shell.folder / "data")
    content = bytearray((folder / "test_batch").read_bytes())
    content[len(content) // 2] ^= 1  # one pixel
    (folder / "test_batch").write_bytes(content)
    text = shell.good("evaluate", onnx_model, "--data-dir", folder, "--json", "r.json")
    assert "NOT the official CIFAR-10" in text
    assert load(Evaluation, shell.folder / "r.json").data.dataset == "unofficial"


# --- the other commands ---


def test_fetch_checks_a_folder(shell: Shell, demo_assets: Assets) -> None:
    folder = demo_assets.keras_model.parent
    text = shell.good("fetch", "--assets-dir", folder)
    assert str(demo_assets.keras_model) in text
    assert "NOT the official CIFAR-10" in text
    assert "demo" in shell.good("fetch", "--demo")
    assert shell.good("fetch", RESNET8_ASSETS=str(folder)) == text


def test_calibrate(shell: Shell, reproduced: Reproduction) -> None:
    text = shell.good("calibrate", "--demo", "--indices", "i.npy")
    assert "seed 42" in text
    assert "1,000 images, stratified" in text
    record = load(Quantization, reproduced.output_dir / "models/resnet8_ort-int8.onnx.json")
    assert record.calibration is not None
    assert np.load(shell.folder / "i.npy").tolist() == list(record.calibration.indices)
    shell.good("calibrate", "--demo", "--samples-per-class", 20, "--seed", 7, "--indices", "few.npy")
    assert np.load(shell.folder / "few.npy").shape == (200,)


def test_the_recipes_are_listed(shell: Shell) -> None:
    text = shell.good("quantize", "--list")
    for recipe in RECIPES.values():
        assert recipe.name in text
        assert all(word in text for word in recipe.summary.split())  # folded in its column


def test_quantize(shell: Shell, onnx_model: Path, reproduced: Reproduction) -> None:
    text = shell.good("quantize", onnx_model, "--recipe", "ort-portable", "--output", "m/q.onnx", "--demo")
    assert "m/q.onnx: " in text
    assert "m/q.onnx.json" in text
    theirs = reproduced.output_dir / "models/resnet8_ort-portable.onnx"
    assert (shell.folder / "m/q.onnx").read_bytes() == theirs.read_bytes()
    record = load(Quantization, shell.folder / "m/q.onnx.json")
    assert record.model_sha256 == sha256(theirs.read_bytes())
    options = ("--recipe", "ort-portable", "--demo", "--samples-per-class", 25, "--seed", 3)
    shell.good("quantize", onnx_model, *options, "--output", "other.onnx")
    record = load(Quantization, shell.folder / "other.onnx.json")
    assert record.calibration is not None
    assert (record.calibration.seed, len(record.calibration.indices)) == (3, 250)


def test_quantize_by_a_recipe_of_ones_own(shell: Shell, onnx_model: Path, reproduced: Reproduction) -> None:
    text = 'framework = "onnxruntime"\nactivations = "uint8"\nweights = "uint8"\n'
    (shell.folder / "mine.toml").write_text(text)
    said = shell.good("quantize", onnx_model, "--recipe", "mine.toml", "--output", "mine.onnx", "--demo")
    assert "by mine in" in said
    theirs = reproduced.output_dir / "models/resnet8_ort-portable.onnx"
    assert (shell.folder / "mine.onnx").read_bytes() == theirs.read_bytes()
    record = load(Quantization, shell.folder / "mine.onnx.json")
    assert (record.recipe, record.settings["fold"]) == ("mine", True)
    (shell.folder / "other.toml").write_text(text + 'observer = "histogram"\n')
    message = shell.bad("quantize", onnx_model, "--recipe", "other.toml", "--output", "q.onnx", "--demo")
    assert "cannot be carried out by ONNX Runtime: found observer = histogram, expected observer = minmax" in message


def test_a_refusal_is_an_outcome(shell: Shell, onnx_model: Path) -> None:
    text = shell.good(
        "quantize", onnx_model, "--recipe", "torch-uint8", "--output", "u.pt", "--demo", "--samples-per-class", 20
    )
    assert "refused" in text
    assert "QInt8" in text
    assert set(shell.files()) == {"u.pt.json"}
    assert "QInt8" in (load(Quantization, shell.folder / "u.pt.json").refusal or "")


def test_compare(shell: Shell, reproduced: Reproduction) -> None:
    names = ("fp32-onnx", "fp32-pytorch", "ort-int8", "ort-portable", "torch-int8", "torch-uint8")
    files = [reproduced.output_dir / f"results/{name}.json" for name in names]
    text = shell.good("compare", *files, "--json", "c.json", "--markdown", "c.md", "--max-drop", 3)
    comparison = load(Comparison, shell.folder / "c.json")
    assert [row.name for row in comparison.rows] == ["fp32", "fp32", "ort-int8", "ort-portable", "torch-int8"]
    assert set(comparison.refused) == {"torch-uint8"}
    document = (shell.folder / "c.md").read_text()
    for row in comparison.rows:
        for rendering in (text, document):
            assert row.name in rendering
            assert f"{100 * row.overall.accuracy:.2f} %" in rendering
    assert "at most 3 points" in document
    # All is flagged that drops at all, when nothing may.
    shell.good("compare", *files, "--json", "strict.json", "--max-drop", -1)
    strict = load(Comparison, shell.folder / "strict.json")
    assert all(row.flagged for row in strict.rows if row.delta_points < 1)


def test_compare_takes_folders_and_skips_other_kinds(shell: Shell, reproduced: Reproduction) -> None:
    folder = shutil.copytree(reproduced.output_dir / "results", shell.folder / "results")
    whole = shell.run("compare", "results", "--json", "c.json")
    assert whole.returncode == 0, whole.stderr
    assert whole.stderr == "skipped 2 of another kind: comparison.json, parity.json\n"
    rows = {row.file for row in load(Comparison, shell.folder / "c.json").rows}
    assert rows == {row.file for row in reproduced.comparison.rows}
    # What a shell makes of results/*.json is the same; a damaged file that only lies there is skipped too.
    named = shell.run("compare", *sorted(path.relative_to(shell.folder) for path in folder.glob("*.json")))
    assert (named.stdout, named.stderr) == (whole.stdout, whole.stderr)
    (folder / "a.json").write_text("{")
    (folder / "b.json").mkdir()
    assert (
        "skipped 4 of another kind: a.json (unreadable), b.json (unreadable), c" in shell.run("compare", folder).stderr
    )
    assert "no evaluation result" in shell.bad("compare", folder, folder / "a.json")


def test_convert_without_data(shell: Shell, demo_assets: Assets, reproduced: Reproduction, tmp_path: Path) -> None:
    text = shell.good(
        "convert",
        *("--keras-model", demo_assets.keras_model, "--output", "m/net.onnx"),
        RESNET8_CACHE=str(tmp_path / "empty"),
    )
    assert "random images" in text
    assert "equivalent" in text
    assert set(shell.files()) == {"m/net.onnx", "m/net.pt", "m/net.parity.json"}
    parity = load(Parity, shell.folder / "m/net.parity.json")
    assert (parity.images, parity.data.dataset, parity.passed) == (1000, "random images", True)
    assert parity.structure.parameters == PARAMETERS
    assert sha256((shell.folder / "m/net.onnx").read_bytes()) == reproduced.parity.models["onnxruntime"].sha256
    for name in ("keras", "onnxruntime", "pytorch"):
        assert (shell.folder / f"logs/{name}.log").stat().st_size
    log = (shell.folder / "logs/keras.log").read_text()
    assert "convert_keras" in log


# --- errors ---


def test_errors_of_evaluate(shell: Shell, onnx_model: Path, demo_assets: Assets) -> None:
    (shell.folder / "folder").mkdir()
    (shell.folder / "file").write_text("")
    evaluate = ("evaluate", onnx_model)
    cases: list[Case] = [
        (("evaluate", "none.onnx", "--demo"), r"none\.onnx does not exist"),
        (("evaluate", "folder", "--demo"), r"cannot read folder.*directory"),
        (("evaluate", "file", "--demo"), "an empty file"),
        (("evaluate", demo_assets.data_dir / "test_batch", "--demo"), "refused before it was loaded.*pickle"),
        ((*evaluate, "--data-dir", "nowhere"), "no CIFAR-10 in nowhere: found it does not exist"),
        ((*evaluate, "--data-dir", "folder"), "no CIFAR-10 in folder: found an empty folder"),
        ((*evaluate, "--data-dir", "file"), "no CIFAR-10 in file: found it is a file"),
        ((*evaluate, "--data-dir", "."), "no CIFAR-10"),
        ((*evaluate, "--demo", "--max-samples", "0"), "number of images is not usable: found 0"),
        ((*evaluate, "--demo", "--max-samples", "-1"), "number of images is not usable: found -1"),
        ((*evaluate, "--demo", "--batch-size", "0"), "batch size is not usable: found 0"),
        ((*evaluate, "--demo", "--subset", "mlperf"), "subset is not known: found mlperf, expected mlperf-perf"),
        ((*evaluate, "--demo", "--subset", "mlperf-perf", "--max-samples", "5"), "exclude each other"),
        ((*evaluate, "--demo", "--max-samples", "5", "--json", "folder"), "cannot write folder"),
        ((*evaluate, "--demo", "--logs", "file"), "cannot write the log file/evaluate.log"),
        ((*evaluate, "--demo", "--max-samples", "5", "--json", "file/r.json"), r"cannot write file/r\.json"),
        ((*evaluate, "--demo", "--max-samples", "5", "--predictions", "folder"), "cannot write folder"),
    ]
    shell.all_bad(cases)


def test_errors_of_arguments(shell: Shell, onnx_model: Path) -> None:
    cases: list[Case] = [
        (("nonsense",), "No such command 'nonsense'"),
        (("evaluate",), "Missing argument"),
        (("evaluate", "x", "--nonsense"), "No such option"),
        (("evaluate", "x", "--max-samples", "many"), "--max-samples"),
        (("quantize", onnx_model, "--demo"), "missing --recipe, --output"),
        (("compare",), "Missing argument"),
    ]
    shell.all_bad([(arguments, f"{match}.*--help") for arguments, match in cases], code=2)


def test_errors_of_quantize_and_calibrate(shell: Shell, onnx_model: Path, reproduced: Reproduction) -> None:
    (shell.folder / "folder").mkdir()
    (shell.folder / "file").write_text("")
    quantized = reproduced.output_dir / "models/resnet8_int8.onnx"

    def quantize(
        model: object = onnx_model, recipe: str = "ort-portable", output: str = "q.onnx"
    ) -> tuple[object, ...]:
        return ("quantize", model, "--recipe", recipe, "--output", output, "--demo")

    cases: list[Case] = [
        (quantize(recipe="int3"), "recipe is not known: found int3, expected published-int8"),
        (quantize(model="none.onnx"), "does not exist"),
        (quantize(model=quantized), "quantized already"),
        (quantize(output="folder"), "cannot write folder"),
        (quantize(output="file/q.onnx"), r"cannot write file/q\.onnx"),
        ((*quantize(), "--samples-per-class", "19"), "too few calibration samples per class: found 19"),
        ((*quantize(), "--samples-per-class", "121"), "too few training images of class 0"),
        ((*quantize(), "--seed", "-1"), "seed is out of range"),
        ((*quantize(recipe="published-int8"), "--seed", "7"), "fixes its calibration set: found 100 per class, seed 7"),
        ((*quantize(), "--logs", "file"), "cannot write the log"),
        (("calibrate", "--demo", "--samples-per-class", "5"), "found 5, expected at least 20"),
        (("calibrate", "--demo", "--indices", "folder"), "cannot write folder"),
    ]
    shell.all_bad(cases)


def test_errors_of_compare(shell: Shell, reproduced: Reproduction, onnx_model: Path) -> None:
    results = reproduced.output_dir / "results"
    shell.good("evaluate", onnx_model, "--demo", "--max-samples", 100, "--json", "few.json")
    (shell.folder / "broken.json").write_text('{"kind": "evaluation"')
    newer = (results / "fp32-onnx.json").read_text().replace('"schema_version": 1', '"schema_version": 2')
    (shell.folder / "newer.json").write_text(newer)
    (shell.folder / "empty").mkdir()
    (shell.folder / "damaged").mkdir()
    (shell.folder / "damaged/broken.json").write_text("")
    cases: list[Case] = [
        (("none.json",), "does not exist"),
        (("broken.json",), r"broken\.json is no evaluation result"),
        (("newer.json",), "schema_version"),
        ((results / "parity.json",), r"nothing to compare: found 1 of another kind: parity\.json"),
        (("empty",), r"nothing to compare: found no \.json file"),
        (("damaged",), r"nothing to compare: found 1 of another kind: broken\.json \(unreadable\)"),
        ((results / "ort-int8.json",), "no baseline among the results"),
        ((results / "torch-uint8.json",), "nothing to compare"),
        ((results / "fp32-onnx.json", "few.json"), "evaluated on different images"),
        ((results / "fp32-onnx.json", "--json", "."), "cannot write"),
    ]
    shell.all_bad([(("compare", *arguments), match) for arguments, match in cases])


def test_errors_of_convert_fetch_and_reproduce(shell: Shell, demo_assets: Assets, tmp_path: Path) -> None:
    (shell.folder / "folder").mkdir()
    (shell.folder / "file").write_text("")
    empty = {"RESNET8_CACHE": str(tmp_path / "empty")}
    cases: list[Case] = [
        (("convert",), "not all assets are in the cache.*resnet8 fetch", empty),
        (("convert", "--assets-dir", "folder"), r"no Keras model in folder", {}),
        (("convert", "--keras-model", "none.h5", "--demo", "--logs", "file"), "cannot write the log", {}),
        (("fetch", "--assets-dir", "folder"), "no Keras model in folder", {}),
        (("fetch", "--assets-dir", "nowhere"), "no assets in nowhere", {}),
        (("fetch",), "RESNET8_ASSETS=nowhere: no assets in nowhere", {"RESNET8_ASSETS": "nowhere"}),
        (("evaluate", "x.onnx"), "not all assets are in the cache", empty),
        (("reproduce", "--assets-dir", "file"), "no assets in file: found it is a file", {}),
        (("reproduce", "--demo", "--output-dir", "file"), "cannot write", {}),
    ]
    shell.all_bad(cases)


@pytest.mark.parametrize(
    ("hidden", "arguments"),
    [
        ("tf2onnx", ["convert", "--demo"]),
        ("onnx2torch", ["convert", "--demo"]),
        ("torch", ["reproduce", "--demo"]),
        ("tensorflow", ["reproduce", "--demo"]),
    ],
)
def test_a_missing_extra_is_named_before_anything_is_done(shell: Shell, hidden: str, arguments: list[str]) -> None:
    code = "import sys, importlib.util as u; old = u.find_spec; "
    code += f"u.find_spec = lambda name, *rest: None if name == {hidden!r} else old(name, *rest); "
    code += f"from resnet8.__main__ import main; sys.argv = ['resnet8', *{arguments!r}]; main()"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=shell.folder,
        env=shell.environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stdout, shell.files()) == (1, "", {})
    extra = "torch" if "torch" in hidden else "keras"
    assert re.fullmatch(rf"error: this needs the package {hidden}: .*\.whl\[{extra}\]'\n", done.stderr)


# --- pipes and interrupts ---


@pytest.mark.parametrize("command", [("--help",), ("quantize", "--list"), ("fetch", "--demo")])
def test_a_reader_that_goes_away_is_no_error(shell: Shell, command: tuple[str, ...]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as gone:
        done = subprocess.run(
            [sys.executable, "-m", "resnet8", *command],
            cwd=shell.folder,
            env=shell.environment,
            stdout=gone,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.stderr == ""


def members(session: int) -> list[str]:
    """Command lines of the processes of a session that still run."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                state, _, _, leader = (entry / "stat").read_text().rpartition(")")[2].split()[:4]
                if int(leader) == session and state != "Z":
                    found.append((entry / "cmdline").read_text().replace("\0", " "))
            except OSError:
                continue
    return found


class Running:
    """``resnet8 reproduce --demo`` in a session of its own."""

    def __init__(self, shell: Shell) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", INTERRUPTIBLE, "reproduce", "--demo", "--output-dir", "out"],
            cwd=shell.folder,
            env=shell.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def lines_until(self, stage: str) -> list[str]:
        """What it says on standard error, up to the end of ``stage``."""
        assert self.process.stderr is not None
        lines = []
        for line in self.process.stderr:
            lines.append(line)
            if line.split("  ")[1] == stage:
                return lines
        raise AssertionError(f"no stage {stage}: {lines}")

    def interrupt(self, *, group: bool) -> str:
        """Ctrl-C (``group``), or a signal to the command alone; returns what it says then."""
        if group:
            os.killpg(self.process.pid, signal.SIGINT)
        else:
            self.process.send_signal(signal.SIGINT)
        _, said = self.process.communicate(timeout=60)
        for _ in range(100):
            if not members(self.process.pid):
                break
            time.sleep(0.1)
        assert members(self.process.pid) == []
        return said


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")
def test_an_interrupted_reproduction_goes_on(shell: Shell, reproduced: Reproduction) -> None:
    out = shell.folder / "out"

    # In the middle of the first stage, with all its processes running.
    first = Running(shell)
    while not (out / "logs/keras.log").exists():
        assert first.process.poll() is None
        time.sleep(0.05)
    said = first.interrupt(group=True)
    assert first.process.returncode == 130
    assert re.fullmatch(r"interrupted; .*next run goes on.*\n", said)
    assert [name for name in shell.files() if not name.startswith("out/logs/")] == []

    # In the middle of a later one, after an earlier one was done again.
    shutil.copytree(reproduced.output_dir, out, dirs_exist_ok=True)
    again = ["evaluate published-uint8", "quantize ort-int8", "evaluate ort-int8", "compare"]
    (out / "results/published-uint8.json").unlink()
    (out / "models/resnet8_ort-int8.onnx").unlink()
    second = Running(shell)
    assert all("up to date" in line for line in second.lines_until(again[0])[:-1])
    said = second.interrupt(group=False)
    assert second.process.returncode == 130
    assert said.splitlines()[-1].startswith("interrupted; ")
    assert "Traceback" not in said
    assert not [name for name in shell.files() if name.endswith(".part")]
    assert not (out / "models/resnet8_ort-int8.onnx").exists()

    # To the end.
    third = Running(shell)
    text, said = third.process.communicate(timeout=300)
    assert third.process.returncode == 0, said
    assert [line.split("  ")[1] for line in said.splitlines()] == list(reproduced.seconds)
    assert [line.split("  ")[1] for line in said.splitlines() if "up to date" not in line] == again[1:]
    assert text.startswith("DEMO: handwritten digits")
    for row in reproduced.comparison.rows:
        assert row.name in text
    assert "demo digits (handwritten digits, not CIFAR-10)" in text
    assert "Recommended for any x86-64 CPU" in text
    comparison = load(Comparison, out / "results/comparison.json")
    counts = {(row.name, row.framework): row.overall for row in comparison.rows}
    assert counts == {(row.name, row.framework): row.overall for row in reproduced.comparison.rows}

    # And nothing is left to do.
    done = shell.run("reproduce", "--demo", "--output-dir", "out")
    assert done.returncode == 0
    assert all(line.endswith("up to date") for line in done.stderr.splitlines())
    assert "0 stages run" in done.stdout


def test_an_interrupt_while_a_worker_is_being_started_waits_until_it_is(shell: Shell) -> None:
    # Delivered to another thread than the one that starts it, which a signal mask does not reach.
    code = """
import os, signal, sys, threading
signal.signal(signal.SIGINT, signal.default_int_handler)
from multiprocessing import util
from resnet8.workers import Worker
threading.Thread(target=threading.Event().wait, daemon=True).start()
spawn = util.spawnv_passfds
processes = []
def interrupted(path, arguments, handles):
    started = spawn(path, arguments, handles)
    if any("spawn_main" in str(one) for one in arguments):
        processes.append(started)
        os.kill(os.getpid(), signal.SIGINT)
        sum(range(10**6))
    return started
util.spawnv_passfds = interrupted
worker = Worker("test")
try:
    worker.call(os.getpid)
except KeyboardInterrupt:
    print("interrupted", *processes)
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=shell.folder,
        env=shell.environment,
        capture_output=True,
        text=True,
        check=True,
    )
    said, process = done.stdout.split()
    assert (said, done.stderr) == ("interrupted", "")
    assert not Path("/proc", process).exists()  # it was known, and ended


def test_an_interrupt_while_python_still_imports_is_quiet(shell: Shell) -> None:
    # The command line is interrupted as soon as it imports its first library.
    code = (
        "import signal, sys, os\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "class Interrupt:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'typer':\n            os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Interrupt())\nfrom resnet8.__main__ import main\nmain()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "--help"],
        cwd=shell.folder,
        env=shell.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 130
    assert re.fullmatch(r"interrupted.*\n", done.stderr)


# --- progress ---


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_shows_names_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", Terminal())
    with progress() as step:
        step("evaluate [/x]:smile:.onnx")(1, 2)
    assert "evaluate [/x]:smile:.onnx" in sys.stderr.getvalue()  # type: ignore[attr-defined]
