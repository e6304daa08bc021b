"""The familiar scripts as their users run them: by what they print, write and answer."""

from __future__ import annotations

import pickle
import re
import runpy
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from builders import cifar_folder
from shell import SCRIPTS, assert_defaults_shown

from resnet8.data.calibration import calibrate
from resnet8.data.cifar10 import FOLDER
from resnet8.results import Evaluation, Quantization, load, sha256

if TYPE_CHECKING:
    from pathlib import Path

    from shell import Case, Shell

    from resnet8.data.assets import Assets
    from resnet8.pipeline import Reproduction

NAMES = sorted(path.name for path in SCRIPTS.glob("*.py"))


@pytest.fixture
def models(shell: Shell, reproduced: Reproduction) -> Path:
    """``models/`` in the shell's folder, with the demo's files under the names that the scripts know."""
    folder = shell.folder / "models"
    folder.mkdir()
    for name in ("resnet8.onnx", "resnet8.pt", "resnet8_int8.onnx", "resnet8_int8.pt"):
        shutil.copy(reproduced.output_dir / "models" / name, folder)
    return folder


# --- help ---


@pytest.mark.parametrize("name", NAMES)
def test_help_shows_what_everything_is_when_left_out(shell: Shell, name: str) -> None:
    text = shell.run(name, "-h")
    assert text.returncode == 0, text.stderr
    assert text.stdout.startswith(f"Usage: {name}")
    assert_defaults_shown(text.stdout)
    assert shell.run(name, "--help").stdout == text.stdout


# --- evaluate ---


def percent(result: Evaluation) -> str:
    return f"{result.overall.accuracy * 100:.2f} %"


@pytest.mark.parametrize(
    ("script", "quantized", "float_model", "result"),
    [
        ("evaluate.py", "resnet8_int8.onnx", "resnet8.onnx", "fp32-onnx"),
        ("evaluate.py", "resnet8_int8.pt", "resnet8.pt", "fp32-pytorch"),
        ("evaluate_pytorch.py", "resnet8_int8.pt", "resnet8.pt", "fp32-pytorch"),
    ],
)
def test_a_quantized_model_is_compared_with_the_float_model_beside_it(
    *,
    shell: Shell,
    models: Path,
    demo_assets: Assets,
    reproduced: Reproduction,
    script: str,
    quantized: str,
    float_model: str,
    result: str,
) -> None:
    text = shell.good(script, f"models/{quantized}", demo_assets.data_dir, "--output-json", "r.json")
    found = load(Evaluation, shell.folder / "r.json")
    baseline = load(Evaluation, reproduced.output_dir / f"results/{result}.json")
    assert found.overall.total == 597
    assert f"≥ 85 %: reached ({percent(found)})" in text
    delta = (found.overall.correct - baseline.overall.correct) / 597 * 100
    assert f"delta to models/{float_model} ({percent(baseline)}): {delta:+.2f} points" in text


def test_the_delta_is_of_the_same_images(
    shell: Shell, models: Path, demo_assets: Assets, reproduced: Reproduction
) -> None:
    text = shell.good("evaluate.py", "models/resnet8_int8.onnx", demo_assets.data_dir, "--max-samples", 50)
    baseline = load(Evaluation, reproduced.output_dir / "results/fp32-onnx.json")
    correct = sum(a == b for a, b in zip(baseline.labels[:50], baseline.predictions[:50], strict=True))
    assert f"delta to models/resnet8.onnx ({correct / 50 * 100:.2f} %)" in text


def test_no_delta_without_a_float_model_or_to_itself(shell: Shell, models: Path, demo_assets: Assets) -> None:
    data = ("--data-dir", demo_assets.data_dir, "--max-samples", 50)
    assert "delta" not in shell.good("evaluate.py", *data)  # the default is the float model
    shutil.copy(models / "resnet8_int8.onnx", shell.folder / "alone.onnx")
    assert "delta" not in shell.good("evaluate.py", "--model", "alone.onnx", *data)
    (models / "resnet8.onnx").write_bytes(b"\x08damaged")
    done = shell.run("evaluate.py", "models/resnet8_int8.onnx", *data)
    assert done.returncode == 0
    assert re.fullmatch(r"no delta to models/resnet8\.onnx: .*\n", done.stderr)


