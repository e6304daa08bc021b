"""Commands that are killed, interrupted, run at once, without room and without rights: nothing is ever half done.

``pytest --kills N`` makes the long form: N signals in all, and other disturbances in proportion. The seed is that of
the short one.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
from functools import partial
from typing import TYPE_CHECKING

import pytest
from disturbed import Disturbance, Work
from trial import BAD, table

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from resnet8.data.assets import Assets
    from resnet8.pipeline import Reproduction

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="this system has no process descriptors"),
]

SEED = 11
DATA = ("--data-dir", "cifar-10-batches-py")
STAGES = (
    "compare",
    "evaluate published-int8",
    "quantize published-int8",
    "quantize torch-uint8",
    "convert",
    "quantize ort-int8",
    "evaluate torch-int8",
    "quantize torch-int8",
    "evaluate ort-per-channel",
)


def out_of_date(stage: str, folder: Path) -> None:
    """As if the stage had not run: without its stamp, and what it says was written."""
    stamp = folder / "output" / ".resnet8" / f"{stage}.json"
    names = [name for name, _ in json.loads(stamp.read_text())["outputs"]]
    for part in ("models", "results", "docs"):
        for name in names:
            (folder / "output" / part / name).unlink(missing_ok=True)
    stamp.unlink()


WORKS = {
    "vectors": Work(
        ("vectors", "resnet8_int8.onnx", "-o", "golden", "--images", "1", *DATA), made=("golden",), share=0.1
    ),
    "export": Work(("export", "c", "resnet8_int8.onnx", "-o", "library", *DATA), made=("library",), share=0.1),
    "export rtl": Work(("export", "rtl", "resnet8_int8.onnx", "-o", "hardware", *DATA), made=("hardware",), share=0.1),
    "saving": Work(  # by the page's process, whose interrupts are its own
        ("save", "resnet8_int8.onnx", "changed.onnx"),
        made=("changed.onnx", "changed.onnx.json"),
        signals=(signal.SIGKILL,),
    ),
    "calibrate": Work(("calibrate", "--indices", "drawn/indices.npy", *DATA)),
    "evaluate": Work(("evaluate", "resnet8_int8.onnx", "--max-samples", "5", "--json", "new/result.json", *DATA)),
    "quantize": Work(
        ("quantize", "resnet8.onnx", "--recipe", "published-int8", "--output", "made.onnx", *DATA), share=0.15
    ),
    "sweep": Work(  # a cell is kept under a name of its own, whole
        (
            *("sweep", "resnet8.onnx", "--weights", "8", "--activations", "8", "--samples-per-class", "20"),
            *("--max-samples", "5", "--jobs", "1", "--cells", "cells", "--json", "new/sweep.json", *DATA),
        ),
        share=0.1,
        needs=("resnet8.cli", "resnet8.sweeps.sweep"),
    ),
    "audit cim": Work(
        (
            *("audit", "cim", "resnet8_int8.onnx", "--rows", "64", "--adc-bits", "6", "--images", "5"),
            *("--jobs", "1", "--cells", "cells", "--json", "new/cim.json", *DATA),
        ),
        share=0.1,
        needs=("resnet8.cli", "resnet8.sweeps.cim"),
    ),
    "reproduce": Work(
        ("reproduce", "--assets-dir", "assets", "--output-dir", "output"),
        states={stage: partial(out_of_date, stage) for stage in STAGES},
        share=0.15,
        needs=("resnet8.cli", "resnet8.pipeline"),
    ),
}


@pytest.fixture(scope="session")
def workshop(template: Path, reproduced: Reproduction, demo_assets: Assets) -> Path:
    """The template with a whole run of the pipeline, and what it was made from."""
    folder = template.with_name("workshop")
    shutil.copytree(template, folder, symlinks=True)
    shutil.copytree(reproduced.output_dir, folder / "output")
    (folder / "assets").symlink_to(demo_assets.keras_model.parent)
    return folder


@pytest.mark.parametrize("name", WORKS)
def test_disturbed_commands(
    name: str, request: pytest.FixtureRequest, tmp_path: Path, keep: Callable[[dict[str, dict[str, int]]], None]
) -> None:
    """SIGKILL, SIGTERM and Ctrl-C; a full disk and limited files; several at once; folders not to be written."""
    work = WORKS[name]
    count = max(round(int(request.config.getoption("--kills")) * work.share), 1)
    template = request.getfixturevalue("workshop" if name == "reproduce" else "template")
    with Disturbance(name, work, template, tmp_path) as disturbance:
        found = list(disturbance.findings(SEED, count))
    kinds = sorted({one.subject for one in found})
    keep({kind: table([one for one in found if one.subject == kind]) for kind in kinds})
    assert [one for one in found if one.outcome in BAD] == [], table(found)
