"""Deltas, whether they are real, flags, and the recommendation by its rule."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from builders import CIFAR10, ENVIRONMENT, evaluation, model, noise_study, quantization, seed_study, wrong_on
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from resnet8.comparison import (
    INDISTINGUISHABLE,
    compare,
    mcnemar,
    name_of,
    noise_of,
    paired_interval,
    portable,
    seeds_of,
)
from resnet8.environment import Cpu
from resnet8.errors import ResultError
from resnet8.facts import PUBLISHED_CORRECT

if TYPE_CHECKING:
    from resnet8.environment import Environment
    from resnet8.results import Evaluation, NoiseRun, NoiseStudy

LABELS = "0123456789" * 100  # 1,000 images
PROFILE = settings(derandomize=True, max_examples=100, deadline=None)


def fp32(wrong: range = range(100), **options: object) -> Evaluation:
    return evaluation(LABELS, wrong_on(LABELS, wrong), **options)  # type: ignore[arg-type]


def int8(
    wrong: range | list[int], recipe: str | None = "ort-int8", size: int = 120_000, weights: str = "int8"
) -> Evaluation:
    described = model(f"models/{recipe}.onnx", weights, weights, size)
    return evaluation(LABELS, wrong_on(LABELS, wrong), described=described, recipe=recipe)


# --- statistics ---


@pytest.mark.parametrize(
    ("lost", "gained", "p"),
    [
        (0, 0, 1.0),
        (1, 0, 1.0),
        (5, 5, 1.0),
        (6, 0, 2 / 2**6),  # both tails of six heads in a row
        (0, 6, 2 / 2**6),
        (9, 1, 2 * (1 + 10) / 2**10),  # by hand: ten tosses, at most one tail, twice
    ],
)
def test_mcnemar(lost: int, gained: int, p: float) -> None:
    assert mcnemar(lost, gained) == pytest.approx(p)


@PROFILE
@given(lost=st.integers(0, 60), gained=st.integers(0, 60))
def test_mcnemar_is_twice_the_smaller_tail(lost: int, gained: int) -> None:
    n = lost + gained
    tail = sum(math.comb(n, k) for k in range(min(lost, gained) + 1))
    assert mcnemar(lost, gained) == pytest.approx(min(1.0, 2 * tail / 2**n))
    assert mcnemar(lost, gained) == mcnemar(gained, lost)


def test_paired_interval_by_hand() -> None:
    # 10,000 images, 144 lost, 100 gained: delta -0.44 points, standard error sqrt(244 - 44²/10000)/10000 = 0.15614 %.
    low, high = paired_interval(144, 100, 10_000)
    assert low == pytest.approx(-0.44 - 1.959964 * 0.1561437, abs=1e-5)
    assert high == pytest.approx(-0.44 + 1.959964 * 0.1561437, abs=1e-5)


@PROFILE
@given(counts=st.tuples(st.integers(0, 500), st.integers(0, 500), st.integers(0, 500)).filter(any))
def test_paired_interval_contains_delta_and_mirrors(counts: tuple[int, int, int]) -> None:
    lost, gained, same = counts
    total = sum(counts)
    low, high = paired_interval(lost, gained, total)
    delta = 100 * (gained - lost) / total
    assert low <= delta + 1e-9
    assert high >= delta - 1e-9
    assert paired_interval(gained, lost, total) == pytest.approx((-high, -low))
    # The textbook's other form: the variance of the differences -1, 0, 1 over the images.
    differences = np.repeat([-1.0, 1.0, 0.0], [lost, gained, same])
    assert high - low == pytest.approx(200 * stats.norm.ppf(0.975) * differences.std() / math.sqrt(total), abs=1e-6)


def test_wilson_interval_literal() -> None:
    """8719 of 10,000 by Wilson's formula, computed by hand."""
    labels = "0" * 10_000
    row = compare([evaluation(labels, "0" * 8719 + "1" * 1281)]).rows[0]
    z, p, n = 1.959963984540054, 0.8719, 10_000
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    assert row.accuracy_interval == pytest.approx((middle - half, middle + half))
    assert row.accuracy_interval == pytest.approx((0.86521, 0.87831), abs=1e-5)


