"""One process for each framework: TensorFlow and torch abort when they meet in one.

A :class:`Worker` is a fresh interpreter that answers calls one after another. Whatever its libraries print or log goes
to a file, whatever they write aside to a folder that is removed, progress comes back to the caller, and an interrupt
ends it at once.
"""

from __future__ import annotations

import contextlib
import fcntl
import gc
import hashlib
import importlib
import logging
import multiprocessing
import os
import resource
import signal
import sys
import threading
import traceback
from dataclasses import fields, is_dataclass
from importlib.machinery import ModuleSpec
from multiprocessing import resource_tracker
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, TypeVar

from resnet8 import streams
from resnet8.errors import Resnet8Error, WorkerError
from resnet8.files import clear, scratch_folder, writing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from multiprocessing.connection import Connection
    from multiprocessing.process import BaseProcess
    from pathlib import Path

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
        with path.open("a", encoding="utf-8", errors="backslashreplace") as stream:
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


def within(progress: Progress, before: int, total: int) -> Progress:
    """A :class:`Progress` for a part of the work: what it is told is done comes after ``before`` of ``total``."""
    return lambda done, _: progress(before + done, total)


class Worker:
    """A process of its own, started at the first call; :meth:`close` it (:class:`Workers` does).

    Args:
        name: Shown in errors and as the process's name.
        log: File that everything the process prints or logs is appended to; without one it is thrown away.
    """

    def __init__(self, name: str, log: Path | None = None) -> None:
        self.name = name
        self.log = log
        self._running: tuple[BaseProcess, Connection] | None = None
        self._temporary = contextlib.ExitStack()

    def call(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """``function(*args, **kwargs)``, run in the process; ``function`` must be importable by name.

        A keyword argument ``progress`` is called here while the function runs there.

        Raises:
            Resnet8Error: the function's own, as raised there.
            WorkerError: when it raised anything else, or the process died.
        """
        progress: Any = kwargs.pop("progress", None)
        kind = "progress"
        value: Any = None
        try:
            for kind, value in self._answers(function, args, kwargs, progress is not None):
                if kind != "progress":
                    break
                progress(*value)
        finally:
            if kind == "progress":
                self.close()  # in the middle of a call: its answer must not meet the next one
        if kind == "result":
            result: R = value
            return result
        raise value if isinstance(value, Resnet8Error) else self._error("failed", found=value)

    def warm(self, module: str) -> None:
        """Let the process import ``module`` while the caller goes on; a failure shows at the first call."""
        with contextlib.suppress(ConnectionError):
            self._start()[1].send(module)

    def close(self) -> None:
        """End the process, if there is one."""
        if self._running is not None:
            (process, connection), self._running = self._running, None
            connection.close()
            process.terminate()
            process.join(5)
            process.kill()  # a computation that holds the interpreter
            process.join()
        self._temporary.close()

    def _answers(self, *request: object) -> Iterator[tuple[str, Any]]:
        """What the process says to a request, as it comes: ``progress``, and in the end ``result`` or an error."""
        process, connection = self._start()
        try:
            connection.send(request)
            while True:
                yield connection.recv()
        except (EOFError, ConnectionError) as error:
            process.join(5)
            raise self._error(
                "ended without an answer",
                found=_ending(process.exitcode),
                expected=f"a result{' (it may have run out of memory)' if process.exitcode == -signal.SIGKILL else ''}",
            ) from error

    def _error(self, what: str, **facts: str) -> WorkerError:
        remedy = f"see {self.log}" if self.log else "run it with a log folder to see what it printed"
        return WorkerError(f"the {self.name} process {what}", **facts, remedy=remedy)

    def _start(self) -> tuple[BaseProcess, Connection]:
        if self._running is None:
            streams.open_closed()  # the process would take the pipe to it for its output
            if self.log is not None:
                append_to_log(self.log)
            self._temporary.close()
            temporary = self._temporary.enter_context(scratch_folder())
            context = multiprocessing.get_context("spawn")
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(theirs, self.log, temporary), name=self.name, daemon=True)
            resource_tracker.ensure_running()  # its first start, which the process's would bring on, unblocks SIGINT
            with _interrupt_later(), _no_script():
                process.start()
                theirs.close()
                self._running = process, ours
        return self._running


class Workers(dict[str, Worker]):
    """Workers by name, made when first asked for; use it in a ``with`` block, which ends them all.

    Args:
        logs: Folder for their logs, ``NAME.log``; without one, what they print is thrown away.
    """

    def __init__(self, logs: Path | None = None) -> None:
        super().__init__()
        self._logs = logs

    def __missing__(self, name: str) -> Worker:
        self[name] = Worker(name, self._logs / f"{name}.log" if self._logs else None)
        return self[name]

    def __enter__(self) -> Workers:
        clear()  # there may be nothing to do that needs a process, and so none that did it
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self.values():
            worker.close()


