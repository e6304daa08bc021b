"""What the CPU changes, as blocks of the documents."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resnet8.comparison import portable
from resnet8.environment import has_vnni
from resnet8.report import tables
from resnet8.report.document import Table, cells, line, markdown, table
from resnet8.words import percent

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from resnet8.environment import Cpu, Environment
    from resnet8.report.document import Cell
    from resnet8.results import CpuFile, CpuTrial, Evaluation


def portability(
    exact: Mapping[str, Evaluation], emulated: Mapping[str, Evaluation], measured: Mapping[str, Evaluation]
) -> str:
    """``portability``: top-1 of each model with VNNI, without it, and on the CPU of the results.

    Args:
        exact: By recipe, of the integer engine: what a CPU with VNNI computes.
        emulated: By recipe, of the engine's emulation of a CPU without VNNI.
        measured: By recipe, of ONNX Runtime on the CPU of the results.
    """
    rows = [(name, exact[name], without, measured[name]) for name, without in emulated.items()]

    def expected(one: Evaluation, sound: Evaluation, without: Evaluation) -> str:
        return (sound if has_vnni(one.environment.cpu) else without).predictions

    content = table(
        rows,
        {
            "model": lambda row: row[0],
            "dtype": lambda row: row[3].model.dtype,
            "with VNNI (exact)": lambda row: row[1].overall.correct,
            "without VNNI (emulated)": lambda row: row[2].overall.correct,
            "difference": lambda row: f"{row[2].overall.correct - row[1].overall.correct:+,}",
            "predictions changed": lambda row: _unequal(row[2].predictions, row[1].predictions),
            "measured here": lambda row: row[3].overall.correct,
            "VNNI here": lambda row: "with" if has_vnni(row[3].environment.cpu) else "without",
            "≠ the engine": lambda row: _unequal(row[3].predictions, expected(row[3], row[1], row[2])),
        },
        left=2,
    )
    best = max(emulated.values(), key=lambda one: one.overall.correct)
    return markdown(
        f"{tables.images(best.overall.total, best.data)}. «Measured here»: ONNX Runtime on "
        f"{_processors(measured[name] for name in emulated)}.",
        content,
        "Last column: images where the measured prediction is not the one that the engine gives for such a CPU. "
        f"Best without VNNI: {percent(best.overall.accuracy)}.",
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
        differing = _unequal(one.predictions, exact[name].predictions) if name in exact else None
        rows.append(cells(name, options, *_effect(measured[name], one), differing))
    for name in ("ort-7bit-weights", "ort-portable"):
        if {name, "ort-per-channel"} <= measured.keys():
            effect = _effect(measured["ort-per-channel"], measured[name])
            rows.append(cells("ort-per-channel", f"the file `{name}` in its place", *effect, None))
    headings = (
        *("file", "changed", "correct before", "after", "difference"),
        *("images/s before", "after", "ratio", "≠ exact, after"),
    )
    first = next(iter(optioned.values()))
    cpu = first.environment.cpu
    return markdown(
        f"{tables.images(first.overall.total, first.data)}; on {processor(cpu)}, {cpu.logical_cpus} logical CPUs.",
        Table("", headings, tuple(rows), left=2),
        "«≠ exact»: images with another prediction than the integer engine's. Speeds are those of one run each.",
    )


def _effect(before: Evaluation, after: Evaluation) -> tuple[Cell, ...]:
    """Top-1 and speed of both; the speeds' ratio where they were measured on one CPU."""
    same = before.environment.cpu == after.environment.cpu
    return (
        before.overall.correct,
        after.overall.correct,
        f"{after.overall.correct - before.overall.correct:+,}",
        f"{before.images_per_second:,.0f}",
        f"{after.images_per_second:,.0f}",
        f"{after.images_per_second / before.images_per_second:.2f}" if same else None,
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
        rows=tuple((name, *(_made(on.get(name), measured[name].model_sha256) for _, on in known)) for name in names),
        left=1 + len(trials),
    )
    predictions = Table(
        title="",
        headings=(
            *("file", "same on every x86-64 CPU, by the analysis"),
            *(f"{_name(trial)} ≠ {what}" for trial in trials for what in ("here", "exact")),
        ),
        rows=tuple(
            cells(
                name,
                {True: "yes", False: "no", None: "not known"}[portable(here)],
                *(
                    _against(on.get(name), reference)
                    for _, on in known
                    for reference in (here.predictions, _exact(here, exact.get(name)))
                ),
            )
            for name in names
            for here in [measured[name]]
        ),
        left=2,
    )
    emulation = table(
        [
            (name, trial, one, found.predictions)
            for name, one in emulated.items()
            for trial, on in known
            if "avx2" in trial.environment.cpu.flags and not has_vnni(trial.environment.cpu)
            if (found := on.get(name)) is not None and found.predictions is not None
        ],
        {
            "model": lambda row: row[0],
            "CPU": lambda row: _name(row[1]),
            "images": lambda row: row[1].images,
            "correct there": lambda row: row[1].images - _unequal(row[3], row[2].labels),
            "correct by the engine": lambda row: (
                row[1].images - _unequal(row[2].predictions[: row[1].images], row[2].labels)
            ),
            "differing predictions": lambda row: _unequal(row[3], row[2].predictions),
        },
        left=2,
    )
    return {
        "cpus-files": markdown("\n".join(map(_described, trials)), files, *_refusals(trials, made=True)),
        "cpus-predictions": markdown(
            f"«Here»: {_processors(measured[name] for name in names)}. «Exact»: in integers. Each number "
            f"counts images with another prediction, of {_images(trials)}.",
            predictions,
            *_refusals(trials, made=False),
            _kept(known, measured, [name for name in names if portable(measured[name])]),
        ),
    } | ({"cpus-emulation": markdown(emulation)} if emulation.rows else {})


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
        + f"; {tables.images(trial.images, trial.data)}.{folded}"
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


def _against(file: CpuFile | None, reference: str | None) -> Cell:
    if file is None or reference is None:
        return None
    if file.predictions is None:
        return "not tried" if file.refusal is None else "not possible"
    return _unequal(file.predictions, reference)


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
                reasons.setdefault(line(one.refusal), []).append(f"`{one.name}` on {_name(trial)}")
    return [f"Not possible: {', '.join(where)}. «{reason}»" for reason, where in reasons.items()]


def _kept(
    known: Sequence[tuple[CpuTrial, Mapping[str, CpuFile]]], measured: Mapping[str, Evaluation], names: Sequence[str]
) -> str:
    """Whether the files that are said to be the same everywhere were the same on these CPUs."""
    tried = [
        (name, trial, one.predictions)
        for name in names
        for trial, on in known
        if (one := on.get(name)) is not None and one.predictions is not None
    ]
    differing = [
        f"`{name}` on {_name(trial)}"
        for name, trial, predictions in tried
        if _unequal(predictions, measured[name].predictions)
    ]
    return (
        f"Files that the analysis calls the same everywhere: {len(names)}, of which {len({name for name, *_ in tried})} "
        f"were evaluated on these CPUs. With another prediction than here: {', '.join(differing) or 'none'}."
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


def versions(environment: Environment) -> str:
    """The libraries, each with its version."""
    return ", ".join(f"{name} {version}" for name, version in environment.libraries.items())
