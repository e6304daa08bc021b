"""One process for each framework: TensorFlow and torch abort when they meet in one.

A :class:`Worker` is a fresh interpreter that answers calls one after another. Whatever its libraries print or log goes
to a file, progress comes back to the caller, and an interrupt ends it at once.
"""

from __future__ import annotations

import contextlib
import gc
import hashlib
import importlib
import logging
import multiprocessing
import os
import signal
import sys
import threading
import traceback
from dataclasses import fields, is_dataclass
from multiprocessing import resource_tracker
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, TypeVar

from resnet8.errors import Resnet8Error, WorkerError
from resnet8.files import writing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from multiprocessing.connection import Connection
    from pathlib import Path
    from types import TracebackType

P = ParamSpec("P")
R = TypeVar("R")

_LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def append_to_log(path: Path, text: str = "") -> None:
    """Append ``text`` to the log at ``path``; make it, and its folder, if they are not there.

    Raises:
        StorageError: when it cannot be written.
    """
    with writing(f"cannot write the log {path}", expected="a writable folder", remedy="choose another place"):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as stream:
            stream.write(text)


def start_logging(handler: logging.Handler) -> logging.Handler:
    """Let ``handler`` keep what is logged from now on, and Python's warnings."""
    handler.setFormatter(logging.Formatter(_LOG_FORMAT))
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    logging.captureWarnings(capture=True)
    return handler


class Progress(Protocol):
    """Called with how much is done, of how much."""

    def __call__(self, done: int, total: int) -> None:
        """Report progress."""


def no_progress(done: int, total: int) -> None:
    """A :class:`Progress` that shows nothing."""


class Worker:
    """A process of its own, started at the first call; :meth:`close` it (:class:`Workers` does).

    Args:
        name: Shown in errors and as the process's name.
        log: File that everything the process prints or logs is appended to; without one it is thrown away.
    """

    def __init__(self, name: str, log: Path | None = None) -> None:
        self.name = name
        self.log = log
        self._process: multiprocessing.process.BaseProcess | None = None
        self._connection: Connection | None = None

    def call(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """``function(*args, **kwargs)``, run in the process; ``function`` must be importable by name.

        A keyword argument ``progress`` is called here while the function runs there.

        Raises:
            Resnet8Error: the function's own, as raised there.
            WorkerError: when it raised anything else, or the process died.
        """
        progress = kwargs.pop("progress", None)
        connection = self._start()
        kind = None
        try:
            with self._exchange():
                connection.send((function, args, kwargs, progress is not None))
            while True:
                with self._exchange():
                    kind, value = connection.recv()
                if kind == "progress" and callable(progress):
                    progress(*value)
                elif kind == "result":
                    result: R = value
                    return result
                elif kind == "error":
                    error: Resnet8Error = value
                    raise error  # noqa: TRY301 - a call that was answered
        except BaseException:
            if kind != "error":
                self.close()  # in the middle of a call: its answer must not meet the next one
            raise

    @contextlib.contextmanager
    def _exchange(self) -> Iterator[None]:
        """Turn the end of the connection into a :class:`WorkerError`."""
        try:
            yield
        except (EOFError, ConnectionError) as error:
            raise WorkerError(
                f"the {self.name} process ended without an answer",
                found=f"exit code {self._exit_code()}",
                expected="a result (it may have run out of memory)",
                remedy=_remedy(self.log),
            ) from error

    def warm(self, module: str) -> None:
        """Let the process import ``module`` while the caller goes on; a failure shows at the first call."""
        with contextlib.suppress(ConnectionError):
            self._start().send((None, module))

    def close(self) -> None:
        """End the process, if there is one."""
        process, self._process = self._process, None
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if process is not None:
            process.terminate()
            process.join(5)
            if process.is_alive():
                process.kill()
                process.join()

    def _exit_code(self) -> int | None:
        if self._process is None:
            return None
        self._process.join(5)
        return self._process.exitcode

    def _start(self) -> Connection:
        if self._connection is not None:
            return self._connection
        if self.log is not None:
            append_to_log(self.log)
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(theirs, self.log), name=self.name, daemon=True)
        resource_tracker.ensure_running()  # its first start, which the process's would bring on, unblocks SIGINT
        with _interrupt_later():
            process.start()
            theirs.close()
            self._process, self._connection = process, ours
        return ours


