"""What the CPU changes, as blocks of the documents."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resnet8.comparison import portable
from resnet8.environment import has_vnni
from resnet8.report import tables
from resnet8.report.markdown import table
from resnet8.report.tables import Table
from resnet8.words import percent

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from resnet8.environment import Cpu
    from resnet8.results import (
        CpuFile,
        CpuTrial,
        Evaluation,
    )


def portability(
    exact: Mapping[str, Evaluation], emulated: Mapping[str, Evaluation], measured: Mapping[str, Evaluation]
) -> str:
    """``portability``: top-1 of each model with VNNI, without it, and on the CPU of the results.

    Args:
        exact: By recipe, of the integer engine: what a CPU with VNNI computes.
        emulated: By recipe, of the engine's emulation of a CPU without VNNI.
        measured: By recipe, of ONNX Runtime on the CPU of the results.
    """
    rows = tuple(
        (
            name,
            here.model.dtype,
            f"{sound.overall.correct:,}",
            f"{without.overall.correct:,}",
            f"{without.overall.correct - sound.overall.correct:+,}",
            f"{_unequal(without.predictions, sound.predictions):,}",
            f"{here.overall.correct:,}",
            "with" if vnni else "without",
            f"{_unequal(here.predictions, (sound if vnni else without).predictions):,}",
        )
        for name, without in emulated.items()
        for sound, here in [(exact[name], measured[name])]
        for vnni in [has_vnni(here.environment.cpu)]
    )
    headings = (
        *("model", "dtype", "with VNNI (exact)", "without VNNI (emulated)", "difference", "predictions changed"),
        *("measured here", "VNNI here", "≠ the engine"),
    )
    best = max(emulated.values(), key=lambda one: one.overall.correct).overall
    return joined(
        [
            f"{best.total:,} images: {tables.source(next(iter(emulated.values())).data)}. «Measured here»: ONNX Runtime on "
            f"{_processors(measured[name] for name in emulated)}.",
            table(Table(title="", headings=headings, rows=rows, left=2)),
            "Last column: images where the measured prediction is not the one that the engine gives for such a CPU. "
            f"Best without VNNI: {percent(best.accuracy)}.",
        ]
    )


def precision(
    optioned: Mapping[str, Evaluation], exact: Mapping[str, Evaluation], measured: Mapping[str, Evaluation]
) -> str:
    """``precision``: what a session option, or another file, makes of files with int8 weights.

    Args:
        optioned: By recipe, of ONNX Runtime with session options.
        exact: By recipe, of the integer engine.
        measured: By recipe, of ONNX Runtime without options.
    """
    rows = []
    for name, one in optioned.items():
        options = ", ".join(f"`{key}` = `{value}`" for key, value in one.session_options.items())
        differing = f"{_unequal(one.predictions, exact[name].predictions):,}" if name in exact else "–"
        rows.append((name, options, *_effect(measured[name], one), differing))
    for name in ("ort-7bit-weights", "ort-portable"):
        if {name, "ort-per-channel"} <= measured.keys():
            effect = _effect(measured["ort-per-channel"], measured[name])
            rows.append(("ort-per-channel", f"the file `{name}` in its place", *effect, "–"))
    headings = (
        *("file", "changed", "correct before", "after", "difference"),
        *("images/s before", "after", "ratio", "≠ exact, after"),
    )
    first = next(iter(optioned.values()))
    return joined(
        [
            f"{first.overall.total:,} images: {tables.source(first.data)}; on {processor(first.environment.cpu)}, "
            f"{first.environment.cpu.logical_cpus} logical CPUs.",
            table(Table(title="", headings=headings, rows=tuple(rows), left=2)),
            "«≠ exact»: images with another prediction than the integer engine's. Speeds are those of one run each.",
        ]
    )


def _effect(before: Evaluation, after: Evaluation) -> tuple[str, ...]:
    """Top-1 and speed of both; the speeds' ratio where they were measured on one CPU."""
    one, other = before.environment.cpu, after.environment.cpu
    return (
        f"{before.overall.correct:,}",
        f"{after.overall.correct:,}",
        f"{after.overall.correct - before.overall.correct:+,}",
        f"{before.images_per_second:,.0f}",
        f"{after.images_per_second:,.0f}",
        f"{after.images_per_second / before.images_per_second:.2f}" if one == other else "–",
    )


