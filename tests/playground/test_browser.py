"""A person's path through the playground, in a real headless Chromium.

Screenshots of the main views go to the folder that ``RESNET8_SCREENSHOTS`` names. With ``RESNET8_SCREENSHOTS_OF``, a
folder with the models and data of a real run, the paths that only look are walked there instead of in the demo.
"""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import browser
import numpy as np
import onnx
import pytest

from resnet8.data.cifar10 import preprocess, read_split
from resnet8.network.layers import Weighted
from resnet8.playground.opened import open_file
from resnet8.runtimes import open_model

if TYPE_CHECKING:
    from collections.abc import Iterator

    from resnet8.data.assets import Assets
    from resnet8.pipeline import Reproduction

sync_api = pytest.importorskip("playwright.sync_api")
pytest.importorskip("marimo")
pytest.importorskip("altair")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        browser.CHROMIUM is None, reason="no Chromium is installed (on Debian: apt-get install chromium)"
    ),
]


@pytest.fixture(scope="module")
def environment(demo_assets: Assets) -> dict[str, str]:
    cache = str(demo_assets.keras_model.parent.parent)
    return os.environ | {"RESNET8_ASSETS": str(demo_assets.keras_model.parent), "RESNET8_CACHE": cache}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, reproduced: Reproduction) -> Path:
    """A run of the demo, to be read only."""
    copied = tmp_path_factory.mktemp("run")
    for name in ("models", "results"):
        shutil.copytree(reproduced.output_dir / name, copied / name)
    return copied


@pytest.fixture(scope="module")
def served(
    tmp_path_factory: pytest.TempPathFactory, folder: Path, environment: dict[str, str]
) -> Iterator[browser.Server]:
    work = tmp_path_factory.mktemp("server")
    named = os.environ.get("RESNET8_SCREENSHOTS_OF")
    if named:
        environment = dict(os.environ)
        environment["RESNET8_ASSETS"] = environment.get("TEST_RESNET8_ASSETS", "")
    server = browser.Server([Path(named).resolve() if named else folder], work / "log", environment, work)
    yield server
    server.close()


def shoot(page: Any, name: str, heading: str | None = None) -> None:
    """A screenshot from a heading on, where screenshots are wanted."""
    wanted = os.environ.get("RESNET8_SCREENSHOTS")
    if not wanted:
        return
    page.wait_for_timeout(2500)  # charts fade in
    if heading is None:
        page.evaluate("() => document.querySelectorAll('*').forEach(one => one.scrollTop = 0)")
    else:
        page.get_by_role("heading", name=heading).first.evaluate("one => one.scrollIntoView()")
    page.wait_for_timeout(500)
    path = Path(wanted) / f"playground-{name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=path)


def changed_to(page: Any) -> tuple[str, str]:
    """The predicted classes that the page names, of the original and of the changed model."""
    before, after = re.findall(r"Predicted: (\w+) → (\w+)\.", browser.predicted(page))[0]
    return before, after


def save(page: Any, path: Path) -> dict[str, Any]:
    """Save the changed model, beside its model; moved to ``path``. The record."""
    field = page.get_by_label("Save as").first
    field.fill(path.name)
    field.press("Enter")
    page.wait_for_timeout(500)
    page.get_by_role("button", name="Save", exact=True).click()
    told = page.get_by_text(re.compile(rf"Saved: .*{path.name} and "))
    told.wait_for()
    saved = Path(re.findall(r"Saved: (.*?) and ", told.inner_text())[0])
    record: dict[str, Any] = json.loads(saved.with_name(f"{saved.name}.json").read_text())
    saved.with_name(f"{saved.name}.json").unlink()
    shutil.move(saved, path)
    onnx.checker.check_model(onnx.load(path))
    return record


