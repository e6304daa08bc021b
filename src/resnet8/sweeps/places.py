"""Where cells are computed: in processes of this machine, or on a Dask cluster. Both by joblib.

A cell that a worker takes with it is done again. What cannot go on ends in one error, and finished cells are kept.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from abc import ABC, abstractmethod
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from joblib import Parallel, delayed, parallel_config
from joblib.externals.loky.process_executor import BrokenProcessPool, TerminatedWorkerError

from resnet8.environment import cpu
from resnet8.errors import QuantizationError, WorkerError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Mapping
    from typing import Self

PATIENCE = 3
"""How often in a row work may be lost without that a cell is finished in between."""


@dataclass(frozen=True)
class Task:
    """What computes a cell, in whatever process.

    Attributes:
        function: A function of a module.
        about: Its arguments.
        asked: Those that it takes by name.
    """

    function: Callable[..., Any]
    about: tuple[Any, ...]
    asked: dict[str, Any] = field(default_factory=dict)


class Shared(Protocol):
    """What the cells of a question share."""

    @property
    def large(self) -> tuple[Any, ...]:
        """Arguments of many tasks, that are better sent once."""


class Computable(Protocol):
    """A cell."""

    @property
    def shared(self) -> tuple[Any, ...]:
        """Cells with the same here are computed one after the other; it can be sorted."""

    def task(self, material: Any, /) -> Task:
        """What computes it, of what it shares with others."""


class Place(ABC):
    """Where cells are computed; a context that is left when all is done."""

    losses: tuple[type[BaseException], ...] = ()
    """What an attempt ends with that lost workers."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:  # noqa: B027 - not every place has something to leave
        """Leave it."""

    def measured(self, material: Shared, waiting: Mapping[int, Computable]) -> Generator[tuple[int, Any]]:
        """The numbers of cells under the keys of ``waiting``, as they are finished.

        Raises:
            WorkerError: when the place gives out.
        """
        left, vain = dict(sorted(waiting.items(), key=lambda one: one[1].shared)), 0
        while left:
            before = len(left)
            try:
                with closing(self._attempt(material, dict(left))) as finished:
                    for index, one in finished:
                        del left[index]
                        yield index, one
            except self.losses as error:
                vain = vain + 1 if len(left) == before else 0
                if vain >= PATIENCE or not self._there():
                    raise self._gone(error, len(left)) from error

    @abstractmethod
    def _attempt(self, material: Shared, waiting: Mapping[int, Computable]) -> Generator[tuple[int, Any]]:
        """The same, until workers are lost."""

    def _there(self) -> bool:
        """Whether another attempt makes sense."""
        return True

    @abstractmethod
    def _gone(self, error: BaseException, left: int) -> WorkerError:
        """What is said when none does."""


def _tasks(material: Shared, waiting: Mapping[int, Computable]) -> Iterator[Any]:
    for index, cell in waiting.items():
        task = cell.task(material)
        yield delayed(_measured)(index, task.function, *task.about, **task.asked)


def _measured(index: int, function: Callable[..., Any], *about: Any, **asked: Any) -> tuple[int, Any]:
    return index, function(*about, **asked)


class Here(Place):
    """Processes of this machine.

    Args:
        jobs: How many; one for each CPU when left out, and with one everything happens in this process.

    Raises:
        QuantizationError: for fewer than one.
    """

    losses = (BrokenProcessPool, TerminatedWorkerError)

    def __init__(self, jobs: int | None = None) -> None:
        self.jobs = cpu().logical_cpus if jobs is None else jobs
        if self.jobs < 1:
            raise QuantizationError("the number of processes is not usable", found=str(jobs), expected="1 or more")

    def close(self) -> None:
        """Drop what this process kept for the next cell."""
        from resnet8.sweeps import cells  # it imports this module

        cells.forget()

    def _attempt(self, material: Shared, waiting: Mapping[int, Computable]) -> Generator[tuple[int, Any]]:
        if self.jobs == 1:
            config = parallel_config(backend="sequential")
        else:
            # Each process computes on one thread: more of them would fight for the same CPUs.
            config = parallel_config(
                backend="loky", n_jobs=min(self.jobs, len(waiting)), inner_max_num_threads=1, initializer=_quiet
            )
        with config:
            yield from Parallel(return_as="generator_unordered", batch_size=1)(_tasks(material, waiting))

    def _gone(self, error: BaseException, left: int) -> WorkerError:
        return WorkerError(
            "the processes that compute end again and again",
            found=f"{type(error).__name__}, with {left} cells left",
            expected="an answer",
            remedy="is there enough memory? Fewer at once need less: --jobs; finished cells are kept",
        )


def _quiet() -> None:
    """In a process that computes: Ctrl-C is the parent's to answer, and without the parent there is nothing to do."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def place(jobs: int | None = None, scheduler: str | None = None) -> Place:
    """The processes of this machine, or the cluster of the scheduler that is named.

    Raises:
        QuantizationError: for fewer than one process.
        MissingExtraError: when Dask is needed and not installed.
        WorkerError: when no scheduler is there, it has no workers, or they have other versions.
    """
    if scheduler is None:
        return Here(jobs)
    if jobs is not None:
        raise QuantizationError(
            "a number of processes and a scheduler exclude each other",
            found=f"--jobs {jobs} --scheduler {scheduler}",
            expected="one of them",
            remedy="start as many Dask workers as cells shall run at once",
        )
    from resnet8.sweeps.cluster import Cluster

    return Cluster(scheduler)
