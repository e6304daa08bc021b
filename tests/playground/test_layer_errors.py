"""Errors and sensitivity of the layers: against the formulas, computed in the plainest way."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import astuple, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from builders import noise as noisy
from quantized import network
from reals import real_of

from resnet8.execute import engine, real
from resnet8.network.change import Change, apply
from resnet8.numeric.grid import dequantize, limits, quantize
from resnet8.playground.flow import CHANGED, Flow, flow, predictions
from resnet8.playground.noise import INPUT, LayerError, as_csv, compared, noise, of_flow, sensitivity
from resnet8.playground.opened import open_file

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from resnet8.data.cifar10 import Split
    from resnet8.network.tensors import Activation

PROGRAM = network()
REAL = real_of(PROGRAM)
IMAGES = noisy(45, 7)
LABELS = np.arange(45) % 10
ROWS = [INPUT, *(layer.name for layer in PROGRAM.layers)]


class Stopped(BaseException):
    """As a notebook interrupts its cell."""


def stop_after(calls: int) -> Any:
    seen: list[tuple[int, int]] = []

    def progress(done: int, total: int) -> None:
        seen.append((done, total))
        if len(seen) == calls:
            raise Stopped

    return progress


@pytest.mark.parametrize(
    "work",
    [
        lambda progress: noise(PROGRAM, REAL, IMAGES, progress),
        lambda progress: sensitivity(PROGRAM, REAL, IMAGES, LABELS, progress),
        lambda progress: compared(PROGRAM, PROGRAM, REAL, IMAGES, LABELS, progress),
        lambda progress: compared(PROGRAM, PROGRAM, None, IMAGES, LABELS, progress),
    ],
)
def test_long_work_counts_images_and_can_be_stopped(work: Any) -> None:
    seen: list[tuple[int, int]] = []
    work(lambda *done: seen.append(done))
    assert seen == [(20, 45), (40, 45), (45, 45)]
    with pytest.raises(Stopped):
        work(stop_after(2))


# --- the numbers ---


class Plain:
    """One tensor's numbers, element by element in float64 as the formulas say."""

    def __init__(self, on: Activation) -> None:
        self.on, self.wanted, self.found = on, np.zeros(0), np.zeros(0)

    def add(self, wanted: NDArray[Any], codes: NDArray[Any]) -> None:
        found = float(self.on.scale) * (codes.astype(np.float64) - self.on.zero_point)
        self.wanted = np.append(self.wanted, wanted.astype(np.float64))
        self.found = np.append(self.found, found)

    def error(self, layer: str) -> LayerError:
        ref, q = self.wanted, self.found
        noise_power, product = ((ref - q) ** 2).sum(), np.linalg.norm(ref) * np.linalg.norm(q)
        codes = np.rint(ref.astype(np.float32) / self.on.scale).astype(np.float64) + self.on.zero_point
        low, high = limits(self.on.params.dtype)
        largest = np.abs(ref - q).max()
        return LayerError(
            layer,
            self.on.name,
            mse=noise_power / ref.size,
            sqnr=10 * math.log10((ref**2).sum() / noise_power) if noise_power else math.inf,
            largest=largest,
            steps=largest / float(self.on.scale),
            cosine=(ref * q).sum() / product,
            clipped=((codes < low) | (codes > high)).mean(),
        )


def assert_near(found: LayerError, expected: LayerError) -> None:
    assert (found.layer, found.activation) == (expected.layer, expected.activation)
    assert found.mse == pytest.approx(expected.mse, rel=1e-4, abs=1e-10)
    assert found.sqnr == pytest.approx(expected.sqnr, abs=1e-3)
    assert found.largest == pytest.approx(expected.largest, rel=1e-5, abs=1e-5)
    assert found.steps == pytest.approx(expected.steps, rel=1e-4, abs=1e-4)
    assert found.cosine == pytest.approx(expected.cosine, abs=1e-7)
    assert found.clipped == expected.clipped


