"""The commands about the integer arithmetic: ``evaluate`` in the engine and emulated, and ``audit``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx
import pytest

from resnet8.pipeline import FLOAT_RESULTS
from resnet8.results import (
    AccumulatorAudit,
    Agreement,
    Evaluation,
    ExhaustiveStudy,
    RequantizationStudy,
    WorkedArithmetic,
    load,
)

if TYPE_CHECKING:
    from pathlib import Path

    from shell import Case, Shell

    from resnet8.pipeline import Reproduction


@pytest.fixture
def int8(reproduced: Reproduction) -> Path:
    return reproduced.output_dir / "models/resnet8_int8.onnx"


@pytest.fixture
def per_channel(reproduced: Reproduction) -> Path:
    """Signed weights, a scale for each channel; of 7 bits, so that ONNX Runtime adds up exactly on any CPU."""
    return reproduced.output_dir / "models/resnet8_ort-7bit-weights.onnx"


def test_the_engine_predicts_what_onnx_runtime_does(shell: Shell, per_channel: Path, reproduced: Reproduction) -> None:
    text = shell.good("evaluate", per_channel, "--demo", "--runtime", "integer", "--json", "r.json")
    assert "images/s in integer" in text
    engine = load(Evaluation, shell.folder / "r.json")
    ort = load(Evaluation, reproduced.output_dir / "results/ort-7bit-weights.json")
    assert engine.predictions == ort.predictions
    assert (engine.runtime, engine.requantization) == ("integer", "float32/half-even")
    assert engine.model_sha256 == ort.model_sha256


def test_the_variant_is_recorded(shell: Shell, int8: Path) -> None:
    options = ("--runtime", "integer", "--requantize", "fixed8", "--rounding", "truncate", "--max-samples", 20)
    shell.good("evaluate", int8, "--demo", *options, "--json", "r.json")
    assert load(Evaluation, shell.folder / "r.json").requantization == "fixed8/truncate"


def test_an_emulated_cpu_is_recorded_and_never_a_candidate(shell: Shell, int8: Path, reproduced: Reproduction) -> None:
    shell.good("evaluate", int8, "--demo", "--emulate-cpu", "avx2", "--json", "r.json")
    assert load(Evaluation, shell.folder / "r.json").runtime == "emulated-avx2"
    text = shell.good("compare", "r.json", reproduced.output_dir / FLOAT_RESULTS["onnxruntime"])
    assert "ONNX Runtime (emulated, no VNNI)" in text
    assert "Recommended for any x86-64 CPU: none" in text


def test_a_session_option_is_recorded_and_makes_signed_weights_exact(shell: Shell, reproduced: Reproduction) -> None:
    """On a CPU with VNNI they are exact without it: the engine's predictions on either."""
    model = reproduced.output_dir / "models/resnet8_ort-per-channel.onnx"
    option = ("--session-option", "session.x64quantprecision=1")
    shell.good("evaluate", model, "--demo", *option, "--json", "r.json")
    shell.good("evaluate", model, "--demo", "--runtime", "integer", "--json", "e.json")
    found, engine = (load(Evaluation, shell.folder / name) for name in ("r.json", "e.json"))
    assert found.session_options == {"session.x64quantprecision": "1"}
    assert found.predictions == engine.predictions