@contextlib.contextmanager
def _interrupt_later() -> Iterator[None]:
    """Signals in this block count at its end: a process that is half started would report that its parent is gone.

    Ctrl-C reaches the whole group, but processes started here never see one: they inherit the mask, and only the parent
    answers, and ends them. The mask does not hold for the parent's other threads, so its handler has to wait too.
    """
    held: list[int] = []
    handlers = {}
    if threading.current_thread() is threading.main_thread():
        for one in (signal.SIGINT, signal.SIGTERM):
            handlers[one] = signal.signal(one, lambda number, _: held.append(number))
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for one, handler in handlers.items():
            if handler is not None:
                signal.signal(one, handler)
    for number in held:
        signal.raise_signal(number)


@contextlib.contextmanager
def _no_script() -> Iterator[None]:
    """A process that starts in this block does not run the caller's script once more, as it would by itself.

    It may have no guard, and the page's notebook takes seconds. Functions of the script cannot be called then.
    """
    script = sys.modules["__main__"]
    with _STARTING:
        spec, script.__spec__ = script.__spec__, ModuleSpec("__main__", None)
        try:
            yield
        finally:
            script.__spec__ = spec


_STARTING = threading.Lock()


def _ending(code: int | None) -> str:
    """How a process ended, with the name of the signal that ended it."""
    name = "" if code is None or code >= 0 else f" ({signal.strsignal(-code)})"
    return f"exit code {code}{name}"


def is_worker() -> bool:
    """Whether this process is a worker, or another that can have none."""
    return multiprocessing.current_process().daemon


@contextlib.contextmanager
def limited(memory: int, seconds: float) -> Iterator[None]:
    """In a worker this block may take ``memory`` bytes and ``seconds`` of processor time.

    Beyond the memory an allocation fails; beyond the time the system ends the process, whatever it is in. Elsewhere
    there are no limits: the process is not there for the block alone.
    """
    if not is_worker():
        yield
        return
    before = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (memory if before[1] < 0 else min(memory, before[1]), before[1]))
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        resource.setrlimit(resource.RLIMIT_DATA, before)


def rare_garbage_collection() -> None:
    """Look for cycles less often: importing a framework makes very many objects, of which none is garbage."""
    gc.set_threshold(100_000)


def _serve(connection: Connection, log: Path | None, temporary: Path) -> None:
    """Answer calls until the connection ends, or the process is told to; taking a framework apart takes too long."""
    import tempfile  # a worker has use for it, the command line may not

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that its log is whole
    code = 0
    try:
        _end_with_parent()
        os.environ["TMPDIR"] = tempfile.tempdir = str(temporary)  # what the frameworks leave there goes with it
        # Images are divided among threads; NumPy, which is not there yet, would have its own fight them for the CPUs.
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
        _redirect(log)
        rare_garbage_collection()
        while True:
            request = connection.recv()
            if isinstance(request, str):
                with contextlib.suppress(ImportError, Resnet8Error):
                    importlib.import_module(request)
            else:
                connection.send(_answer(connection, *request))
    except (EOFError, ConnectionError):
        pass  # the parent is gone: there is nobody to tell
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _end_with_parent() -> None:
    """Let the system end this process when the parent does, by the signal that the pipe between them sends.

    Without that, a killed parent's computation would go on to its end, and nothing of Python's runs while it holds the
    interpreter.
    """
    parent = multiprocessing.parent_process()
    if parent is not None:
        with contextlib.suppress(OSError):  # a system whose pipes send none
            fcntl.fcntl(parent.sentinel, fcntl.F_SETOWN, os.getpid())
            fcntl.fcntl(parent.sentinel, fcntl.F_SETFL, fcntl.fcntl(parent.sentinel, fcntl.F_GETFL) | os.O_ASYNC)
    if parent is None or not parent.is_alive():
        raise EOFError


def _answer(
    connection: Connection, function: Callable[..., object], args: Any, kwargs: Any, wants_progress: bool
) -> tuple[str, object]:
    """What comes of a call: its result, or its error, that of another family in words."""
    log = logging.getLogger("resnet8")
    log.info("%s %s", function.__name__, " ".join(map(_described, args)))
    if wants_progress:
        kwargs["progress"] = lambda done, total: connection.send(("progress", (done, total)))
    try:
        return "result", function(*args, **kwargs)
    except Resnet8Error as error:
        log.exception("failed")
        return "error", error
    except Exception as error:
        log.exception("crashed")
        return "error", "".join(traceback.format_exception_only(error)).strip()[:500]


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
    os.dup2(target, 1)
    os.dup2(target, 2)
    os.close(target)
    streams.prepare()  # a full disk keeps the log short, and ends nothing
    start_logging(logging.StreamHandler(sys.stderr))
