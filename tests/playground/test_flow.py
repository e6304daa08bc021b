"""What flows through networks of codes and of real numbers: against the layers run one by one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from builders import noise
from quantized import network
from reals import real_of

from resnet8.data.cifar10 import preprocess
from resnet8.execute import engine, real
from resnet8.network.change import Change, apply
from resnet8.numeric.grid import dequantize
from resnet8.playground.flow import Answers, flow, flow_of_changed, predictions
from resnet8.playground.opened import open_file
from resnet8.runtimes import open_model

if TYPE_CHECKING:
    from pathlib import Path

    from resnet8.data.cifar10 import Split

QUANTIZED = network()
REAL = real_of(QUANTIZED)
IMAGES = noise(45, 7)


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_codes_are_the_engines(dtype: Any) -> None:
    program = network(2, dtype)
    expected = engine.probabilities(program, engine.run(program, engine.input_codes(program, IMAGES)))
    np.testing.assert_array_equal(flow(program, IMAGES).probabilities, expected)
    np.testing.assert_array_equal(predictions(program, IMAGES), expected.argmax(axis=1))
    assert predictions(program, IMAGES[:0]).shape == (0,)


def test_a_flow_holds_every_activation() -> None:
    found = flow(QUANTIZED, IMAGES[:3])
    assert list(found.values) == list(QUANTIZED.activations)
    codes = dict(found.values)
    for layer in QUANTIZED.layers:
        name = layer.output.name
        np.testing.assert_array_equal(codes[name], engine.step(layer, codes))
        np.testing.assert_array_equal(found.real(name), dequantize(codes[name], layer.output.params))


def test_real_numbers_flow_as_they_are() -> None:
    found = flow(REAL, IMAGES[:3])
    assert list(found.values) == list(REAL.activations)
    np.testing.assert_array_equal(found.real("image"), preprocess(IMAGES[:3]))
    values = dict(found.values)
    for layer in REAL.layers:
        np.testing.assert_array_equal(found.real(layer.output.name), real.step(layer, values))
    logits = real.run(REAL, IMAGES[:3])
    np.testing.assert_array_equal(found.probabilities, real.probabilities(REAL, logits))
    np.testing.assert_array_equal(predictions(REAL, IMAGES[:3]), logits.argmax(axis=1))


@pytest.mark.parametrize(
    ("change", "kept"),
    [
        (Change("image", "bits", 4), []),
        (Change("first_conv.w", "factor", 1.5), ["image"]),
        (Change("shifted", "factor", 4), ["image", "first", "scaled"]),
        (Change("joined", "rounding", "truncate"), ["image", "first", "scaled", "shifted", "second"]),
        (Change("logits", "zero_point", 90), ["image", "first", "scaled", "shifted", "second", "joined", "mean"]),
    ],
)
def test_a_changed_network_computes_what_the_change_reaches(change: Change, kept: list[str]) -> None:
    before, changed = flow(QUANTIZED, IMAGES[:3]), apply(QUANTIZED, [change])
    found, expected = flow_of_changed(changed, before, IMAGES[:3]), flow(changed, IMAGES[:3])
    assert list(found.values) == list(expected.values)
    for name, values in expected.values.items():
        np.testing.assert_array_equal(found.values[name], values, strict=True)
    np.testing.assert_array_equal(found.probabilities, expected.probabilities)
    assert [name for name in found.values if found.values[name] is before.values[name]] == kept


def test_a_network_in_which_nothing_is_changed_computes_nothing() -> None:
    before = flow(QUANTIZED, IMAGES[:3])
    found = flow_of_changed(apply(QUANTIZED, []), before, IMAGES[:3])
    assert all(found.values[name] is values for name, values in before.values.items())
    np.testing.assert_array_equal(found.probabilities, before.probabilities)


def test_long_work_can_be_stopped() -> None:
    def progress(done: int, total: int) -> None:
        assert (done, total) == (50, 90)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predictions(QUANTIZED, np.concatenate([IMAGES] * 2), progress)


def test_answers_are_counted_against_labels_and_the_reference() -> None:
    classes = np.array([0, 1, 2, 3])
    found = Answers(np.array([0, 1, 0, 0]), classes, {"same": classes, "other": np.array([0, 0, 0, 3])})
    assert (found.score().correct, found.score().total) == (2, 4)
    assert [found.score(one).correct for one in ("same", "other")] == [2, 2]
    assert found.changed("same").tolist() == []
    assert found.changed("other").tolist() == [1, 2]


# --- files ---


def test_the_demo_predicts_as_onnx_runtime(demo_run: Path, demo_split: Split) -> None:
    images = demo_split.images[:40]
    for path in sorted((demo_run / "models").glob("*.onnx")):
        ours, theirs = (
            flow(open_file(path).network, images).probabilities,
            open_model(path).probabilities(preprocess(images)),
        )
        assert (ours.argmax(axis=1) == theirs.argmax(axis=1)).mean() >= 0.95
        if path.name == "resnet8.onnx":
            np.testing.assert_allclose(ours, theirs, atol=1e-4)


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor:UserWarning")
def test_a_torchscript_model_computes_what_pytorch_does(torch_file: Path) -> None:
    theirs = open_model(torch_file).probabilities(preprocess(IMAGES))
    # A code next to a tie may be another (tests/runtimes).
    assert np.abs(flow(open_file(torch_file).network, IMAGES).probabilities - theirs).max() < 0.2
    assert (predictions(open_file(torch_file).network, IMAGES) == theirs.argmax(axis=1)).mean() >= 0.9