class Workers:
    """Workers by name, started when first asked for; use it in a ``with`` block, which ends them all.

    Args:
        logs: Folder for their logs, ``NAME.log``; without one, what they print is thrown away.
    """

    def __init__(self, logs: Path | None = None) -> None:
        self._logs = logs
        self._workers: dict[str, Worker] = {}

    def __enter__(self) -> Workers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in self._workers.values():
            worker.close()

    def __getitem__(self, name: str) -> Worker:
        if name not in self._workers:
            self._workers[name] = Worker(name, self._logs / f"{name}.log" if self._logs else None)
        return self._workers[name]


@contextlib.contextmanager
def _interrupt_later() -> Iterator[None]:
    """Ctrl-C in this block counts at its end: a process that is half started would report that its parent is gone.

    It reaches the whole group, but processes started here never see one: they inherit the mask, and only the parent
    answers, and ends them. The mask does not hold for the parent's other threads, so its handler has to wait too.
    """
    held: list[int] = []
    handler = signal.getsignal(signal.SIGINT)
    waits = callable(handler) and threading.current_thread() is threading.main_thread()
    if waits:
        signal.signal(signal.SIGINT, lambda number, _: held.append(number))
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        if waits:
            signal.signal(signal.SIGINT, handler)
    if held and callable(handler):
        handler(held[0], None)


def _remedy(log: Path | None) -> str:
    return f"see {log}" if log else "run it with a log folder to see what it printed"


def rare_garbage_collection() -> None:
    """Look for cycles less often: importing a framework makes very many objects, of which none is garbage."""
    gc.set_threshold(100_000)


def _serve(connection: Connection, log: Path | None) -> None:
    """Answer calls until the connection ends, or the process is told to; taking a framework apart takes too long."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that temporary folders are removed
    code = 0
    try:
        _redirect(log)
        rare_garbage_collection()
        _answer(connection, log)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _answer(connection: Connection, log: Path | None) -> None:
    while True:
        try:
            function, *request = connection.recv()
        except EOFError:
            return
        if function is None:
            with contextlib.suppress(ImportError):
                importlib.import_module(request[0])
            continue
        args, kwargs, wants_progress = request
        logging.getLogger("resnet8").info("%s %s", function.__name__, " ".join(map(_described, args)))
        if wants_progress:
            kwargs["progress"] = lambda done, total: connection.send(("progress", (done, total)))
        answer: tuple[str, Any]
        try:
            answer = ("result", function(*args, **kwargs))
        except Resnet8Error as error:
            logging.getLogger("resnet8").exception("failed")
            answer = ("error", error)
        except Exception as error:
            logging.getLogger("resnet8").exception("crashed")
            words = "".join(traceback.format_exception_only(error)).strip()[:500]
            name = multiprocessing.current_process().name
            answer = ("error", WorkerError(f"the {name} process failed", found=words, remedy=_remedy(log)))
        # The parent may be gone: then there is nobody to tell.
        with contextlib.suppress(BrokenPipeError):
            connection.send(answer)


def _described(value: Any) -> str:
    """A value for the log: numbers and paths as they are, arrays by shape and digest, wherever they stand in it."""
    import numpy as np  # a worker has use for it, the command line may not

    if isinstance(value, np.ndarray):
        digest = hashlib.sha256(np.ascontiguousarray(value).data).hexdigest()
        return f"{value.dtype} {value.shape} sha256 {digest[:12]}"
    if is_dataclass(value):
        inner = ", ".join(f"{field.name}={_described(getattr(value, field.name))}" for field in fields(value))
        return f"{type(value).__name__}({inner})"
    if isinstance(value, tuple | list) and len(value) > _LISTED:
        return f"{len(value)} items sha256 {hashlib.sha256(repr(value).encode()).hexdigest()[:12]}"
    return str(value)


_LISTED = 20
"""Items of a list that the log shows; of a longer one, how many and a digest."""


def _redirect(log: Path | None) -> None:
    """Send standard output and error, of Python and of native libraries, to ``log``."""
    target = os.open(log or os.devnull, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    sys.stdout.flush()
    sys.stderr.flush()
    os.dup2(target, 1)
    os.dup2(target, 2)
    os.close(target)
    start_logging(logging.StreamHandler(sys.stderr))
