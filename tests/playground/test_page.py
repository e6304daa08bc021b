"""What the notebook's cells share, outside of a browser."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

pytest.importorskip("marimo")
pytest.importorskip("altair")

import marimo
from quantized import network
from reals import real_of

from resnet8.data.cifar10 import preprocess
from resnet8.errors import ModelError, StorageError
from resnet8.inspection.graph import drawn
from resnet8.network.change import Change, apply
from resnet8.playground import page
from resnet8.playground.catalogue import evaluations
from resnet8.playground.flow import flow
from resnet8.runtimes import open_model

if TYPE_CHECKING:
    from collections.abc import Callable

    from resnet8.data.cifar10 import Split
    from resnet8.inspection.picture import Drawing
    from resnet8.workers import Progress


def drawing(demo_run: Path) -> Drawing:
    opened = page.load(demo_run / "models" / "resnet8_int8.onnx")
    return drawn(opened.network, opened.description, brief=True)


def test_a_file_is_opened_once_for_each_content(demo_run: Path, tmp_path: Path) -> None:
    models = demo_run / "models"
    path = tmp_path / "model.onnx"
    shutil.copy(models / "resnet8_int8.onnx", path)
    first = page.load(path)
    assert page.load(path) is first
    shutil.copy(models / "resnet8_uint8.onnx", path)
    assert page.load(path).description.weights == "uint8"
    path.unlink()
    with pytest.raises(StorageError, match="does not exist"):
        page.load(path)


def test_lost_images_come_from_the_evaluations_or_are_computed(
    demo_run: Path, demo_split: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened, behind = (page.load(demo_run / "models" / name) for name in ("resnet8_uint8.onnx", "resnet8.onnx"))
    real = page.matched(opened, behind)
    assert page.matched(opened, behind) is real
    found, where = page.lost_images(evaluations(demo_run), opened, behind, real, demo_split)
    assert where == "among all 597 images, as evaluated"
    part = demo_split.first(int(found[0]) + 5)
    theirs, mine = (
        open_model(Path(one.description.path)).probabilities(preprocess(part.images)).argmax(axis=1)
        for one in (behind, opened)
    )
    lost = np.flatnonzero((theirs == part.labels) & (mine != part.labels)).tolist()
    assert found[found < len(part)].tolist() == lost != []
    monkeypatch.setattr(page, "SAMPLE", len(part))
    computed, first = page.lost_images((), opened, behind, real, demo_split)
    assert first == f"among the first {len(part)} images"
    assert computed.tolist() == lost


def test_an_error_is_shown_and_text_in_it_is_no_markup() -> None:
    def fail() -> None:
        raise ModelError("<b>broken</b> is no model", found="nothing")

    assert page.attempt(lambda: 3) == (3, None)
    value, shown = page.attempt(fail)
    assert value is None
    assert "is no model" in shown.text
    assert "<b>broken</b>" not in shown.text


def test_tables_escape_and_align() -> None:
    shown = page.table(("name", "size"), [("a_b/<i>", 3)]).text
    assert "a_<wbr>b/<wbr>&lt;i&gt;" in shown
    assert "<i>" not in shown
    assert shown.count("text-align: left") == shown.count("text-align: right") == 2


def test_a_sketch_marks_its_box_and_has_no_legend(demo_run: Path) -> None:
    shown = page.sketch(drawing(demo_run), "n4").text
    assert "style n4 stroke:" in shown
    assert "legend" not in shown


def test_both_networks_are_compared_in_as_many_steps_as_said(demo_split: Split) -> None:
    quantized = network()
    changed = apply(quantized, [Change("first", "bits", 3)])
    part = demo_split.first(60)
    for real in (real_of(quantized), None):
        steps: list[tuple[int, int]] = []
        answers, noises = page.compared(quantized, changed, real, part, lambda *done, kept=steps: kept.append(done))
        total = page.comparisons(real) * len(part)
        assert {one for _, one in steps} == {total}
        assert [done for done, _ in steps] == sorted(done for done, _ in steps)
        assert steps[-1] == (total, total)
        for classes, one in ((answers.reference, quantized), (answers.variants["changed"], changed)):
            np.testing.assert_array_equal(classes, flow(one, part.images).probabilities.argmax(axis=1))
        assert len(noises) == (0 if real is None else 2)
        if noises:
            assert noises[1][1].accumulated < noises[0][1].accumulated


class _Thread(threading.Thread):
    """Marimo's thread, without a notebook."""

    should_exit = False


def told(
    monkeypatch: pytest.MonkeyPatch,
    work: Callable[[Progress], object],
    *,
    stop: bool = False,
    jobs: dict[str, object] | None = None,
) -> list[Any]:
    """What is kept and said, in order."""
    seen: list[Any] = []
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
    page.in_background(
        "Work", 4, work, key=("model", 7), keep=seen.append, said=seen.append, jobs={} if jobs is None else jobs
    )
    assert done.wait(30)
    return seen


def test_work_beside_the_page_is_kept_with_what_it_was_done_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def work(progress: Progress) -> int:
        progress(1, 4)
        progress(4, 4)
        return 42

    assert told(monkeypatch, work) == [("model", ""), ("model", 7, 42), ("model", "")]


def test_work_that_is_to_end_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    assert told(monkeypatch, lambda progress: progress(1, 4), stop=True) == [("model", ""), ("model", "Work: stopped")]


def test_work_that_was_replaced_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    jobs: dict[str, object] = {}

    def replaced(progress: Progress) -> None:
        jobs["Work"] = object()  # the button was pressed again
        progress(1, 4)

    assert told(monkeypatch, replaced, stop=True, jobs=jobs) == [("model", "")]


def test_work_that_fails_is_a_message(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def refuse(_: Progress) -> None:
        raise ModelError("it is broken", found="nothing", expected="something")

    def crash(_: Progress) -> None:
        np.zeros(2) @ np.zeros(3)

    assert told(monkeypatch, refuse) == [
        ("model", ""),
        ("model", "Work: it is broken: found nothing, expected something"),
    ]
    _, (_, said) = told(monkeypatch, crash)
    assert said.startswith("Work failed: ValueError: ")
    assert "Traceback" in capsys.readouterr().err  # for the server's log


def test_a_click_names_its_layer(demo_run: Path) -> None:
    clicked: list[int] = []
    strip = page.clickable(drawing(demo_run), "n1", clicked.append)
    for selection in ({"clicked": {"layer": [4], "vlPoint": {"or": [{"layer": 4}]}}}, {}, {"clicked": {}}):
        strip._update(selection)
    assert clicked == [4]
