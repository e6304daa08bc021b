"""What the tests of workers let a worker do: apart from them, for the process imports whatever stands beside it."""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import sys
import tempfile
import threading
import warnings
from pathlib import Path
from typing import NoReturn

from resnet8.errors import DataError
from resnet8.runtimes.base import FORMATS
from resnet8.workers import Progress, limited, no_progress


def add(a: int, *, b: int = 0) -> int:
    return a + b


def leave_a_file() -> Path:
    descriptor, name = tempfile.mkstemp()
    os.close(descriptor)
    assert Path(os.environ["TMPDIR"]) == Path(name).parent  # for native libraries
    return Path(name)


def pid() -> int:
    return os.getpid()


def setting(name: str) -> str | None:
    return os.environ.get(name)


def count(total: int, progress: Progress = no_progress) -> int:
    for done in range(1, total + 1):
        progress(done, total)
    return total


def refuse(what: str) -> NoReturn:
    raise DataError(what, found="1", expected="2", remedy="go on")


def in_pytorchs_process() -> int:
    return FORMATS["torchscript"].call(Path("some.pt"), os.getpid)


def take(*_: object) -> None:
    pass


def divide(a: int, b: int) -> float:
    return a / b


def die(code: int) -> NoReturn:
    os._exit(code)


def leave(code: int) -> NoReturn:
    sys.exit(code)


def kill_oneself() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def talk() -> None:
    print("by print")  # noqa: T201
    os.write(2, b"by a native library\n")
    ctypes.CDLL(None).puts(b"by puts")
    ctypes.CDLL(None).fflush(None)
    logging.getLogger("some.library").info("by logging")
    warnings.warn("by a warning", UserWarning, stacklevel=1)


ROOM = 2**30


def room() -> int:
    return len(bytearray(ROOM))


def within_limits(what: str, *, memory: int, seconds: float) -> int:
    with limited(memory, seconds):
        if what == "room":
            return room()
        times = 0
        while what == "spin":
            times += 1
        return times


def unsendable() -> object:
    return threading.Lock()


def ignores_interrupts() -> bool:
    return signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, [])


def imported(module: str) -> bool:
    return module in sys.modules
