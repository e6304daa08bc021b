"""Worker processes: answers, errors, progress, death and interruption."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import multiprocessing.util
import os
import signal
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import pytest
from in_workers import (
    ROOM,
    add,
    count,
    die,
    divide,
    ignores_interrupts,
    imported,
    kill_oneself,
    leave,
    leave_a_file,
    pid,
    refuse,
    room,
    setting,
    take,
    talk,
    unsendable,
    within_limits,
)

from resnet8.data.cifar10 import random_images
from resnet8.errors import DataError, StorageError, WorkerError
from resnet8.workers import Worker, Workers

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def shared() -> Iterator[Worker]:
    """For tests that leave it alive."""
    worker = Worker("shared")
    yield worker
    worker.close()


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Worker]:
    worker = Worker("fragile", tmp_path / "logs" / "fragile.log")
    yield worker
    worker.close()


def running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def test_answers_from_one_other_process(shared: Worker) -> None:
    assert shared.call(add, 2, b=3) == 5
    assert shared.call(pid) == shared.call(pid) != os.getpid()


def test_progress_comes_back_in_order(shared: Worker) -> None:
    heard: list[tuple[int, int]] = []
    assert shared.call(count, 3, progress=lambda done, total: heard.append((done, total))) == 3
    assert heard == [(1, 3), (2, 3), (3, 3)]
    assert shared.call(count, 3) == 3  # nobody listens


def test_project_errors_come_as_they_were_raised(shared: Worker) -> None:
    process = shared.call(pid)
    with pytest.raises(DataError) as caught:
        shared.call(refuse, "bad images")
    assert str(caught.value) == "bad images: found 1, expected 2; go on"
    assert shared.call(pid) == process  # it lives on


def test_other_errors_become_worker_errors(shared: Worker) -> None:
    process = shared.call(pid)
    with pytest.raises(WorkerError, match=r"the shared process failed: found ZeroDivisionError: .*; run it with a log"):
        shared.call(divide, 1, 0)
    assert shared.call(divide, 1, 2) == 0.5
    assert shared.call(pid) == process


def test_interrupts_are_the_parents_business(shared: Worker) -> None:
    assert shared.call(ignores_interrupts)
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])  # not masked here


@pytest.mark.parametrize(
    ("function", "arguments", "ending"),
    [
        (die, (3,), "exit code 3"),
        (leave, (4,), "exit code 4"),
        (kill_oneself, (), "exit code -9 (Killed)"),
        (unsendable, (), "exit code 1"),
    ],
    ids=["os._exit", "sys.exit", "SIGKILL", "unsendable"],
)
def test_a_death_is_reported_and_the_next_call_has_a_fresh_process(
    worker: Worker, function: object, arguments: tuple[int, ...], ending: str
) -> None:
    first = worker.call(pid)
    with pytest.raises(WorkerError, match="fragile process ended without an answer") as caught:
        worker.call(function, *arguments)  # type: ignore[arg-type]
    assert caught.value.found == ending
    assert ("out of memory" in str(caught.value)) == (function is kill_oneself)
    assert str(worker.log) in str(caught.value.remedy)
    assert not running(first)
    assert worker.call(pid) != first
    assert worker.call(add, 1, b=1) == 2


def test_a_process_that_died_between_two_calls(worker: Worker) -> None:
    process = worker.call(pid)
    os.kill(process, signal.SIGKILL)
    with pytest.raises(WorkerError, match="exit code -9"):
        worker.call(pid)
    assert worker.call(add, 1) == 1


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, DataError("from the listener"), BrokenPipeError()])
def test_an_error_in_the_progress_callback(worker: Worker, error: BaseException | type[BaseException]) -> None:
    """The rest of the call's answers must not meet the next call: it has a fresh process."""
    first = worker.call(pid)

    def listen(done: int, total: int) -> None:
        if done == 2:
            raise error

    with pytest.raises(error if isinstance(error, type) else type(error)):
        worker.call(count, 5, progress=listen)
    assert worker.call(add, 20, b=3) == 23
    assert worker.call(pid) != first
    assert not running(first)


def test_limits_of_memory_and_time_hold_for_their_block(worker: Worker) -> None:
    process = worker.call(pid)
    with pytest.raises(WorkerError, match="found MemoryError"):
        worker.call(within_limits, "room", memory=2**28, seconds=60.0)
    assert worker.call(room) == ROOM
    assert worker.call(within_limits, "spin a little", memory=2**40, seconds=60.0) == 0
    assert worker.call(pid) == process
    with pytest.raises(WorkerError, match=r"exit code -27 \(Profiling timer expired\)"):
        worker.call(within_limits, "spin", memory=2**40, seconds=0.05)


