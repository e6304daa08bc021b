"""Ranges of tensors: against every image in float64 by another implementation, and where kernels err."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper
from onnx.reference import ReferenceEvaluator

from resnet8.conversion.folding import shifted
from resnet8.data import demo
from resnet8.quantization.ranges import ranges

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> onnx.ModelProto:
    folder: Path = demo.materialize_models(tmp_path_factory.mktemp("models") / "demo")
    return onnx.shape_inference.infer_shapes(onnx.load(folder / "models/resnet8.onnx"))


@pytest.fixture(scope="module")
def images() -> NDArray[np.uint8]:
    """Noise, and a few images of one value."""
    noise = np.random.default_rng(5).integers(0, 256, (21, 32, 32, 3), np.uint8)
    flat = np.broadcast_to(np.array([0, 128, 255], np.uint8)[:, None, None, None], (3, 32, 32, 3))
    return np.concatenate([noise, flat])


def wide(model: onnx.ModelProto, names: list[str]) -> onnx.ModelProto:
    """The same network in float64, by another way than the source's: through the evaluator's own operators."""
    copy = onnx.ModelProto.FromString(model.SerializeToString())
    for tensor in copy.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            tensor.CopyFrom(numpy_helper.from_array(np.float64(numpy_helper.to_array(tensor)), tensor.name))
    copy.graph.input[0].type.tensor_type.elem_type = TensorProto.DOUBLE
    del copy.graph.value_info[:]
    del copy.graph.output[:]
    copy.graph.output.extend(onnx.helper.make_tensor_value_info(name, TensorProto.DOUBLE, None) for name in names)
    return copy


def test_they_are_the_extremes_of_every_image_in_float64(model: onnx.ModelProto, images: NDArray[np.uint8]) -> None:
    found = ranges(model, images, "float64")
    names = [name for node in model.graph.node for name in node.output]
    assert set(found) == {"input", *names}
    assert found["input"] == (0.0, 255.0)
    values = ReferenceEvaluator(wide(model, names)).run(names, {"input": images.astype(np.float64)})
    for name, value in zip(names, values, strict=True):
        low, high = found[name]
        assert (low.dtype, high.dtype) == (np.float32, np.float32)
        assert low == np.float32(min(value.min(), 0)), name
        assert high == np.float32(max(value.max(), 0)), name


def test_the_last_bits_of_the_runtimes_kernels_do_not_matter(
    model: onnx.ModelProto, images: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same ranges, when every extreme that the runtime reports is off by up to three ulp."""
    import onnxruntime

    expected = ranges(model, images, "float64")
    genuine = onnxruntime.InferenceSession.run
    generator = np.random.default_rng(1)

    def erring(self: object, *arguments: object) -> list[NDArray[np.float32]]:
        return [shifted(one, generator.integers(-3, 4, one.shape)) for one in genuine(self, *arguments)]

    monkeypatch.setattr(onnxruntime.InferenceSession, "run", erring)
    assert ranges(model, images, "float64") == expected


def test_the_order_of_images_does_not_matter(model: onnx.ModelProto, images: NDArray[np.uint8]) -> None:
    assert ranges(model, images[::-1], "float64") == ranges(model, images, "float64")


def test_a_single_image_is_enough(model: onnx.ModelProto, images: NDArray[np.uint8]) -> None:
    low, high = ranges(model, images[-1:], "float64")["input"]
    assert (low, high) == (0.0, 255.0)


def test_in_float32_they_are_those_of_onnx_runtimes_own_calibration(
    model: onnx.ModelProto, images: NDArray[np.uint8], tmp_path: Path
) -> None:
    from onnxruntime.quantization import CalibrationDataReader
    from onnxruntime.quantization.calibrate import create_calibrator

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.batches = iter([{"input": images.astype(np.float32)}])

        def get_next(self) -> dict[str, NDArray[np.float32]] | None:
            return next(self.batches, None)

    onnx.save(model, tmp_path / "model.onnx")
    calibrator = create_calibrator(tmp_path / "model.onnx", None, str(tmp_path / "augmented.onnx"))
    calibrator.collect_data(Reader())
    found = ranges(model, images, "float32")
    theirs = calibrator.compute_data()
    assert found.keys() == set(theirs.keys())
    for name, (low, high) in found.items():
        least, greatest = theirs[name].range_value
        assert (low, high) == (min(least, 0), max(greatest, 0)), name
