"""Runs commands one after another, each in a fork of a process that has imported what they need.

Reads a request a line on standard input, as JSON, and answers each with a line. A fork is a fresh process that costs
milliseconds: what a damaged file breaks, it breaks there.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import json
import multiprocessing
import os
import resource
import select
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any, NoReturn

MODELS = 4
"""In the folder that is tried."""
LIBC = ctypes.CDLL(None, use_errno=True)
GRACE = 10
"""Seconds that the processes of a command have to end after it."""
CHANGING = ("os.rename", "os.mkdir", "os.remove", "os.rmdir", "fcntl.flock")
"""Python's audit events of what changes folders; and files opened to be written."""


def main() -> None:
    LIBC.prctl(36, 1)  # PR_SET_CHILD_SUBREAPER: whatever outlives a command becomes a child of this process
    for name in sys.argv[1:]:
        importlib.import_module(name)
    for line in sys.stdin:
        started = [(_started(one), one) for one in json.loads(line)]
        sys.stdout.write(json.dumps([_ended(child, one) for child, one in started]) + "\n")
        sys.stdout.flush()


def _started(request: dict[str, Any]) -> int:
    child = os.fork()
    if child == 0:
        _child(request)
    return child


def _ended(child: int, request: dict[str, Any]) -> dict[str, Any]:
    """How a command ended: exit code (negative for a signal), peak memory in MB, and whether it was given up.

    With a ``moment``, (signal, seconds), it is sent that: as Ctrl-C sends it, to the whole group, or alone.
    """
    began = time.perf_counter()
    descriptor = os.pidfd_open(child)
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    number, seconds = request.get("moment") or (0, 0)
    if number and not poll.poll(seconds * 1000):
        try:
            (os.killpg if number == signal.SIGINT else os.kill)(child, number)
        except ProcessLookupError:  # not yet a group
            os.kill(child, number)
    hung = not poll.poll(request["patience"] * 1000)
    os.close(descriptor)
    if hung:
        os.killpg(child, signal.SIGKILL)
    _, status, usage = os.wait4(child, 0)
    return {
        "code": os.waitstatus_to_exitcode(status),
        "mb": usage.ru_maxrss / 1024,
        "hung": hung,
        "left": _outlived(child),
        "seconds": time.perf_counter() - began,
    }


def _outlived(group: int) -> bool:
    """Whether a process of the command outlived it by more than some seconds."""
    until = time.monotonic() + GRACE
    while time.monotonic() < until:
        try:
            while os.waitpid(-group, os.WNOHANG) != (0, 0):
                pass
        except ChildProcessError:
            return False
        time.sleep(0.01)
    os.killpg(group, signal.SIGKILL)
    return True


def _child(request: dict[str, Any]) -> None:
    code, seen = 70, [0]
    try:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.setsid()
        os.chdir(request["folder"])
        os.environ.update(request["environment"])
        for number, name in ((0, os.devnull), (1, request["output"]), (2, request["errors"])):
            flags = os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT | os.O_TRUNC
            os.dup2(os.open(name, flags), number)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        # What has imported a framework is its process: what a file does there is seen here, and costs no import.
        multiprocessing.current_process().daemon = not {"torch", "keras"}.isdisjoint(sys.modules)
        if "size" in request:
            resource.setrlimit(resource.RLIMIT_FSIZE, (request["size"], request["size"]))
        if request.get("ordinary"):
            _be_ordinary()
        _count(seen, *request.get("event", (0, 0)))
        signal.signal(signal.SIGINT, signal.default_int_handler)
        _run(request["arguments"])
    except SystemExit as end:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            sys.stderr.write(f"{end.code}\n")
    except BaseException:  # noqa: BLE001 - whatever it is, it is a finding
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        with contextlib.suppress(OSError):
            Path(request["output"]).with_suffix(".events").write_text(str(seen[0]))
        os._exit(code)


def _count(seen: list[int], number: int, last: int) -> None:
    """Count what changes folders, and before the ``last`` of it send this process the signal of that number."""

    def heard(event: str, arguments: tuple[Any, ...]) -> None:
        if event in CHANGING or (event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)):
            seen[0] += 1
            if seen[0] == last:
                os.kill(os.getpid(), number)

    sys.addaudithook(heard)


def _be_ordinary() -> None:
    """Give up what root may do that others may not, here and in every program that is started."""
    for capability in range(64):
        LIBC.prctl(24, capability)  # PR_CAPBSET_DROP
    header, none = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    if LIBC.capset(header, none):
        raise OSError(ctypes.get_errno(), "capset")


def _run(arguments: list[str]) -> NoReturn:
    if arguments[0] in _PAGE:
        from resnet8.errors import Resnet8Error

        try:
            _PAGE[arguments[0]](*map(Path, arguments[1:]))
        except Resnet8Error as error:
            sys.exit(f"error: {error}")
        sys.exit(0)
    from resnet8.cli import app, execute

    execute(app, arguments)


def _look(folder: Path) -> None:
    """What the playground does when a folder is opened: lists its models, and opens each beside its float model.

    The one that is damaged has its line, which is raised in the end; the others are there.
    """
    from resnet8.errors import Resnet8Error
    from resnet8.playground import catalogue
    from resnet8.playground.opened import open_file

    entries = catalogue.models(folder, catalogue.evaluations(folder))
    wrong = {entry.path: entry.error for entry in entries if entry.error}
    opened = {}
    for entry in entries:
        sys.stdout.write(f"{entry.label} {entry.notice}\n")
        if entry.path not in wrong:
            try:
                opened[entry.path] = open_file(entry.path)
            except Resnet8Error as error:
                wrong[entry.path] = str(error)
    assert len(wrong) <= 1, wrong
    assert len(opened) == MODELS - len(wrong)
    for entry in entries:
        real = catalogue.float_behind(entry, entries)
        if entry.quantized and entry.path in opened and real is not None and real.path in opened:
            try:
                layers = len(opened[entry.path].reference(opened[real.path]).layers)
                sys.stdout.write(f"{entry.path.name}: {layers} layers of {real.path.name}\n")
            except Resnet8Error as error:
                sys.stdout.write(f"{error}\n")
    if wrong:
        sys.exit(f"error: {wrong.popitem()[1]}")


def _save(model: Path, target: Path) -> None:
    """What the playground does when a changed model is saved."""
    from resnet8.network.change import Change
    from resnet8.playground.opened import open_file
    from resnet8.playground.saving import save

    opened = open_file(model)
    tensor = opened.require_quantized().layers[0].output.name
    save(target, opened, [Change(tensor, "rounding", "truncate")])


_PAGE = {"page": _look, "save": _save}


if __name__ == "__main__":
    main()
