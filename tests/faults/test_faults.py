"""Damaged inputs through the commands that read them: a clear error or a result, never anything else.

``pytest --faults N`` makes the long form of N inputs for each kind; the seed is that of the short one.
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from trial import BAD, Subject, Trial, table

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="this system has no process descriptors"),
]

SEED = 11
DATA = ("--data-dir", "cifar-10-batches-py", "--max-samples", "5")
TORCH = ("torch", "resnet8.cli", "resnet8.runtimes.pytorch", "resnet8.network.torch_read")

SUBJECTS = {
    "quantized ONNX": Subject(
        "resnet8_int8.onnx",
        ".onnx",
        (
            ("evaluate", "resnet8_int8.onnx", *DATA),
            ("evaluate", "resnet8_int8.onnx", "--runtime", "integer", *DATA),
            ("inspect", "operations", "resnet8_int8.onnx", "-o", "operations.json"),
            ("inspect", "graph", "resnet8_int8.onnx", "-o", "graph.mmd"),
            ("audit", "agreement", "resnet8_int8.onnx", *DATA),
        ),
    ),
    "float ONNX": Subject(
        "resnet8.onnx",
        ".onnx",
        (("evaluate", "resnet8.onnx", *DATA), ("inspect", "graph", "resnet8.onnx", "-o", "graph.mmd")),
    ),
    "float TorchScript": Subject("resnet8.pt", ".pt", (("evaluate", "resnet8.pt", *DATA),), needs=TORCH),
    "quantized TorchScript": Subject(
        "resnet8_int8.pt",
        ".pt",
        (
            ("evaluate", "resnet8_int8.pt", *DATA),
            ("evaluate", "resnet8_int8.pt", "--runtime", "integer", *DATA),
            ("audit", "agreement", "resnet8_int8.pt", *DATA),
        ),
        needs=TORCH,
    ),
    "result": Subject("published-int8.json", ".json", (("compare", "fp32-onnx.json", "published-int8.json"),)),
    "record": Subject("resnet8_int8.onnx.json", ".json", (("evaluate", "resnet8_int8.onnx", *DATA),), known=True),
    "images": Subject(
        "cifar-10-batches-py/test_batch",
        "batch",
        (("evaluate", "resnet8_int8.onnx", *DATA),),
        known=True,
    ),
    "class names": Subject(
        "cifar-10-batches-py/batches.meta",
        "batch",
        (("evaluate", "resnet8_int8.onnx", *DATA),),
    ),
}

PAGE = ("quantized ONNX", "float ONNX", "float TorchScript", "quantized TorchScript", "result", "record")
"""What the page reads when it opens a folder."""

for _name in PAGE:
    _one = SUBJECTS[_name]
    _modules = ("resnet8.playground.opened", "resnet8.playground.catalogue", "onnxruntime", *TORCH)
    SUBJECTS[_name] = replace(_one, commands=(*_one.commands, ("page", ".")), needs=(*_one.needs, *_modules))


@pytest.mark.parametrize("kind", SUBJECTS)
def test_damaged_inputs(kind: str, template: Path, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    count = int(request.config.getoption("--faults"))
    with Trial(SUBJECTS[kind], template, tmp_path, {}) as trial:
        found = list(trial.findings(SEED, count))
    assert [one for one in found if one.outcome in BAD] == [], table(found)
    noticed = sum(one.outcome in ("clear error", "other result with notice") for one in found)
    assert noticed >= count // 4, table(found)
