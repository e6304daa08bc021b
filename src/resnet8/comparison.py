"""Evaluations -> comparison: deltas, whether they are real, flags, and a recommendation by a stated rule. Pure."""

from __future__ import annotations

import math
from pathlib import PurePath
from typing import TYPE_CHECKING

from resnet8.environment import has_vnni
from resnet8.errors import ResultError
from resnet8.facts import PUBLISHED_CORRECT
from resnet8.numeric.grid import width
from resnet8.results import Comparison, ComparisonRow, Recommendation, from_digits, score
from resnet8.runtimes.base import RUNTIMES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from resnet8.results import Evaluation, NoiseStudy, Score, SeedStudy

MAX_DROP_POINTS = 5.0
SIGNIFICANCE = 0.05
CONFIDENCE = 0.95

FP32 = "fp32"

RULE = (
    "Candidates are the quantized models made here that drop at most {points:g} points. The most accurate of "
    "them leads; of those that an exact McNemar test on the same images cannot tell from it "
    f"(p ≥ {SIGNIFICANCE:g}), the smallest file is recommended. For «any x86-64 CPU», only candidates qualify whose "
    "result does not depend on whether the CPU has VNNI. The smallest file that cannot be told from FP32 is the "
    f"smallest of these with p ≥ {SIGNIFICANCE:g} against the baseline, whatever leads."
)

INDISTINGUISHABLE = "the smallest file that cannot be told from FP32, on any x86-64 CPU"


def name_of(evaluation: Evaluation) -> str:
    """What a model is called: its recipe, ``fp32``, or its file's name when neither is known."""
    options = "".join(f", {name}={value}" for name, value in sorted(evaluation.session_options.items()))
    if evaluation.quantization is not None:
        return evaluation.quantization.recipe + options
    return (PurePath(evaluation.model_path).stem if evaluation.model.quantized else FP32) + options


def portable(one: Evaluation) -> bool | None:
    """Whether a count measured on one x86 CPU holds on all; none where that is not known.

    Without VNNI, ONNX Runtime multiplies u8 by s8 with VPMADDUBSW, which adds two neighbouring products in a saturating
    int16; signed weights of 8 bits can exceed it. Those of 7 bits and fewer cannot (255 x 64 x 2 = 32,640 fits),
    unsigned weights take another kernel, and a session option (``session.x64quantprecision``) makes them of signed
    ones. The default observers for fbgemm keep activations to 7 bits, and 127 x 128 x 2 = 32,512 fits. Layers whose
    weights have several zero points are computed in float, added up in an order that is the CPU's.
    """
    if not one.model.quantized or one.runtime == "pytorch":
        return True
    settings = {} if one.quantization is None else one.quantization.settings
    if one.runtime != "onnxruntime" or settings.get("asymmetric_weights"):
        return None
    reduced = settings.get("reduce_range") is True
    unsigned_or_narrow = all(dtype == "uint8" or width(dtype) < 8 for dtype in one.model.weights.split("+"))
    return unsigned_or_narrow or reduced or one.session_options.get("session.x64quantprecision") == "1"


def mcnemar(lost: int, gained: int) -> float:
    """Two-sided exact McNemar test (binomial form): p-value of ``lost`` against ``gained`` discordant images.

    1 where there are none.
    """
    from scipy import stats  # here and below: it takes most of a second to import

    return float(stats.binomtest(lost, lost + gained).pvalue) if lost + gained else 1.0


def paired_interval(lost: int, gained: int, total: int) -> tuple[float, float]:
    """95 % Wald interval of the difference of two paired proportions, in percentage points.

    Standard error: sqrt(lost + gained - (gained - lost)^2 / total) / total (Fleiss, Statistical Methods for Rates and
    Proportions, chapter on matched pairs).
    """
    from scipy import stats

    delta = (gained - lost) / total
    z = float(stats.norm.ppf((1 + CONFIDENCE) / 2))
    error = z * math.sqrt(lost + gained - (gained - lost) ** 2 / total) / total
    return 100 * (delta - error), 100 * (delta + error)


