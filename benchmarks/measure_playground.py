"""Measure the playground in a browser: seconds from click to answer, and memory over fifty changes.

    uv run python benchmarks/measure_playground.py FOLDER --output results/playground

FOLDER has the models, results and data of a run (data may also be where RESNET8_ASSETS says). One result for each
model; «resnet8 docs» puts them into docs/playground.md. The machine should do nothing else.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import browser

from resnet8 import environment, results
from resnet8.playground.opened import open_file

MODELS = ("resnet8_int8.onnx", "resnet8_uint8.onnx")
IMAGES = 200
LIBRARIES = ("numpy", "onnx", "marimo", "altair", "playwright")


def measure(folder: Path, name: str, work: Path) -> results.PlaygroundUse:
    """One model, in a server and a browser of its own."""
    load = os.getloadavg()[0]
    server = browser.Server([folder], work / "server.log", dict(os.environ), Path.cwd())
    try:
        started = time.perf_counter()
        with browser.opened(server) as page:
            opening, version = time.perf_counter() - started, page.context.browser.version
            browser.model(page, name)
            page.wait_for_timeout(2000)  # charts are drawn
            names = browser.layers(page)
            sqnr = browser.until(page, "Errors of all layers", f"Errors over {IMAGES} images")
            alone = browser.until(page, "Each layer alone", f"Each layer alone over {IMAGES} images")
            changes, layers, memory = [], [], []
            for step in range(50):
                if step % (len(names) - 1) == 0:
                    browser.layer(page, names[0])
                layers.append(_next_layer(page, names[step % (len(names) - 1) + 1]))
                scale = float(browser.value(page).input_value())
                changes.append(browser.run(page, f"{scale * (1.5 + step / 100):.6g}"))
                if step == 0:
                    compared = browser.until(page, "Compare many images", f"Top-1 over {IMAGES} images")
                browser.reset(page)
                if step % 10 == 9:
                    memory.append(round(server.resident_mb()))
    finally:
        server.close()
    return results.PlaygroundUse(
        model=open_file(folder / "models" / name).description,
        images=IMAGES,
        opening_seconds=round(opening, 2),
        layer_seconds=tuple(round(one, 3) for one in layers),
        change_seconds=tuple(round(one, 3) for one in changes),
        sqnr_seconds=round(sqnr, 2),
        alone_seconds=round(alone, 2),
        compared_seconds=round(compared, 2),
        resident_mb=tuple(memory),
        load=round(load, 2),
        browser=f"Chromium {version}",
        environment=replace(environment.current(), libraries=environment.library_versions(LIBRARIES)),
        created=results.now(),
    )


def _next_layer(page: Any, name: str) -> float:
    """Seconds until the page shows the next layer."""
    started = time.perf_counter()
    page.get_by_role("button", name="Next").locator("visible=true").first.click()
    browser.shown(page, name)
    return time.perf_counter() - started


def main() -> None:
    """Read the arguments, measure, write the results."""
    parser = argparse.ArgumentParser(description="Measure the playground in a browser.")
    parser.add_argument("folder", type=Path, help="the folder of a run: models, results, data")
    parser.add_argument("--output", type=Path, required=True, help="the folder for the results")
    arguments = parser.parse_args()
    for name in MODELS:
        with tempfile.TemporaryDirectory() as work:
            found = measure(arguments.folder, name, Path(work))
        results.save(found, arguments.output / f"{Path(name).stem}.json")
        print(f"{name}: {found}")


if __name__ == "__main__":
    main()