# The third has narrow ranges, so that every kind of number is far from nothing.
NARROW = apply(PROGRAM, [Change(name, "factor", 0.5) for name in ("first", "shifted", "second", "joined", "logits")])


@pytest.mark.parametrize("program", [PROGRAM, network(1, "int8"), NARROW])
def test_errors_of_every_layer_accumulated_and_in_isolation(program: Any) -> None:
    """Image by image and tensor by tensor."""
    plain = real_of(program)
    accumulated, isolated = ({name: Plain(one) for name, one in program.activations.items()} for _ in range(2))
    for number in range(len(IMAGES)):
        image = IMAGES[number : number + 1]
        reals = flow(plain, image).values
        codes = {program.input.name: engine.input_codes(program, image)}
        fed = {name: quantize(reals[name], one.params) for name, one in program.activations.items()}
        own = {program.input.name: codes[program.input.name]}
        for layer in program.layers:
            codes[layer.output.name] = engine.step(layer, codes)
            own[layer.output.name] = engine.step(layer, fed)
        for name in program.activations:
            accumulated[name].add(reals[name], codes[name])
            isolated[name].add(reals[name], own[name])
    found = noise(program, plain, IMAGES)
    for ours, theirs in ((found.accumulated, accumulated), (found.isolated, isolated)):
        for one, layer, expected in zip(ours, ROWS, theirs.values(), strict=True):
            assert_near(one, expected.error(layer))
    assert found.accumulated[0] == found.isolated[0]  # nothing is before the images
    assert found.accumulated[1] == found.isolated[1]  # nor before the first layer
    assert max(one.clipped for one in found.accumulated) > 0


def test_pixels_are_codes_without_an_error() -> None:
    name = PROGRAM.input.name
    assert noise(PROGRAM, REAL, IMAGES).accumulated[0] == LayerError(INPUT, name, 0, math.inf, 0, 0, 1, 0)


def flows(wanted: list[float], codes: list[int], scale: float = 0.5) -> tuple[Flow, Flow]:
    """Two flows of one tensor of one image: reals, and uint8 codes around 128."""
    on = PROGRAM.activations["mean"]
    on = replace(on, shape=(len(codes),), grid=replace(on.params, scale=np.asarray(scale, np.float32)))
    networks = [replace(PROGRAM, input=one, layers=()) for one in (replace(on, grid=None), on)]
    values: tuple[NDArray[Any], ...] = (np.array([wanted], np.float32), np.array([codes], np.uint8))
    first, second = (
        Flow(network, {"mean": one}, np.zeros((1, 10), np.float32))
        for network, one in zip(networks, values, strict=True)
    )
    return first, second


def test_numbers_that_one_can_compute_by_hand() -> None:
    (found,) = of_flow(*flows([3, 4.5, 0, 64], [134, 136, 128, 255]))  # 3, 4, 0 and 63.5, where 63.75 is beyond
    noise_power, signal = 0.5**2 + 0.5**2, 9 + 4.5**2 + 64**2
    assert (found.layer, found.activation) == (INPUT, "mean")
    assert (found.mse, found.largest, found.steps, found.clipped) == (noise_power / 4, 0.5, 1, 0.25)
    assert found.sqnr == pytest.approx(10 * math.log10(signal / noise_power))
    product = 9 + 4 * 4.5 + 64 * 63.5
    assert found.cosine == pytest.approx(product / math.sqrt(signal * (9 + 16 + 63.5**2)), abs=1e-12)


@pytest.mark.parametrize(
    ("wanted", "codes", "sqnr", "cosine"),
    [
        ([1, 2], [130, 132], math.inf, 1),
        ([0, 0], [128, 128], math.inf, 1),
        ([1, 2], [128, 128], 0, math.nan),
        ([0, 0], [130, 132], -math.inf, math.nan),
        ([1, 2], [126, 124], -20 * math.log10(2), -1),
        ([1, 0], [128, 129], -10 * math.log10(1.25), 0),
    ],
)
def test_zeros_and_opposites(wanted: list[float], codes: list[int], sqnr: float, cosine: float) -> None:
    (found,) = of_flow(*flows(wanted, codes))
    assert found.sqnr == pytest.approx(sqnr)
    assert found.cosine == pytest.approx(cosine, nan_ok=True)