def test_too_low_an_accuracy_is_said(shell: Shell, models: Path, demo_assets: Assets) -> None:
    folder = shutil.copytree(demo_assets.data_dir, shell.folder / "data")
    content = pickle.loads((folder / "test_batch").read_bytes(), encoding="bytes")
    content[b"labels"] = [(label + 1) % 10 for label in content[b"labels"]]
    (folder / "test_batch").write_bytes(pickle.dumps(content, protocol=4))
    text = shell.good("evaluate.py", "models/resnet8.onnx", "data", "--output-json", "r.json")
    found = load(Evaluation, shell.folder / "r.json")
    assert found.overall.accuracy < 0.5
    assert f"≥ 85 %: not reached ({percent(found)})" in text


# --- calibration ---


def test_load_calibration_data(demo_assets: Assets) -> None:
    function = runpy.run_path(str(SCRIPTS / "calibration_utils.py"))["load_calibration_data"]
    images, labels, names = function(str(demo_assets.data_dir.parent), 20, seed=7)
    drawn, _ = calibrate(demo_assets.data_dir, 20, 7)
    assert (images.shape, images.dtype) == ((200, 32, 32, 3), np.float32)
    assert (labels.shape, labels.dtype) == ((200,), np.int64)
    assert np.array_equal(images, drawn.images)
    assert 1 < images.max() <= 255  # raw pixels
    assert labels.tolist() == [label for label in range(10) for _ in range(20)]
    assert names == ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    whole, _, _ = function(demo_assets.data_dir)
    assert np.array_equal(whole, calibrate(demo_assets.data_dir, 100, 42)[0].images)


def test_calibration_utils(shell: Shell, demo_assets: Assets) -> None:
    text = shell.good(
        "calibration_utils.py", "--data-dir", demo_assets.data_dir, "--samples-per-class", 25, "--seed", 3
    )
    assert "seed 3" in text
    assert "250 images, stratified" in text


# --- quantize ---


def assert_said(text: str, log: str, *lines: str) -> None:
    for line in lines:
        assert line in text
        assert line in log


@pytest.mark.slow
def test_quantize_onnx_converts_the_default_model_first(
    shell: Shell, demo_assets: Assets, reproduced: Reproduction
) -> None:
    text = shell.good("quantize_onnx.py", RESNET8_ASSETS=str(demo_assets.keras_model.parent))
    log = (shell.folder / "logs/quantize_onnx.log").read_text()
    sizes = {name: (shell.folder / f"models/{name}.onnx").stat().st_size for name in ("resnet8_int8", "resnet8_uint8")}
    whole = (shell.folder / "models/resnet8.onnx").stat().st_size
    assert_said(
        text,
        log,
        f"models/resnet8.onnx does not exist: converting {demo_assets.keras_model} first",
        "seed 42, 100 images per class, 1,000 calibration images",
        "published-int8: calibration method MinMax, format QDQ, activations int8, weights int8; "
        "output models/resnet8_int8.onnx",
        "published-uint8: calibration method MinMax, format QDQ, activations uint8, weights uint8; "
        "output models/resnet8_uint8.onnx",
        f"models/resnet8.onnx: {whole:,} bytes",
        *(
            f"models/{name}.onnx: {size:,} bytes, {1 - size / whole:.1%} smaller than models/resnet8.onnx"
            for name, size in sizes.items()
        ),
    )
    for name in ("resnet8", "resnet8_int8", "resnet8_uint8"):
        ours, theirs = (folder / f"models/{name}.onnx" for folder in (shell.folder, reproduced.output_dir))
        assert sha256(ours.read_bytes()) == sha256(theirs.read_bytes())


def test_quantize_onnx_with_another_calibration(shell: Shell, models: Path, demo_assets: Assets) -> None:
    text = shell.good(
        "quantize_onnx.py",
        *("--model", "models/resnet8.onnx", "--data-dir", demo_assets.data_dir),
        *("--output-int8", "a.onnx", "--output-uint8", "b.onnx", "--samples-per-class", 20, "--seed", 7),
    )
    log = (shell.folder / "logs/quantize_onnx.log").read_text()
    assert_said(text, log, "seed 7, 20 images per class, 200 calibration images", "ort-int8: ", "ort-uint8: ")
    assert "converting" not in text
    for file, name in (("a", "ort-int8"), ("b", "ort-uint8")):
        record = load(Quantization, shell.folder / f"{file}.onnx.json")
        assert record.calibration is not None
        assert (record.recipe, record.calibration.seed, record.calibration.samples_per_class) == (name, 7, 20)