def compare(
    evaluations: Sequence[Evaluation],
    *,
    files: Sequence[str] | None = None,
    refused: Mapping[str, str] | None = None,
    noise: Sequence[NoiseStudy] = (),
    seeds: Sequence[SeedStudy] = (),
    max_drop_points: float = MAX_DROP_POINTS,
) -> Comparison:
    """Compare models on the same images.

    The baseline is the float model of ONNX Runtime; without one, the first float model.

    Args:
        evaluations: One for each model, in the order of the table.
        files: Where each evaluation is kept, for the table's reader; none known when left out.
        refused: Recipes that a backend refused, with its words.
        noise: Studies of recipes; each is shown beside the count that it is about (:func:`noise_of`), or ignored.
        seeds: Studies of calibration draws, likewise (:func:`seeds_of`).
        max_drop_points: Drop of accuracy above which a model is flagged, in percentage points.

    Raises:
        ResultError: when there is no float model, not all are of the same images, or a result contradicts itself.

    Example:
        >>> files = [Path(f"results/{name}.json") for name in ("fp32-onnx", "published-uint8")]
        >>> comparison = resnet8.compare([resnet8.load(Evaluation, file) for file in files])
        >>> [(row.name, row.flagged) for row in comparison.rows]
        [('fp32', False), ('published-uint8', False)]
    """
    if not evaluations:
        raise ResultError("there is nothing to compare", expected="evaluations (resnet8 evaluate … --json F)")
    for one in evaluations:
        _require_sound(one)
    for other in evaluations[1:]:
        _require_same_images(evaluations[0], other)
    floats = [one for one in evaluations if not one.model.quantized]
    if not floats:
        raise ResultError(
            "no baseline among the results",
            found=", ".join(name_of(one) for one in evaluations),
            expected="one evaluation of a float32 model",
            remedy="evaluate resnet8.onnx too",
        )
    baseline = next((one for one in floats if one.runtime == "onnxruntime"), floats[0])
    rows = tuple(
        _row(one, baseline, floats, max_drop_points, file=file, noise=noise_of(one, noise), seeds=seeds_of(one, seeds))
        for one, file in zip(evaluations, files or [""] * len(evaluations), strict=True)
    )
    correct = {row: _correct(one) for row, one in zip(rows, evaluations, strict=True)}
    return Comparison(
        data=evaluations[0].data,
        baseline=f"{RUNTIMES[baseline.runtime].label} {name_of(baseline)}",
        rows=rows,
        refused=dict(refused or {}),
        rule=RULE.format(points=max_drop_points),
        recommendations=_recommendations(evaluations, rows, correct),
    )


def _recommendations(
    evaluations: Sequence[Evaluation],
    rows: Sequence[ComparisonRow],
    correct: Mapping[ComparisonRow, NDArray[np.bool_]],
) -> tuple[Recommendation, ...]:
    """One for each kind of CPU that something was measured on, by what was measured there; one for all CPUs."""
    candidates = [row for row in rows if row.candidate]
    kinds = sorted({has_vnni(one.environment.cpu) for one in evaluations})
    chosen = []
    for vnni in kinds:
        models = dict.fromkeys(
            one.environment.cpu.model for one in evaluations if has_vnni(one.environment.cpu) == vnni
        )
        target = "this CPU" if len(kinds) == 1 else f"CPUs {'with' if vnni else 'without'} VNNI"
        there = [row for row in candidates if row.vnni == vnni]
        chosen.append(_recommend(f"{target} ({', '.join(models)})", there, correct))
    portably = [row for row in candidates if row.portable]
    return (*chosen, _recommend("any x86-64 CPU", portably, correct), _indistinguishable(portably))


def _require_sound(one: Evaluation) -> None:
    """Refuse a result that was altered: its counts must be those of its predictions."""
    if one.runtime not in RUNTIMES or not _counts(one.labels, one.predictions, one.overall):
        raise ResultError(
            f"the result of {one.model_path} contradicts itself",
            found=f"backend {one.runtime}, {one.overall.correct:,} of {one.overall.total:,} correct, accuracy "
            f"{one.overall.accuracy:.2%}, "
            f"{len(one.labels):,} labels, {len(one.predictions):,} predictions",
            expected="a known backend, a label and a prediction (one digit each) for each image, and their count",
            remedy="it was altered: evaluate the model again",
        )


