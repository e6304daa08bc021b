"""Noise and sensitivity of the layers: against the formulas, computed in the plainest way."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from builders import noise as noisy
from quantized import network
from reals import real_of

from resnet8.execute import engine, real
from resnet8.network.change import Change, apply
from resnet8.numeric.grid import dequantize, quantize
from resnet8.playground.flow import flow
from resnet8.playground.opened import open_file
from resnet8.playground.sqnr import INPUT, decibels, noise, of_layers, rows, sensitivity, sqnr

if TYPE_CHECKING:
    from pathlib import Path

    from resnet8.data.cifar10 import Split

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


@pytest.mark.parametrize("work", [noise, lambda *rest: sensitivity(*rest[:3], LABELS, rest[3])])
def test_long_work_can_be_stopped(work: Any) -> None:
    with pytest.raises(Stopped):
        work(PROGRAM, REAL, IMAGES, stop_after(2))


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
        reals = flow(REAL, image).values
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
    found = noise(PROGRAM, REAL, IMAGES)
    assert [one.activation for one in found] == names
    assert [one.layer for one in found] == list(rows(PROGRAM).values()) == ROWS
    for one in found:
        for ours, theirs in ((one.accumulated, accumulated), (one.isolated, isolated)):
            error = theirs[one.activation]
            expected = 10 * math.log10(signal[one.activation] / error) if error else math.inf
            assert ours == pytest.approx(expected, abs=1e-3)
    assert found[0].accumulated == math.inf  # pixels are whole numbers, and so is the scale
    assert found[1].accumulated == pytest.approx(found[1].isolated)  # nothing is before the first layer


def test_narrow_codes_make_noise() -> None:
    narrow = apply(PROGRAM, [Change("second", "bits", 3)])
    before = {one.activation: one for one in noise(PROGRAM, REAL, IMAGES)}
    after = {one.activation: one for one in noise(narrow, REAL, IMAGES)}
    assert after["second"].isolated < before["second"].isolated - 3
    assert after["joined"].accumulated < before["joined"].accumulated
    assert after["joined"].isolated < before["joined"].isolated  # what it reads has fewer codes
    assert after["shifted"] == before["shifted"]


# --- sensitivity ---


def test_sensitivity_is_the_float_network_with_one_tensor_replaced() -> None:
    found = sensitivity(PROGRAM, REAL, IMAGES, LABELS)
    reals = flow(REAL, IMAGES).values
    classes = real.run(REAL, IMAGES).argmax(axis=1)
    np.testing.assert_array_equal(found.reference, classes)
    assert list(found.variants) == ROWS
    for name, variant in rows(PROGRAM).items():
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


def test_the_noise_of_a_change_is_where_it_reaches() -> None:
    changed = apply(PROGRAM, [Change("shifted", "factor", 4)])
    wanted, before, after = (flow(one, IMAGES[:2]) for one in (REAL, PROGRAM, changed))
    for name, ratio, original in zip(
        PROGRAM.activations, of_layers(wanted, after), of_layers(wanted, before), strict=True
    ):
        assert ratio == sqnr(wanted.real(name), after.real(name))
        assert original == sqnr(wanted.real(name), before.real(name))
        assert (ratio == original) == (name in ("image", "first", "scaled"))
    assert of_layers(before, flow(apply(PROGRAM, []), IMAGES[:2])) == (math.inf,) * len(ROWS)


# --- the demo ---


@pytest.mark.parametrize("name", ["resnet8_int8.onnx", "resnet8_ort-7bit-weights.onnx"])
def test_the_noise_of_the_demo_is_that_of_eight_bits(name: str, demo_run: Path, demo_split: Split) -> None:
    opened, real = (open_file(demo_run / "models" / one) for one in (name, "resnet8.onnx"))
    reference = opened.reference(real)
    for one in noise(opened.network, reference, demo_split.images[:10]):
        assert one.accumulated > 5
        assert one.isolated > 15
    found = sensitivity(opened.network, reference, demo_split.images[:10], demo_split.labels[:10])
    assert found.score().correct >= 7
    assert all(found.score(layer).correct >= found.score().correct - 2 for layer in found.variants)
