"""Keras files in Keras, in a process without torch: what is opened, what is refused."""

from __future__ import annotations

import resource
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest

from resnet8.conversion import convert_keras
from resnet8.errors import ConversionError, ModelError, StorageError
from resnet8.evaluation import probe
from resnet8.results import Evaluation, load

if TYPE_CHECKING:
    from pathlib import Path

    from resnet8.data.assets import Assets
    from resnet8.pipeline import Reproduction
    from resnet8.workers import Workers


def write_other(path: Path, shape: tuple[int, ...], classes: int, marker: Path | None = None) -> None:
    """Runs in the keras process: a model of another form; with ``marker``, one whose layer leaves that file behind."""
    import keras

    layers = [keras.layers.Input(shape), keras.layers.Flatten(), keras.layers.Dense(classes, activation="softmax")]
    if marker is not None:
        name = str(marker)

        def touch(x: object) -> object:
            __import__("pathlib").Path(name).touch()
            return x

        layers.append(keras.layers.Lambda(touch, output_shape=(classes,)))
    model = keras.Sequential(layers)
    model.save(path)
    if marker is not None:
        marker.unlink(missing_ok=True)  # building the model has run the layer


def without_room(path: Path) -> None:
    """Runs in the process: no file grows beyond a thousand bytes meanwhile."""
    from resnet8.runtimes.keras import load

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        load(path, path.read_bytes())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def modules() -> set[str]:
    """Runs in the process."""
    return {name.partition(".")[0] for name in sys.modules}


def test_the_demo_is_opened_and_agrees_with_the_others(
    workers: Workers, reproduced: Reproduction, demo_assets: Assets
) -> None:
    evaluation, probabilities = workers["keras"].call(probe, demo_assets.keras_model, demo_assets.data_dir)
    assert (evaluation.runtime, evaluation.model.format, evaluation.model.dtype) == ("keras", "keras-h5", "float32")
    _, theirs = workers["onnxruntime"].call(probe, reproduced.output_dir / "models/resnet8.onnx", demo_assets.data_dir)
    np.testing.assert_allclose(probabilities, theirs, rtol=0, atol=1e-5)
    recorded = load(Evaluation, reproduced.output_dir / "results/fp32-keras.json")
    assert (evaluation.predictions, evaluation.overall) == (recorded.predictions, recorded.overall)


def test_the_frameworks_live_apart(workers: Workers, demo_assets: Assets) -> None:
    workers["keras"].call(probe, demo_assets.keras_model, None)
    there = workers["keras"].call(modules)
    assert "tensorflow" in there
    assert not {"torch", "onnx2torch", "torchvision"} & there
    assert "tensorflow" not in sys.modules


def test_no_room_for_its_copy_is_no_damage(workers: Workers, demo_assets: Assets) -> None:
    with pytest.raises(StorageError, match=r"cannot write temporary files: found File too large.*TMPDIR"):
        workers["keras"].call(without_room, demo_assets.keras_model)


@pytest.mark.parametrize("part", [0.1, 0.5, 0.999])
def test_a_truncated_file_is_refused(workers: Workers, demo_assets: Assets, tmp_path: Path, part: float) -> None:
    content = demo_assets.keras_model.read_bytes()
    path = tmp_path / "part.h5"
    path.write_bytes(content[: int(part * len(content))])
    with pytest.raises(ModelError, match=r"part\.h5 is no Keras model that can be loaded.*truncated") as caught:
        workers["keras"].call(probe, path, None)
    assert "\n" not in str(caught.value)


def test_an_hdf5_file_without_a_model_is_refused(workers: Workers, tmp_path: Path) -> None:
    import h5py

    path = tmp_path / "table.h5"
    with h5py.File(path, "w") as file:
        file["x"] = np.arange(3)
    with pytest.raises(ModelError, match="no Keras model that can be loaded"):
        workers["keras"].call(probe, path, None)


@pytest.mark.parametrize(
    ("shape", "classes", "match"),
    [
        ((28, 28, 1), 10, r"another input shape: found \(batch, 28, 28, 1\)"),
        ((32, 32, 3), 100, r"another output shape: found \(batch, 100\)"),
    ],
)
def test_another_form_is_refused(
    workers: Workers, tmp_path: Path, shape: tuple[int, ...], classes: int, match: str
) -> None:
    path = tmp_path / "other.h5"
    workers["keras"].call(write_other, path, shape, classes)
    for function, arguments in ((probe, (path, None)), (convert_keras, (path,))):
        with pytest.raises(ModelError, match=match):
            workers["keras"].call(function, *arguments)


def test_another_network_of_the_same_form_is_not_converted(workers: Workers, tmp_path: Path) -> None:
    path = tmp_path / "linear.h5"
    workers["keras"].call(write_other, path, (32, 32, 3), 10)
    with pytest.raises(ConversionError, match="no ResNet8: parameters: found 30730, expected 78666"):
        workers["keras"].call(convert_keras, path)


def test_code_in_a_file_is_not_run(workers: Workers, tmp_path: Path) -> None:
    path, marker = tmp_path / "lambda.h5", tmp_path / "marker"
    workers["keras"].call(write_other, path, (32, 32, 3), 10, marker)
    with pytest.raises(ModelError, match="no Keras model that can be loaded"):
        workers["keras"].call(probe, path, None)
    assert not marker.exists()
