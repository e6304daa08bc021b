"""The notebook without a browser: marimo's own check, and every cell run, on the demo and where there is nothing."""

from __future__ import annotations

import html
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from resnet8.cli.playground import notebook

pytest.importorskip("marimo")
pytest.importorskip("altair")

import marimo
import onnx

from resnet8.network.change import Change, apply
from resnet8.playground import noise, sources, work
from resnet8.playground.work import Job

if TYPE_CHECKING:
    from resnet8.data.assets import Assets
    from resnet8.data.cifar10 import Split


def shown(folder: Path, model: str = "", **given: object) -> str:
    """What every cell shows as one text, of a page in this state; a cell in error raises."""
    return html.unescape(marked_up(folder, model, **given))


def marked_up(folder: Path, model: str = "", **given: object) -> str:
    """The same as HTML.

    Args:
        folder: With the models.
        model: The one that is looked into.
        given: The page's states: ``changes``, ``jobs`` and so on.
    """
    states: dict[str, Any] = {"changes": {}, "folder": str(folder), "image": (0, 0), "jobs": {}, "layer": (1, 0)}
    states |= {"said": (None, None)} | given
    made = importlib.util.spec_from_file_location("page_of_the_test", notebook())
    assert made is not None
    assert made.loader is not None
    module = importlib.util.module_from_spec(made)
    made.loader.exec_module(module)
    names: dict[str, Any] = {"memory": {"model": model}, "go": lambda _: None, "look": lambda _: None}
    for name, value in states.items():
        names |= {f"get_{name}": lambda value=value: value, f"set_{name}": lambda _: None}
    outputs, _ = module.app.run(defs=names)
    return "\n".join(marimo.as_html(one).text for one in outputs)


@pytest.fixture(autouse=True)
def images(demo_assets: Assets, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESNET8_ASSETS", str(demo_assets.keras_model.parent))


def test_marimo_finds_nothing_to_say(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "marimo", "check", "--strict", str(notebook())],
        cwd=tmp_path,
        env=os.environ | {"HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_cell_runs_on_the_demo(demo_run: Path, demo_split: Split) -> None:
    opened, plain = (work.load(demo_run / "models" / name) for name in ("resnet8_int8.onnx", "resnet8.onnx"))
    real, sample = work.matched(opened, plain), sources.sample(demo_split, 0, 200)
    changes = (Change(opened.network.layers[0].output.name, "bits", 3),)
    changed = apply(opened.network, changes, real)
    part = demo_split.first(10)
    key = (opened.key, sample.source)
    jobs = {
        work.NOISE: Job(key, found=noise.noise(opened.network, real, part.images)),
        work.ALONE: Job(key, found=noise.sensitivity(opened.network, real, part.images, part.labels)),
        work.FLIPS: Job(
            (opened.key, changes, sample.source),
            found=noise.compared(opened.network, changed, real, part.images, part.labels),
        ),
    }
    seen = shown(demo_run, "resnet8_int8.onnx", changes={opened.key: (changes, changed)}, jobs=jobs)
    headings = ("The network", "Weights", "Bias", "The image", "What flows", "Noise of all layers", "Change it", "Save")
    headings += ("Errors of all layers, this image", "The same layer in several models")
    headings += ("This image, original and changed", "Many images, original and changed")
    for text in (*headings, "resnet8_int8.onnx", "data:image/png;base64,", "A dot marks what is changed"):
        assert text in seen
    assert "Errors over 200 images" in seen
    assert "Each layer alone over 200 images" in seen
    assert "Top-1 over 200 images" in seen
    assert "Download as CSV" in seen
    stopped = {work.NOISE: Job((opened.key, "another sample"), said="Errors of all layers: stopped")}
    assert "Errors of all layers: stopped" in shown(demo_run, "resnet8_int8.onnx", jobs=stopped)


@pytest.mark.parametrize("layer", [27, 28, 29])
def test_layers_without_a_map_are_bars(layer: int, demo_run: Path) -> None:
    seen = shown(demo_run, "resnet8_int8.onnx", layer=(layer, 1))
    assert f"Layer {layer} of 29" in seen
    assert "What flows" in seen


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor:UserWarning")
def test_a_model_without_its_float_model_is_looked_into_and_changed(torch_file: Path, tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    opened = work.load(Path(shutil.copy(torch_file, tmp_path / "models")))
    changes = (Change(opened.network.layers[0].output.name, "factor", 2.0),)
    changed = apply(opened.network, changes)
    seen = shown(tmp_path, "network.pt", changes={opened.key: (changes, changed)})
    assert "There is no float model here" in seen
    assert "there is none here" in seen
    assert "Predicted:" in seen


def test_names_in_files_are_shown_and_nothing_else(demo_run: Path, tmp_path: Path) -> None:
    """A script in the page could do what its buttons do."""
    models, evil = tmp_path / "models", '<script src="x">*a*`'
    models.mkdir()
    for name in ("resnet8.onnx", "resnet8_int8.onnx"):
        model = onnx.load(demo_run / "models" / name)
        for node in model.graph.node:
            node.name += evil
        onnx.save(model, models / f"{evil}{name}")
    opened, plain = (work.load(models / f"{evil}{name}") for name in ("resnet8_int8.onnx", "resnet8.onnx"))
    assert all("<script" in one.name for one in opened.network.layers)
    changes = (Change(opened.network.layers[0].output.name, "bits", 3),)
    changed = apply(opened.network, changes, work.matched(opened, plain))
    text = marked_up(tmp_path, f"{evil}resnet8_int8.onnx", changes={opened.key: (changes, changed)})
    assert "This image, original and changed" in text
    assert "<script" not in text
    assert "<em>a" not in text
    assert f"Layer {opened.network.layers[0].name}" in html.unescape(text)


def test_a_folder_without_models_says_what_makes_them(tmp_path: Path) -> None:
    seen = shown(tmp_path / "nowhere")
    assert "No models here" in seen
    assert "resnet8 reproduce" in seen
    assert "The network" not in seen


def test_a_damaged_model_is_a_message(tmp_path: Path, demo_run: Path) -> None:
    models = tmp_path / "models"
    models.mkdir()
    shutil.copy(demo_run / "models/resnet8.onnx", models)
    (models / "broken.onnx").write_text("no model")
    seen = shown(tmp_path, "resnet8.onnx")
    assert "is no model file" in seen
    assert "choose a quantized one" in seen
