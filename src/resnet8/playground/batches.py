"""Work on many images, batch by batch on every CPU, that reports its progress and can be stopped."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

from resnet8.environment import cpu
from resnet8.evaluation import DEFAULT_BATCH
from resnet8.workers import no_progress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from resnet8.workers import Progress

T = TypeVar("T")


def batched(
    work: Callable[[slice], T], count: int, progress: Progress = no_progress, size: int = DEFAULT_BATCH
) -> Iterator[T]:
    """``work`` on slices of ``count`` images, in order, on one thread for each CPU.

    Args:
        work: Called with the slice of each batch; NumPy's large operations let other threads run.
        count: How many images there are.
        progress: Called after each batch with the images done. When it raises, what has not begun is dropped.
        size: Images in a batch.
    """
    slices = [slice(start, min(start + size, count)) for start in range(0, count, size)]
    if len(slices) < 2:
        for one in slices:
            result = work(one)
            progress(one.stop, count)
            yield result
        return
    pool = ThreadPoolExecutor(cpu().logical_cpus)
    try:
        for one, result in zip(slices, pool.map(work, slices), strict=True):
            progress(one.stop, count)
            yield result
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
