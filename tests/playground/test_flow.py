"""Activations, noise, sensitivity and comparison: against the formulas, computed in the plainest way."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from builders import noise as noisy
from quantized import network
from reals import real_of

from resnet8.data.cifar10 import preprocess, read_split
from resnet8.execute import engine, real
from resnet8.numeric.grid import dequantize, quantize
from resnet8.playground.activations import (
    INPUT,
    capture,
    capture_real,
    decibels,
    feature_maps,
    noise,
    predictions,
    probabilities,
    sensitivity,
    sqnr,
)
from resnet8.playground.change import Change, apply
from resnet8.playground.compare import compare, flips
from resnet8.playground.network import open_network, reference
from resnet8.quantization.recipes import RECIPES
from resnet8.runtimes import open_model

if TYPE_CHECKING:
    from collections.abc import Callable

    from resnet8.data.assets import Assets
    from resnet8.pipeline import Reproduction

PROGRAM = network()
QUANTIZED = PROGRAM
REAL = real_of(PROGRAM)
IMAGES = noisy(45, 7)
LABELS = np.arange(45) % 10


class Stopped(BaseException):
    """As a notebook interrupts its cell."""


def stop_after(calls: int) -> Any:
    seen: list[tuple[int, int]] = []

    def progress(done: int, total: int) -> None:
        seen.append((done, total))
        if len(seen) == calls:
            raise Stopped

    return progress


@pytest.mark.parametrize("work", ["noise", "sensitivity", "predictions", "flips"])
def test_long_work_can_be_stopped(work: str) -> None:
    images = np.concatenate([IMAGES] * 4)
    labels = np.zeros(len(images), np.int64)
    does: dict[str, Callable[[], object]] = {
        "noise": lambda: noise(QUANTIZED, REAL, images, stop_after(2)),
        "sensitivity": lambda: sensitivity(QUANTIZED, REAL, images, labels, stop_after(2)),
        "predictions": lambda: predictions(QUANTIZED, images, stop_after(2)),
        "flips": lambda: flips(QUANTIZED, QUANTIZED, images, labels, progress=stop_after(5)),
    }
    with pytest.raises(Stopped):
        does[work]()


# --- running ---


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_without_changes_it_is_the_engine(dtype: Any) -> None:
    program = network(2, dtype)
    quantized = program
    expected = engine.probabilities(program, engine.run(program, engine.input_codes(program, IMAGES)))
    np.testing.assert_array_equal(probabilities(quantized, IMAGES), expected)
    np.testing.assert_array_equal(predictions(quantized, IMAGES), expected.argmax(axis=1))


def test_a_capture_holds_every_activation() -> None:
    flow = capture(QUANTIZED, REAL, IMAGES[:3])
    assert list(flow.codes) == list(flow.reference) == list(PROGRAM.activations)
    codes = dict(flow.codes)
    for layer in PROGRAM.layers:
        np.testing.assert_array_equal(codes[layer.output.name], engine.step(layer, codes))
        np.testing.assert_array_equal(
            flow.real(layer.output.name), dequantize(codes[layer.output.name], layer.output.params)
        )
    np.testing.assert_array_equal(flow.probabilities, probabilities(QUANTIZED, IMAGES[:3]))
    assert flow.reference_probabilities is not None
    np.testing.assert_array_equal(flow.reference["image"], preprocess(IMAGES[:3]))
    alone = capture(QUANTIZED, None, IMAGES[:1])
    assert (alone.reference, alone.reference_probabilities) == ({}, None)
    assert list(capture_real(REAL, IMAGES[:1])) == list(PROGRAM.activations)


def test_feature_maps_are_one_picture_for_each_channel() -> None:
    values = np.arange(24).reshape(1, 2, 3, 4)
    maps = feature_maps(values)
    assert maps.shape == (4, 2, 3)
    np.testing.assert_array_equal(maps[1], values[0, :, :, 1])
    assert feature_maps(np.arange(5).reshape(1, 5)).shape == (5, 1, 1)


# --- noise ---


def test_sqnr_is_the_formula() -> None:
    rng = np.random.default_rng(0)
    ref = rng.normal(0, 30, (4, 5, 6)).astype(np.float32)
    quantized = (ref + rng.normal(0, 0.5, ref.shape)).astype(np.float32)
    signal = sum(float(one) ** 2 for one in ref.reshape(-1))
    error = sum((float(a) - float(b)) ** 2 for a, b in zip(ref.reshape(-1), quantized.reshape(-1), strict=True))
    assert sqnr(ref, quantized) == pytest.approx(10 * math.log10(signal / error), abs=1e-4)
    assert sqnr(ref, ref) == math.inf
    assert sqnr(np.zeros_like(ref), ref) == -math.inf
    assert decibels(100, 1) == 20


def test_noise_of_every_layer_accumulated_and_in_isolation() -> None:
    """Image by image and tensor by tensor, in float64."""
    names = list(PROGRAM.activations)
    signal, accumulated, isolated = (dict.fromkeys(names, 0.0) for _ in range(3))
    for number in range(len(IMAGES)):
        image = IMAGES[number : number + 1]
        reals = capture_real(REAL, image)
        codes = {PROGRAM.input.name: engine.input_codes(PROGRAM, image)}
        fed = {name: quantize(reals[name], one.params) for name, one in PROGRAM.activations.items()}
        own = {PROGRAM.input.name: codes[PROGRAM.input.name]}
        for layer in PROGRAM.layers:
            codes[layer.output.name] = engine.step(layer, codes)
            own[layer.output.name] = engine.step(layer, fed)
        for name, one in PROGRAM.activations.items():
            ref = reals[name].astype(np.float64)
            signal[name] += (ref**2).sum()
            accumulated[name] += ((ref - dequantize(codes[name], one.params)) ** 2).sum()
            isolated[name] += ((ref - dequantize(own[name], one.params)) ** 2).sum()
    found = noise(QUANTIZED, REAL, IMAGES)
    assert [one.activation for one in found] == names
    assert [one.layer for one in found] == [INPUT, *(layer.name for layer in PROGRAM.layers)]
    for one in found:
        for ours, theirs in ((one.accumulated, accumulated), (one.isolated, isolated)):
            error = theirs[one.activation]
            expected = 10 * math.log10(signal[one.activation] / error) if error else math.inf
            assert ours == pytest.approx(expected, abs=1e-3)
    assert found[0].accumulated == math.inf  # pixels are whole numbers, and so is the scale
    assert found[1].accumulated == pytest.approx(found[1].isolated)  # nothing is before the first layer


def test_narrow_codes_make_noise() -> None:
    narrow = apply(QUANTIZED, [Change("second", "bits", 3)])
    before = {one.activation: one for one in noise(QUANTIZED, REAL, IMAGES)}
    after = {one.activation: one for one in noise(narrow, REAL, IMAGES)}
    assert after["second"].isolated < before["second"].isolated - 3
    assert after["joined"].accumulated < before["joined"].accumulated
    assert after["joined"].isolated < before["joined"].isolated  # what it reads has fewer codes
    assert after["shifted"] == before["shifted"]


# --- sensitivity ---


def test_sensitivity_is_the_float_network_with_one_tensor_replaced() -> None:
    found = sensitivity(QUANTIZED, REAL, IMAGES, LABELS)
    reals = capture_real(REAL, IMAGES)
    classes = real.run(REAL, IMAGES).argmax(axis=1)
    assert found.reference.correct == (classes == LABELS).sum()
    assert [one.activation for one in found.layers] == list(PROGRAM.activations)
    for one in found.layers:
        fed = {name: quantize(reals[name], other.params) for name, other in PROGRAM.activations.items()}
        layer = next((each for each in PROGRAM.layers if each.output.name == one.activation), None)
        codes = fed[one.activation] if layer is None else engine.step(layer, fed)
        values = dict(reals) | {one.activation: dequantize(codes, PROGRAM.activations[one.activation].params)}
        begun = layer is None
        for plain in REAL.layers:
            if begun and plain.output.name != one.activation:
                values[plain.output.name] = real.step(plain, values)
            begun = begun or plain.output.name == one.activation
        expected = values[REAL.logits.name].reshape(len(IMAGES), -1).argmax(axis=1)
        assert one.score.correct == (expected == LABELS).sum()
        assert one.changed == (expected != classes).sum()
    assert {one.score.total for one in found.layers} == {45}


def test_sensitivity_of_no_images_is_nothing() -> None:
    found = sensitivity(QUANTIZED, REAL, IMAGES[:0], LABELS[:0])
    assert (found.reference.total, len(found.layers)) == (0, 8)


# --- comparison ---


def test_nothing_differs_from_itself() -> None:
    found = compare(capture(QUANTIZED, REAL, IMAGES[:1]), apply(QUANTIZED, []), IMAGES[:1])
    for one in found.layers:
        assert (one.moved, one.change) == (0, math.inf)
        assert one.original == one.changed
    np.testing.assert_array_equal(found.original.probabilities, found.changed.probabilities)
    assert flips(QUANTIZED, QUANTIZED, IMAGES, LABELS).images == ()


def test_a_comparison_shows_what_moved_and_how_far() -> None:
    changed = apply(QUANTIZED, [Change("shifted", "factor", 4)])
    before, after = capture(QUANTIZED, REAL, IMAGES[:2]), capture(changed, None, IMAGES[:2])
    found = {one.activation: one for one in compare(before, changed, IMAGES[:2]).layers}
    assert [found[name].moved for name in ("image", "first", "scaled")] == [0, 0, 0]
    assert found["shifted"].moved > 0.5
    for name, one in found.items():
        assert one.change == sqnr(before.real(name), after.real(name))
        assert one.original == sqnr(before.reference[name], before.real(name))
        assert one.changed == sqnr(before.reference[name], after.real(name))
    without = compare(capture(QUANTIZED, None, IMAGES[:2]), changed, IMAGES[:2]).layers
    assert {(one.original, one.changed) for one in without} == {(None, None)}


def test_flips_are_the_images_whose_class_is_another() -> None:
    changed = apply(QUANTIZED, [Change("shifted", "bits", 2)])
    before, after = (probabilities(one, IMAGES).argmax(axis=1) for one in (QUANTIZED, changed))
    seen: list[tuple[int, int]] = []
    found = flips(QUANTIZED, changed, IMAGES, LABELS, progress=lambda *done: seen.append(done))
    assert found.images
    assert [one.image for one in found.images] == np.flatnonzero(before != after).tolist()
    for one in found.images:
        assert (one.label, one.before, one.after) == (LABELS[one.image], before[one.image], after[one.image])
    assert found.original.correct == (before == LABELS).sum()
    assert found.changed.correct == (after == LABELS).sum()
    assert seen == [(45, 90), (90, 90)]


# --- the demo ---


@pytest.mark.parametrize("recipe", ["published-int8", "published-uint8", "ort-per-channel", "torch-int8"])
def test_the_demo_flows_and_its_noise_is_that_of_eight_bits(
    recipe: str, reproduced: Reproduction, demo_assets: Assets
) -> None:
    models = reproduced.output_dir / "models"
    opened = open_network(models / RECIPES[recipe].output)
    quantized = opened.require_quantized()
    real = reference(opened, open_network(models / "resnet8.onnx"))
    split = read_split(demo_assets.data_dir, "test")
    images = split.images[:40]
    for one in noise(quantized, real, images):
        assert one.accumulated > 5
        assert one.isolated > 15
    flow = capture(quantized, real, images)
    float_probabilities = open_model(models / "resnet8.onnx").probabilities(preprocess(images))
    assert flow.reference_probabilities is not None
    np.testing.assert_allclose(flow.reference_probabilities, float_probabilities, atol=1e-4)
    if recipe != "torch-int8":
        theirs = open_model(models / RECIPES[recipe].output).probabilities(preprocess(images))
        assert (flow.probabilities.argmax(axis=1) == theirs.argmax(axis=1)).mean() >= 0.95
    found = sensitivity(quantized, real, images[:20], split.labels[:20])
    assert found.reference.correct >= 15
    assert all(one.score.correct >= found.reference.correct - 3 for one in found.layers)


def test_a_torchscript_model_computes_what_pytorch_does(reproduced: Reproduction, demo_assets: Assets) -> None:
    path = reproduced.output_dir / "models" / "resnet8_int8.pt"
    quantized = open_network(path).require_quantized()
    images = read_split(demo_assets.data_dir, "test").first(200).images
    theirs = open_model(path).probabilities(preprocess(images))
    np.testing.assert_array_equal(predictions(quantized, images), theirs.argmax(axis=1))
    np.testing.assert_allclose(probabilities(quantized, images), theirs, atol=1e-5)