# --- the table ---


def test_rows() -> None:
    baseline = fp32()  # images 0 to 99 wrong: 900 right
    quantized = int8(range(10, 160))  # wins 0 to 9 back, loses 100 to 159
    result = compare([baseline, quantized], refused={"torch-uint8": "no"}, files=["a.json", "b.json"])
    assert result.baseline == "ONNX Runtime fp32"
    assert result.refused == {"torch-uint8": "no"}
    assert [row.vnni for row in result.rows] == [True, True]
    first, second = result.rows
    assert (first.name, first.framework, first.dtype, first.overall.correct) == ("fp32", "ONNX Runtime", "float32", 900)
    assert (first.lost, first.gained, first.delta_points, first.p_value) == (0, 0, 0.0, 1.0)
    assert (first.flagged, first.candidate, first.portable, first.reduction) == (False, False, True, 0.0)
    assert (second.name, second.dtype, second.overall.correct) == ("ort-int8", "int8", 850)
    assert (second.lost, second.gained) == (60, 10)
    assert second.delta_points == pytest.approx(-5.0)
    assert second.delta_interval == paired_interval(60, 10, 1000)
    assert second.p_value == pytest.approx(stats.binomtest(10, 70).pvalue)
    assert second.reduction == pytest.approx(1 - 120 / 320)
    assert (first.file, second.file) == ("a.json", "b.json")


@PROFILE
@given(data=st.data())
def test_lost_and_gained_explain_the_delta(data: st.DataObject) -> None:
    digits = st.text("0123456789", min_size=30, max_size=30)
    labels, first, second = (data.draw(digits) for _ in range(3))
    row = compare([evaluation(labels, first), evaluation(labels, second, described=model("q", "int8", "int8"))]).rows[1]
    right = [sum(a == b for a, b in zip(labels, predictions, strict=True)) for predictions in (first, second)]
    assert row.gained - row.lost == right[1] - right[0]
    assert row.delta_points == pytest.approx(100 * (right[1] - right[0]) / 30)
    assert row.accuracy_interval[0] <= row.overall.accuracy <= row.accuracy_interval[1]


@pytest.mark.parametrize(
    ("wrong", "limit", "flagged"), [(150, 5.0, False), (151, 5.0, True), (111, 1.0, True), (110, 1.0, False)]
)
def test_flag_begins_beyond_the_limit(wrong: int, limit: float, flagged: bool) -> None:
    result = compare([fp32(), int8(range(wrong))], max_drop_points=limit)
    row = result.rows[1]
    assert row.flagged is flagged
    assert row.candidate is not flagged
    assert f"at most {limit:g} points" in result.rule
    assert (result.recommendations[0].choice is None) is flagged


def test_baseline_is_onnx_runtimes_else_the_first() -> None:
    keras = fp32(range(3), runtime="keras", described=model("a.h5", format="keras-h5"))
    torch = fp32(range(5), runtime="pytorch", described=model("a.pt", format="torchscript"))
    assert compare([keras, torch, fp32()]).baseline == "ONNX Runtime fp32"
    assert compare([torch, keras]).baseline == "PyTorch fp32"
    assert compare([int8(range(3)), keras]).baseline == "Keras fp32"


def test_reduction_is_by_the_frameworks_own_file() -> None:
    torch = fp32(runtime="pytorch", described=model("a.pt", size_bytes=400_000, format="torchscript"))
    small = evaluation(
        LABELS, LABELS, runtime="pytorch", described=model("q.pt", "uint8", "int8", 100_000, "torchscript")
    )
    lite = evaluation(LABELS, LABELS, runtime="litert", described=model("q.tflite", "int8", "int8", 80_000, "tflite"))
    rows = compare([fp32(), torch, small, lite]).rows
    assert [row.reduction for row in rows] == pytest.approx([0, 0, 0.75, 0.75])
    assert [row.framework for row in rows] == ["ONNX Runtime", "PyTorch", "PyTorch", "LiteRT"]


