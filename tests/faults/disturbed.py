"""Commands that write, disturbed: ended by signals, several at once, without room, without rights. What became of them.

Whatever happens, every file that has its name is whole, the old one or the new one. The next undisturbed run ends as if
nothing had happened, and clears away what is left; a command that could still act leaves nothing in the first place.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import tempfile
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

from trial import BAD, Finding, Server, normal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

SIGNALS = (signal.SIGKILL, signal.SIGINT, signal.SIGKILL, signal.SIGTERM)
CODES = {signal.SIGINT: (130, -signal.SIGINT), signal.SIGTERM: (143, -signal.SIGTERM), signal.SIGKILL: (-9,)}
"""Also as of a signal that came before or after all the command's doing."""
PATIENCE = 300
THEIRS = re.compile(r"\.ses|[a-z0-9_]{8}")
"""Among temporary files: ONNX Runtime's one for good, and what Python tries the place with."""
_LINES = 1 << 12
"""Bytes that what is printed may take, where the size of files is limited."""
NOISE = ("Traceback", "Exception ignored", "KeyboardInterrupt", "SystemExit", "leaked")
_VARYING = ("created", "environment", "seconds", "run_seconds", "images_per_second")
"""What differs between two results of the same."""
_OWN = {"logs", ".resnet8", "temporary"}
"""Logs are appended to, and stamps hold digests of times: other rules hold for them."""


def _nothing(_: Path) -> None:
    """No change to the folder."""


@dataclass(frozen=True)
class Work:
    """A command that writes.

    Attributes:
        arguments: Of the command, run in a copy of the template.
        made: What it makes, where it overwrites nothing.
        states: What the folder is before, by name: each changes a copy of the template.
        signals: What it may be sent, in turn.
        share: Of all disturbances.
        needs: The modules that it imports, for the server.
    """

    arguments: tuple[str, ...]
    made: tuple[str, ...] = ()
    states: dict[str, Callable[[Path], None]] = field(default_factory=lambda: {"": _nothing})
    signals: tuple[signal.Signals, ...] = SIGNALS
    share: float = 0.2
    needs: tuple[str, ...] = ("onnxruntime", "resnet8.cli", "resnet8.network.onnx_read", "resnet8.runtimes.ort")


@dataclass(frozen=True)
class Whole:
    """An undisturbed run.

    Attributes:
        before: What each file of the folder held, by name.
        after: The same, afterwards.
        seconds: How long it took.
        events: How often it changed a folder.
        written: The sizes of what it wrote.
    """

    before: dict[str, str]
    after: dict[str, str]
    seconds: float
    events: int
    written: tuple[int, ...]


