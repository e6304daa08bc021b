"""Runs commands one after another, each in a fork of a process that has imported what they need.

Reads a request a line on standard input, as JSON, and answers each with a line. A fork is a fresh process that costs
milliseconds: what a damaged file breaks, it breaks there.
"""

from __future__ import annotations

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


def main() -> None:
    for name in sys.argv[1:]:
        importlib.import_module(name)
    for line in sys.stdin:
        sys.stdout.write(json.dumps(carried_out(json.loads(line))) + "\n")
        sys.stdout.flush()


def carried_out(request: dict[str, Any]) -> dict[str, Any]:
    """How a command ended: exit code (negative for a signal), peak memory in MB, and whether it was given up."""
    child = os.fork()
    if child == 0:
        _child(request)
    descriptor = os.pidfd_open(child)
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    hung = not poll.poll(request["patience"] * 1000)
    os.close(descriptor)
    if hung:
        os.killpg(child, signal.SIGKILL)
    _, status, usage = os.wait4(child, 0)
    left = _kill_group(child)
    return {"code": os.waitstatus_to_exitcode(status), "mb": usage.ru_maxrss / 1024, "hung": hung, "left": left}


def _kill_group(group: int) -> bool:
    """Whether a process of the command outlived it by more than a few seconds."""
    for _ in range(100):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return False
        time.sleep(0.05)
    os.killpg(group, signal.SIGKILL)
    return True


def _child(request: dict[str, Any]) -> None:
    code = 70
    try:
        os.setsid()
        os.chdir(request["folder"])
        os.environ.update(request["environment"])
        for number, name in ((0, os.devnull), (1, request["output"]), (2, request["errors"])):
            flags = os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT | os.O_TRUNC
            os.dup2(os.open(name, flags), number)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        # What has imported PyTorch is its process: what a file does there is seen here, and costs no further import.
        multiprocessing.current_process().daemon = "torch" in sys.modules
        _run(request["arguments"])
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            sys.stderr.write(f"{end.code}\n")
    except BaseException:  # noqa: BLE001 - whatever it is, it is a finding
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _run(arguments: list[str]) -> NoReturn:
    if arguments[0] == "page":
        from resnet8.errors import Resnet8Error

        try:
            _look(Path(arguments[1]))
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


if __name__ == "__main__":
    main()