def test_published_counts_only_for_the_published_images() -> None:
    models = [fp32(), int8(range(9), "published-int8"), int8(range(9), "ort-int8")]
    assert [row.published_correct for row in compare(models).rows] == [8719, 8558, None]
    for data in (replace(CIFAR10, subset="first-1000"), replace(CIFAR10, dataset="demo digits")):
        others = [replace(one, data=data) for one in models]
        assert {row.published_correct for row in compare(others).rows} == {None}
    keras = fp32(runtime="keras", described=model("a.h5", format="keras-h5"))
    assert compare([keras]).rows[0].published_correct is None
    assert PUBLISHED_CORRECT["published-uint8"] == 8675


@pytest.mark.parametrize(
    ("quantized", "recipe", "path", "name"),
    [
        (True, "ort-int8", "models/x.onnx", "ort-int8"),
        (True, None, "models/mine_q.onnx", "mine_q"),
        (False, None, "models/resnet8.onnx", "fp32"),
    ],
)
def test_name_of(quantized: bool, recipe: str | None, path: str, name: str) -> None:
    dtype = "int8" if quantized else "float32"
    assert name_of(evaluation("01", "01", described=model(path, dtype, dtype), recipe=recipe)) == name


@pytest.mark.parametrize(
    ("runtime", "activations", "weights", "change", "expected"),
    [
        ("onnxruntime", "float32", "float32", {}, True),
        ("onnxruntime", "int8", "int8", {}, False),
        ("onnxruntime", "uint8", "int8", {}, False),
        ("onnxruntime", "uint8", "uint8", {}, True),
        ("onnxruntime", "uint8", "int8", {"reduce_range": True}, True),
        ("onnxruntime", "uint8", "int8", {"reduce_range": False}, False),
        ("onnxruntime", "uint8", "uint8", {"asymmetric_weights": True}, None),
        ("onnxruntime", "uint8", "int8", {"session.x64quantprecision": "1"}, True),
        ("onnxruntime", "uint8", "int8", {"session.x64quantprecision": "0"}, False),
        ("pytorch", "uint8", "int8", {}, True),
        ("litert", "int8", "int8", {}, None),
        ("integer", "int8", "int8", {}, None),
        ("keras", "float32", "float32", {}, True),
    ],
)
def test_portable(runtime: str, activations: str, weights: str, change: dict[str, Any], expected: bool | None) -> None:
    one = evaluation("0", "0", runtime=runtime, described=model(activations=activations, weights=weights))
    if change.keys() & {"reduce_range", "asymmetric_weights"}:
        one = replace(one, quantization=replace(quantization("ort-int8"), settings=change))
    else:
        one = replace(one, session_options=change)
    assert portable(one) is expected


def test_no_vnni() -> None:
    plain = replace(ENVIRONMENT, cpu=Cpu("Old CPU", ("avx2",), 4))
    result = compare([evaluation("0", "0", environment=plain)])
    assert [row.vnni for row in result.rows] == [False]
    assert result.recommendations[0].target == "this CPU (Old CPU)"


@pytest.mark.parametrize("swapped", [False, True])
def test_results_of_several_cpus_are_told_apart_in_any_order(swapped: bool) -> None:
    """The int8 file leads where it was measured with VNNI; the uint8 file's result is the old CPU's."""
    old = replace(ENVIRONMENT, cpu=Cpu("Old CPU", ("avx2",), 4))
    signed = int8(range(100))
    unsigned = replace(
        evaluation(
            LABELS,
            wrong_on(LABELS, range(150)),
            described=model("u.onnx", "uint8", "uint8", 120_000),
            recipe="ort-uint8",
        ),
        environment=old,
    )
    quantized = [unsigned, signed] if swapped else [signed, unsigned]
    result = compare([fp32(), *quantized])
    assert {row.name: row.vnni for row in result.rows} == {"fp32": True, "ort-int8": True, "ort-uint8": False}
    assert [(one.target, one.choice) for one in result.recommendations] == [
        ("CPUs without VNNI (Old CPU)", "ort-uint8"),
        ("CPUs with VNNI (Example CPU)", "ort-int8"),
        ("any x86-64 CPU", "ort-uint8"),
        (INDISTINGUISHABLE, None),
    ]


