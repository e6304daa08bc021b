"""The sections of the page: what they say, of small networks and of the demo."""

from __future__ import annotations

import html
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

pytest.importorskip("marimo")
pytest.importorskip("altair")

import marimo
from builders import noise as noisy
from charts import rows
from quantized import network
from reals import real_of

from resnet8.network.change import Change, apply
from resnet8.playground import changing, sources, views
from resnet8.playground.catalogue import evaluations, models
from resnet8.playground.flow import flow
from resnet8.playground.noise import compared, of_flow
from resnet8.playground.opened import open_file
from resnet8.playground.views.images import activation

if TYPE_CHECKING:
    from pathlib import Path

    from resnet8.data.cifar10 import Split

PROGRAM = network()
REAL = real_of(PROGRAM)
IMAGE = noisy(1, 7)
NAMES = tuple("abcdefghij")


def text(element: Any) -> str:
    """What an element says, without its tags."""
    return html.unescape(re.sub(r"<wbr>|<[^>]*>", "", marimo.as_html(element).text))


def cells(element: Any) -> list[list[str]]:
    """The rows of the tables in an element."""
    found = re.findall("<tr>(.*?)</tr>", marimo.as_html(element).text, re.DOTALL)
    return [
        [html.unescape(re.sub("<[^>]*>", "", one)) for one in re.findall("<t[dh].*?</t[dh]>", row)] for row in found
    ]


def test_files_say_what_they_are_and_which_are_the_same(demo_run: Path) -> None:
    entries = models(demo_run, evaluations(demo_run))
    one = replace(entries[0], same_as=("other.onnx",))
    _, first, *_ = cells(views.files([one, *entries[1:]]))
    assert first[0] == one.name
    assert one.sentence in first[1]
    assert "The same bytes as other.onnx." in first[1]
    bad = replace(one, description=None, score=None, error="it is damaged", same_as=())
    assert cells(views.files([bad]))[1][1:] == [f"{one.sentence} it is damaged", "–", "–"]
    assert "No models here" in html.unescape(views.no_models(()).text)


def test_a_layer_names_its_tensors_and_their_grids() -> None:
    shown = PROGRAM.weighted[0]
    lines = {row[0]: row for row in cells(views.layer(shown)) if len(row) == 8}
    assert list(lines) == ["tensor", "input", "weights", "output"]
    assert lines["output"][4:6] == [str(np.float32(shown.output.scale)), str(shown.output.zero_point)]
    real = {row[0]: row for row in cells(views.layer(REAL.weighted[0])) if len(row) == 8}
    assert real["weights"][3:] == ["float32", "–", "–", "–", "–"]


def test_weights_and_bias_in_numbers() -> None:
    shown = PROGRAM.weighted[0]
    behind = REAL.writers[shown.output.name]
    lines = {row[0]: row for row in cells(views.parameters(shown, behind)) if len(row) == 8}
    assert list(lines) == [
        "numbers of",
        "weights, FP32",
        "weights, dequantized",
        "weights, codes",
        "bias, FP32",
        "bias, dequantized",
        "bias, codes",
    ]
    codes = shown.weights.codes.astype(np.float64)
    expected = [codes.min(), codes.max(), codes.mean(), codes.std()]
    assert lines["weights, codes"][4:] == [f"{one:.6g}" for one in expected]
    assert shown.bias is not None
    step = float(shown.x.scale) * shown.weights.params.scale.astype(np.float64)
    reals = shown.bias.codes * step
    assert lines["bias, dequantized"][4:6] == [f"{reals.min():.6g}", f"{reals.max():.6g}"]
    assert lines["bias, codes"][1] == "int32"
    alone = {row[0] for row in cells(views.parameters(shown, None)) if len(row) == 8}
    assert "weights, FP32" not in alone


def test_a_float_layer_has_numbers_too() -> None:
    lines = {row[0] for row in cells(views.parameters(REAL.weighted[0], None)) if len(row) == 8}
    assert lines == {"numbers of", "weights, FP32", "bias, FP32"}
    pool = next(one for one in PROGRAM.layers if one.parameter is None)
    assert "This layer has none" in text(views.parameters(pool, None))


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor:UserWarning")
def test_a_bias_that_the_file_gives_as_real_numbers_is_said_to_be_so(torch_file: Path) -> None:
    shown = open_file(torch_file).network.weighted[0]
    assert shown.real_bias is not None
    lines = {row[0]: row for row in cells(views.parameters(shown, None)) if len(row) == 8}
    assert lines["bias, as the file has it"][4] == f"{float(shown.real_bias.min()):.6g}"