def test_quantize_pytorch(shell: Shell, models: Path, demo_assets: Assets) -> None:
    text = shell.good("quantize_pytorch.py", "--data-dir", demo_assets.data_dir, "--output", "q.pt")
    log = (shell.folder / "logs/quantize_pytorch.log").read_text()
    size, whole = ((shell.folder / name).stat().st_size for name in ("q.pt", "models/resnet8.pt"))
    assert_said(
        text,
        log,
        "seed 42, 100 images per class, 1,000 calibration images",
        "engine fbgemm, activations uint8, weights int8; output q.pt",
        f"q.pt: {size:,} bytes, {1 - size / whole:.1%} smaller than models/resnet8.pt",
    )


# --- errors ---


def test_errors(shell: Shell, models: Path, demo_assets: Assets, tmp_path: Path) -> None:
    data: tuple[Any, ...] = ("--data-dir", demo_assets.data_dir)
    cases: list[Case] = [
        (
            ("evaluate_pytorch.py", "models/resnet8.onnx", demo_assets.data_dir),
            r"resnet8\.onnx is no PyTorch model: found a file for ONNX Runtime, expected TorchScript.*use evaluate\.py",
        ),
        (("evaluate_pytorch.py", demo_assets.keras_model, *data), "found a file for Keras"),
        (("evaluate.py", "none.onnx", *data), "does not exist"),
        (("quantize_onnx.py", "--model", "none.onnx", *data), r"none\.onnx does not exist"),
        (("quantize_onnx.py", *data, "--samples-per-class", 19), "too few calibration samples per class: found 19"),
        (("quantize_pytorch.py", "--model", "none.pt", *data), r"none\.pt does not exist"),
        (("calibration_utils.py", *data, "--samples-per-class", 5), "found 5, expected at least 20"),
        (("convert_pytorch.py", "none.onnx", "x.pt"), "does not exist"),
        (("convert.py", "--keras-model", "none.h5"), "does not exist"),
    ]
    shell.all_bad(cases)
    shell.all_bad([(("evaluate.py", "a", "--model", "b"), "a and b are both given")], code=2)
    (models / "resnet8.onnx").unlink()
    early: list[Case] = [  # before a conversion
        (("quantize_onnx.py", "--model", "models/resnet8.onnx", *data), "does not exist"),
        (("quantize_onnx.py", *data, "--samples-per-class", 19), "too few calibration samples"),
        (
            ("quantize_onnx.py", *data),
            r"models/resnet8\.onnx does not exist, nor what to convert it from: not all assets are in the cache",
            {"RESNET8_CACHE": str(tmp_path / "empty")},
        ),
    ]
    shell.all_bad(early)


@pytest.mark.parametrize("name", NAMES)
def test_errors_name_no_option_that_a_script_does_not_have(shell: Shell, name: str, demo_assets: Assets) -> None:
    known = set(re.findall(r"--[a-z][\w-]*", shell.run(name, "--help").stdout))
    only_model, few = shell.folder / "only_model", cifar_folder(shell.folder / "few" / FOLDER).parent
    only_model.mkdir()
    shutil.copy(demo_assets.keras_model, only_model)
    (shell.folder / "empty").mkdir()
    situations = [
        {"RESNET8_CACHE": "nowhere"},
        {"RESNET8_ASSETS": "nowhere"},
        {"RESNET8_ASSETS": "empty"},
        {"RESNET8_ASSETS": "only_model"},
    ]
    tried: list[Any] = [((), situation) for situation in situations]
    if "--data-dir" in known:
        tried += [(("--data-dir", folder), {}) for folder in ("nowhere", "empty", few)]
    if "--samples-per-class" in known:
        tried += [(("--data-dir", demo_assets.data_dir, "--samples-per-class", count), {}) for count in (5, 5000)]
    failed = 0
    for arguments, environment in tried:
        done = shell.run(name, *arguments, **environment)
        failed += done.returncode != 0
        named = set(re.findall(r"--[a-z][\w-]*", re.sub("«resnet8 [^»]*»", "", done.stderr)))
        assert named <= known, done.stderr
    assert failed