def test_a_session_option_is_another_row_and_no_candidate() -> None:
    other = replace(int8(range(100)), session_options={"session.x64quantprecision": "1"})
    row = compare([fp32(), other]).rows[1]
    assert row.name == "ort-int8, session.x64quantprecision=1"
    assert (row.portable, row.candidate) == (True, False)


# --- the noise beside a count ---

NOISY = int8(range(100))
STUDY = noise_study(NOISY, [range(98), range(103), range(99)])


def test_noise_stands_beside_the_count_it_is_about() -> None:
    others = [int8(range(100), "ort-uint8"), int8(range(100), None)]
    rows = compare([fp32(), NOISY, *others], noise=[STUDY]).rows
    assert [row.noise for row in rows] == [None, STUDY.spread, None, None]
    assert (STUDY.spread.mean, STUDY.spread.least, STUDY.spread.greatest, STUDY.spread.runs) == (900, 897, 902, 3)
    assert compare([fp32(), NOISY]).rows[1].noise is None


def old(environment: Environment) -> Environment:
    return replace(environment, cpu=Cpu("Old CPU", ("avx2",), 4))


@pytest.mark.parametrize(
    "other",
    [
        replace(STUDY, recipe="ort-uint8"),
        replace(STUDY, source_sha256="c" * 64),
        replace(STUDY, runtime="pytorch"),
        replace(STUDY, data=replace(STUDY.data, fingerprint="e" * 64)),
        replace(STUDY, data=replace(STUDY.data, subset="first-1000")),
        replace(STUDY, calibration=replace(STUDY.calibration, indices=STUDY.calibration.indices[::-1])),
        replace(
            STUDY, calibration=replace(STUDY.calibration, data=replace(STUDY.calibration.data, fingerprint="e" * 64))
        ),
        replace(STUDY, environment=old(STUDY.environment)),
    ],
    ids=["recipe", "model", "runtime", "images", "subset", "calibration", "training images", "CPU"],
)
def test_noise_of_something_else_is_ignored(other: NoiseStudy) -> None:
    assert noise_of(NOISY, [other]) is None
    assert noise_of(NOISY, [other, STUDY]) is STUDY
    assert compare([fp32(), NOISY], noise=[other]) == compare([fp32(), NOISY])


def test_noise_is_that_of_the_same_kind_of_cpu() -> None:
    """Another model of the same kind will do; one session configured otherwise will not."""
    other = replace(ENVIRONMENT, cpu=Cpu("Other CPU", ("avx2", "avx_vnni"), 8))
    assert noise_of(NOISY, [replace(STUDY, environment=other)]) is not None
    elsewhere = replace(NOISY, environment=old(ENVIRONMENT))
    assert noise_of(elsewhere, [STUDY]) is None
    assert noise_of(elsewhere, [replace(STUDY, environment=old(ENVIRONMENT))]) is not None
    assert noise_of(replace(NOISY, session_options={"session.x64quantprecision": "1"}), [STUDY]) is None


@pytest.mark.parametrize(
    "runs",
    [
        STUDY.runs[:2],
        STUDY.runs[1:],
        (STUDY.runs[0], *STUDY.runs),
        (*STUDY.runs[:3], replace(STUDY.runs[3], overall=replace(STUDY.runs[3].overall, correct=950))),
        (*STUDY.runs[:3], replace(STUDY.runs[3], predictions=STUDY.runs[3].predictions[:-1])),
        (*STUDY.runs[:3], replace(STUDY.runs[3], predictions="x" * 1000)),
    ],
    ids=["one", "no unperturbed", "two unperturbed", "count", "short", "letters"],
)
def test_an_altered_study_is_refused(runs: tuple[NoiseRun, ...]) -> None:
    with pytest.raises(ResultError, match="noise study of ort-int8 contradicts itself") as caught:
        compare([fp32(), NOISY], noise=[replace(STUDY, runs=runs)])
    assert caught.value.remedy


@pytest.mark.parametrize("accuracy", [2.0, -0.1, float("nan"), 0.8999])
def test_an_accuracy_that_the_counts_do_not_give_is_refused(accuracy: float) -> None:
    altered = replace(NOISY, overall=replace(NOISY.overall, accuracy=accuracy))
    with pytest.raises(ResultError, match="contradicts itself"):
        compare([fp32(), altered])