def test_look_change_and_save(served: browser.Server, tmp_path: Path) -> None:
    with browser.opened(served) as page:
        browser.model(page, "resnet8_int8.onnx")
        # a click on the drawing chooses a layer
        names = browser.layers(page)
        for number in (7, 1, 7):
            page.wait_for_timeout(1000)
            _click_layer(page, page.locator("marimo-vega canvas").first, number, columns=1 + 29 - 2)
            browser.shown(page, names[number - 1])
        browser.layer(page, "conv2d_1_2/BiasAdd")
        shoot(page, "network", "The network")
        shoot(page, "layer", "Layer conv2d_1_2/BiasAdd")
        scale = float(browser.value(page).input_value())
        assert 0 < scale < 100
        assert page.get_by_text(browser.value(page).input_value()).count() > 0  # the table says the same
        page.get_by_role("button", name="Run", exact=True).click()  # nothing was edited
        page.get_by_text(re.compile("nothing would change: found scale")).wait_for()
        assert page.get_by_text("Nothing is changed yet").count()

        browser.image(page, 5)
        shoot(page, "image", "The image")

        for divisor in (16, 64, 256, 1024):
            wanted = f"{scale / divisor:.9g}"
            browser.run(page, wanted)
            before, after = changed_to(page)
            if before != after:
                break
            browser.reset(page)
        assert before != after
        share = re.search(r"([\d.]+) % of the values", browser.predicted(page))
        assert share is not None
        assert float(share[1]) > 0
        sync_api.expect(browser.value(page)).to_have_value(str(np.float32(wanted)))  # what it has now
        shoot(page, "change", "Change it")
        shoot(page, "compared", "This image, original and changed")

        browser.until(page, "Compare many images", re.compile("^Top-1 over 200 images"))
        top = page.get_by_text(re.compile("^Top-1 over 200 images")).first
        before, after = re.findall(r": (\d+) \(.*→ (\d+) \(", top.inner_text())[0]
        assert int(after) < int(before)
        shoot(page, "flips", "Many images, original and changed")
        flipped = page.get_by_role("button", name=re.compile(r"^look at \d+")).nth(1)
        number = flipped.inner_text().split()[-1]
        flipped.click()
        page.get_by_text(re.compile(f"^Test image {number} is a")).wait_for()

        record = save(page, tmp_path / "changed.onnx")
        assert [one["field"] for one in record["changes"]] == ["scale"]
        assert open_model(tmp_path / "changed.onnx").model.quantized
        for name in ("Download the ONNX file", "Download its record"):
            with page.expect_download() as download:
                page.get_by_role("link", name=name).or_(page.get_by_role("button", name=name)).first.click()
            content = Path(download.value.path()).read_bytes()
            if name.endswith("record"):
                assert json.loads(content) == record
            else:
                assert content == (tmp_path / "changed.onnx").read_bytes()
        browser.reset(page)


def _click_layer(page: Any, chart: Any, number: int, columns: int) -> None:
    """Click on a layer of the drawing, which is as wide as the page."""
    box = chart.bounding_box()
    chart.click(position={"x": 5 + (box["width"] - 10) / columns * (number + 0.5), "y": 22})


