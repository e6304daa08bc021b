"""«Quantization at the limit»: each part where its results are, and the numbers in it by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from builders import ENVIRONMENT, evaluation, model, parity, seed_study, wrong_on
from test_sweeps import SEARCH, SENSITIVITY, SWEEP, ground

from resnet8.comparison import compare
from resnet8.report.analysis import analysis
from resnet8.report.document import Table
from resnet8.report.limit import Limits, limit
from resnet8.results import Evaluation, Measured, Sweep, SweepCell, score

if TYPE_CHECKING:
    from resnet8.report.limit import Parts

LABELS = "0123456789" * 100
FP32 = evaluation(LABELS, wrong_on(LABELS, range(100)))


def made(name: str, wrong: range, size: int, weights: str = "uint8", **settings: Any) -> Evaluation:
    """An evaluation of a file of this package's own quantization."""
    described = model(f"{name}.onnx", "uint8", weights, size)
    found = evaluation(LABELS, wrong_on(LABELS, wrong), described=described, recipe=name)
    assert found.quantization is not None
    own = {**found.quantization.settings, "equalization": "none", **settings}
    return replace(found, quantization=replace(found.quantization, settings=own))


INT8, INT4 = made("int8", range(98, 102), 82_065), made("int4", range(110), 44_129, "int4+uint8")
ORT = evaluation(LABELS, LABELS, described=model("p.onnx", "uint8", "uint8", 108_654), recipe="ort-portable")
RUN = [FP32, ORT, INT8, INT4]
SEEDS = (seed_study(INT8, {42: (998, 900), 43: (996, 904)}), seed_study(INT4, {42: (890, 990), 43: (892, 980)}, 42_005))


def fine(agreement: int, seed: int) -> SweepCell:
    """A cell of the bound."""
    return SweepCell(
        *(16, 8, True, False, True, "nearest", seed),
        Measured(score(899, 1000), agreement, 0.1, 157_558, "c" * 64, 1.5),
    )


BOUND = Sweep(ground(42, 43), (fine(995, 43), fine(992, 42)), ENVIRONMENT, parity().created)


def of(known: Limits, run: list[Evaluation] = RUN) -> Parts:
    return limit(compare(run, seeds=known.seeds), run, known)


def rows(content: Any) -> list[dict[str, str]]:
    assert isinstance(content, Table)
    return [dict(zip(content.headings, row, strict=True)) for row in content.rows]


def test_nothing_is_said_where_nothing_is_known() -> None:
    assert of(Limits(), [FP32, ORT]) == ()


def test_files_by_size_against_their_floor_and_the_bound() -> None:
    small, eight, other = rows(of(Limits(seeds=SEEDS, bound=BOUND))[1])
    assert small == {
        "recipe": "int4",
        "bytes": "44,129",
        "numbers": "42,000",
        "above": "2,129",
        "correct": "890",
        "p": "0.002",
        "agreement": "990",
        "behind the bound": "+2",
        "draws": "891.0 ± 1.4 (890 – 892)",
        "noise": "–",
    }
    assert (eight["recipe"], eight["numbers"], eight["above"]) == ("int8", "80,198", "1,867")
    assert (eight["agreement"], eight["behind the bound"]) == ("900", "+92")  # 98 others, and two of the same
    # Not studied, of eight bits: against the numbers of int8.
    assert (other["recipe"], other["numbers"], other["above"], other["draws"]) == (
        *("ort-portable", "80,198", "28,456"),
        "–",
    )


def test_the_bound_is_said_with_its_spread() -> None:
    parts = of(Limits(bound=BOUND))
    assert "agreement 993.5 ± 2.1 (992 – 995), correct 899.0 ± 0.0 (899 – 899) (2 calibration draws)" in str(parts[2])
    assert {row["numbers"] for row in rows(parts[1])} == {"–"}
    elsewhere = replace(BOUND, cells=tuple(replace(one, activation_bits=4) for one in BOUND.cells))
    assert len(of(Limits(bound=elsewhere))) == 2


def test_a_bound_of_fewer_images_is_no_bound() -> None:
    one = BOUND.cells[0]
    fewer = replace(BOUND, cells=(replace(one, measured=replace(one.measured, overall=score(9, 10))),))
    assert {row["behind the bound"] for row in rows(of(Limits(bound=fewer))[1])} == {"–"}


def test_draws_maps_layers_and_front() -> None:
    known = Limits(seeds=SEEDS, maps=(SWEEP,), sensitivities=(SENSITIVITY,), searches=(SEARCH,))
    parts = of(known)
    text = [part for part in parts if isinstance(part, str)]
    assert [part.split("**")[1] for part in text[1:]] == [
        "Other calibration images.",
        *["The map"] * 2,
        "Fewer bits, simulated",
        "Where bits matter",
        "The front",
    ]
    contents = [part for part in parts if isinstance(part, Table)]
    assert rows(contents[1])[0] == {
        "recipe": "int8",
        "draws": "2",
        "seeds": "42, 43",
        "correct: mean ± sd (range)": "997.0 ± 1.4 (996 – 998)",
        "agreement: mean ± sd (range)": "902.0 ± 2.8 (900 – 904)",
    }
    few = rows(contents[4])  # W2A8 per channel and per tensor; W4A4 and W3A8 were not asked
    assert [(row["bits"], row["correct"]) for row in few] == [
        ("W2A8", "505.0 ± 7.1 (500 – 510)"),
        ("W2A8", "410.0 ± 14.1 (400 – 420)"),
    ]
    assert "Layers in the order of the bits: `stem`, `dense`." in text[-1]


def test_settings_are_told_from_maps_by_their_images() -> None:
    ground = replace(SWEEP.ground, data=replace(SWEEP.ground.data, split="train", subset="held-out-9"))
    chosen = replace(SWEEP, ground=replace(ground, settings=ground.settings | {"asymmetric_weights": True}))
    parts = of(Limits(maps=(chosen,)), [FP32, ORT])
    assert len(parts) == 2
    assert "**Settings** are compared on training images that calibrate nothing" in str(parts[0])
    assert "held-out-9" in str(parts[0])
    found = rows(parts[1])
    assert len(found) == sum(len(cells) for cells in SWEEP.maps().values())
    assert {row["zero points"] for row in found} == {"0, -1"}
    assert [row["bits"] for row in found] == sorted(row["bits"] for row in found)


def test_the_analysis_has_the_section_where_there_is_something() -> None:
    heading = "## Quantization at the limit"
    run = [FP32, ORT]
    assert heading not in analysis(compare(run), parity(), run)
    assert heading in analysis(compare(RUN), parity(), RUN)
    assert heading in analysis(compare(run), parity(), run, limits=Limits(searches=(SEARCH,)))


def test_other_session_options_are_no_file_of_their_own() -> None:
    run = [*RUN, replace(INT8, session_options={"session.x64quantprecision": "1"})]
    assert len(rows(of(Limits(), run)[1])) == 3