def test_a_notice_goes_into_the_row() -> None:
    rows = compare([fp32(), replace(NOISY, notice="it was exchanged")]).rows
    assert [row.notice for row in rows] == [None, "it was exchanged"]


def test_agreement_counts_equal_predictions_right_or_wrong() -> None:
    rows = compare([fp32(), int8(range(10, 160))]).rows
    assert [row.agreement for row in rows] == [1000, 1000 - 10 - 60]  # 90 are wrong alike


# --- the draws beside a count ---

DRAWS = seed_study(NOISY, {42: (900, 960), 43: (896, 950), 44: (898, 955)})


def test_draws_stand_beside_the_count_they_are_about() -> None:
    rows = compare([fp32(), NOISY, int8(range(100), "ort-uint8"), int8(range(100), None)], seeds=[DRAWS]).rows
    assert [row.seeds for row in rows] == [None, DRAWS.correct, None, None]
    assert (DRAWS.correct.mean, DRAWS.correct.deviation) == (898.0, 2.0)
    assert (DRAWS.correct.least, DRAWS.correct.greatest, DRAWS.correct.runs) == (896, 900, 3)
    assert (DRAWS.agreement.least, DRAWS.agreement.greatest) == (950, 960)


@pytest.mark.parametrize(
    "other",
    [
        {"recipe": "int4"},
        {"settings": {}},
        {"ground": replace(DRAWS.ground, samples_per_class=50)},
        {"ground": replace(DRAWS.ground, model=model("other.onnx"))},
        {"ground": replace(DRAWS.ground, data=replace(CIFAR10, subset="first-9"))},
    ],
    ids=lambda other: next(iter(other)),
)
def test_draws_of_something_else_are_ignored(other: dict[str, Any]) -> None:
    assert seeds_of(NOISY, [replace(DRAWS, **other)]) is None


@pytest.mark.parametrize("damage", ["one", "twice", "accuracy", "agreement"])
def test_altered_draws_are_refused(damage: str) -> None:
    first, *others = DRAWS.runs
    measured = first.measured
    runs = {
        "one": (first,),
        "twice": (first, first),
        "accuracy": (
            replace(first, measured=replace(measured, overall=replace(measured.overall, accuracy=1))),
            *others,
        ),
        "agreement": (replace(first, measured=replace(measured, agreement=1001)), *others),
    }[damage]
    with pytest.raises(ResultError, match="calibration draws of ort-int8 contradicts itself") as caught:
        compare([fp32(), NOISY], seeds=[replace(DRAWS, runs=runs)])
    assert caught.value.remedy


# --- the recommendation ---


def choices(*candidates: Evaluation) -> tuple[str | None, str | None]:
    here, anywhere, _ = compare([fp32(), *candidates]).recommendations
    return here.choice, anywhere.choice


def test_the_more_accurate_one_wins_where_the_test_can_tell() -> None:
    assert choices(
        int8(range(100), "ort-uint8", 130_000, "uint8"), int8(range(106), "ort-portable", 110_000, "uint8")
    ) == (
        "ort-uint8",
        "ort-uint8",
    )  # six lost, none gained: p = 0.031


def test_the_smaller_one_wins_where_it_cannot() -> None:
    pair = (int8(range(100), "ort-uint8", 130_000, "uint8"), int8(range(105), "ort-portable", 110_000, "uint8"))
    assert choices(*pair) == ("ort-portable", "ort-portable")  # five lost: p = 0.0625
    reason = compare([fp32(), *pair]).recommendations[0].reason
    assert "895 of 1,000 correct in 110,000 bytes" in reason
    assert "ort-uint8 leads with 900" in reason
    assert "20,000 bytes larger" in reason


def test_signed_weights_are_no_choice_for_every_cpu() -> None:
    assert choices(int8(range(90)), int8(range(110), "ort-uint8", weights="uint8")) == ("ort-int8", "ort-uint8")
    assert choices(int8(range(90))) == ("ort-int8", None)


def test_models_of_unknown_making_are_no_candidates() -> None:
    assert choices(int8(range(90), None)) == (None, None)
    assert compare([fp32()]).recommendations[0].reason == "No quantized model qualifies."


