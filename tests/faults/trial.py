"""Many damaged inputs through every command that reads them, and what became of each.

The outcomes: a clear error; the same result; another result, with a notice or, where nothing is known of the file, as a
file of its own. Not allowed: another result without a notice, an exception that is not the project's, a crash, a hang,
more memory than a limit, or something left over.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from damage import damaged

if TYPE_CHECKING:
    from collections.abc import Iterator

PATIENCE = 20
"""A command hangs that takes so many seconds more than with the whole input."""
MEMORY_MB = 2_500
"""More than this is a failure; PyTorch with its libraries takes some 700."""

_SLOW = {"seconds": 120.0}

GOOD = ("clear error", "same result", "other result with notice", "another file, another result")
BAD = (
    *("silent difference", "foreign exception", "crash", "hang", "memory", "left over"),
    *("half-written", "lost", "another result", "no result", "outlived", "exit code"),  # of what is disturbed
)

NOTICE = re.compile(r"NOT the official|not what .* names|notice:|damaged|no accuracy is known", re.IGNORECASE)
_VARYING = re.compile(r"[\d,.]+ (?:images/s|s\b|ms\b|MB\b)|\d{4}-\d\d-\d\dT\S+|sha256 \w+|[0-9a-f]{8,64}|│|[─┏┓┗┛━]+")
"""What differs between two runs of one command: times, sizes in memory, digests; and the frames of tables."""


@dataclass(frozen=True)
class Subject:
    """A kind of input, and the commands that read it.

    Attributes:
        name: Of the file, in the folder that the commands run in.
        kind: A key of :data:`damage.DAMAGES`.
        commands: Arguments of each; ``page FOLDER`` is what the playground does when it opens a folder.
        known: Whether something else says what the file must be: then another result needs a notice.
        needs: The modules that the commands import, for the server.
        share: How many inputs of this kind for one of the others, as its commands take long.
    """

    name: str
    kind: str
    commands: tuple[tuple[str, ...], ...]
    known: bool = False
    needs: tuple[str, ...] = ()
    share: float = 1


@dataclass
class Finding:
    """What became of one damaged input."""

    subject: str
    command: str
    seed: str
    damage: str
    outcome: str
    words: str = ""


@dataclass
class Server:
    """A process that runs commands (``server.py``)."""

    needs: tuple[str, ...]
    environment: dict[str, str]
    process: subprocess.Popen[str] = field(init=False)

    def __post_init__(self) -> None:
        script = Path(__file__).with_name("server.py")
        self.process = subprocess.Popen(
            [sys.executable, str(script), "resnet8.cli", "resnet8.report.text", *self.needs],
            env=os.environ | self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, folder: Path, arguments: tuple[str, ...], **also: object) -> dict[str, Any]:
        """How the command ended, with what it printed; ``also`` are further fields of the request."""
        return self.run_at_once(folder, [arguments], **also)[0]

    def run_at_once(self, folder: Path, commands: list[tuple[str, ...]], **also: object) -> list[dict[str, Any]]:
        """How several commands ended that began together."""
        places = [str(folder.parent / f"{folder.name}.{index}") for index in range(len(commands))]
        requests = [
            {
                "folder": str(folder),
                "arguments": arguments,
                "output": f"{place}.out",
                "errors": f"{place}.err",
                "patience": PATIENCE,
                "environment": {},
            }
            | also
            for arguments, place in zip(commands, places, strict=True)
        ]
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(requests) + "\n")
        self.process.stdin.flush()
        answers: list[dict[str, Any]] = json.loads(self.process.stdout.readline())
        for answer, place in zip(answers, places, strict=True):
            answer["output"], answer["error"] = (
                Path(f"{place}.{name}").read_text(errors="replace") for name in ("out", "err")
            )
        return answers

    def close(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


class Trial:
    """Damaged inputs of one subject, one after another.

    Args:
        subject: What is damaged.
        template: A folder with the whole files, in which the commands work.
        work: An empty folder.
        environment: Of the commands.
    """

    def __init__(self, subject: Subject, template: Path, work: Path, environment: dict[str, str]) -> None:
        self.subject, self.template, self.work = subject, template, work
        self.content = (template / subject.name).read_bytes()
        self.server = Server(subject.needs, environment)
        self.whole: dict[tuple[str, ...], dict[str, Any]] = {}

    def __enter__(self) -> Trial:
        return self

    def __exit__(self, *_: object) -> None:
        self.server.close()

    def findings(self, seed: int, count: int) -> Iterator[Finding]:
        """``count`` damaged files, each through one command in turn."""
        commands = self.subject.commands
        self.whole = {command: self._run(command, self.content) for command in commands}
        for command, answer in self.whole.items():
            assert answer["code"] == 0, (command, answer)
            assert not answer["files"], (command, answer["files"])
        for index in range(count):
            command, name = commands[index % len(commands)], f"{seed}/{self.subject.name}/{index}"
            words, content = damaged(self.subject.kind, self.content, name)
            answer = self._run(command, content)
            outcome = self._outcome(command, answer, unchanged=content == self.content)
            said = answer["error"].strip().splitlines()[-1:] if outcome in BAD else []
            yield Finding(self.subject.name, " ".join(command), name, words, outcome, " ".join(said)[:300])

    def _run(self, command: tuple[str, ...], content: bytes) -> dict[str, Any]:
        folder = self.work / "here"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(self.template, folder, symlinks=True)
        (folder / self.subject.name).write_bytes(content)
        before = set(folder.rglob("*"))
        started = time.monotonic()
        answer = self.server.run(folder, command, patience=PATIENCE + self.whole.get(command, _SLOW)["seconds"])
        answer["seconds"] = time.monotonic() - started
        new = {path for path in folder.rglob("*") if path not in before}
        answer["files"] = sorted(str(path.relative_to(folder)) for path in new if _unwanted(path))
        return answer

    def _outcome(self, command: tuple[str, ...], answer: dict[str, Any], *, unchanged: bool) -> str:
        lines = answer["error"].strip().splitlines()
        refused = bool(lines) and lines[-1].startswith("error: ")
        text = answer["output"] + answer["error"]
        foreign = "Traceback" in text or answer["code"] not in (0, 1, 2) or (answer["code"] and not refused)
        outcomes = {
            "hang": answer["hung"],
            "crash": answer["code"] < 0,
            "memory": answer["mb"] > MEMORY_MB,
            "foreign exception": foreign,
            "left over": answer["files"] or answer["left"],
            "clear error": answer["code"] != 0,
            "same result": unchanged or normal(answer["output"]) == normal(self.whole[command]["output"]),
            "another file, another result": not self.subject.known,
            "other result with notice": NOTICE.search(text),
            "silent difference": True,
        }
        return next(outcome for outcome, holds in outcomes.items() if holds)


def _unwanted(path: Path) -> bool:
    return path.name.startswith(".") or path.suffix == ".part"


def normal(text: str) -> str:
    """Text without what differs between two runs of one command."""
    return " ".join(_VARYING.sub("", text).split())


def table(findings: list[Finding]) -> dict[str, int]:
    """How many of each outcome."""
    return dict(Counter(one.outcome for one in findings))
