"""Quantization at the limit: how small and how faithful the files are, and what is left to win."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

from resnet8 import words
from resnet8.comparison import seeds_of
from resnet8.numeric.grid import width
from resnet8.quantization.scheme import FINE_BITS
from resnet8.report import sweeps, tables
from resnet8.report.document import Table, table
from resnet8.results import NoiseSpread

if TYPE_CHECKING:
    from collections.abc import Sequence

    from resnet8.results import Comparison, ComparisonRow, Evaluation, Measured, Search, SeedStudy, Sensitivity, Sweep

Parts = tuple[str | Table, ...]

FEW = ((4, 4), (3, 8), (2, 8))
"""Bits of weights and of activations that no file has, and whose accuracy is asked for."""

_USUAL = "int8"
"""The recipe whose numbers are the floor of files of eight bits that have no study of their own."""


@dataclass(frozen=True)
class Limits:
    """What is known beside the comparison; each may be missing.

    Attributes:
        seeds: Studies of calibration draws.
        bound: A sweep with weights that stay fine: what eight bits of activations alone cost.
        maps: Other sweeps.
        sensitivities: Of layers.
        searches: Of mixed precisions.
    """

    seeds: tuple[SeedStudy, ...] = ()
    bound: Sweep | None = None
    maps: tuple[Sweep, ...] = ()
    sensitivities: tuple[Sensitivity, ...] = ()
    searches: tuple[Search, ...] = ()


def limit(result: Comparison, evaluations: Sequence[Evaluation], known: Limits) -> Parts:
    """The section: files against their floor and the bound, draws, maps, layers, the front; what there is of it.

    Args:
        result: The comparison.
        evaluations: One for each of its rows, in their order.
        known: What is known beside it.
    """
    pairs = [
        (row, one) for row, one in zip(result.rows, evaluations, strict=True) if one.model.quantized and is_current(one)
    ]
    studies = [study for _, one in pairs if (study := seeds_of(one, known.seeds)) is not None]
    own = any(is_native(one) for _, one in pairs)
    return (
        *(_files(pairs, known) if own or studies or known.bound is not None else ()),
        *_draws(studies),
        *_maps(known.maps),
        *_layers(known.sensitivities),
        *_fronts(known.searches),
    )


def is_native(one: Evaluation) -> bool:
    """Whether it is of a file of this package's own quantization."""
    return one.quantization is not None and "equalization" in one.quantization.settings


def is_current(one: Evaluation) -> bool:
    """Whether it is of a runtime as it is by itself."""
    return not one.session_options


def bound_of(known: Limits, seed: int | None) -> Measured | None:
    """What the bound comes to with the calibration images of a seed, or of its first."""
    if known.bound is None:
        return None
    cells = [one for one in known.bound.cells if (one.weight_bits, one.activation_bits) == (FINE_BITS, 8)]
    return next((one.measured for one in cells if one.seed == seed), cells[0].measured if cells else None)


def _files(pairs: Sequence[tuple[ComparisonRow, Evaluation]], known: Limits) -> Parts:
    usual = next((one.floor_bytes for one in known.seeds if one.recipe == _USUAL), None)

    def study(pair: tuple[ComparisonRow, Evaluation]) -> SeedStudy | None:
        return seeds_of(pair[1], known.seeds)

    def floor(pair: tuple[ComparisonRow, Evaluation]) -> int | None:
        if (found := study(pair)) is not None:
            return found.floor_bytes
        eight = all(width(dtype) == 8 for dtype in pair[1].model.weights.split("+"))
        return usual if eight else None

    def above(pair: tuple[ComparisonRow, Evaluation]) -> int | None:
        least = floor(pair)
        return None if least is None else pair[0].size_bytes - least

    def behind(pair: tuple[ComparisonRow, Evaluation]) -> str | None:
        made = pair[1].quantization
        bound = bound_of(known, made.calibration.seed if made is not None and made.calibration is not None else None)
        if bound is None or pair[0].agreement is None or bound.overall.total != pair[0].overall.total:
            return None
        return f"{bound.agreement - pair[0].agreement:+,}"

    def drawn(pair: tuple[ComparisonRow, Evaluation]) -> str | None:
        found = study(pair)
        return None if found is None else tables.spread(found.correct)

    return (
        "Files by size. «Numbers»: the bytes of all numbers of the network, weights at their bits, biases in 32, a scale for "
        "each channel or tensor of weights, a scale and a zero point for each activation: the floor of a file that compresses nothing. A file "
        "whose own numbers were not counted stands against those of `int8`. «Above»: what the file has beside them: "
        "names, operators, shapes, and numbers that are stored wider or twice. «Agreement»: images with the prediction "
        "of the float model. «Draws»: correct images with other calibration images, mean ± standard deviation (range).",
        table(
            sorted(pairs, key=lambda pair: pair[0].size_bytes),
            {
                "recipe": lambda pair: pair[0].name,
                "bytes": lambda pair: pair[0].size_bytes,
                "numbers": floor,
                "above": above,
                "correct": lambda pair: pair[0].overall.correct,
                "p": lambda pair: words.p_value(pair[0].p_value),
                "agreement": lambda pair: pair[0].agreement,
                "behind the bound": behind,
                "draws": drawn,
                "noise": lambda pair: tables.counts(pair[0].noise),
            },
        ),
        *_bound(known),
    )