def test_equals_in_size_and_count_go_to_the_first() -> None:
    one, two = int8(range(100), "ort-uint8", weights="uint8"), int8(range(100), "ort-portable", weights="uint8")
    assert choices(one, two) == ("ort-uint8", "ort-uint8")
    assert choices(two, one) == ("ort-portable", "ort-portable")


def test_the_smallest_that_cannot_be_told_from_fp32() -> None:
    """Six images lost and none gained are told (p = 0.031), five are not; signed weights are none for every CPU."""
    files = [
        int8(range(106), "small", 50_000, "uint8"),
        int8(range(105), "middle", 80_000, "int4+uint8"),
        int8(range(100), "signed", 70_000),
        int8(range(99), "large", 90_000, "uint8"),
    ]
    found = compare([fp32(), *files]).recommendations[-1]
    assert (found.target, found.choice) == (INDISTINGUISHABLE, "middle")
    assert found.reason == "895 of 1,000 correct in 80,000 bytes: 5 images lost and 0 gained, p = 0.062."
    none = compare([fp32(), files[0]]).recommendations[-1]
    assert (none.choice, none.reason) == (None, "The test tells every candidate from it.")


@PROFILE
@given(
    wrong=st.lists(st.tuples(st.integers(80, 160), st.integers(100, 110)), min_size=1, max_size=5),
)
def test_recommendation_keeps_its_rule(wrong: list[tuple[int, int]]) -> None:
    """Whatever the candidates: the choice is a candidate, not told from the leader, and no smaller one is."""
    models = [int8(range(count), f"r{i}", size * 1000, "uint8") for i, (count, size) in enumerate(wrong)]
    result = compare([fp32(), *models])
    allowed = {i: count for i, (count, _) in enumerate(wrong) if count <= 150}
    choice = result.recommendations[0].choice
    if not allowed:
        assert choice is None
        return
    fewest = min(allowed.values())
    close = {i for i, count in allowed.items() if count - fewest < 6}  # nested: only losses, p < 0.05 from six on
    smallest = min(wrong[i][1] for i in close)
    assert choice in {f"r{i}" for i in close if wrong[i][1] == smallest}


# --- what cannot be compared ---


def test_nothing() -> None:
    with pytest.raises(ResultError, match="nothing to compare"):
        compare([])


def test_no_baseline() -> None:
    with pytest.raises(ResultError, match=r"no baseline.*found ort-int8.*float32.*evaluate resnet8.onnx too"):
        compare([int8(range(3))])


@pytest.mark.parametrize(
    ("data", "labels", "what"),
    [
        (replace(CIFAR10, fingerprint="e" * 64), LABELS, "data"),
        (replace(CIFAR10, subset="first-1000"), LABELS, "images"),
        (CIFAR10, LABELS[:-1] + "0", "labels"),
        (CIFAR10, LABELS[:-1], "labels"),
    ],
)
def test_other_images(data: object, labels: str, what: str) -> None:
    other = evaluation(labels, labels, data=data, described=model("other.onnx"))  # type: ignore[arg-type]
    for pair in ([fp32(), other], [other, fp32()], [fp32(), fp32(), other]):
        with pytest.raises(ResultError, match=f"different {what}") as caught:
            compare(pair)
        assert "other.onnx" in str(caught.value)
        assert caught.value.remedy


@pytest.mark.parametrize(
    "damage",
    [
        {"predictions": LABELS[:-1]},
        {"predictions": ""},
        {"predictions": "é" * 1000},
        {"predictions": "a" * 1000},
        {"runtime": "abacus"},
        {"overall": replace(fp32().overall, correct=901)},
        {"overall": replace(fp32().overall, total=0)},
    ],
)
def test_results_that_contradict_themselves(damage: dict[str, object]) -> None:
    """A result file that was altered by hand, or by accident."""
    damaged = replace(fp32(), **damage)  # type: ignore[arg-type]
    for pair in ([damaged], [fp32(), damaged]):
        with pytest.raises(ResultError, match=r"resnet8.onnx") as caught:
            compare(pair)
        assert caught.value.found
        assert caught.value.expected
        assert caught.value.remedy