def noise_of(evaluation: Evaluation, studies: Sequence[NoiseStudy]) -> NoiseStudy | None:
    """The first study of a result's recipe, float model, images, runtime and kind of CPU; none where there is none.

    A recipe's name stands for its settings. Studies are made with the runtime's own configuration.

    Raises:
        ResultError: when the study contradicts itself.
    """
    made = evaluation.quantization
    if made is None or made.calibration is None or evaluation.session_options:
        return None
    wanted = (
        *(made.recipe, made.source_sha256, evaluation.runtime),
        *(made.calibration.data.fingerprint, made.calibration.indices),
        *(evaluation.data_fingerprint, evaluation.data.subset, has_vnni(evaluation.environment.cpu)),
    )
    for study in studies:
        if wanted == (
            *(study.recipe, study.source_sha256, study.runtime),
            *(study.calibration.data.fingerprint, study.calibration.indices),
            *(study.data.fingerprint, study.data.subset, has_vnni(study.environment.cpu)),
        ):
            _require_sound_study(study)
            return study
    return None


def seeds_of(evaluation: Evaluation, studies: Sequence[SeedStudy]) -> SeedStudy | None:
    """The first study of a result's recipe and settings, float model, number of calibration images, and images.

    Raises:
        ResultError: when the study contradicts itself.
    """
    made = evaluation.quantization
    if made is None or made.calibration is None or evaluation.session_options:
        return None
    wanted = (
        *(made.recipe, made.settings, made.source_sha256, made.calibration.samples_per_class),
        *(evaluation.data_fingerprint, evaluation.data.subset),
    )
    for study in studies:
        ground = study.ground
        if wanted == (
            *(study.recipe, study.settings, ground.model.sha256, ground.samples_per_class),
            *(ground.data.fingerprint, ground.data.subset),
        ):
            _require_sound_seeds(study)
            return study
    return None


def _require_sound_seeds(study: SeedStudy) -> None:
    """Refuse a study that was altered: two draws or more, none twice, each with a possible count."""
    seeds, total = [run.seed for run in study.runs], study.ground.baseline.total
    found = [run.measured for run in study.runs]
    if (
        len(seeds) < 2
        or len(set(seeds)) < len(seeds)
        or any(
            one.overall != score(one.overall.correct, total) or max(one.overall.correct, one.agreement) > total
            for one in found
        )
    ):
        raise ResultError(
            f"the study of calibration draws of {study.recipe} contradicts itself",
            found=f"seeds {', '.join(map(str, seeds))}, of {total:,} images",
            expected="two draws or more, each once, with counts of these images",
            remedy="it was altered: make it again with «resnet8 audit seeds»",
        )


def _require_sound_study(study: NoiseStudy) -> None:
    """Refuse a study that was altered: the unperturbed run, two others or more, each with the count it predicts."""
    seeds = [run.seed for run in study.runs]
    if (
        seeds[:1] != [None]
        or len(seeds) < 3
        or None in seeds[1:]
        or not all(_counts(study.labels, run.predictions, run.overall) for run in study.runs)
    ):
        raise ResultError(
            f"the noise study of {study.recipe} contradicts itself",
            found=f"{len(seeds)} runs of {len(study.labels):,} images",
            expected="the unperturbed run, then two or more, each with a prediction for each image, and their count",
            remedy="it was altered: make it again with «resnet8 audit noise»",
        )


def _counts(labels: str, predictions: str, overall: Score) -> bool:
    """Whether labels and predictions are digits, one of each for every image, and as many agree as the score says."""
    digits = labels + predictions
    return (
        digits.isascii()
        and digits.isdigit()
        and len(labels) == len(predictions) == overall.total
        and int((from_digits(labels) == from_digits(predictions)).sum()) == overall.correct
        and overall == score(overall.correct, overall.total)
    )


def _require_same_images(first: Evaluation, other: Evaluation) -> None:
    for what, a, b in (
        ("data", first.data_fingerprint, other.data_fingerprint),
        ("images", first.data.subset, other.data.subset),
        ("labels", first.labels, other.labels),
    ):
        if a != b:
            raise ResultError(
                f"{first.model_path} and {other.model_path} were evaluated on different {what}",
                found=f"{first.overall.total:,} of «{first.data.dataset}» ({first.data.subset}, {a[:12]}) and "
                f"{other.overall.total:,} of «{other.data.dataset}» ({other.data.subset}, {b[:12]})",
                expected="the same images for all",
                remedy="evaluate them with the same options of «resnet8 evaluate»: --data-dir, --subset, --max-samples",
            )