def _bound(known: Limits) -> Parts:
    if known.bound is None:
        return ()
    cells = [one for one in known.bound.cells if (one.weight_bits, one.activation_bits) == (FINE_BITS, 8)]
    if not cells:
        return ()
    agreement = _spread([one.measured.agreement for one in cells])
    correct = _spread([one.measured.overall.correct for one in cells])
    return (
        f"The bound: activations of 8 bits and weights of {FINE_BITS}, so fine that nothing of them is seen, in exact integers: "
        f"agreement {agreement}, correct {correct} ({len(cells)} calibration draw{'s' if len(cells) > 1 else ''}). What a file lacks of this agreement "
        "(«behind the bound», on the same draw) its weights cost; what this lacks of all images the activations do.",
    )


def _spread(counts: Sequence[int]) -> str:
    return f"{counts[0]:,}" if len(counts) == 1 else tables.spread(NoiseSpread.of(counts))


def _draws(studies: Sequence[SeedStudy]) -> Parts:
    if not studies:
        return ()
    return (
        "**Other calibration images.** Each recipe carried out with the images of several draws, and evaluated in exact "
        "integers; what a recipe finds out (ranges, scales, codes, biases) comes from these training images alone.",
        tables.seeds(studies),
    )


def _maps(maps: Sequence[Sweep]) -> Parts:
    parts: list[str | Table] = []
    tested = [result for result in maps if result.ground.data.split == "test"]
    for result in tested:
        for one in sweeps.sweep(result):
            parts += [f"**The map**: {one.title}.", one]
    if few := [row for row in _rows(tested) if row[0] in {_bits(*one) for one in FEW}]:
        parts += [
            "**Fewer bits, simulated** in exact integers, first and last layer as the sweep says; over several draws "
            "mean ± standard deviation (range).",
            _settings(few),
        ]
    if chosen := _rows([result for result in maps if result.ground.data.split != "test"]):
        images = dict.fromkeys(tables.images(row[3].ground.baseline.total, row[3].ground.data) for row in chosen)
        floats = dict.fromkeys(f"{row[3].ground.baseline.correct:,}" for row in chosen)
        parts += [
            "**Settings** are compared on training images that calibrate nothing, and recipes chosen by what is seen "
            f"there, never by test images: {'; '.join(images)}; the float model has {', '.join(floats)} right.",
            _settings(chosen),
        ]
    return tuple(parts)


def _bits(weights: int, activations: int) -> str:
    return f"W{weights}A{activations}"


_Row = tuple[str, str, "tuple[Measured, ...]", "Sweep"]


def _rows(maps: Sequence[Sweep]) -> list[_Row]:
    """Bits, settings and what was measured, over the draws, of each cell; by bits."""
    rows: list[_Row] = [
        (_bits(*bits), sweeps.variant(of), tuple(measured), result)
        for result in maps
        for of, cells in result.maps().items()
        for bits, measured in cells.items()
    ]
    return sorted(rows, key=lambda row: row[:2])


def _settings(rows: Sequence[_Row]) -> Table:
    return table(
        rows,
        {
            "bits": lambda row: row[0],
            "settings": lambda row: row[1],
            "equalized": lambda row: str(row[3].ground.settings.get("equalization", "none")),
            "zero points": lambda row: "0, -1" if row[3].ground.settings.get("asymmetric_weights") else "0",
            "mirrored": lambda row: "yes" if row[3].ground.settings.get("mirrored") else "no",
            "edges": lambda row: str(row[3].ground.settings.get("edge_bits") or "same"),
            "numbers (bytes)": lambda row: row[2][0].size_bytes,
            "correct": lambda row: _spread([one.overall.correct for one in row[2]]),
            "agreement": lambda row: _spread([one.agreement for one in row[2]]),
            "divergence": lambda row: f"{statistics.fmean(one.divergence for one in row[2]):.5f}",
        },
        left=6,
    )


def _layers(found: Sequence[Sensitivity]) -> Parts:
    parts: list[str | Table] = []
    for result in found:
        content = sweeps.sensitivity(result)
        parts += [f"**Where bits matter**: {content.title}.", content]
    return tuple(parts)


def _fronts(found: Sequence[Search]) -> Parts:
    parts: list[str | Table] = []
    for result in found:
        content = sweeps.front(result)
        parts += [
            f"**The front** of size and accuracy, searched on training images that calibrate nothing: {content.title}. "
            f"Layers in the order of the bits: {', '.join(f'`{name}`' for name in result.layers)}.",
            content,
        ]
    return tuple(parts)