@pytest.mark.parametrize("size", [1e-30, 1e-24, 1e-16, 1e16, 1e24, 1e30])
def test_numbers_whose_squares_float32_does_not_hold(size: float) -> None:
    (found,) = of_flow(*flows([3 * size, 4 * size], [131, 133], size))  # 3 and 5 times the size
    assert found.mse == pytest.approx(0.5 * size**2, rel=1e-5)
    assert found.sqnr == pytest.approx(10 * math.log10(25), abs=1e-4)
    assert found.cosine == pytest.approx(29 / math.sqrt(25 * 34), abs=1e-6)
    assert found.steps == pytest.approx(1, rel=1e-5)


def test_one_image_is_a_sample_of_one() -> None:
    flows = (flow(REAL, IMAGES[:1]), flow(NARROW, IMAGES[:1]))
    assert of_flow(*flows) == noise(NARROW, REAL, IMAGES[:1]).accumulated


def test_an_original_network_is_a_reference_too() -> None:
    changed = apply(PROGRAM, [Change("shifted", "factor", 0.25)])
    before, after = (flow(one, IMAGES[:3]) for one in (PROGRAM, changed))
    found = of_flow(before, after)
    for one, layer, (name, activation) in zip(found, ROWS, changed.activations.items(), strict=True):
        expected = Plain(activation)
        expected.add(before.real(name), after.values[name])
        assert_near(one, expected.error(layer))
        assert (one.sqnr == math.inf) == (name in ("image", "first", "scaled"))
    assert found[3].clipped > 0
    assert [one.sqnr for one in of_flow(before, flow(apply(PROGRAM, []), IMAGES[:3]))] == [math.inf] * len(ROWS)


def test_narrow_codes_make_noise() -> None:
    narrow = apply(PROGRAM, [Change("second", "bits", 3)])
    before, after = (noise(one, REAL, IMAGES) for one in (PROGRAM, narrow))
    at = {name: number for number, name in enumerate(PROGRAM.activations)}
    assert after.isolated[at["second"]].sqnr < before.isolated[at["second"]].sqnr - 3
    assert after.accumulated[at["joined"]].sqnr < before.accumulated[at["joined"]].sqnr
    assert after.isolated[at["joined"]].sqnr < before.isolated[at["joined"]].sqnr  # what it reads has fewer codes
    assert after.isolated[at["shifted"]] == before.isolated[at["shifted"]]


def test_no_images_have_no_errors() -> None:
    found, (images, labels) = noise(PROGRAM, REAL, IMAGES[:0]), (IMAGES[:0], LABELS[:0])
    expected = [(layer, name, 0, math.inf, 0, 0, 1, 0) for layer, name in zip(ROWS, PROGRAM.activations, strict=True)]
    assert [astuple(one) for one in found.accumulated] == [astuple(one) for one in found.isolated] == expected
    both = compared(PROGRAM, PROGRAM, REAL, images, labels)
    assert both.original == both.changed == found.accumulated
    assert (both.answers.score().total, both.answers.score(CHANGED).total) == (0, 0)


# --- sensitivity ---


