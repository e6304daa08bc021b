"""Cells on a Dask cluster, by joblib's Dask backend.

Dask itself does again what a worker took with it. What joblib's backend would wait for without end is raised here: a
cell that ended its workers once too often, and one that was cancelled because the scheduler is gone.
"""

from __future__ import annotations

import logging
import platform
import time
import warnings
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from joblib import Parallel, delayed

from resnet8.environment import library_versions
from resnet8.errors import Resnet8Error, WorkerError, missing_extra
from resnet8.sweeps import cells
from resnet8.sweeps.places import Place, Task

try:
    from distributed import CancelledError, Client, KilledWorker
    from joblib._dask import DaskDistributedBackend
except ModuleNotFoundError as error:
    raise missing_extra(error.name or "distributed", "dask") from error

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping
    from concurrent.futures import Future

    from resnet8.sweeps.places import Computable, Shared

SECONDS = 10
"""How long a scheduler, or a first worker, is waited for."""


class Cluster(Place):
    """A Dask cluster.

    Args:
        address: Of its scheduler, like ``tcp://192.0.2.1:8786``.
        seconds: How long the scheduler, or a first worker, is waited for.

    Raises:
        WorkerError: when no scheduler is there, it has no workers, or they have other versions than this process.
    """

    losses = (CancelledError, KilledWorker, OSError)

    def __init__(self, address: str, seconds: float = SECONDS) -> None:
        self._address, self._seconds = address, seconds
        # What is said there is said here in one line.
        logging.getLogger("distributed").setLevel(logging.CRITICAL)
        for name in ("core", "client", "comm", "batched", "protocol", "utils"):
            logging.getLogger(f"distributed.{name}").setLevel(logging.CRITICAL)
        try:
            with warnings.catch_warnings(action="ignore"):  # of versions, which are compared below
                self._client = Client(address, timeout=seconds, set_as_default=False, name="resnet8")
        except (OSError, ValueError, TypeError) as error:
            raise WorkerError(
                f"no Dask scheduler answers at {address}",
                found=f"{type(error).__name__}: {error!s:.200}",
                expected=f"one, within {seconds:g} seconds",
                remedy="start one with «dask scheduler», and name the address that it prints",
            ) from error
        try:
            self._require_workers()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Leave the cluster, which goes on."""
        with suppress(Exception):  # it may be gone
            self._client.close(timeout=self._seconds)

    def _require_workers(self) -> None:
        """Check that there are workers, and that they have what this process has.

        Raises:
            WorkerError: when not.
        """
        try:
            self._client.wait_for_workers(1, timeout=self._seconds)
            found = self._client.run(installed, on_error="return")
        except (OSError, CancelledError) as error:
            raise WorkerError(
                f"the Dask scheduler at {self._address} has no workers",
                found=f"none within {self._seconds:g} seconds",
                expected="at least one",
                remedy=f"start some with «dask worker {self._address}»",
            ) from error
        for worker, versions in sorted(found.items()):
            _require_same(worker, versions)

    def _attempt(self, material: Shared, waiting: Mapping[int, Computable]) -> Generator[tuple[int, Any]]:
        own = installed()
        # On all workers from the beginning: what only one has is lost with it.
        backend = _Backend(client=self._client, scatter=list(material.large))
        parallel = Parallel(backend=backend, return_as="generator_unordered", batch_size=1, pre_dispatch="all")
        asked: dict[int, Task] = {index: cell.task(material) for index, cell in waiting.items()}
        tasks = (
            delayed(_measured)(index, own, task.function, *task.about, **task.asked) for index, task in asked.items()
        )
        try:
            yield from parallel(tasks)
        except (*self.losses, Resnet8Error):
            raise
        except Exception as error:
            raise WorkerError(
                f"a cell failed on the cluster of {self._address}",
                found=f"{type(error).__name__}: {error!s:.200}",
                expected="an answer",
                remedy="look into the workers' logs; finished cells are kept",
            ) from error

    def _there(self) -> bool:
        until = time.monotonic() + self._seconds
        while self._client.status != "running":  # it looks for the scheduler by itself
            if self._client.status == "closed" or time.monotonic() > until:
                return False
            time.sleep(0.1)
        self._require_workers()
        return True

    def _gone(self, error: BaseException, left: int) -> WorkerError:
        if isinstance(error, KilledWorker):
            return WorkerError(
                f"workers of {self._address} end again and again",
                found=f"{type(error).__name__}, with {left} cells left",
                expected="an answer",
                remedy="is there enough memory? Give each worker more, or one thread; finished cells are kept",
            )
        return WorkerError(
            f"the Dask scheduler at {self._address} is gone",
            found=f"{type(error).__name__}, with {left} cells left",
            expected="a scheduler until the last cell is finished",
            remedy="start it again, and run this command again: finished cells are kept",
        )


def installed() -> dict[str, str]:
    """What must be the same here and on a worker: all that computes, and all that carries cells there."""
    carrying = library_versions(("cloudpickle", "dask", "distributed", "joblib", "msgpack"))
    return {"python": platform.python_version(), **carrying, **cells.versions()}


def _require_same(worker: str, found: object) -> None:
    """Check what a worker said that it has.

    Raises:
        WorkerError: when it is not what this process has.
    """
    own = installed()
    if found == own:
        return
    if isinstance(found, dict):
        other = {name for name in own.keys() | found.keys() if own.get(name) != found.get(name)}
        theirs, ours = (_named(one, other) for one in (found, own))
    else:
        theirs, ours = f"{type(found).__name__}: {found!s:.200}", "this package, and the same libraries"
    raise WorkerError(
        f"the worker {worker} has other versions than this process",
        found=theirs,
        expected=ours,
        remedy="install the same there, and start the worker again",
    )


def _named(versions: Mapping[str, str], names: set[str]) -> str:
    return ", ".join(f"{name} {versions.get(name, 'missing')[:12]}" for name in sorted(names))


def _measured(
    index: int, expected: dict[str, str], function: Callable[..., Any], *about: Any, **asked: Any
) -> tuple[int, Any]:
    """The cell, on a worker that may have come later than the others."""
    if installed() != expected:
        raise WorkerError(
            f"the worker on {platform.node()} has other versions than the process that asks it",
            found=_named(installed(), set(expected)),
            expected=_named(expected, set(expected)),
            remedy="install the same there, and start the worker again; finished cells are kept",
        )
    return index, function(*about, **asked)


class _Lost:
    """What became of a task that has no result."""

    def __init__(self, error: BaseException) -> None:
        self.error = error


class _Backend(DaskDistributedBackend):  # type: ignore[misc]
    """joblib's, which tells also of tasks that have no result."""

    def effective_n_jobs(self, n_jobs: int) -> int:
        """How many cells run at once; of one, joblib would not ask the cluster at all."""
        return max(2, int(super().effective_n_jobs(n_jobs)))

    def submit(self, func: Any, callback: Callable[[Any], None] | None = None) -> Any:
        future = super().submit(func, callback)

        def failed(done: Future[Any]) -> None:
            if callback is not None and (error := done.exception()) is not None:
                callback(_Lost(error))

        future.add_done_callback(failed)
        return future

    def retrieve_result_callback(self, out: Any) -> Any:
        if isinstance(out, _Lost):
            raise out.error
        if isinstance(out, BaseException):  # of a cancelled task
            raise out
        return super().retrieve_result_callback(out)
