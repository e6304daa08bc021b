"""Work in batches: in order, reported, stopped."""

from __future__ import annotations

import threading

import pytest

from resnet8.batches import batched


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("count", [0, 1, 7, 10, 25])
def test_batches_come_in_order_and_report(count: int, threads: int) -> None:
    seen: list[tuple[int, int]] = []
    parts = list(
        batched(lambda part: (part.start, part.stop), count, lambda *done: seen.append(done), size=10, threads=threads)
    )
    assert parts == [(start, min(start + 10, count)) for start in range(0, count, 10)]
    assert seen == [(stop, count) for _, stop in parts]


def test_batches_are_worked_on_at_once() -> None:
    together = threading.Barrier(2, timeout=30)
    assert list(batched(lambda part: together.wait() >= 0, 2, size=1, threads=2)) == [True, True]


def test_what_has_not_begun_is_dropped_when_the_progress_raises() -> None:
    begun: list[int] = []
    stopped = threading.Event()

    def work(part: slice) -> None:
        begun.append(part.start)
        if part.start:
            assert stopped.wait(30)

    def progress(done: int, total: int) -> None:
        threading.Timer(1, stopped.set).start()  # after the rest was dropped
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(batched(work, 10_000, progress, size=1, threads=2))
    assert len(begun) <= 3  # the first, the one beside it, the one behind it


def test_an_error_of_the_work_ends_it() -> None:
    def work(part: slice) -> int:
        if part.start == 20:
            raise ValueError("broken")
        return part.start

    seen = []
    with pytest.raises(ValueError, match="broken"):
        seen.extend(batched(work, 50, size=10, threads=2))
