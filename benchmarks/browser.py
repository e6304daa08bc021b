"""A person's hands in the playground's page: the server, the browser, and what one does there.

The browser tests and the measurements use them alike. The browser is Debian's Chromium, driven by Playwright.
"""

from __future__ import annotations

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

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

WAIT = 60_000
"""Milliseconds after which a step is given up."""


class Server:
    """``resnet8 playground``, on a free port.

    Args:
        arguments: After the command: a folder, options.
        log: File for what the server says.
        environment: Of the process.
        cwd: Where it is started.
    """

    def __init__(self, arguments: Sequence[object], log: Path, environment: dict[str, str], cwd: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.log, self._plain_url = log, f"http://127.0.0.1:{port}"
        command = [sys.executable, "-m", "resnet8", "playground", *map(str, arguments), "--headless", "--port", port]
        with log.open("w") as output:
            self.process = subprocess.Popen(
                [str(one) for one in command],
                env=environment,
                cwd=cwd,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        for _ in range(300):
            if self._answers():
                return
            if self.process.poll() is not None:
                raise RuntimeError(log.read_text())
            time.sleep(0.2)
        self.close()
        raise RuntimeError(log.read_text())

    @property
    def url(self) -> str:
        """The address; with the token of this server where the notebook is edited."""
        token = re.search(r"access_token=[\w-]+", self.log.read_text())
        return self._plain_url + (f"?{token[0]}" if token else "")

    def close(self) -> None:
        """End the server and its kernels."""
        os.killpg(self.process.pid, signal.SIGTERM)  # its own session: the command and Marimo
        self.process.wait(60)

    def resident_mb(self) -> float:
        """Memory of the server and its kernels, MB of 1,000,000 bytes."""
        pages = 0
        for status in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = status.read_text().rpartition(")")[2].split()
                if int(fields[3]) == self.process.pid:  # the session
                    pages += int((status.parent / "statm").read_text().split()[1])
            except OSError:  # it ended meanwhile
                continue
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6

    def _answers(self) -> bool:
        try:
            urllib.request.urlopen(f"{self._plain_url}/health", timeout=5).close()  # noqa: S310 - our own server
        except OSError:
            return False
        return True


@contextmanager
def opened(
    server: Server,
    scheme: str = "light",
    ready: str = "Nothing is changed yet",
    size: tuple[int, int] = (1440, 900),
    *,
    phone: bool = False,
) -> Iterator[Any]:
    """The page, loaded up to the text ``ready``, in a window of ``size`` or on a ``phone`` with such a screen.

    Raises:
        AssertionError: when at the end a cell is in error.
    """
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        try:
            page = browser.new_page(
                viewport={"width": size[0], "height": size[1]},
                color_scheme=scheme,
                is_mobile=phone,
                has_touch=phone,
            )
            page.set_default_timeout(WAIT)
            page.goto(server.url)
            page.get_by_text(ready).first.wait_for()
            yield page
            if page.get_by_text(re.compile("Traceback|An ancestor raised|This cell raised")).count():
                raise AssertionError("a cell is in error")
        finally:
            browser.close()


def choose(page: Any, holding: str, option: str) -> None:
    """Choose the option that matches the pattern ``option`` in the list that offers ``holding``."""
    from playwright.sync_api import TimeoutError as Late

    for _ in range(20):
        field = page.locator("select:visible").filter(has=page.locator("option", has_text=holding)).first
        field.wait_for()
        labels = [one for one in field.locator("option").all_inner_texts() if re.search(option, one)]
        try:
            field.select_option(label=labels[0] if labels else "", timeout=3000)
        except Late:  # the page drew it anew meanwhile
            continue
        return
    raise AssertionError(f"no option {option}")


def pick(page: Any, label: str, option: str) -> None:
    """Choose the option that matches the pattern ``option`` in the list with a filter that has this label."""
    _options(page, label).filter(has_text=re.compile(option)).first.click()


def _options(page: Any, label: str) -> Any:
    """Open the list with a filter that has this label."""
    page.get_by_role("button", name=label, exact=True).locator("visible=true").first.click()
    found = page.get_by_role("listbox", name="Suggestions").get_by_role("option")
    found.first.wait_for()
    return found


def model(page: Any, name: str) -> None:
    """Choose a model, and wait until the page shows it."""
    pick(page, "Model", rf"^{re.escape(name)} ")
    page.locator("strong", has_text=re.compile(rf"^{re.escape(name)}$")).first.wait_for()
    page.get_by_text(re.compile(rf"^Tensor of .* \({re.escape(name)}\)$|^This is a float model")).first.wait_for()


def layers(page: Any) -> list[str]:
    """The names of the layers in the list."""
    lines = _options(page, "Layer").all_inner_texts()
    page.keyboard.press("Escape")
    return [line.split(" · ")[2] for line in lines]


def layer(page: Any, name: str) -> None:
    """Choose a layer in the list, and wait until the page shows it."""
    pick(page, "Layer", rf" · {re.escape(name)}$")
    shown(page, name)


def image(page: Any, number: int) -> None:
    """Choose a test image by its number, and wait until the page shows it."""
    field = page.get_by_role("textbox", name="Test image").locator("visible=true").first
    field.fill(str(number))
    field.press("Enter")
    page.get_by_text(re.compile(f"^Test image {number} is a")).wait_for()


def shown(page: Any, name: str) -> None:
    """Wait until the page shows a layer of a quantized model."""
    page.get_by_role("heading", name=f"Layer {name}").wait_for()
    page.get_by_text(re.compile(rf"^Tensor of {re.escape(name)} \(")).wait_for()


def value(page: Any) -> Any:
    """The field with the new value."""
    return page.get_by_label("Value", exact=True).first


def run(page: Any, wanted: str | None = None) -> float:
    """Press *Run*, with another value where one is given; the seconds until the page says what the image is now."""
    if wanted is not None:
        value(page).fill(wanted)
        value(page).press("Enter")
        page.wait_for_timeout(300)  # the kernel takes it
    started = time.perf_counter()
    page.get_by_role("button", name="Run", exact=True).click()
    predicted(page)
    return time.perf_counter() - started


def reset(page: Any) -> None:
    """Press *Reset*, and wait until nothing is changed."""
    page.get_by_role("button", name="Reset").click()
    page.get_by_text("Nothing is changed yet").wait_for()


def predicted(page: Any) -> str:
    """What the page says of the image, original and changed."""
    line = page.get_by_text(re.compile("^Predicted:")).first
    line.wait_for()
    return str(line.inner_text())


def until(page: Any, button: str, text: str | re.Pattern[str]) -> float:
    """Press a button; the seconds until a text is there."""
    started = time.perf_counter()
    page.get_by_role("button", name=button).click()
    page.get_by_text(text).first.wait_for()
    return time.perf_counter() - started
