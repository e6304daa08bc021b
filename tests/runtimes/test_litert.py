"""TensorFlow Lite files in LiteRT: the float and the full-integer form, made here from the demo's network."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from resnet8.data.cifar10 import preprocess, read_split
from resnet8.errors import ModelError
from resnet8.evaluation import evaluate
from resnet8.results import Evaluation, load
from resnet8.runtimes import open_model

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from resnet8.data.assets import Assets
    from resnet8.pipeline import Reproduction
    from resnet8.workers import Workers

pytest.importorskip("ai_edge_litert", reason="needs the extra litert")


def write_tflite(keras_model: Path, path: Path, images: NDArray[np.float32] | None) -> None:
    """Runs in the keras process; with ``images``, full-integer int8 with their ranges."""
    import tensorflow as tf

    from resnet8.runtimes.keras import load as load_keras

    network = load_keras(keras_model, keras_model.read_bytes())
    call = tf.function(lambda x: network(x, training=False))
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    concrete = call.get_concrete_function(tf.TensorSpec((1, 32, 32, 3), tf.float32))
    converter = tf.lite.TFLiteConverter.from_concrete_functions([convert_variables_to_constants_v2(concrete)])
    if images is not None:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ([image[None]] for image in images)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = tf.int8
    path.write_bytes(converter.convert())


@pytest.fixture(scope="module")
def models(workers: Workers, demo_assets: Assets, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The demo's network as .tflite, by data type."""
    folder = tmp_path_factory.mktemp("tflite")
    images = preprocess(read_split(demo_assets.data_dir, "train").images[:100])
    made = {}
    for kind, ranges in (("float32", None), ("int8", images)):
        made[kind] = folder / f"{kind}.tflite"
        workers["keras"].call(write_tflite, demo_assets.keras_model, made[kind], ranges)
    return made


def test_the_float_model_agrees_with_onnx_runtime(
    models: dict[str, Path], reproduced: Reproduction, demo_assets: Assets
) -> None:
    predictor = open_model(models["float32"])
    assert (predictor.runtime, predictor.model.format, predictor.model.dtype) == ("litert", "tflite", "float32")
    images = preprocess(read_split(demo_assets.data_dir, "test").images[:53])
    theirs = open_model(reproduced.output_dir / "models/resnet8.onnx")
    for batch in (images[:1], images[:50], images[50:]):
        np.testing.assert_allclose(predictor.probabilities(batch), theirs.probabilities(batch), rtol=0, atol=1e-5)


def test_the_integer_model_is_fed_and_read_in_its_own_units(
    models: dict[str, Path], reproduced: Reproduction, demo_assets: Assets
) -> None:
    result = evaluate(models["int8"], demo_assets.data_dir)
    assert (result.model.activations, result.model.weights) == ("int8", "int8")
    float_result = load(Evaluation, reproduced.output_dir / "results/fp32-onnx.json")
    assert abs(result.overall.correct - float_result.overall.correct) <= 12  # 2 % of 597
    probabilities = open_model(models["int8"]).probabilities(np.full((2, 32, 32, 3), 128, np.float32))
    assert probabilities.dtype == np.float32
    assert ((probabilities >= 0) & (probabilities <= 1)).all()


def test_a_truncated_file_is_refused(models: dict[str, Path], tmp_path: Path) -> None:
    content = models["float32"].read_bytes()
    path = tmp_path / "part.tflite"
    for part in (0.01, 0.5, 0.99):
        path.write_bytes(content[: int(part * len(content))])
        with pytest.raises(ModelError, match=r"part\.tflite"):
            open_model(path)


@pytest.mark.real
def test_the_references_own_models(real_assets: Path) -> None:
    data = real_assets / "cifar-10-batches-py"
    folder = real_assets / "mlperf-tiny"
    assert evaluate(folder / "pretrainedResnet_quant.tflite", data).overall.correct == 8697
    assert evaluate(folder / "pretrainedResnet.tflite", data).overall.correct == 8719
