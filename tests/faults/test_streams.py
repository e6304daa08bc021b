"""Commands whose standard output or error is closed, full or broken, and names that are no text."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from resnet8.data import demo
from resnet8.results import Evaluation, load

if TYPE_CHECKING:
    from resnet8.data.assets import Assets

pytestmark = pytest.mark.slow

RUN = """
import json, os, sys
from resnet8.__main__ import main
from resnet8.streams import open_closed
open_closed()  # the libraries below open files

def child(arguments):
    code = 70
    try:
        while "=" in arguments[0]:
            os.environ.update([arguments.pop(0).split("=")])
        sys.argv = ["resnet8", *arguments]
        main()
    except SystemExit as end:
        code = end.code
    finally:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
        os._exit(code)

import resnet8.cli, resnet8.comparison, resnet8.report.text, resnet8.vectors, resnet8.runtimes.ort
from pathlib import Path
commands, answer = json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2])
codes = []
for arguments in commands:
    one = os.fork()
    if one == 0:
        child(arguments)
    codes.append(os.waitstatus_to_exitcode(os.waitpid(one, 0)[1]))
answer.write_text(json.dumps(codes))
"""
"""Runs commands, each in a fork of its own, with the streams that it was given."""

MODEL, DEMO = "resnet8_int8.onnx", ("--demo", "--max-samples", "5")
COMMANDS: tuple[tuple[str, ...], ...] = (
    ("--help",),
    ("--version",),
    ("evaluate", MODEL, *DEMO, "--json", "evaluate.json", "--predictions", "evaluate.npy"),
    ("inspect", "operations", MODEL),
    ("inspect", "operations", MODEL, "-o", "operations.json"),
    ("inspect", "graph", MODEL, "-o", "graph.mmd"),
    ("audit", "agreement", MODEL, *DEMO, "--json", "agreement.json"),
    ("audit", "requantization", MODEL, *DEMO, "--json", "requantization.json"),
    ("audit", "accumulators", MODEL, *DEMO, "--json", "accumulators.json"),
    ("audit", "worked", MODEL, "--demo", "--json", "worked.json"),
    ("compare", "fp32-onnx.json", "published-int8.json", "--json", "compared.json", "--markdown", "compared.md"),
    ("calibrate", "--demo", "--indices", "indices.npy"),
    ("quantize", "--list"),
    ("vectors", MODEL, "--demo", "--images", "1", "-o", "vectors"),
    ("export", "c", MODEL, "-o", "library"),
    ("fetch", "--demo"),
)
BAD = (("evaluate", "nothing.onnx", "--demo"), ("compare", "nothing.json"), ("evaluate",), ("nonsense",))
FULL = "error: cannot write to standard output: found No space left on device, expected a place with room; make room"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the demo's models and results."""
    run = Path(demo.__file__).parent / "run"
    for name in ("models/resnet8.onnx", f"models/{MODEL}", "results/fp32-onnx.json", "results/published-int8.json"):
        shutil.copy(run / name, tmp_path)
    return tmp_path


def started(
    folder: Path, demo_assets: Assets, redirections: str, *arguments: str, encoding: str = "utf-8", prefix: str = ""
) -> tuple[int, str]:
    """Exit code of Python with these arguments, started by a shell with these redirections, and standard error."""
    done = subprocess.run(
        ["/bin/sh", "-c", f'{prefix} "$@" 2>errors {redirections}', "sh", sys.executable, *arguments],
        cwd=folder,
        env=os.environ
        | {"RESNET8_CACHE": str(demo_assets.keras_model.parent.parent), "PYTHONIOENCODING": encoding, "COLUMNS": "200"},
        check=False,
        timeout=300,
    )
    return done.returncode, (folder / "errors").read_text(errors="replace")


def ran(
    folder: Path, demo_assets: Assets, redirections: str, commands: tuple[tuple[str, ...], ...], **how: str
) -> tuple[list[int], str]:
    """Exit codes of the commands, and standard error."""
    (folder / "commands").write_text(json.dumps(commands))
    code, errors = started(folder, demo_assets, redirections, "-c", RUN, "commands", "codes", **how)
    assert code == 0, errors
    return json.loads((folder / "codes").read_text()), errors


@pytest.mark.parametrize(
    ("redirections", "commands", "code"),
    [
        ("<&- >&-", COMMANDS, 0),
        ("| true", COMMANDS[::3], 0),
        (">/dev/full", COMMANDS, 1),
        (">/dev/null 2>/dev/full", COMMANDS[1::3], 0),
        (">&- 2>&- <&-", COMMANDS[2::3], 0),
    ],
    ids=["closed", "broken", "full", "error full", "all closed"],
)
def test_commands(
    folder: Path,
    demo_assets: Assets,
    redirections: str,
    commands: tuple[tuple[str, ...], ...],
    code: int,
) -> None:
    """The work is done, and no traceback comes; that a full output lost something is said."""
    codes, errors = ran(folder, demo_assets, redirections, commands)
    assert codes == [code] * len(commands), errors
    lines = errors.splitlines()
    assert len(lines) == code * len(commands), errors
    assert all(line.startswith(FULL) for line in lines)
    for name in (word for words in commands for word in words if Path(word).suffix in {".json", ".npy", ".mmd", ".md"}):
        assert (folder / name).stat().st_size > 0, name