class Disturbance:
    """One command, disturbed again and again.

    Args:
        name: Of the command, in the findings.
        work: The command.
        template: A folder that it can work in.
        place: An empty folder.
    """

    def __init__(self, name: str, work: Work, template: Path, place: Path) -> None:
        self.name, self.work, self.template = name, work, template
        self.here, self.temporary = place / "here", place / "temporary"
        self.server = Server(work.needs, {"TMPDIR": str(self.temporary)})
        self.wholes: dict[str, Whole] = {}

    def __enter__(self) -> Disturbance:
        return self

    def __exit__(self, *_: object) -> None:
        self.server.close()

    def findings(self, seed: int, count: int) -> Iterator[Finding]:
        """What becomes of ``count`` signals, half as many shortages of room, and a few of the other disturbances."""
        yield from self.signals(seed, count)
        yield from self.without_room(seed, -(-count // 2))
        yield from self.at_once(seed, -(-count // 4))
        yield from self.without_rights(seed)

    def signals(self, seed: int, count: int) -> Iterator[Finding]:
        """End it ``count`` times, before a change of its folders or at any moment, and run it again."""
        for index, (state, rng) in self._draws(f"{seed}/signals", count):
            whole, number = self._whole(state), rng.choice(self.work.signals)
            if rng.random() < 0.5 and whole.events:
                also: dict[str, Any] = {"event": (number, rng.randint(1, whole.events))}
                when = f"change {also['event'][1]} of {whole.events}"
            else:
                also = {"moment": (number, rng.random() * whole.seconds)}
                when = f"{also['moment'][1] / whole.seconds:.0%} of its time"
            self._prepare(state)
            answer = self._run(**also)
            outcome = self._after_signal(number, answer, whole) or self._resumed(whole)
            what = f"{state} {number.name} at {when}".strip()
            yield self._finding("signals", f"{seed}/signals/{index}", what, outcome, answer)

    def at_once(self, seed: int, count: int) -> Iterator[Finding]:
        """Several of it in one folder, begun together."""
        for index, (state, rng) in self._draws(f"{seed}/at once", count):
            whole, copies = self._whole(state), rng.randint(2, 4)
            self._prepare(state)
            answers = self.server.run_at_once(self.here, [self.work.arguments] * copies, patience=PATIENCE)
            outcomes = [self._refused(answer) for answer in answers]
            if not any(answer["code"] == 0 for answer in answers):
                outcomes.append("no result")
            worst = next((one for one in outcomes if one in BAD), None)
            outcome = worst or self._unlike(whole.after, (whole.after,)) or self._left_over() or "same result"
            failed = next((one for one in answers if one["code"]), answers[0])
            yield self._finding(
                "at once", f"{seed}/at once/{index}", f"{state} {copies} of it".strip(), outcome, failed
            )

    def without_room(self, seed: int, count: int) -> Iterator[Finding]:
        """On a full disk, or with files of limited size; then with room."""
        for index, (state, rng) in self._draws(f"{seed}/room", count):
            whole = self._whole(state)
            if index % 2 == 0 and may_mount():
                room = rng.randrange(sum(whole.written))
                words = f"{room} bytes free"
                with self._small(state, room) as grow:
                    answer = self._run()
                    outcome = self._after_refusal(answer, whole)
                    if outcome == "clear error":
                        grow()
                        outcome = _worst(self._resumed(whole), "clear error")
            else:
                self._prepare(state)
                size = rng.randrange(_LINES, max(*whole.written, _LINES + 1))
                words = f"files of {size} bytes at most"
                answer = self._run(size=size)
                outcome = self._after_refusal(answer, whole)
                if outcome == "clear error":
                    outcome = _worst(self._resumed(whole), "clear error")
            yield self._finding("no room", f"{seed}/room/{index}", f"{state} {words}".strip(), outcome, answer)

    def without_rights(self, seed: int) -> Iterator[Finding]:
        """In a folder that may only be read, and in one of somebody else, by an ordinary user."""
        state = next(iter(self.work.states))
        whole = self._whole(state)
        for words, owner, mode in (("read-only", os.getuid(), 0o555), ("somebody else's", 65534, 0o755)):
            if owner != os.getuid() and os.getuid() != 0:
                continue
            self._prepare(state)
            folders = [self.here, *(path for path in self.here.rglob("*") if path.is_dir() and not path.is_symlink())]
            for folder in folders:
                folder.chmod(mode)
                os.chown(folder, owner, -1)
            answer = self._run(ordinary=os.getuid() == 0)
            outcome = self._after_refusal(answer, whole)
            for folder in folders:
                folder.chmod(0o755)
                os.chown(folder, os.getuid(), -1)
            if outcome == "clear error" and self._snapshot() != whole.before:
                outcome = "half-written"
            yield self._finding("no rights", f"{seed}/rights", words, outcome, answer)

    # --- running ---

    def _draws(self, seed: str, count: int) -> Iterator[tuple[int, tuple[str, random.Random]]]:
        states = list(self.work.states)
        for index in range(count):
            yield index, (states[index % len(states)], random.Random(f"{seed}/{self.name}/{index}"))

    def _prepare(self, state: str) -> None:
        for folder in (self.here, self.temporary):
            shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(self.template, self.here, symlinks=True)
        self.temporary.mkdir()
        self.work.states[state](self.here)

    def _run(self, **also: object) -> dict[str, Any]:
        return self.server.run(self.here, self.work.arguments, **({"patience": PATIENCE} | also))

    def _whole(self, state: str) -> Whole:
        if state not in self.wholes:
            self._prepare(state)
            before = self._snapshot()
            answer = self._run()
            assert answer["code"] == 0, answer
            assert not answer["left"], answer
            assert not self._left_over(), self._parts()
            events = int(self.here.with_name("here.0.events").read_text())
            after = self._snapshot()
            written = tuple((self.here / one).stat().st_size for one in after if after[one] != before.get(one))
            self.wholes[state] = Whole(before, after, answer["seconds"], events, written)
            assert written
        return self.wholes[state]

    @contextmanager
    def _small(self, state: str, room: int) -> Iterator[Callable[[], None]]:
        """The folder, and that for temporary files, on a disk with so many free bytes; a function gives it more."""
        self._prepare(state)
        kept = self.here.with_name("kept")
        self.here.rename(kept)
        self.here.mkdir()
        _mount("-t", "tmpfs", "-o", "size=1g", "tmpfs", self.here)
        try:
            shutil.copytree(kept, self.here, symlinks=True, dirs_exist_ok=True)
            self.temporary.rmdir()
            (self.here / "temporary").mkdir()
            self.temporary.symlink_to(self.here / "temporary")
            status = os.statvfs(self.here)
            size = (status.f_blocks - status.f_bfree) * status.f_frsize + room

            def resize(to: int) -> None:
                _mount("-o", f"remount,size={to}", self.here)

            resize(size)
            yield lambda: resize(1 << 30)
        finally:
            subprocess.run([shutil.which("umount") or "", self.here], check=True)
            self.temporary.unlink()
            self.temporary.mkdir()
            shutil.rmtree(kept)

    # --- judging ---

    def _finding(self, way: str, seed: str, what: str, outcome: str, answer: dict[str, Any]) -> Finding:
        said = answer["error"].strip().splitlines()[-3:] if outcome in BAD else []
        words = f"exit code {answer['code']}; {' | '.join(said)} {self._parts()}"[:600] if outcome in BAD else ""
        return Finding(f"{self.name}, {way}", " ".join(self.work.arguments), seed, what, outcome, words)

    def _after_signal(self, number: int, answer: dict[str, Any], whole: Whole) -> str | None:
        """What is wrong after a signal that the command was sent, if anything is."""
        outcomes = {
            "hang": answer["hung"],
            "outlived": answer["left"],
            "foreign exception": any(word in answer["error"] for word in NOISE) and not _half_started(number, answer),
            "exit code": answer["code"] not in (0, *CODES[signal.Signals(number)]),
            "left over": number != signal.SIGKILL and self._left_over(),
        }
        found = next((outcome for outcome, holds in outcomes.items() if holds), None)
        return found or self._unlike(whole.before, (whole.before, whole.after))

    def _refused(self, answer: dict[str, Any]) -> str:
        lines = answer["error"].strip().splitlines()
        refused = bool(lines) and lines[-1].startswith("error: ")
        outcomes = {
            "hang": answer["hung"],
            "outlived": answer["left"],
            "foreign exception": any(word in answer["error"] for word in NOISE) or (answer["code"] and not refused),
            "exit code": answer["code"] not in (0, 1),
            "clear error": answer["code"] == 1,
            "same result": True,
        }
        return next(outcome for outcome, holds in outcomes.items() if holds)

    def _after_refusal(self, answer: dict[str, Any], whole: Whole) -> str:
        """What came of a run that may have lacked room or rights."""
        outcome = self._refused(answer)
        states = (whole.before, whole.after) if outcome == "clear error" else (whole.after,)
        wrong = None if outcome in BAD else self._left_over() or self._unlike(states[0], states)
        return wrong or outcome

    def _resumed(self, whole: Whole) -> str:
        """What comes of the same command, run once more."""
        if self._snapshot() == whole.after:  # what refuses to overwrite would refuse now, and rightly
            for name in self.work.made:
                made = self.here / name
                shutil.rmtree(made) if made.is_dir() else made.unlink()
        again = self._run()
        if again["code"]:
            return "no result"
        return self._unlike(whole.after, (whole.after,)) or self._left_over() or "resumed to the same"

    def _unlike(self, least: dict[str, str], states: tuple[dict[str, str], ...]) -> str | None:
        """What is wrong with a folder of which every file is as in one of ``states``, and none of ``least`` is lost."""
        now = self._snapshot()
        if least.keys() - now.keys():
            return "lost"
        if any(value not in [state.get(name) for state in states] for name, value in now.items()):
            return "another result" if len(states) == 1 else "half-written"
        for name in self.work.made:  # a folder is there with all that it holds
            made = {one for one in states[-1] if one.startswith(f"{name}/")}
            if made & now.keys() and made - now.keys():
                return "half-written"
        return None

    def _snapshot(self) -> dict[str, str]:
        """What each file holds, but for what differs from run to run."""
        paths = (path.relative_to(self.here) for path in self.here.rglob("*") if path.is_file())
        return {
            str(path): _held(self.here / path) for path in paths if not (_OWN & set(path.parts) or _unfinished(path))
        }

    def _parts(self) -> list[str]:
        return [
            *(path.name for path in self.here.rglob("*") if _unfinished(path.relative_to(self.here))),
            *(path.name for path in self.temporary.iterdir() if not THEIRS.fullmatch(path.name)),
        ]

    def _left_over(self) -> str | None:
        return "left over" if self._parts() else None


def _half_started(number: int, answer: dict[str, Any]) -> bool:
    """Whether what was said came from a process in its start, which a killed parent cannot keep from saying so."""
    return number == signal.SIGKILL and "spawn_main" in answer["error"]


def _unfinished(path: Path) -> bool:
    return any(name.endswith(".part") for name in path.parts)


def _held(path: Path) -> str:
    content = path.read_bytes()
    if path.suffix == ".json":
        with suppress(ValueError):
            return json.dumps(_lasting(json.loads(content)), sort_keys=True)
    if path.suffix == ".md":
        return normal(content.decode())
    return hashlib.sha256(content).hexdigest()


def _lasting(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _lasting(one) for key, one in value.items() if key not in _VARYING}
    return [_lasting(one) for one in value] if isinstance(value, list) else value


def _worst(found: str, otherwise: str) -> str:
    return found if found in BAD else otherwise


def _mount(*arguments: str | Path) -> None:
    subprocess.run([shutil.which("mount") or "", *arguments], check=True, capture_output=True)


@cache
def may_mount() -> bool:
    """Whether this process may mount a file system."""
    try:
        with tempfile.TemporaryDirectory() as folder:
            _mount("-t", "tmpfs", "-o", "size=64k", "tmpfs", folder)
            subprocess.run([shutil.which("umount") or "", folder], check=True)
    except (OSError, subprocess.CalledProcessError):
        return False
    return True