def trials(
    trials: Sequence[CpuTrial],
    measured: Mapping[str, Evaluation],
    exact: Mapping[str, Evaluation],
    emulated: Mapping[str, Evaluation],
) -> dict[str, str]:
    """What other CPUs make of the same recipes and files.

    ``cpus-files``: whether each recipe makes the same file there. ``cpus-predictions``: whether each file predicts the
    same. ``cpus-emulation``: the engine's emulation against ONNX Runtime, where there is a CPU that it is made for.

    Args:
        trials: One for each CPU, on the first of the images.
        measured: On the CPU of the results, by name of its file in ``results/``.
        exact: By recipe, of the integer engine.
        emulated: By recipe, of the engine's emulation of a CPU without VNNI.
    """
    names = tuple(dict.fromkeys(one.name for trial in trials for one in trial.files))
    known = [(trial, {one.name: one for one in trial.files}) for trial in trials]
    files = Table(
        title="",
        headings=("made by", *map(_name, trials)),
        rows=tuple(
            (name, *(_made(there.get(name), measured[name].model_sha256) for _, there in known)) for name in names
        ),
        left=1 + len(trials),
    )
    predictions = Table(
        title="",
        headings=(
            *("file", "same on every x86-64 CPU, by the analysis"),
            *(f"{_name(trial)} ≠ {what}" for trial in trials for what in ("here", "exact")),
        ),
        rows=tuple(
            (
                name,
                {True: "yes", False: "no", None: "not known"}[portable(measured[name])],
                *(
                    _against(there.get(name), reference)
                    for _, there in known
                    for reference in (measured[name].predictions, _exact(measured[name], exact.get(name)))
                ),
            )
            for name in names
        ),
        left=2,
    )
    blocks = {
        "cpus-files": joined(["\n".join(map(_described, trials)), table(files), *_refusals(trials, made=True)]),
        "cpus-predictions": joined(
            [
                f"«Here»: {_processors(measured[name] for name in names)}. «Exact»: in integers. Each number "
                f"counts images with another prediction, of {_images(trials)}.",
                table(predictions),
                *_refusals(trials, made=False),
                _kept(known, measured, [name for name in names if portable(measured[name])]),
            ]
        ),
    }
    rows = tuple(
        (
            name,
            _name(trial),
            f"{trial.images:,}",
            *(
                f"{trial.images - _unequal(guesses[: trial.images], one.labels):,}"
                for guesses in (found.predictions, one.predictions)
            ),
            f"{_unequal(found.predictions, one.predictions):,}",
        )
        for name, one in emulated.items()
        for trial, there in known
        if "avx2" in trial.environment.cpu.flags and not has_vnni(trial.environment.cpu)
        for found in [there.get(name)]
        if found is not None and found.predictions is not None
    )
    if rows:
        headings = ("model", "CPU", "images", "correct there", "correct by the engine", "differing predictions")
        blocks["cpus-emulation"] = joined([table(Table(title="", headings=headings, rows=rows, left=2))])
    return blocks


def _name(trial: CpuTrial) -> str:
    """What an emulator calls its CPU; a real one's own name."""
    return trial.emulator.rpartition(" ")[2] if trial.emulator else trial.environment.cpu.model


def _described(trial: CpuTrial) -> str:
    """A CPU, as an item of a list."""
    constants = [steps for one in trial.folding for steps in one.ulps]
    folded = (
        f" Of {len(constants):,} folded constants, TensorFlow's were off in {sum(one.off for one in trial.folding):,} "
        f"there, by at most {max(one.largest for one in trial.folding):,} ulp, before they were rounded correctly."
        if constants
        else ""
    )
    fma = "" if "fma" in trial.environment.cpu.flags else ", no FMA"
    return (
        f"- **{_name(trial)}**: {_instructions(trial.environment.cpu)}{fma}"
        + (f"; emulated by `{trial.emulator}`" if trial.emulator else "")
        + f"; {trial.images:,} images: {tables.source(trial.data)}.{folded}"
    )