@pytest.mark.parametrize("redirections", ["2>&-", "2>/dev/full", ">&- 2>&- <&-"])
def test_errors_that_nobody_hears_keep_their_codes(folder: Path, demo_assets: Assets, redirections: str) -> None:
    assert ran(folder, demo_assets, redirections, BAD) == ([1, 1, 2, 2], "")


@pytest.mark.parametrize("redirections", [">&- 2>&- <&-", ">/dev/full"])
def test_a_command_that_starts_a_process(folder: Path, demo_assets: Assets, redirections: str) -> None:
    """The numbers of closed streams would be those of the pipe to it."""
    command = ("quantize", "resnet8.onnx", "--recipe", "ort-int8", "--output", "made.onnx", "--demo")
    code, errors = started(folder, demo_assets, redirections, "-m", "resnet8", *command)
    assert (code, errors[: len(FULL)]) == ((1, FULL) if "full" in redirections else (0, ""))
    assert (folder / "made.onnx").stat().st_size > 100_000


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_names_that_are_no_text(folder: Path, demo_assets: Assets, encoding: str) -> None:
    """Bytes that are not UTF-8, and what looks like markup, in any encoding of the output."""
    name = os.fsdecode(b"[bold]\xff\xc3\xbc[/x].onnx")
    try:
        (folder / name).parent.mkdir()
    except OSError:
        pytest.skip("this file system takes UTF-8 only")
    shutil.copy(folder / MODEL, folder / name)
    shutil.copy(folder / "fp32-onnx.json", folder / f"{name}.float.json")
    commands = (
        ("evaluate", name, *DEMO, "--json", f"{name}.result"),
        (
            "compare",
            f"{name}.float.json",
            f"{name}.float.json",
            "--json",
            f"{name}.compared",
            "--markdown",
            "compared.md",
        ),
        ("inspect", "operations", name, "-o", f"{name}.json"),
        ("inspect", "graph", name, "-o", f"{name}.dot"),
        ("inspect", "operations", name),
        ("audit", "agreement", name, *DEMO),
        ("vectors", name, "--demo", "--images", "1", "-o", f"{name}.vectors"),
        ("evaluate", f"{name}.json", "--demo"),
        ("compare", name),
    )
    codes, errors = ran(folder, demo_assets, ">output", commands, encoding=encoding)
    assert codes == [0] * 7 + [1] * 2, errors
    assert len(errors.splitlines()) == 2, errors
    assert "[/x]" in errors
    output = (folder / "output").read_bytes()
    assert output.count(b"[/x]") > 5
    shown = load(Evaluation, folder / f"{name}.result").model_path
    assert shown == "[bold]\\udcffü[/x].onnx"


def test_folders_that_may_not_be_searched(folder: Path, demo_assets: Assets) -> None:
    prefix = ""
    if os.geteuid() == 0:  # root may search every folder, unless
        prefix = "setpriv --bounding-set -dac_override,-dac_read_search"
        if shutil.which("setpriv") is None:
            pytest.skip("run by root, who may search every folder, and no setpriv to change that")
    for name in ("closed", "data/cifar-10-batches-py"):
        (folder / name).mkdir(parents=True)
        (folder / name).chmod(0)
    commands = (
        ("evaluate", "closed/m.onnx", "--demo"),
        ("evaluate", MODEL, "--data-dir", "data"),
        ("evaluate", MODEL, *DEMO, "--logs", "closed/logs"),
        ("evaluate", MODEL, *DEMO, "--json", "closed/result.json"),
        ("RESNET8_CACHE=closed", "evaluate", MODEL, "--demo"),
        ("RESNET8_CACHE=closed", "fetch"),
        ("RESNET8_ASSETS=closed/assets", "evaluate", MODEL),
        ("fetch", "--assets-dir", "closed/assets"),
        ("compare", "closed/r.json"),
        ("docs", "--root", "closed/repository"),
        ("reproduce", "--demo", "--output-dir", "closed/run"),
        ("quantize", "resnet8.onnx", "--recipe", "closed/mine.toml", "--output", "made.onnx", "--demo"),
        ("inspect", "graph", MODEL, "-o", "closed/graph.mmd"),
        ("vectors", MODEL, "--demo", "-o", "closed/vectors"),
        ("playground", "closed/run", "--headless"),
    )
    codes, errors = ran(folder, demo_assets, ">output", commands, prefix=prefix)
    assert codes == [1] * len(commands), errors
    lines = errors.splitlines()
    assert len(lines) == len(commands), errors
    assert all(line.startswith("error: ") and "Permission denied" in line for line in lines), errors


def test_a_full_disk_below_the_logs(folder: Path, demo_assets: Assets) -> None:
    (folder / "logs").mkdir()
    (folder / "logs/evaluate.log").symlink_to("/dev/full")
    codes, errors = ran(folder, demo_assets, ">output", (("evaluate", MODEL, *DEMO, "--json", "result.json"),))
    assert (codes, errors) == ([0], "")
    assert load(Evaluation, folder / "result.json").overall.total == 5
