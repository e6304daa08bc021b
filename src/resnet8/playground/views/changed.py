"""Sections of the page: what was changed, and what becomes of an image and of many."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import marimo as mo

from resnet8 import words
from resnet8.evaluation import record_path
from resnet8.files import read_bytes
from resnet8.numeric.grid import limits
from resnet8.playground import page, plots
from resnet8.playground.flow import CHANGED
from resnet8.playground.views.images import activation
from resnet8.playground.views.layers import NUMBERS, numbers
from resnet8.words import percent

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from resnet8.network.layers import AnyLayer
    from resnet8.playground.changing import Effect
    from resnet8.playground.flow import Flow
    from resnet8.playground.noise import Comparison
    from resnet8.playground.saving import ChangeRecord
    from resnet8.playground.sources import Sample


FLIPS = 24
"""Images of another class that are shown."""


def effects(found: Sequence[Effect], undo: Sequence[Any]) -> Any:
    """What was changed: old, new, and what came of it; with a button for each row that takes it back."""
    headings = ("tensor", "channel", "what", "old", "new", "resulting grid", "undo")
    rows = [
        (one.tensor, "all" if one.channel is None else one.channel, one.field, one.old, one.new, one.resulting, button)
        for one, button in zip(found, undo, strict=True)
    ]
    return page.table(headings, rows, left=6)


def changed_prediction(shown: AnyLayer, original: Flow, changed: Flow, names: Sequence[str]) -> Any:
    """What one image is taken for, original and changed, and how much of a layer's output differs."""
    before, after = (one.real(shown.output.name) for one in (original, changed))
    was, now = (page.plain(names[int(one.probabilities[0].argmax())]) for one in (original, changed))
    return mo.md(
        f"### This image, original and changed\n\nPredicted: **{was}** → **{now}**. In the output of "
        f"{page.plain(shown.name)} {percent(float((before != after).mean()))} of the values differ."
    )


def changed_image(shown: AnyLayer, flows: Mapping[str, Flow], changed: Flow, names: Sequence[str], label: int) -> Any:
    """One image, original and changed: the probabilities, the output and the weights of the layer shown.

    Args:
        shown: The layer of the original.
        flows: Of the models that are shown, by name; with :data:`plots.QUANTIZED`.
        changed: Of the changed network.
        names: Of the classes.
        label: The image's class.
    """
    output, original = shown.output.name, flows[plots.QUANTIZED]
    before, after = (one.real(output) for one in (original, changed))
    all_flows = {**flows, CHANGED: changed}
    float_flow, grid = flows.get(plots.FLOAT), changed.network.activations[output].params
    codes = {plots.QUANTIZED: original.values[output]} if grid.same_as(shown.output.params) else {}
    codes |= {CHANGED: changed.values[output]}
    real = None if float_flow is None else float_flow.real(output)
    return page.column(
        page.row(
            plots.probabilities({name: one.probabilities[0] for name, one in all_flows.items()}, names, label),
            plots.in_steps(real, codes, grid, limits(grid.dtype)),
            align="start",
        ),
        page.row(*activation({CHANGED: after, "original": before}, names, "difference"), align="start"),
        *_weights_changed(shown, changed.network.writers[output]),
        mo.md("SQNR for this image" + ("" if float_flow is None else ", against FP32")),
    )


def _weights_changed(before: AnyLayer, after: AnyLayer) -> list[Any]:
    """The weights of a layer before and after, where they are others."""
    if before.parameter is None or after.parameter is None or after.parameter is before.parameter:
        return []
    found = {plots.QUANTIZED: before.parameter, CHANGED: after.parameter}
    drawn = plots.values({name: plots.Series(one.real, one.grid) for name, one in found.items()}, "weight")
    rows = [numbers(name, one.params.dtype, words.scale(one.params.scale), one.real) for name, one in found.items()]
    return [
        mo.md(f"The weights of {page.plain(before.name)}, before and after"),
        drawn,
        page.table(NUMBERS, rows, left=2),
    ]


def flips(found: Comparison, sample: Sample, looks: Sequence[Any]) -> Any:
    """Top-1 of original and changed, and the images that got another class.

    Args:
        found: What both predict.
        sample: The images.
        looks: A button for each of the first images with another class, which shows it.
    """
    original, changed = found.answers.score(), found.answers.score(CHANGED)
    part = sample.split
    others, names, now = found.answers.changed(CHANGED), part.class_names, found.answers.variants[CHANGED]
    cards = [
        mo.vstack(
            [
                page.picture(
                    part.images[at],
                    3,
                    f"{names[part.labels[at]]}: {names[found.answers.reference[at]]} → {names[now[at]]}",
                    f"test image {sample.indices[at]}",
                ),
                look,
            ],
            align="center",
        )
        for at, look in zip(others, looks, strict=False)
    ]
    more = f", the first {len(looks)}:" if len(others) > len(looks) else "."
    return page.column(
        mo.md(
            f"Top-1 over {sample}: **{original.correct}** ({percent(original.accuracy)}) → "
            f"**{changed.correct}** ({percent(changed.accuracy)}); {len(others)} images have another class{more}"
        ),
        page.row(*cards, align="start"),
    )


def saved(path: Path, record: ChangeRecord) -> Any:
    """Where a changed model was saved, what of it the file does not hold, and both files to be downloaded."""
    beside = record_path(path)
    return page.column(
        page.message(f"Saved: {path} and {beside}. {record.notice}".strip(), "success"),
        page.row(
            mo.download(read_bytes(path), filename=path.name, label="Download the ONNX file"),
            mo.download(
                read_bytes(beside), filename=beside.name, mimetype="application/json", label="Download its record"
            ),
        ),
    )