def test_the_same_layer_elsewhere_or_not() -> None:
    shown = PROGRAM.weighted[0]
    assert "No weights under the name first in: b." in text(views.same_layer("first", {"a": shown, "b": None}))
    assert "Choose a model that has it." in text(views.same_layer("first", {}))


def test_maps_with_their_error_and_bars_where_there_is_no_map() -> None:
    wanted, found = flow(REAL, IMAGE), flow(PROGRAM, IMAGE)
    errors = dict(zip(PROGRAM.activations, of_flow(wanted, found), strict=True))
    for shown in PROGRAM.layers:
        error = errors[shown.output.name]
        seen = marimo.as_html(views.flowing(shown, found, wanted, error, NAMES)).text
        has_map = len(shown.output.shape) == 3 and shown.output.shape[:2] != (1, 1)
        assert ("<figcaption" in seen) == has_map
        assert (f"error, 0 to {error.largest:.4g}" in seen) == has_map
        assert f"SQNR {error.sqnr:.2f} dB" in seen
    without = marimo.as_html(views.flowing(PROGRAM.layers[0], found, None, None, NAMES)).text
    assert "Against FP32" not in without
    real = marimo.as_html(views.flowing(REAL.layers[0], wanted, wanted, None, NAMES)).text
    assert "codes occur" not in real


def test_logits_bear_the_names_of_the_classes() -> None:
    logits = flow(PROGRAM, IMAGE).real(PROGRAM.logits.name)
    (chart,) = activation({"quantized": logits}, NAMES)
    assert [row["feature"] for row in rows(chart)] == list(NAMES)
    (chart,) = activation({"quantized": np.zeros((1, 1, 1, 12), np.float32)}, NAMES)
    assert [row["feature"] for row in rows(chart)] == [str(number) for number in range(12)]


def test_errors_are_a_table_and_a_file() -> None:
    found = of_flow(flow(REAL, IMAGE), flow(PROGRAM, IMAGE))
    seen = html.unescape(marimo.as_html(views.errors(found, "errors.csv")).text)
    assert "Download as CSV" in seen
    assert "errors.csv" in seen
    for title in ("MSE", "SQNR (dB)", "largest error", "in steps", "cosine", "clipped"):
        assert title in seen


def test_changes_and_what_came_of_them() -> None:
    changes = (Change("second", "bits", 3), Change(PROGRAM.weighted[0].weights.name, "factor", 2.0))
    changed = apply(PROGRAM, changes, REAL)
    buttons = [marimo.ui.button(label="✕") for _ in changes]
    lines = cells(views.effects(changing.effects(PROGRAM, changes, changed), buttons))
    assert [row[:4] for row in lines[1:]] == [
        ["second", "all", "bits", "8"],
        [PROGRAM.weighted[0].weights.name, "all", "factor", lines[2][3]],
    ]
    assert all(
        "marimo-button" in row
        for row in marimo.as_html(views.effects(changing.effects(PROGRAM, changes, changed), buttons)).text.split(
            "<tr>"
        )[2:]
    )
    flows = {"FP32": flow(REAL, IMAGE), "quantized": flow(PROGRAM, IMAGE)}
    seen = text(views.changed_image(PROGRAM.weighted[0], flows, flow(changed, IMAGE), NAMES, 3))
    answer = text(views.changed_prediction(PROGRAM.weighted[0], flows["quantized"], flow(changed, IMAGE), NAMES))
    assert re.search(r"Predicted: [a-j] → [a-j]\. In the output of first_conv [\d.]+ % of the values differ", answer)
    assert "before and after" in seen  # its weights are others
    later = next(one for one in PROGRAM.weighted[1:] if one.weights.name != PROGRAM.weighted[0].weights.name)
    assert "before and after" not in text(views.changed_image(later, flows, flow(changed, IMAGE), NAMES, 3))


def test_images_of_another_class_bear_their_own_numbers(demo_run: Path, demo_split: Split) -> None:
    opened = open_file(demo_run / "models" / "resnet8_int8.onnx")
    changed = apply(opened.require_quantized(), [Change(opened.network.layers[0].output.name, "bits", 2)])
    sample = sources.sample(demo_split, 100, 40)
    found = compared(opened.network, changed, None, sample.split.images, sample.split.labels)
    others = found.answers.changed("changed")
    assert len(others) > 1
    buttons = [marimo.ui.button(label=f"look at {number}") for number in sample.indices[others][:1]]
    seen = marimo.as_html(views.flips(found, sample, buttons)).text
    assert f'alt="test image {sample.indices[others[0]]}"' in seen
    assert f"Top-1 over {sample}" in text(marimo.md(seen)) or f"Top-1 over {sample}" in html.unescape(seen)
    assert seen.count("<figure") == 1
    assert f"{len(others)} images have another class, the first 1:" in html.unescape(re.sub("<[^>]*>", "", seen))
