"""What the pages on the arithmetic say in code, names and graphs: tried."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import quantized

import resnet8
from resnet8.data.cifar10 import random_images
from resnet8.execute import engine
from resnet8.numeric.rounding import round_shift
from resnet8.numeric.variants import Requantization
from resnet8.results import ModelDescription, WorkedArithmetic, load
from resnet8.runtimes import ort
from resnet8.runtimes.integer import open_integer
from resnet8.vectors import export_vectors

if TYPE_CHECKING:
    from resnet8.data.assets import Assets
    from resnet8.network.layers import Weighted

ROOT = Path(__file__).resolve().parents[2]
PAGES = ROOT / "docs/quantization"
MODELS = ROOT / "src/resnet8/data/demo/run/models"
GUIDE = (PAGES / "hardware-guide.md").read_text()
CLIPPED, IN_NUMPY = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)


def run_in_numpy(folder: Path) -> dict[str, Any]:
    """The guide's example, on another folder."""
    assert IN_NUMPY.count('"out/vectors-per-channel/layers"') == 1
    text = IN_NUMPY.replace('"out/vectors-per-channel/layers"', repr(str(folder)))
    found: dict[str, Any] = {}
    exec(text.replace("dense_1_MatMul", "dense"), found)  # noqa: S102 - it is the page's own
    return found


@pytest.mark.parametrize("kind", ["fixed32", "fixed8", "power-of-two"])
def test_the_example_in_numpy_holds_for_every_layer_of_an_export(tmp_path: Path, kind: Any) -> None:
    how = Requantization(kind)
    model = ModelDescription("q.onnx", "0" * 64, 1, "onnx", "uint8", "int8")
    program = quantized.network(2)
    export_vectors(tmp_path / "golden", program, random_images(2, seed=1), (0, 1), how, model=model)
    example = run_in_numpy(tmp_path / "golden/layers")
    shifts = set()
    for path in (*(tmp_path / "golden/layers").iterdir(), *(tmp_path / "golden/edge").glob("edge_*")):
        with np.load(path / "vectors.npz") as v:
            if "accumulator" in v:
                total = v["accumulator"].astype(np.int64) * v["multiplier"]
            else:
                a, b = (v[name].astype(np.int64) - int(v[f"{name}_zero_point"]) for name in "ab")
                total = a * v["multiplier_a"] + b * v["multiplier_b"]
            shift = v["shift"].astype(np.int64)
            shifts |= set(shift.tolist())
            found = example["round_half_even"](total, shift) + int(v["output_zero_point"])
            np.testing.assert_array_equal(np.clip(found, v["output_lowest"], v["output_highest"]), v["output"])
    assert (0 in shifts) == (kind != "fixed32")


def test_the_example_in_numpy_rounds_as_the_engine_does() -> None:
    example: dict[str, Any] = {}
    exec(IN_NUMPY.partition("(folder,)")[0], example)  # noqa: S102
    totals = np.arange(-70, 70)
    for shift in (0, 1, 2, 5):
        expected = round_shift(totals, shift, "half-even")
        np.testing.assert_array_equal(example["round_half_even"](totals, np.int64(shift)), expected)