def test_errors_of_all_layers_and_images_of_a_class_and_those_that_are_lost(
    served: browser.Server, demo_assets: Assets
) -> None:
    split = read_split(demo_assets.data_dir, "test")
    with browser.opened(served, "dark") as page:
        browser.model(page, "resnet8_uint8.onnx")
        shoot(page, "dark")
        shoot(page, "flow-dark", "What flows")
        browser.until(page, "Errors of all layers", "Errors over 200 images")
        browser.until(page, "Each layer alone", "Each layer alone over 200 images")
        shoot(page, "noise-dark", "Noise of all layers")
        page.get_by_role("button", name="Each layer alone").click()
        page.get_by_role("button", name="Stop").first.click()
        page.get_by_text("Each layer alone: stopped", exact=True).wait_for()
        assert not page.get_by_role("button", name="Stop").count()  # nothing runs

        # the table, and what it says as a file
        page.get_by_role("button", name="As a table, accumulated").click()
        with page.expect_download() as download:
            page.get_by_text("Download as CSV").locator("visible=true").first.click()
        assert download.value.suggested_filename == "resnet8_uint8-accumulated-errors.csv"
        lines = list(csv.DictReader(Path(download.value.path()).read_text().splitlines()))
        assert [line["layer number"] for line in lines] == [str(number) for number in range(len(lines))]
        shoot(page, "errors-dark", "Noise of all layers")

        browser.choose(page, "the official 200", "^the official 200")
        browser.until(page, "Errors of all layers", "Errors over the official 200 images")

        browser.choose(page, "one class", "^one class$")
        browser.choose(page, "seven", "^seven$")
        sevens = np.flatnonzero(split.labels == 7)
        page.get_by_text(re.compile(f"^Test image {sevens[0]} is a seven")).wait_for()
        page.get_by_role("button", name="Next").locator("visible=true").nth(1).click()
        page.get_by_text(re.compile(f"^Test image {sevens[1]} is a seven")).wait_for()
        browser.choose(page, "one class", "^FP32 right")
        page.get_by_text(re.compile(r"^\d+ among all 597 images, as evaluated")).first.wait_for()
        page.wait_for_timeout(1500)
        said = page.get_by_text(re.compile(r"^Test image \d+ is a")).first.inner_text()
        number, label, real, quantized = re.findall(r"image (\d+) is a (\w+)\. FP32: (\w+) .*quantized: (\w+) ", said)[
            0
        ]
        assert label == real != quantized
        # its own number, among all images too
        sync_api.expect(page.get_by_role("textbox", name="Test image").locator("visible=true").first).to_have_value(
            number
        )
        browser.choose(page, "one class", "^all test images")
        page.wait_for_timeout(1000)
        assert page.get_by_text(re.compile(f"^Test image {number} is a")).count()


def test_the_address_comes_back_to_what_is_shown_and_each_model_keeps_its_changes(served: browser.Server) -> None:
    with browser.opened(served) as page:
        browser.model(page, "resnet8_int8.onnx")
        names = browser.layers(page)
        browser.layer(page, names[3])
        browser.image(page, 17)
        page.wait_for_timeout(500)
        assert re.search(r"model=resnet8_int8\.onnx&layer=4&image=17", page.url)

        before = browser.value(page).input_value()
        browser.run(page, f"{float(before) * 3:.6g}")
        browser.choose(page, "zero_point", "^zero_point$")
        page.wait_for_timeout(500)
        zero = int(browser.value(page).input_value())
        browser.run(page, str(zero + 1))
        undo = page.get_by_role("button", name="✕")
        sync_api.expect(undo).to_have_count(2)
        browser.model(page, "resnet8_uint8.onnx")
        page.get_by_text("Nothing is changed yet").wait_for()
        browser.model(page, "resnet8_int8.onnx")
        sync_api.expect(undo).to_have_count(2)
        rows = page.locator("table").filter(has_text="resulting grid").locator("tbody tr")
        assert [row.split("\t")[2:5] for row in rows.all_inner_texts()] == [
            ["scale", f"{float(before):.6g}", f"{float(before) * 3:.6g}"],
            ["zero_point", str(zero).replace("-", "−"), str(zero + 1).replace("-", "−")],
        ]
        undo.first.click()
        sync_api.expect(undo).to_have_count(1)
        assert "zero_point" in rows.first.inner_text()
        undo.first.click()
        page.get_by_text("Nothing is changed yet").wait_for()

        page.reload()
        browser.shown(page, names[3])
        page.get_by_text(re.compile("^Test image 17 is a")).wait_for()
        page.goto(f"{served.url}&model=resnet8_uint8.onnx&layer=3&image=99999999")
        page.locator("strong", has_text=re.compile(r"^resnet8_uint8\.onnx$")).first.wait_for()
        page.get_by_text(re.compile("^Test image 596 is a")).wait_for()  # the last there is
        page.goto(f"{served.url}&model=nothing.onnx&layer=x&image=-3")
        page.get_by_text("There is no nothing.onnx here").wait_for()
        page.get_by_text(re.compile("^Test image 0 is a")).wait_for()