def test_elsewhere_there_are_no_limits() -> None:
    assert within_limits("room", memory=2**28, seconds=60.0) == ROOM


def test_a_script_is_not_run_again(tmp_path: Path) -> None:
    script = tmp_path / "script.py"  # as people write them: without a guard
    script.write_text(
        "import os\nfrom resnet8.workers import Workers\nprint('once')\n"
        "with Workers() as workers:\n    print(workers['w'].call(os.getppid) == os.getpid())\nprint(__spec__)\n"
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "once\nTrue\nNone\n", "")


def test_arguments_that_cannot_be_sent(worker: Worker) -> None:
    with pytest.raises(TypeError, match="pickle"):
        worker.call(add, threading.Lock())  # type: ignore[arg-type]
    assert worker.call(add, 1) == 1


def test_close_ends_it_and_may_be_repeated(worker: Worker) -> None:
    worker.close()  # not even started
    process = worker.call(pid)
    worker.close()
    worker.close()
    assert not running(process)
    assert worker.call(pid) != process


def test_everything_said_goes_to_the_log(worker: Worker, capfd: pytest.CaptureFixture[str]) -> None:
    worker.call(talk)
    with pytest.raises(DataError):
        worker.call(refuse, "bad images")
    with pytest.raises(WorkerError, match=r"see .*fragile\.log"):
        worker.call(divide, 1, 0)
    worker.close()
    assert worker.log is not None
    said = worker.log.read_text()
    for words in ("by print", "by a native library", "by puts", "INFO some.library: by logging", "by a warning"):
        assert words in said
    assert "bad images" in said
    assert "ZeroDivisionError" in said
    assert "Traceback" in said
    assert capfd.readouterr() == ("", "")


def test_the_log_says_what_was_called_without_its_pixels(worker: Worker) -> None:
    split = random_images(30)
    worker.call(take, split, Path("model.onnx"), tuple(range(1000)))
    assert worker.log is not None
    text = worker.log.read_text()
    digest = hashlib.sha256(split.images.tobytes()).hexdigest()[:12]
    assert f"take Split(images=uint8 (30, 32, 32, 3) sha256 {digest}, labels=int64 (30,) sha256 " in text
    assert "source=DataSource(directory=none, dataset=random images" in text
    assert "model.onnx 1000 items sha256 " in text
    assert len(text) < 2000


def test_the_log_is_appended_to(tmp_path: Path) -> None:
    log = tmp_path / "w.log"
    log.write_text("from the run before\n")
    worker = Worker("w", log)
    worker.call(add, 1)
    worker.close()
    assert log.read_text().startswith("from the run before\n")
    assert "add 1" in log.read_text()


@pytest.mark.parametrize(("said", "expected"), [(None, "1"), ("3", "3")])
def test_one_thread_is_left_to_numpy_unless_said_otherwise(
    said: str | None, expected: str, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    if said is not None:
        monkeypatch.setenv("OPENBLAS_NUM_THREADS", said)
    assert worker.call(setting, "OPENBLAS_NUM_THREADS") == expected


def test_without_a_log_nothing_is_said(shared: Worker, capfd: pytest.CaptureFixture[str]) -> None:
    shared.call(talk)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("obstacle", ["folder is a file", "log is a folder"])
def test_a_log_that_cannot_be_written(tmp_path: Path, obstacle: str) -> None:
    log = tmp_path / "logs" / "w.log"
    if obstacle == "folder is a file":
        log.parent.touch()
    else:
        log.mkdir(parents=True)
    with pytest.raises(StorageError, match=r"cannot write the log .*w\.log"):
        Worker("w", log).call(add, 1)


def test_full_disk_for_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> NoReturn:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "mkdir", full)
    with pytest.raises(StorageError, match="No space left on device"):
        Worker("w", tmp_path / "logs" / "w.log").call(add, 1)


def test_what_it_leaves_among_temporary_files_goes_with_it(
    worker: Worker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As TensorFlow and ONNX Runtime leave theirs, whatever way the process ends."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    Path(tempfile.gettempdir()).mkdir()
    for end in (worker.close, lambda: worker.call(die, 3)):
        left = worker.call(leave_a_file)
        assert left.is_file()
        assert left.is_relative_to(tmp_path / "temporary")
        with contextlib.suppress(WorkerError):
            end()
        worker.call(pid)
        assert not left.exists()
    worker.close()
    assert list(Path(tempfile.gettempdir()).iterdir()) == []


def test_what_killed_processes_left_is_cleared_though_none_is_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".resnet8-0123456789abcdef.part" / "inside").mkdir(parents=True)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with Workers():
        assert list(tmp_path.iterdir()) == []


