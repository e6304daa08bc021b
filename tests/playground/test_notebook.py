"""The notebook without a browser: marimo's own check, and every cell run on the demo."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from resnet8.cli.playground import notebook

if TYPE_CHECKING:
    from pathlib import Path

    from resnet8.data.assets import Assets
    from resnet8.pipeline import Reproduction

pytest.importorskip("marimo")
pytest.importorskip("altair")


def marimo(folder: Path, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    named = {"HOME": str(folder), "RESNET8_CACHE": str(folder / "cache")} | environment
    return subprocess.run(
        [sys.executable, "-m", "marimo", *map(str, arguments)],
        cwd=folder,
        env=os.environ | named,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def exported(folder: Path, **environment: str) -> str:
    """The page as HTML; a cell in error makes the export fail."""
    page = folder / "page.html"
    done = marimo(folder, "export", "html", notebook(), "-o", page, "--no-include-code", **environment)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return page.read_text(encoding="utf-8")


def test_marimo_finds_nothing_to_say(tmp_path: Path) -> None:
    done = marimo(tmp_path, "check", "--strict", notebook())
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_cell_runs_on_the_demo(tmp_path: Path, reproduced: Reproduction, demo_assets: Assets) -> None:
    page = exported(
        tmp_path,
        RESNET8_PLAYGROUND=str(reproduced.output_dir),
        RESNET8_ASSETS=str(demo_assets.keras_model.parent),
    )
    for heading in ("The network", "Weights", "The image", "What flows", "Noise of all layers", "Change it"):
        assert heading in page
    assert "resnet8_int8.onnx" in page
    assert "data:image/png;base64," in page


def test_a_folder_without_models_says_what_makes_them(tmp_path: Path) -> None:
    page = exported(tmp_path, RESNET8_PLAYGROUND=str(tmp_path / "nowhere"))
    assert "No models here" in page
    assert "resnet8 reproduce" in page
    assert "The network" not in page


def test_a_damaged_model_is_a_message(tmp_path: Path, reproduced: Reproduction, demo_assets: Assets) -> None:
    models = tmp_path / "models"
    models.mkdir()
    (models / "resnet8.onnx").write_bytes((reproduced.output_dir / "models/resnet8.onnx").read_bytes())
    (models / "broken.onnx").write_text("no model")
    page = exported(tmp_path, RESNET8_PLAYGROUND=str(tmp_path), RESNET8_ASSETS=str(demo_assets.keras_model.parent))
    assert "is no model file" in page
    assert "choose a quantized one" in page