def _images(trials: Sequence[CpuTrial]) -> str:
    counts = {trial.images for trial in trials}
    if len(counts) == 1:
        return f"{counts.pop():,}"
    return ", ".join(f"{trial.images:,} ({_name(trial)})" for trial in trials)


def _made(file: CpuFile | None, expected: str) -> str:
    if file is None or (file.made_sha256 is None and file.refusal is None):
        return "not tried"
    if file.made_sha256 is None:
        return "not possible"
    return "yes" if file.made_sha256 == expected else "no"


def _against(file: CpuFile | None, reference: str | None) -> str:
    if file is None or reference is None:
        return "–"
    if file.predictions is None:
        return "not tried" if file.refusal is None else "not possible"
    return f"{_unequal(file.predictions, reference):,}"


def _exact(measured: Evaluation, exact: Evaluation | None) -> str | None:
    """The predictions of exact integer arithmetic, where they are known: the engine's, or of a file that cannot saturate."""
    if exact is not None:
        return exact.predictions
    if measured.runtime != "onnxruntime" or not measured.model.quantized:
        return None
    return measured.predictions if portable(measured) or has_vnni(measured.environment.cpu) else None


def _refusals(trials: Sequence[CpuTrial], *, made: bool) -> list[str]:
    """Why files could not be made, or run: a paragraph for each reason."""
    reasons: dict[str, list[str]] = {}
    for trial in trials:
        for one in trial.files:
            if one.refusal is not None and (one.made_sha256 if made else one.predictions) is None:
                reasons.setdefault(" ".join(one.refusal.split()), []).append(f"`{one.name}` on {_name(trial)}")
    return [f"Not possible: {', '.join(where)}. «{reason}»" for reason, where in reasons.items()]


def _kept(
    known: Sequence[tuple[CpuTrial, Mapping[str, CpuFile]]], measured: Mapping[str, Evaluation], names: Sequence[str]
) -> str:
    """Whether the files that are said to be the same everywhere were the same on these CPUs."""
    differing = [
        f"`{name}` on {_name(trial)}"
        for name in names
        for trial, there in known
        if (one := there.get(name)) is not None
        and one.predictions is not None
        and _unequal(one.predictions, measured[name].predictions)
    ]
    tried = sum(
        any((one := there.get(name)) is not None and one.predictions is not None for _, there in known)
        for name in names
    )
    return (
        f"Files that the analysis calls the same everywhere: {len(names)}, of which {tried} were evaluated on "
        f"these CPUs. With another prediction than here: {', '.join(differing) or 'none'}."
    )


def _unequal(predictions: str, reference: str) -> int:
    """In how many of the images that both have, the first ones, the digits differ."""
    return sum(a != b for a, b in zip(predictions, reference, strict=False))


def processor(cpu: Cpu) -> str:
    """A CPU's name and what decides its integer kernels."""
    return f"{cpu.model} ({_instructions(cpu)})"


def _processors(evaluations: Iterable[Evaluation]) -> str:
    """Those that something was measured on."""
    return "; ".join(dict.fromkeys(processor(one.environment.cpu) for one in evaluations))


def _instructions(cpu: Cpu) -> str:
    """``AVX-512, no VNNI``."""
    if "asimd" in cpu.flags:
        return f"Arm, {'with' if 'asimddp' in cpu.flags else 'no'} dot products"
    names = {"avx512f": "AVX-512", "avx2": "AVX2", "avx": "AVX"}
    widest = next((name for flag, name in names.items() if flag in cpu.flags), "SSE")
    return f"{widest}, {'with' if has_vnni(cpu) else 'no'} VNNI"


def joined(parts: list[str]) -> str:
    """Paragraphs and tables, one below the other."""
    return "\n\n".join(parts) + "\n"