def test_sensitivity_is_the_float_network_with_one_tensor_replaced() -> None:
    found = sensitivity(PROGRAM, REAL, IMAGES, LABELS)
    reals = flow(REAL, IMAGES).values
    classes = real.run(REAL, IMAGES).argmax(axis=1)
    np.testing.assert_array_equal(found.reference, classes)
    assert list(found.variants) == ROWS
    for name, variant in zip(PROGRAM.activations, ROWS, strict=True):
        fed = {one: quantize(reals[one], other.params) for one, other in PROGRAM.activations.items()}
        layer = next((each for each in PROGRAM.layers if each.output.name == name), None)
        codes = fed[name] if layer is None else engine.step(layer, fed)
        values = dict(reals) | {name: dequantize(codes, PROGRAM.activations[name].params)}
        begun = layer is None
        for plain in REAL.layers:
            if begun and plain.output.name != name:
                values[plain.output.name] = real.step(plain, values)
            begun = begun or plain.output.name == name
        expected = values[REAL.logits.name].reshape(len(IMAGES), -1).argmax(axis=1)
        np.testing.assert_array_equal(found.variants[variant], expected)


def test_sensitivity_of_no_images_is_nothing() -> None:
    found = sensitivity(PROGRAM, REAL, IMAGES[:0], LABELS[:0])
    assert (found.score().total, len(found.variants)) == (0, 8)


# --- original and changed ---


@pytest.mark.parametrize(
    "change",
    [
        Change("image", "bits", 4),
        Change("first_conv.w", "bits", 3),
        Change("shifted", "factor", 4),
        Change("joined", "rounding", "truncate"),
        Change("logits", "bits", 2),
    ],
)
@pytest.mark.parametrize("reference", [REAL, None])
def test_a_change_is_compared_as_both_networks_alone_are(change: Change, reference: Any) -> None:
    changed = apply(PROGRAM, [change])
    found = compared(PROGRAM, changed, reference, IMAGES, LABELS)
    assert found.answers.labels is LABELS
    np.testing.assert_array_equal(found.answers.reference, predictions(PROGRAM, IMAGES), strict=True)
    np.testing.assert_array_equal(found.answers.variants[CHANGED], predictions(changed, IMAGES), strict=True)
    if reference is None:
        assert found.original == found.changed == ()
    else:
        assert found.original == noise(PROGRAM, REAL, IMAGES).accumulated
        assert found.changed == noise(changed, REAL, IMAGES).accumulated
        assert found.changed != found.original


# --- as a file ---


def test_a_table_of_errors_reads_back_as_it_was() -> None:
    errors = [
        LayerError(INPUT, "image", 0.0, math.inf, 0.0, 0.0, 1.0, 0.0),
        LayerError('a, "b"\nc', "première", 1 / 3, -math.inf, 1e-17, 2 / 3, math.nan, 0.1 + 0.2),
        *noise(NARROW, REAL, IMAGES[:2]).accumulated,
    ]
    headings, *rows = csv.reader(io.StringIO(as_csv(errors)))
    assert headings == [
        "layer number",
        "layer",
        "activation",
        "MSE (real units squared)",
        "SQNR (dB)",
        "largest absolute error (real units)",
        "largest absolute error (steps)",
        "cosine similarity",
        "clipped (share of values)",
    ]
    assert [int(row[0]) for row in rows] == list(range(len(errors)))
    for row, one in zip(rows, errors, strict=True):
        np.testing.assert_equal((*row[1:3], *map(float, row[3:])), astuple(one))  # nan is nan


# --- the demo ---


@pytest.mark.parametrize("name", ["resnet8_int8.onnx", "resnet8_ort-7bit-weights.onnx"])
def test_the_errors_of_the_demo_are_those_of_eight_bits(name: str, demo_run: Path, demo_split: Split) -> None:
    opened, real = (open_file(demo_run / "models" / one) for one in (name, "resnet8.onnx"))
    reference = opened.reference(real)
    errors = noise(opened.network, reference, demo_split.images[:10])
    for one in errors.accumulated:
        assert one.sqnr > 5
        assert one.cosine > 0.8
    for one in errors.isolated:
        assert one.sqnr > 15
        assert one.cosine > 0.98
        assert one.clipped < 0.02  # on images that calibrated nothing
    found = sensitivity(opened.network, reference, demo_split.images[:10], demo_split.labels[:10])
    assert found.score().correct >= 7
    assert all(found.score(layer).correct >= found.score().correct - 2 for layer in found.variants)