def _correct(evaluation: Evaluation) -> NDArray[np.bool_]:
    right: NDArray[np.bool_] = from_digits(evaluation.labels) == from_digits(evaluation.predictions)
    return right


def _discordant(ours: NDArray[np.bool_], theirs: NDArray[np.bool_]) -> tuple[int, int]:
    """The images that only they have right, and those that only we have."""
    return int((theirs & ~ours).sum()), int((ours & ~theirs).sum())


def _row(
    one: Evaluation,
    baseline: Evaluation,
    floats: Sequence[Evaluation],
    max_drop_points: float,
    *,
    file: str,
    noise: NoiseStudy | None,
    seeds: SeedStudy | None,
) -> ComparisonRow:
    from scipy import stats

    lost, gained = _discordant(_correct(one), _correct(baseline))
    delta = 100 * (gained - lost) / one.overall.total
    interval = stats.binomtest(one.overall.correct, one.overall.total).proportion_ci(CONFIDENCE, method="wilson")
    # A file shrinks against its own framework's float file where there is one.
    sized = next((item for item in floats if item.runtime == one.runtime), baseline)
    published = one.data.dataset == "CIFAR-10" and one.data.subset == "all" and RUNTIMES[one.runtime].quantizes
    name = name_of(one)
    return ComparisonRow(
        file=file,
        name=name,
        framework=RUNTIMES[one.runtime].label,
        dtype=one.model.dtype,
        overall=one.overall,
        accuracy_interval=(float(interval.low), float(interval.high)),
        delta_points=delta,
        delta_interval=paired_interval(lost, gained, one.overall.total),
        lost=lost,
        gained=gained,
        p_value=mcnemar(lost, gained),
        flagged=-delta > max_drop_points,
        size_bytes=one.model.size_bytes,
        reduction=1 - one.model.size_bytes / sized.model.size_bytes,
        images_per_second=one.images_per_second,
        published_correct=PUBLISHED_CORRECT.get(name) if published else None,
        vnni=has_vnni(one.environment.cpu),
        portable=portable(one),
        candidate=one.quantization is not None
        and RUNTIMES[one.runtime].quantizes
        and not one.session_options
        and -delta <= max_drop_points,
        noise=noise.spread if noise is not None else None,
        notice=one.notice,
        agreement=int((from_digits(one.predictions) == from_digits(baseline.predictions)).sum()),
        seeds=seeds.correct if seeds is not None else None,
    )


def _recommend(
    target: str, candidates: list[ComparisonRow], correct: Mapping[ComparisonRow, NDArray[np.bool_]]
) -> Recommendation:
    if not candidates:
        return Recommendation(target, None, "No quantized model qualifies.")
    leader = max(candidates, key=lambda row: (row.overall.correct, -row.size_bytes))
    equals = [row for row in candidates if mcnemar(*_discordant(correct[row], correct[leader])) >= SIGNIFICANCE]
    choice = min(equals, key=lambda row: (row.size_bytes, -row.overall.correct))
    size = f"{choice.size_bytes:,} bytes ({choice.reduction:.0%} smaller than its float file)"
    reason = f"{choice.overall.correct:,} of {choice.overall.total:,} correct in {size}"
    if choice is leader:
        reason += "; the most accurate candidate, and no smaller one comes statistically as close."
    else:
        reason += (
            f"; {leader.name} leads with {leader.overall.correct:,}, which the test cannot tell from it, "
            f"and is {leader.size_bytes - choice.size_bytes:,} bytes larger."
        )
    return Recommendation(target, choice.name, reason)


def _indistinguishable(candidates: list[ComparisonRow]) -> Recommendation:
    """The smallest of those that the test cannot tell from the baseline."""
    equals = [row for row in candidates if row.p_value >= SIGNIFICANCE]
    if not equals:
        why = "The test tells every candidate from it." if candidates else "No quantized model qualifies."
        return Recommendation(INDISTINGUISHABLE, None, why)
    choice = min(equals, key=lambda row: (row.size_bytes, -row.overall.correct))
    return Recommendation(
        INDISTINGUISHABLE,
        choice.name,
        f"{choice.overall.correct:,} of {choice.overall.total:,} correct in {choice.size_bytes:,} bytes: "
        f"{choice.lost:,} images lost and {choice.gained:,} gained, p = {choice.p_value:.3f}.",
    )
