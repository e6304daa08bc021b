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
    from collections.abc import Callable
    from pathlib import Path

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="this system has no process descriptors"),
]

SEED = 11
IMAGES = ("--data-dir", "cifar-10-batches-py")
DATA = (*IMAGES, "--max-samples", "5")
ORT = ("onnxruntime", "resnet8.runtimes.ort", "resnet8.network.onnx_read", "scipy.stats")
TORCH = ("torch", "resnet8.runtimes.pytorch", "resnet8.network.torch_read")
READ = ("resnet8.comparison", "resnet8.report.documents")
SMALL = ("--recipe", "mine.toml", "--output", "made.onnx", "--samples-per-class", "20", *IMAGES)

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
            ("audit", "accumulators", "resnet8_int8.onnx", *DATA),
            ("audit", "requantization", "resnet8_int8.onnx", *DATA),
            ("audit", "worked", "resnet8_int8.onnx", *IMAGES),
            ("vectors", "resnet8_int8.onnx", "-o", "vectors", "--images", "1", *IMAGES),
            ("export", "c", "resnet8_int8.onnx", "-o", "library", "--images", "1"),
        ),
        needs=ORT,
    ),
    "float ONNX": Subject(
        "resnet8.onnx",
        ".onnx",
        (("evaluate", "resnet8.onnx", *DATA), ("inspect", "graph", "resnet8.onnx", "-o", "graph.mmd")),
        needs=ORT,
    ),
    "float ONNX to quantize": Subject(
        "resnet8.onnx", ".onnx", (("quantize", "resnet8.onnx", *SMALL),), needs=ORT, share=0.1
    ),
    "float TorchScript": Subject("resnet8.pt", ".pt", (("evaluate", "resnet8.pt", *DATA),), needs=TORCH, share=0.5),
    "TorchScript, in PyTorch's process": Subject(
        "resnet8_int8.pt", ".pt", (("evaluate", "resnet8_int8.pt", *DATA),), share=0.03
    ),
    "quantized TorchScript": Subject(
        "resnet8_int8.pt",
        ".pt",
        (
            ("evaluate", "resnet8_int8.pt", *DATA),
            ("evaluate", "resnet8_int8.pt", "--runtime", "integer", *DATA),
            ("audit", "agreement", "resnet8_int8.pt", *DATA),
            ("audit", "accumulators", "resnet8_int8.pt", *DATA),
        ),
        needs=TORCH,
        share=0.5,
    ),
    "Keras, in its process": Subject(
        "pretrainedResnet.h5", ".h5", (("evaluate", "pretrainedResnet.h5", *DATA),), share=0.03
    ),
    "Keras": Subject(
        "pretrainedResnet.h5",
        ".h5",
        (("evaluate", "pretrainedResnet.h5", *DATA),),
        needs=("resnet8.runtimes.keras",),
        share=0.5,
    ),
    "Keras to convert": Subject(
        "pretrainedResnet.h5",
        ".h5",
        (("convert", "--keras-model", "pretrainedResnet.h5", "--output", "made.onnx", *IMAGES),),
        share=0.05,
    ),
    "result": Subject(
        "published-int8.json", ".json", (("compare", "fp32-onnx.json", "published-int8.json"),), needs=READ
    ),
    "result of a run": Subject(
        "run/results/published-int8.json",
        ".json",
        (("docs", "--root", "run", "--check"),),
        needs=READ,
        known=True,
        share=0.15,
    ),
    "certificate of a run": Subject(
        "run/results/parity.json", ".json", (("docs", "--root", "run", "--check"),), needs=READ, known=True
    ),
    "record": Subject(
        "resnet8_int8.onnx.json", ".json", (("evaluate", "resnet8_int8.onnx", *DATA),), needs=ORT, known=True
    ),
    "recipe": Subject("mine.toml", ".toml", (("quantize", "resnet8.onnx", *SMALL),), needs=ORT, share=0.1),
    "images": Subject(
        "cifar-10-batches-py/test_batch",
        "batch",
        (("evaluate", "resnet8_int8.onnx", *DATA),),
        needs=ORT,
        known=True,
    ),
    "training images": Subject(
        "cifar-10-batches-py/data_batch_1", "batch", (("calibrate", "--samples-per-class", "20", *IMAGES),), needs=ORT
    ),
    "class names": Subject(
        "cifar-10-batches-py/batches.meta",
        "batch",
        (("evaluate", "resnet8_int8.onnx", *DATA),),
        needs=ORT,
    ),
}

PAGE = ("quantized ONNX", "float ONNX", "float TorchScript", "quantized TorchScript", "result", "record")
"""What the page reads when it opens a folder; it opens every model there."""

SUBJECTS |= {
    f"page: {name}": replace(
        SUBJECTS[name],
        commands=(("page", "."),),
        needs=(*ORT, *TORCH, "resnet8.playground.catalogue", "resnet8.playground.opened"),
        share=0.05,
    )
    for name in PAGE
}


@pytest.mark.parametrize("kind", SUBJECTS)
def test_damaged_inputs(
    kind: str,
    template: Path,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    keep: Callable[[dict[str, dict[str, int]]], None],
) -> None:
    count = max(round(int(request.config.getoption("--faults")) * SUBJECTS[kind].share), 1)
    with Trial(SUBJECTS[kind], template, tmp_path, {}) as trial:
        found = list(trial.findings(SEED, count))
    keep({kind: table(found)})
    assert [one for one in found if one.outcome in BAD] == [], table(found)
    if kind in ("page: result", "page: record"):
        return  # most of what is in them is not shown there
    noticed = sum(one.outcome in ("clear error", "other result with notice") for one in found)
    assert noticed >= count // 4, table(found)