def test_no_room_for_temporary_files(worker: Worker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    with pytest.raises(StorageError, match=r"temporary.*TMPDIR"):
        worker.call(pid)


def test_warm_imports_ahead(worker: Worker) -> None:
    worker.warm("colorsys")
    assert worker.call(imported, "colorsys")
    worker.warm("no_such_module_anywhere")  # shows when it is needed
    worker.warm("refused_import")  # this too
    assert worker.call(add, 1) == 1


def test_workers_by_name(tmp_path: Path) -> None:
    with Workers(tmp_path / "logs") as workers:
        assert workers["a"] is workers["a"] is not workers["b"]
        processes = [workers[name].call(pid) for name in "ab"]
        assert processes[0] != processes[1]
        assert not list(tmp_path.rglob("c.log"))
    assert sorted(path.name for path in (tmp_path / "logs").iterdir()) == ["a.log", "b.log"]
    assert not any(map(running, processes))


def test_workers_end_with_an_error_too() -> None:
    processes = []
    with pytest.raises(KeyboardInterrupt), Workers() as workers:  # noqa: PT012
        processes.append(workers["a"].call(pid))
        raise KeyboardInterrupt
    assert not running(processes[0])


def test_it_ends_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    """Whatever it computes, even what holds the interpreter; the system gives back its lock on a file."""
    (tmp_path / "computing.py").write_text(
        "import fcntl, os\n"
        "def compute(progress):\n"
        "    alive = open('alive', 'w')\n"
        "    fcntl.flock(alive, fcntl.LOCK_EX)\n"
        "    alive.write(str(os.getpid()))\n"
        "    alive.flush()\n"
        "    progress(1, 1)\n"
        "    sum(range(10**15))\n"
    )
    program = tmp_path / "program.py"
    program.write_text(
        "import os, signal\n"
        "from computing import compute\n"
        "from resnet8.workers import Worker\n"
        "Worker('w').call(compute, progress=lambda *_: os.kill(os.getpid(), signal.SIGKILL))\n"
    )
    killed = subprocess.run([sys.executable, str(program)], cwd=tmp_path, timeout=60, check=False)
    assert killed.returncode == -signal.SIGKILL
    with (tmp_path / "alive").open() as alive, ThreadPoolExecutor(1) as pool:
        given_back = pool.submit(fcntl.flock, alive, fcntl.LOCK_EX)
        try:
            given_back.result(20)
        except TimeoutError:
            os.kill(int(alive.read()), signal.SIGKILL)
            raise


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_it_starts_counts_when_it_has(
    worker: Worker, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], number: signal.Signals
) -> None:
    """Half started, it would print that nobody told it what to do."""
    spawn = multiprocessing.util.spawnv_passfds

    def signalled(*arguments: object) -> int:
        process: int = spawn(*arguments)
        os.kill(os.getpid(), number)
        return process

    before = signal.signal(number, lambda *_: sys.exit(number))
    try:
        with monkeypatch.context() as patch, pytest.raises(SystemExit):  # noqa: PT012
            patch.setattr(multiprocessing.util, "spawnv_passfds", signalled)
            worker.call(pid)
    finally:
        signal.signal(number, before)
    assert worker.call(add, 1) == 1
    worker.close()
    assert capfd.readouterr() == ("", "")


def test_interrupt_of_the_whole_group(tmp_path: Path) -> None:
    """Ctrl-C as a terminal sends it, to parent and worker, in the middle of a call: all end, only the parent speaks."""
    (tmp_path / "waiting.py").write_text(
        "import os, signal, time\n"
        "def wait(progress):\n"
        "    progress(os.getpid(), int(signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, [])))\n"
        "    time.sleep(600)\n"
    )
    program = tmp_path / "program.py"
    program.write_text(
        "import os, signal, sys\n"
        "from resnet8.workers import Workers\n"
        "from waiting import wait\n"
        "def interrupt(process, deaf):\n"
        "    print(process, deaf, flush=True)\n"
        "    os.killpg(0, signal.SIGINT)\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it\n"
        "try:\n"
        "    with Workers() as workers:\n"
        "        workers['w'].call(wait, progress=interrupt)\n"
        "except KeyboardInterrupt:\n"
        "    sys.exit(130)\n"
    )
    done = subprocess.run(
        [sys.executable, str(program)], capture_output=True, text=True, start_new_session=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (130, "")
    process, deaf = map(int, done.stdout.split())
    assert not running(process)
    assert deaf  # the first worker of a program too