def test_an_accumulator_of_ones_own_is_opened_as_the_guide_says(
    demo_assets: Assets, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(resnet8, "fetch", lambda: demo_assets, raising=False)
    text = CLIPPED.replace("models/resnet8_ort-per-channel.onnx", str(MODELS / "resnet8_ort-7bit-weights.onnx"))
    found: dict[str, Any] = {}
    exec(text, found)  # noqa: S102
    assert 0.2 < float(capsys.readouterr().out) < 1
    layer = found["model"].program.weighted[1]
    codes = np.random.default_rng(0).integers(0, 256, (1, *layer.x.shape)).astype(np.uint8)
    clipped, exact = found["clipped"](layer, codes), engine.accumulate(layer, codes)
    assert clipped.shape == exact.shape
    assert (clipped != exact).any()
    tiles = -(-len(layer.matrix) // 64)
    assert np.abs(clipped - layer.added).max() <= tiles * 2**15


def test_predictions_follow_the_accumulators_that_a_model_is_opened_with() -> None:
    def nothing(layer: Weighted, codes: Any) -> Any:
        return engine.accumulate(layer, codes) * 0

    path = MODELS / "resnet8_uint8.onnx"
    images = random_images(3, seed=2).images
    other = resnet8.open_integer(path, accumulators=nothing)
    assert (other.logits(images) == other.logits(images)[:1]).all()
    assert (resnet8.open_integer(path).logits(images) != other.logits(images)).any()


@pytest.mark.parametrize("name", ["resnet8_int8", "resnet8_uint8", "resnet8_ort-7bit-weights"])
def test_a_quantized_softmax_becomes_one_integer_operator(name: str) -> None:
    path = MODELS / f"{name}.onnx"
    operators = {node.op_type for node in ort.optimized(path.read_bytes()).graph.node}
    assert open_integer(path).program.probabilities is not None
    assert "QLinearSoftmax" in operators
    assert "Softmax" not in operators
    assert "one QLinearSoftmax" in (PAGES / "boundary.md").read_text()


def test_the_data_flow_names_the_layers_of_the_folded_files() -> None:
    page = (PAGES / "qdq.md").read_text()
    chart = page.partition("## The data flow of the network")[2].partition("```mermaid")[2].partition("```")[0]
    named = dict(re.findall(r'(\w+)\(?\[?"<b>([^<]+)</b>', chart))
    for recipe in ("ort-per-channel", "ort-portable"):
        layers = {
            one.layer: one for one in load(WorkedArithmetic, ROOT / f"results/arithmetic/worked_{recipe}.json").layers
        }
        assert set(named.values()) == set(layers)
        # Arrows lead from the layer that writes to the one that reads.
        writers = {one.writes: one.layer for one in layers.values()}
        arrows = set()
        for line in chart.splitlines():
            nodes = re.findall(r"(\w+)(?:\(?\[.*?\]\)?)?(?= -->|$)", re.sub(r'\(?\["[^"]*"\]\)?', "", line.strip()))
            arrows |= {(named.get(a), named.get(b)) for a, b in pairwise(nodes)}
        expected = {(writers.get(read), one.layer) for one in layers.values() for read in one.reads}
        assert {(a, b) for a, b in arrows if a and b} == {(a, b) for a, b in expected if a}
        for key, name in named.items():
            shown = re.search(rf'{key}\(?\["<b>{re.escape(name)}</b><br>([^"]*)"', chart)
            assert shown is not None
            uneven = layers[name].pads not in (None, (0, 0, 0, 0), (1, 1, 1, 1))
            assert ("pads 0 0 1 1" in shown[1]) == uneven
            assert uneven == (layers[name].pads == (0, 0, 1, 1))


def test_every_table_names_the_file_that_it_is_about() -> None:
    for page in PAGES.glob("*.md"):
        for name, short in re.findall(
            r"^Model `([^`]+)`( \(SHA-256 `[0-9a-f]{16}…`\))?", page.read_text(), re.MULTILINE
        ):
            assert short, f"{page.name}: {name}"
    files = (PAGES / "README.md").read_text()
    for path in (ROOT / "results/exhaustive").glob("*.json"):
        assert load(resnet8.results.ExhaustiveStudy, path).model.sha256 in files


def test_widths_name_their_requantization() -> None:
    for page in ("hardware-guide", "portable"):
        text = (PAGES / f"{page}.md").read_text()
        for block in re.findall(r"<!-- (?:widths|accumulators)-[\w-]+:begin -->\n(.*?)\n", text):
            assert "Requantization in all runs: `float32/half-even`." in block
    assert "multipliers of `fixed32`" in GUIDE
