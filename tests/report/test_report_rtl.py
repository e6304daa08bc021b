"""The page's block about the export for hardware."""

from __future__ import annotations

import builders

from resnet8.report.rtl import rtl
from resnet8.results import ModelDescription, RtlCheck, RtlRun, RtlUnit, from_json, to_json


def test_every_number_of_the_result_is_in_the_block() -> None:
    result = RtlCheck(
        model=ModelDescription("models/tiny.onnx", "0" * 64, 1, "onnx", "uint8", "int8"),
        data=builders.CIFAR10,
        requantization="fixed32/half-even",
        word=4,
        images=1,
        layers=7,
        runs=(RtlRun("Verilator 5.006", 18_172), RtlRun("Icarus Verilog 11.0", 18_171)),
        synthesizer="Yosys 0.23",
        units=(
            RtlUnit("layer_00", "resnet8_pe", 6_660, 21, 31, 52),
            RtlUnit("layer_04", "resnet8_add", 3_929, None, 30, 41),
        ),
        environment=builders.ENVIRONMENT,
        created="2026-01-02T03:04:05+00:00",
    )
    assert from_json(RtlCheck, to_json(result), "memory") == result
    text = rtl([result])
    assert "| `tiny.onnx` | fixed32/half-even | Verilator 5.006 | 7 | 1 | 18,172 |" in text
    assert "| `tiny.onnx` | fixed32/half-even | Icarus Verilog 11.0 | 7 | 1 | 18,171 |" in text
    assert "| `tiny.onnx` | `resnet8_pe` | `layer_00` | 21 | 31 | 52 | 6,660 |" in text
    assert "| `tiny.onnx` | `resnet8_add` | `layer_04` | – | 30 | 41 | 3,929 |" in text
    assert "has 4 lanes; cells are those of Yosys 0.23" in text
