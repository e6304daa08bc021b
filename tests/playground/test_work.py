"""What the notebook's cells do, outside of a browser: files opened once, messages, work beside the page."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

pytest.importorskip("marimo")
pytest.importorskip("altair")

import marimo

from resnet8.data.cifar10 import preprocess
from resnet8.errors import ModelError, StorageError
from resnet8.playground import work
from resnet8.playground.catalogue import evaluations
from resnet8.playground.work import Job
from resnet8.runtimes import open_model

if TYPE_CHECKING:
    from collections.abc import Callable

    from resnet8.data.cifar10 import Split
    from resnet8.workers import Progress


def test_a_file_is_opened_once_for_each_content(demo_run: Path, tmp_path: Path) -> None:
    models = demo_run / "models"
    path = tmp_path / "model.onnx"
    shutil.copy(models / "resnet8_int8.onnx", path)
    first = work.load(path)
    assert work.load(path) is first
    shutil.copy(models / "resnet8_uint8.onnx", path)
    assert work.load(path).description.weights == "uint8"
    path.unlink()
    with pytest.raises(StorageError, match="does not exist"):
        work.load(path)


def test_lost_images_come_from_the_evaluations_or_are_computed(
    demo_run: Path, demo_split: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened, behind = (work.load(demo_run / "models" / name) for name in ("resnet8_uint8.onnx", "resnet8.onnx"))
    real = work.matched(opened, behind)
    assert work.matched(opened, behind) is real
    found, where = work.lost_images(evaluations(demo_run), opened, behind, real, demo_split)
    assert where == "among all 597 images, as evaluated"
    part = demo_split.first(int(found[0]) + 5)
    theirs, mine = (
        open_model(Path(one.description.path)).probabilities(preprocess(part.images)).argmax(axis=1)
        for one in (behind, opened)
    )
    lost = np.flatnonzero((theirs == part.labels) & (mine != part.labels)).tolist()
    assert found[found < len(part)].tolist() == lost != []
    monkeypatch.setattr(work, "SAMPLE", len(part))
    computed, first = work.lost_images((), opened, behind, real, demo_split)
    assert first == f"among the first {len(part)} images"
    assert computed.tolist() == lost


def test_an_error_is_shown_and_text_in_it_is_no_markup() -> None:
    def fail() -> None:
        raise ModelError("<b>broken</b> is no model", found="nothing")

    assert work.attempt(lambda: 3) == (3, None)
    value, shown = work.attempt(fail)
    assert value is None
    assert "is no model" in shown.text
    assert "<b>broken</b>" not in shown.text


class _Thread(threading.Thread):
    """Marimo's thread, without a notebook."""

    should_exit = False


def told(
    monkeypatch: pytest.MonkeyPatch,
    does: Callable[[Progress], object],
    *,
    stop: bool = False,
    jobs: dict[str, object] | None = None,
) -> list[Job]:
    """What the state of the job is, one after the other."""
    seen: list[Job] = []
    done = threading.Event()

    def run(target: Callable[[], None], daemon: bool) -> _Thread:
        def whole() -> None:
            target()
            done.set()

        thread = _Thread(target=whole, daemon=daemon)
        thread.should_exit = stop
        return thread

    monkeypatch.setattr(marimo, "Thread", run)
    monkeypatch.setattr(marimo, "current_thread", threading.current_thread)

    def tell(change: Callable[[work.Jobs], work.Jobs]) -> None:
        now = change({"Other": Job(("kept",))})
        assert now.pop("Other") == Job(("kept",))
        seen.append(now["Work"])

    work.begin("Work", 4, does, key=("model", 7), tell=tell, jobs={} if jobs is None else jobs)
    assert done.wait(30)
    return seen


RUNNING = Job(("model", 7), running=True)


def test_work_beside_the_page_is_kept_with_what_it_was_done_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def does(progress: Progress) -> int:
        progress(1, 4)
        progress(4, 4)
        return 42

    assert told(monkeypatch, does) == [RUNNING, Job(("model", 7), found=42)]


def test_work_that_is_to_end_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = Job(("model", 7), said="Work: stopped")
    assert told(monkeypatch, lambda progress: progress(1, 4), stop=True) == [RUNNING, ended]


def test_work_that_was_replaced_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    jobs: dict[str, object] = {}

    def replaced(progress: Progress) -> None:
        jobs["Work"] = object()  # the button was pressed again
        progress(1, 4)

    assert told(monkeypatch, replaced, stop=True, jobs=jobs) == [RUNNING]


def test_work_that_fails_is_a_message(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def refuse(_: Progress) -> None:
        raise ModelError("it is broken", found="nothing", expected="something")

    def crash(_: Progress) -> None:
        np.zeros(2) @ np.zeros(3)

    refused = Job(("model", 7), said="Work: it is broken: found nothing, expected something")
    assert told(monkeypatch, refuse) == [RUNNING, refused]
    _, crashed = told(monkeypatch, crash)
    assert crashed.said.startswith("Work failed: ValueError: ")
    assert "Traceback" in capsys.readouterr().err  # for the server's log


def test_a_job_is_that_of_what_is_shown() -> None:
    done = Job(("model", "sample"), found=3)
    stopped = Job(("model", "sample"), said="stopped")
    assert work.of({"Work": done}, "Work", "model", "sample") == done
    assert work.of({"Work": done}, "Work", "model", "another sample").found is None
    assert work.of({"Work": done}, "Work", "another model", "sample").found is None
    assert work.of({"Work": stopped}, "Work", "model", "another sample").said == "stopped"
    assert work.of({"Work": stopped}, "Work", "another model").said == ""
    assert work.of({}, "Work", "model") == Job(("model",))