def test_every_kind_of_change_of_channels_bits_and_rounding(
    served: browser.Server, folder: Path, demo_assets: Assets, tmp_path: Path
) -> None:
    before = open_file(folder / "models/resnet8_ort-7bit-weights.onnx").require_quantized().layers[0]
    assert isinstance(before, Weighted)
    with browser.opened(served) as page:
        browser.model(page, "resnet8_ort-7bit-weights.onnx")
        page.get_by_role("heading", name="Scales of the output channels").wait_for()

        browser.choose(page, "weights: ", "^weights: ")
        channel = page.get_by_label("Channel", exact=True).first
        channel.fill("3")
        channel.press("Enter")
        sync_api.expect(browser.value(page)).to_have_value(str(before.weights.params.scale[3]))
        browser.run(page, f"{before.weights.params.scale[3] * 8:.9g}")

        browser.choose(page, "zero_point", "^bits$")
        slider = page.get_by_role("slider").first
        slider.wait_for()
        slider.focus()
        slider.press("ArrowLeft")  # from 4 to 3
        page.wait_for_timeout(500)
        browser.choose(page, "output: ", "^output: ")
        browser.choose(page, "zero_point", "^rounding$")
        browser.choose(page, "half-away", "^truncate$")
        page.wait_for_timeout(500)
        browser.run(page)
        browser.choose(page, "zero_point", "^factor$")
        page.get_by_role("slider").first.wait_for()
        browser.run(page)
        rows = page.locator("table").filter(has_text="resulting grid").locator("tbody tr")
        rows.nth(2).wait_for()
        assert [row.split("\t")[2] for row in rows.all_inner_texts()] == ["scale", "rounding", "factor"]
        record = save(page, tmp_path / "changed.onnx")
        page.get_by_text("Not in the file").wait_for()
        assert [(one["field"], one["channel"]) for one in record["changes"]] == [
            ("scale", 3),
            ("rounding", None),
            ("factor", None),
        ]
        page.wait_for_timeout(1500)  # the page draws what was saved
        page.get_by_text("The same in Python").click()
        page.get_by_text("apply(").locator("visible=true").first.wait_for()
    split = read_split(demo_assets.data_dir, "test").first(50)
    after = open_file(tmp_path / "changed.onnx").require_quantized().layers[0]
    assert isinstance(after, Weighted)
    ratios = after.weights.params.scale / before.weights.params.scale
    np.testing.assert_allclose(ratios, np.where(np.arange(16) == 3, 8, 1), rtol=1e-6)
    assert open_model(tmp_path / "changed.onnx").probabilities(preprocess(split.images)).shape == (50, 10)


def test_values_that_make_no_sense_are_messages_and_a_torchscript_model_is_saved_as_onnx(
    served: browser.Server, tmp_path: Path
) -> None:
    with browser.opened(served) as page:
        browser.model(page, "resnet8_int8.onnx")
        browser.layer(page, "conv2d_1_2/BiasAdd")

        def refused(wrong: str, said: str) -> None:
            browser.value(page).fill(wrong)
            browser.value(page).press("Enter")
            page.wait_for_timeout(300)
            page.get_by_role("button", name="Run", exact=True).click()
            page.get_by_text(said).first.wait_for()

        for wrong, said in (("0", "0.0"), ("-1", "-1.0"), ("much", "'much'"), ("nan", "nan")):
            refused(wrong, f"found {said}, expected")
        refused("", "no scale was given")
        browser.model(page, "resnet8_uint8.onnx")
        assert page.get_by_text("no scale was given").count() == 0  # that was the other model
        browser.choose(page, "zero_point", "^zero_point$")
        page.wait_for_timeout(1000)
        refused("300", "zero point is out of range: found 300")
        browser.run(page, "3")

        for name, said in (("resnet8.onnx", "is there already"), ("../out.onnx", "is no name for the model")):
            field = page.get_by_label("Save as").first
            field.fill(name)
            field.press("Enter")
            page.wait_for_timeout(500)
            page.get_by_role("button", name="Save", exact=True).click()
            page.get_by_text(said).first.wait_for()

        browser.pick(page, "Model", r"^resnet8\.pt ")
        page.get_by_text("This is a float model").wait_for()
        browser.model(page, "resnet8_int8.pt")
        names = browser.layers(page)
        browser.layer(page, names[-1])
        browser.choose(page, "zero_point", "^factor$")
        browser.run(page)
        record = save(page, tmp_path / "from_torch.onnx")
        assert [one["field"] for one in record["changes"]] == ["factor"]
        assert open_model(tmp_path / "from_torch.onnx").model.quantized


