"""Work on many images, batch by batch on every CPU, that reports its progress and can be stopped."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TYPE_CHECKING, TypeVar

from threadpoolctl import ThreadpoolController

from resnet8.environment import cpu
from resnet8.workers import no_progress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from resnet8.workers import Progress

T = TypeVar("T")

DEFAULT_BATCH = 50
"""Images fed at once: large enough to amortize a call, small enough for the activations to stay in the cache."""


def batched(
    work: Callable[[slice], T],
    count: int,
    progress: Progress = no_progress,
    size: int = DEFAULT_BATCH,
    threads: int | None = None,
) -> Iterator[T]:
    """``work`` on slices of ``count`` images, in order, on several threads; an interrupt drops what has not begun.

    NumPy's matrix products use one thread each meanwhile: more would wait for one another.

    Args:
        work: Called with the slice of each batch; NumPy's large operations let other threads run.
        count: How many images there are.
        progress: Called after each batch with the images done. When it raises, what has not begun is dropped.
        size: Images in a batch.
        threads: How many; one for each CPU when left out.
    """
    threads = threads or cpu().logical_cpus
    slices = [slice(start, min(start + size, count)) for start in range(0, count, size)]
    pool = ThreadPoolExecutor(threads)
    try:
        with _blas().limit(limits=1):
            results = map(work, slices) if threads == 1 or len(slices) < 2 else pool.map(work, slices)
            for one, result in zip(slices, results, strict=True):
                progress(one.stop, count)
                yield result
    finally:
        pool.shutdown(cancel_futures=True)


@cache
def _blas() -> ThreadpoolController:
    """NumPy's own library of matrix products."""
    return ThreadpoolController().select(internal_api="openblas")