def test_errors_of_the_engine(shell: Shell, int8: Path, reproduced: Reproduction) -> None:
    models = reproduced.output_dir / "models"
    broken = onnx.load(int8)
    next(node for node in broken.graph.node if node.op_type == "AveragePool").op_type = "MaxPool"
    onnx.save(broken, shell.folder / "pool.onnx")
    (shell.folder / "cut.onnx").write_bytes(int8.read_bytes()[:5000])
    integer = ("--demo", "--runtime", "integer")
    cases: list[Case] = [
        (("evaluate", models / "resnet8.onnx", *integer), "is not quantized.*resnet8 quantize"),
        (("evaluate", "pool.onnx", *integer), "operator MaxPool: an operator that is not supported.*supported: Quant"),
        (("evaluate", "cut.onnx", *integer), "no valid ONNX model"),
        (("evaluate", "none.onnx", *integer), "none.onnx does not exist"),
        (("evaluate", models / "resnet8.onnx", "--demo", "--emulate-cpu", "avx2"), "is not quantized"),
        (("audit", "agreement", models / "resnet8.onnx", "--demo"), "is not quantized"),
        (("audit", "requantization", "pool.onnx", "--demo"), "operator MaxPool"),
        (("audit", "accumulators", "none.onnx", "--demo"), "none.onnx does not exist"),
        (("audit", "accumulators", int8, "--demo", "--max-samples", 0), "number of images is not usable"),
        (("audit", "worked", int8, "--demo", "--image", 1_000_000), "there is no such image: found 1000000"),
        (("audit", "agreement", int8, "--data-dir", "nowhere"), "no CIFAR-10 in nowhere"),
    ]
    shell.all_bad(cases)


def test_options_that_exclude_each_other(shell: Shell, int8: Path) -> None:
    cases: list[Case] = [
        (("evaluate", int8, "--demo", "--requantize", "fixed8"), "need --runtime integer"),
        (("evaluate", int8, "--demo", "--emulate-cpu", "avx2", "--runtime", "integer"), "excludes --runtime"),
        (("evaluate", int8, "--demo", "--runtime", "float"), "'float' is not"),
        (("evaluate", int8, "--demo", "--session-option", "a=b", "--runtime", "integer"), "for ONNX Runtime itself"),
        (("evaluate", int8, "--demo", "--session-option", "a"), "found 'a', expected NAME=VALUE"),
        (("evaluate", int8, "--demo", "--runtime", "integer", "--rounding", "up"), "'up' is not"),
    ]
    shell.all_bad(cases, code=2)


def test_agreement(shell: Shell, per_channel: Path) -> None:
    text = shell.good("audit", "agreement", per_channel, "--demo", "--max-samples", 60, "--json", "a.json")
    assert "graph optimized: integer engine against ONNX Runtime" in text
    assert "0 of 60 predictions differ" in text
    result = load(Agreement, shell.folder / "a.json")
    optimized, as_written = result.graphs
    assert optimized.integer_layers == len(optimized.layers) == 14
    assert as_written.integer_layers == 0
    for graph in result.graphs:
        for layer in graph.layers:
            assert layer.causes["other"] == 0
            assert layer.differing == sum(layer.causes.values())
            assert layer.codes % 60 == 0


def test_requantization(shell: Shell, per_channel: Path) -> None:
    text = shell.good("audit", "requantization", per_channel, "--demo", "--max-samples", 20, "--json", "r.json")
    assert "power-of-two" in text
    assert len(load(RequantizationStudy, shell.folder / "r.json").rows) == 20


def test_requantization_of_everything_needs_no_images(shell: Shell, per_channel: Path) -> None:
    options = ("--exhaustive", "--data-dir", "nowhere", "--json", "r.json")
    text = " ".join(shell.good("audit", "requantization", per_channel, *options).split())
    study = load(ExhaustiveStudy, shell.folder / "r.json")
    assert len(study.rows) == 20
    assert len(study.layers) == 14
    assert f"all {study.cases:,} cases" in text
    assert "other codes than the exact rule" in text
    cases: list[Case] = [
        (("audit", "requantization", per_channel, "--exhaustive", "--max-samples", 5), "needs no images"),
    ]
    shell.all_bad(cases, code=2)


def test_accumulators(shell: Shell, per_channel: Path) -> None:
    text = shell.good("audit", "accumulators", per_channel, "--demo", "--max-samples", 20, "--json", "r.json")
    assert "narrower accumulators in all 10 layers" in text
    assert len(load(AccumulatorAudit, shell.folder / "r.json").layers) == 10


def test_worked(shell: Shell, int8: Path) -> None:
    text = shell.good("audit", "worked", int8, "--demo", "--image", 3, "--json", "r.json")
    assert "acc =" in text
    assert "predicted: " in text
    result = load(WorkedArithmetic, shell.folder / "r.json")
    assert result.image == 3
    assert len(result.layers) == 29
