"""A person's path through the playground, in a real headless Chromium.

Screenshots of the main views go to the folder that ``RESNET8_SCREENSHOTS`` names. With ``RESNET8_SCREENSHOTS_OF``, a
folder with the models and data of a real run, the path is walked there instead of in the demo.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx
import pytest

from resnet8.runtimes import open_model

if TYPE_CHECKING:
    from collections.abc import Iterator

    from resnet8.assets import Assets
    from resnet8.pipeline import Reproduction

sync_api = pytest.importorskip("playwright.sync_api")
pytest.importorskip("marimo")
pytest.importorskip("altair")

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed (on Debian: apt-get install chromium)"),
]

WAIT = 40_000
"""Milliseconds after which a step is given up."""


class Playground:
    """The server, on a folder."""

    def __init__(self, folder: Path, log: Path, environment: dict[str, str]) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.folder, self.log, self.url = folder, log, f"http://127.0.0.1:{port}"
        command = [sys.executable, "-m", "resnet8", "playground", str(folder), "--headless", "--port", str(port)]
        with log.open("w") as output:
            self.process = subprocess.Popen(
                command, env=environment, stdout=output, stderr=output, start_new_session=True
            )
        for _ in range(300):
            if self.answers():
                return
            assert self.process.poll() is None, log.read_text()
            time.sleep(0.2)
        self.close()
        raise AssertionError(log.read_text())

    def answers(self) -> bool:
        try:
            urllib.request.urlopen(f"{self.url}/health", timeout=5).close()  # noqa: S310 - our own server
        except OSError:
            return False
        return True

    def close(self) -> None:
        os.killpg(self.process.pid, signal.SIGTERM)  # its own session: the command and marimo
        self.process.wait(60)

    def resident_mb(self) -> float:
        """Memory of the server and its kernel, MB of 1,000,000 bytes."""
        pages = 0
        for status in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = status.read_text().rpartition(")")[2].split()
                if int(fields[3]) == self.process.pid:  # the session
                    pages += int((status.parent / "statm").read_text().split()[1])
            except OSError:  # it ended meanwhile
                continue
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


@pytest.fixture
def served(tmp_path: Path, reproduced: Reproduction, demo_assets: Assets) -> Iterator[Playground]:
    environment = os.environ | {"RESNET8_ASSETS": str(demo_assets.keras_model.parent)}
    folder = tmp_path / "run"
    for name in ("models", "results"):
        shutil.copytree(reproduced.output_dir / name, folder / name)
    server = Playground(folder, tmp_path / "server.log", environment)
    try:
        yield server
    finally:
        server.close()


@pytest.fixture
def real_or_demo(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Playground]:
    named = os.environ.get("RESNET8_SCREENSHOTS_OF")
    if not named:
        yield request.getfixturevalue("served")
        return
    server = Playground(Path(named).resolve(), tmp_path / "server.log", dict(os.environ))
    try:
        yield server
    finally:
        server.close()


@contextmanager
def opened(served: Playground, scheme: str = "light") -> Iterator[Any]:
    """The page, loaded; an error in a cell fails the test."""
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        try:
            page = browser.new_page(viewport={"width": 1280, "height": 900}, color_scheme=scheme)
            page.set_default_timeout(WAIT)
            page.goto(served.url)
            page.get_by_text("Nothing is changed yet").wait_for()
            yield page
            assert page.get_by_text("Traceback").count() == 0
            assert page.get_by_text(re.compile("An ancestor raised|This cell raised")).count() == 0
        finally:
            browser.close()


def shoot(page: Any, name: str, heading: str | None = None) -> None:
    """A screenshot from a heading on, where screenshots are wanted."""
    folder = os.environ.get("RESNET8_SCREENSHOTS")
    if not folder:
        return
    page.wait_for_timeout(2500)  # charts fade in
    if heading is None:
        page.evaluate("() => document.querySelectorAll('*').forEach(one => one.scrollTop = 0)")
    else:
        page.get_by_role("heading", name=heading).first.evaluate("one => one.scrollIntoView()")
    page.wait_for_timeout(500)
    path = Path(folder) / f"playground-{name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=path)


def say(line: str) -> None:
    """A measurement, seen with ``pytest -s``; nothing is asserted of it."""
    sys.stdout.write(f"\n{line}\n")


def choose(page: Any, holding: str, option: str | re.Pattern[str]) -> None:
    """Choose in the list that offers ``holding``."""
    field = page.locator("select:visible").filter(has=page.locator("option", has_text=holding)).first
    field.wait_for()  # the page may be drawing it
    labels = field.locator("option").all_inner_texts()
    field.select_option(label=next(one for one in labels if re.search(option, one)))


def layer(page: Any, name: str) -> None:
    """Choose a layer, and wait until the page shows it."""
    page.get_by_text(re.compile(rf"^\d+ · [a-z-]+ · {re.escape(name)}$")).locator("visible=true").first.click()
    page.get_by_role("heading", name=f"Layer {name}").wait_for()
    page.get_by_text(f"Tensor of {name}", exact=True).wait_for()


def value(page: Any) -> Any:
    """The field with the new value."""
    return page.get_by_label("Value", exact=True).first


def predicted(page: Any) -> str:
    """What the page says of the image, original and changed."""
    line = page.get_by_text(re.compile("^Predicted:")).first
    line.wait_for()
    return str(line.inner_text())


def test_look_change_and_save(real_or_demo: Playground, tmp_path: Path) -> None:
    with opened(real_or_demo) as page:
        choose(page, "resnet8_int8.onnx", r"^resnet8_int8\.onnx")
        layer(page, "conv2d_1_2/BiasAdd")
        shoot(page, "network")
        shoot(page, "layer", "Layer conv2d_1_2/BiasAdd")
        scale = float(value(page).input_value())
        assert 0 < scale < 100
        assert page.get_by_text(f"{scale:.9g}").count() > 0  # the table says the same

        number = page.get_by_role("textbox", name=re.compile("Number")).locator("visible=true").first
        number.fill("5")
        number.press("Enter")
        page.get_by_text(re.compile("^Test image 5 is a")).wait_for()
        shoot(page, "image", "The image")

        for divisor in (16, 64, 256, 1024):
            wanted = f"{scale / divisor:.9g}"
            value(page).fill(wanted)
            value(page).press("Enter")
            started = time.perf_counter()
            page.get_by_role("button", name="Run", exact=True).click()
            page.get_by_role("cell", name=wanted).or_(page.get_by_text(wanted, exact=True)).first.wait_for()
            said = predicted(page)
            say(f"scale / {divisor}: {time.perf_counter() - started:.2f} s; {said}")
            page.wait_for_timeout(1000)
            before, after = re.findall(r"Predicted: (\w+) → (\w+)\.", predicted(page))[0]
            if before != after:
                break
        assert before != after
        share = re.search(r"([\d.]+) % of the values", said)
        assert share is not None
        assert float(share[1]) > 0
        shoot(page, "change", "Change it")
        shoot(page, "compared", "This image, original and changed")

        page.get_by_role("button", name="Compare top-1 and SQNR").click()
        top = page.get_by_text(re.compile("^Top-1 over 200 images")).first
        top.wait_for()
        before, after = re.findall(r": (\d+) \(.*→ (\d+) \(", top.inner_text())[0]
        assert int(after) < int(before)
        shoot(page, "flips", "Many images, original and changed")

        path = tmp_path / "changed.onnx"
        field = page.get_by_label("Save as").first
        field.fill(str(path))
        field.press("Enter")
        page.get_by_role("button", name="Save", exact=True).click()
        page.get_by_text(f"Saved: {path}").wait_for()
        onnx.checker.check_model(onnx.load(path))
        assert open_model(path).model.quantized
        record = json.loads((tmp_path / "changed.onnx.json").read_text())
        assert [one["field"] for one in record["changes"]] == ["scale"]

        page.get_by_role("button", name="Reset").click()
        page.get_by_text("Nothing is changed yet").wait_for()


def test_noise_of_all_layers(real_or_demo: Playground) -> None:
    with opened(real_or_demo, "dark") as page:
        choose(page, "resnet8_uint8.onnx", r"^resnet8_uint8\.onnx")
        page.locator("strong", has_text="resnet8_uint8.onnx").wait_for()
        shoot(page, "dark")
        shoot(page, "flow-dark", "What flows")
        for button, done in (
            ("SQNR of every layer", "SQNR over 200 images"),
            ("Each layer alone", "Each layer alone over 200 images"),
        ):
            started = time.perf_counter()
            page.get_by_role("button", name=button).click()
            page.get_by_text(done).wait_for()
            say(f"{button}, 200 images: {time.perf_counter() - started:.1f} s")
        shoot(page, "noise-dark", "Noise of all layers")
        page.get_by_role("button", name="Each layer alone").click()
        page.get_by_role("button", name="Stop").first.click()
        page.get_by_text("stopped", exact=True).wait_for()


def test_bad_input_is_a_message_and_the_session_goes_on(served: Playground) -> None:
    with opened(served) as page:
        choose(page, "resnet8_int8.onnx", r"^resnet8_int8\.onnx")
        layer(page, "conv2d_1_2/BiasAdd")
        run = page.get_by_role("button", name="Run", exact=True)
        for wrong, message in (("0", "scale"), ("-1", "scale"), ("much", "is no number"), ("nan", "scale")):
            value(page).fill(wrong)
            value(page).press("Enter")
            run.click()
            page.get_by_text(
                re.compile(f"{message}.*: found {re.escape(repr(wrong) if wrong == 'much' else '')}")
            ).wait_for()
        choose(page, "zero_point", "^zero_point$")
        page.wait_for_timeout(1000)
        value(page).fill("300")
        value(page).press("Enter")
        run.click()
        page.get_by_text(re.compile("zero point is out of range: found 300")).wait_for()
        value(page).fill("3")
        value(page).press("Enter")
        run.click()
        predicted(page)

        (served.folder / "models" / "resnet8_uint8.onnx").unlink()
        choose(page, "resnet8_uint8.onnx", r"^resnet8_uint8\.onnx")
        page.get_by_text(re.compile("does not exist")).wait_for()
        choose(page, "resnet8_int8.onnx", r"^resnet8_int8\.onnx")
        page.get_by_role("heading", name="Layer conv2d_1_2/BiasAdd").wait_for()


def test_memory_is_stable_over_fifty_changes(real_or_demo: Playground) -> None:
    with opened(real_or_demo) as page:
        choose(page, "resnet8_int8.onnx", r"^resnet8_int8\.onnx")
        lines = page.get_by_text(re.compile(r"^\d+ · [a-z-]+ · ")).locator("visible=true").all_inner_texts()
        names = [line.split(" · ")[2] for line in lines]
        measured = []
        for step in range(50):
            layer(page, names[(step * 5) % len(names)])
            field = value(page)
            field.fill(f"{float(field.input_value()) * (1.5 + step / 100):.6g}")
            field.press("Enter")
            page.get_by_role("button", name="Run", exact=True).click()
            predicted(page)
            page.get_by_role("button", name="Reset").click()
            page.get_by_text("Nothing is changed yet").wait_for()
            if step % 10 == 9:
                measured.append(round(served_mb := real_or_demo.resident_mb()))
        say(f"server and kernel after 10, 20, 30, 40, 50 changes: {measured} MB")
        assert served_mb < measured[0] * 1.25
