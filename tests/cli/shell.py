"""The command line as its users run it, in a folder of their own; mostly in the process of the tests."""

from __future__ import annotations

import contextlib
import io
import os
import re
import runpy
import signal
import subprocess
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

from resnet8.__main__ import main

if TYPE_CHECKING:
    from resnet8.data.assets import Assets

Case = tuple[Any, ...]

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"

INTERRUPTIBLE = (
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler);from resnet8.__main__ import main; main()"
)
"""The program. A shell's background job ignores SIGINT, and its children with it: this takes it back."""


class Shell:
    """A folder to run commands in, with the demo in the cache and nothing else."""

    def __init__(self, folder: Path, demo_assets: Assets) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.environment = os.environ | {"RESNET8_CACHE": str(demo_assets.keras_model.parent.parent)}
        self.environment.pop("RESNET8_ASSETS", None)
        self.environment.pop("COLUMNS", None)

    def run(self, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
        """Runs the command, or one of the scripts where the first argument is its file's name, in this process."""
        script = SCRIPTS / str(arguments[0]) if arguments and str(arguments[0]).endswith(".py") else None
        said, wrong, code = io.StringIO(), io.StringIO(), 0
        terminated = signal.getsignal(signal.SIGTERM)
        with (
            contextlib.chdir(self.folder),
            mock.patch.dict(os.environ, self.environment | environment, clear=True),
            mock.patch.object(sys, "argv", [str(script or "resnet8"), *map(str, arguments[script is not None :])]),
            contextlib.redirect_stdout(said),
            contextlib.redirect_stderr(wrong),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("default")
            try:
                if script is None:
                    main()
                runpy.run_path(str(script), run_name="__main__")
            except SystemExit as end:
                code = int(end.code or 0)
            finally:
                signal.signal(signal.SIGTERM, terminated)
        return subprocess.CompletedProcess(arguments, code, said.getvalue(), wrong.getvalue())

    def process(self, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
        """Runs the command in a process of its own: what imports TensorFlow, or is about the process itself."""
        return subprocess.run(
            [sys.executable, "-m", "resnet8", *map(str, arguments)],
            cwd=self.folder,
            env=self.environment | environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )

    def good(self, *arguments: object, **environment: str) -> str:
        done = self.run(*arguments, **environment)
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr
        return " ".join(done.stdout.split())  # a narrow table folds its title

    def bad(self, *arguments: object, code: int = 1, **environment: str) -> str:
        """Runs what must fail: with one line, and nothing written."""
        before = self.files()
        message = self._refused(*arguments, code=code, **environment)
        assert self.files() == before
        return message

    def _refused(self, *arguments: object, code: int, **environment: str) -> str:
        done = self.run(*arguments, **environment)
        assert done.returncode == code, done.stderr
        assert done.stdout == ""
        assert len(done.stderr.splitlines()) == 1, done.stderr
        assert done.stderr.startswith("error: ")
        assert "Traceback" not in done.stderr
        return done.stderr

    def all_bad(self, cases: list[Case], code: int = 1) -> None:
        """Each of these must fail so: arguments, what the message says, and the environment.

        What is left is looked at in the end.
        """
        before = self.files()
        for arguments, match, *environment in cases:
            message = self._refused(*arguments, code=code, **(environment[0] if environment else {}))
            assert re.search(match, message), message
        assert self.files() == before

    def files(self) -> dict[str, bytes]:
        """All there is, but the logs."""
        files = {str(path.relative_to(self.folder)): path for path in self.folder.rglob("*") if path.is_file()}
        return {name: path.read_bytes() for name, path in files.items() if not name.startswith("logs/")}


def assert_defaults_shown(help_text: str) -> None:
    """Every argument and option that takes a value says what it is when it is left out, or that it must not be."""
    entries = re.findall(
        r"^  (\S.*(?:\n {4,}.*)*)", help_text[re.search(r"^(Arguments|Options):", help_text, re.M).start() :], re.M
    )
    assert entries
    for entry in map(" ".join, (entry.split() for entry in entries)):
        flag = entry.startswith("-") and not re.match(r"(-\w, )?--[\w-]+ (<|N |mlperf)", entry)
        assert flag or "[default: " in entry or "[required" in entry, entry