def test_files_and_folders_that_are_none_are_messages(
    folder: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(folder, run)
    (run / "models" / "broken.onnx").write_text("no model")
    server = browser.Server([run], tmp_path / "log", environment, tmp_path)
    try:
        with browser.opened(server) as page:
            browser.pick(page, "Model", r"^broken\.onnx")
            page.get_by_text(re.compile("is no model file")).locator("visible=true").first.wait_for()
            browser.model(page, "resnet8_int8.onnx")
            (run / "models" / "resnet8_uint8.onnx").unlink()
            browser.pick(page, "Model", r"^resnet8_uint8\.onnx")
            page.get_by_text(re.compile("does not exist")).wait_for()
            browser.model(page, "resnet8_int8.onnx")

            def open_folder(name: object) -> None:
                place = page.get_by_label("Folder with models").first
                place.fill(str(name))
                place.press("Enter")

            open_folder("n" * 5000)
            page.get_by_text(re.compile("File name too long")).first.wait_for()
            open_folder(run / "models" / "resnet8.onnx")
            page.get_by_text(re.compile("there is no folder .*: found it is a file")).first.wait_for()
            open_folder(tmp_path / "nowhere")
            page.get_by_text(re.compile("there is no folder .*nowhere: found it does not exist")).first.wait_for()
            page.get_by_text("No models here").wait_for()
            shutil.move(run / "models", run / "elsewhere")
            (run / "models").mkdir()
            (run / "models" / "broken.onnx").write_text("no model")
            open_folder(run)
            page.get_by_text("No models here").wait_for()
            page.get_by_text(re.compile("is no model file")).first.wait_for()  # what is wrong with what is there
            shutil.rmtree(run / "models")
            shutil.move(run / "elsewhere", run / "models")
            page.get_by_role("button", name="Look again").click()
            page.get_by_role("heading", name="Change it").wait_for()
    finally:
        server.close()


def test_the_demo_opens_from_an_empty_folder(environment: dict[str, str], tmp_path: Path) -> None:
    environment = environment | {"RESNET8_ASSETS": ""}
    (tmp_path / "empty").mkdir()
    server = browser.Server([], tmp_path / "log", environment, tmp_path / "empty")
    try:
        with browser.opened(server, ready="No models here") as page:
            page.get_by_role("button", name="Open the demo").click()
            page.get_by_text("Nothing is changed yet").wait_for()
            page.get_by_text(re.compile("^Test image 0 is a")).wait_for()
            browser.model(page, "resnet8_uint8.onnx")
    finally:
        server.close()


def test_the_notebook_opens_to_be_edited(environment: dict[str, str], tmp_path: Path) -> None:
    server = browser.Server(["--demo", "--edit"], tmp_path / "log", environment, tmp_path)
    try:
        with browser.opened(server) as page:
            page.get_by_role("heading", name="Layer conv2d_1/BiasAdd").first.wait_for()
            page.get_by_text("from resnet8.playground import changing").first.wait_for()  # the code is there
            browser.run(page, "0.01")
    finally:
        server.close()


def test_memory_is_stable_over_many_changes(folder: Path, environment: dict[str, str], tmp_path: Path) -> None:
    server = browser.Server([folder], tmp_path / "log", environment, tmp_path)
    try:
        with browser.opened(server) as page:
            browser.model(page, "resnet8_int8.onnx")
            names = browser.layers(page)
            measured = []
            for step in range(10):  # benchmarks/measure_playground.py: fifty
                browser.layer(page, names[(step * 5) % len(names)])
                browser.run(page, f"{float(browser.value(page).input_value()) * (1.5 + step / 100):.6g}")
                browser.reset(page)
                if step % 5 == 4:
                    measured.append(server.resident_mb())
            assert measured[-1] < measured[0] * 1.1
    finally:
        server.close()
