"""The generated parts of the pages on the integer arithmetic, as Markdown."""

from __future__ import annotations

from math import floor
from typing import TYPE_CHECKING

import numpy as np

from resnet8.comparison import portable
from resnet8.environment import has_vnni
from resnet8.qparams import fixed_point, limits
from resnet8.render import arithmetic, tables
from resnet8.render.markdown import table
from resnet8.render.tables import Table, percent

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from resnet8.environment import Cpu
    from resnet8.results import (
        AccumulatorAudit,
        Agreement,
        Comparison,
        CpuFile,
        CpuTrial,
        Evaluation,
        GraphAgreement,
        LayerFacts,
        PlaygroundUse,
        RequantizationStudy,
        WorkedArithmetic,
        WorkedExample,
    )


def recommendations(result: Comparison) -> str:
    """``recommendations``: the choices of the comparison, and why."""
    return (
        "\n".join(f"- For {one.target}: **{one.choice or 'none'}**. {one.reason}" for one in result.recommendations)
        + "\n"
    )


def agreement(name: str, result: Agreement) -> dict[str, str]:
    """``agreement-NAME``: both graphs, layer by layer; ``kernels-NAME``: which layers run in integers."""
    parts = [f"{_conditions(result)} {result.graphs[0].runtime} on {_processor(result.environment.cpu)}."]
    for graph in result.graphs:
        content = tables.agreement(graph)
        parts += [f"**Graph {graph.graph}.** {_predictions(graph, result.images)}", table(content)]
    return {f"agreement-{name}": _joined(parts), f"kernels-{name}": _kernels(result)}


def _kernels(result: Agreement) -> str:
    """The layers of the optimized graph, by the kernel that computes them."""
    optimized = result.graphs[0]
    rows = tuple(
        (kernel, f"{len(names)}", ", ".join(f"`{name}`" for name in names) or "–")
        for kernel in ("integer", "float")
        for names in [[one.layer for one in optimized.layers if one.kernel == kernel]]
    )
    content = Table(title="", headings=("kernel", "layers", "which"), rows=rows, left=3)
    return _joined([f"Model `{_file(result.model.path)}`, graph {optimized.graph}.", table(content)])


def _predictions(graph: GraphAgreement, images: int) -> str:
    differences = graph.prediction_differences
    words = (
        f"{graph.runtime} computes {graph.integer_layers} of {len(graph.layers)} layers with integer kernels. "
        f"Top-1: engine {graph.engine_correct:,}, {graph.runtime} {graph.ort_correct:,}. "
    )
    if not differences:
        return words + f"All {images:,} predictions are equal."
    causes = sorted({one.cause for one in differences})
    where = sorted({one.layer for one in differences})
    return words + (
        f"{len(differences):,} of {images:,} predictions differ; the first differing code of each of these images is in "
        f"{', '.join(f'`{layer}`' for layer in where)}, its cause: {', '.join(causes)}."
    )


def requantization(name: str, result: RequantizationStudy) -> dict[str, str]:
    """``requantization-NAME``: every variant."""
    note = (
        f"«Codes changed» are counted layer by layer on the first {result.isolated_images:,} images, each layer fed the "
        "same codes in both. Logits, predictions and top-1 are those of whole runs, each variant fed its own codes."
    )
    return {f"requantization-{name}": _joined([_conditions(result), table(tables.requantization(result)), note])}


def accumulators(name: str, result: AccumulatorAudit) -> dict[str, str]:
    """``accumulators-NAME`` and ``widths-NAME``."""
    return {
        f"accumulators-{name}": _joined([_conditions(result), table(tables.accumulators(result))]),
        f"widths-{name}": _joined([_conditions(result), table(tables.widths(result))]),
    }


def worked(name: str, result: WorkedArithmetic) -> dict[str, str]:
    """``layers-NAME``, ``pixels-NAME``, ``logits-NAME``, and ``example-OPERATOR-NAME`` for each operator."""
    pixels = Table(
        title="",
        headings=("row", "column", "channel", "pixel", "pixel / scale", "+ zero point = code"),
        rows=tuple(
            (
                str(one.row),
                str(one.column),
                str(one.channel),
                f"{one.real:g}",
                f"{one.real / result.input.scales[0]:g}",
                str(one.code),
            )
            for one in result.pixels
        ),
    )
    where = f"Model `{_file(result.model.path)}`, test image {result.image}."
    classes = tables.classes(result)
    blocks = {
        f"layers-{name}": _joined([where, table(tables.layers(result))]),
        f"pixels-{name}": _joined([f"{where} Input grid: {arithmetic.grid(result.input)}.", table(pixels)]),
        f"logits-{name}": _joined([f"Model `{_file(result.model.path)}`, test {classes.title}.", table(classes)]),
    }
    for example in result.examples:
        blocks[f"example-{example.operator}-{name}"] = _joined([where, _fenced(example)])
    return blocks


def expanded(name: str, result: WorkedArithmetic) -> dict[str, str]:
    """``expanded-NAME``: the accumulators of the worked examples, multiplied out; none per channel of zero points."""
    facts = {layer.layer: layer for layer in result.layers}
    rows = []
    for one in result.examples:
        weights = facts[one.layer].weights
        if weights is None or one.accumulator is None:
            continue
        x, w = facts[one.layer].inputs[0].zero_points[0], weights.zero_points[0]
        pairs = [(term.a + x, (term.b or 0) + w) for term in one.terms]
        parts = (
            sum(a * b for a, b in pairs),
            -x * sum(b for _, b in pairs),
            -w * sum(a for a, _ in pairs),
            len(pairs) * x * w,
            one.bias or 0,
        )
        rows.append((one.layer, str(x), str(w), *(f"{part:,}" for part in parts), f"{sum(parts):,}"))
    headings = (
        *("layer", "z_x", "z_w", "Σ x·w", "− z_x Σ w", "− z_w Σ x", "+ K z_x z_w", "+ bias"),
        "= accumulator",
    )
    content = Table(title="", headings=headings, rows=tuple(rows))
    where = f"Model `{_file(result.model.path)}`, test image {result.image}, the worked examples."
    return {f"expanded-{name}": _joined([where, table(content)])}


def pitfalls(name: str, result: WorkedArithmetic, sums: AccumulatorAudit | None) -> dict[str, str]:
    """What common mistakes make of a model's own numbers.

    ``mistakes-NAME``: the worked examples with one mistake each. ``zeros-NAME``: what code 0 stands for in what padded
    convolutions read, where it is not real 0. ``channels-NAME``: how far the multipliers of one layer are apart.
    ``clipping-NAME``: the codes of the extreme accumulators without saturation, where ``sums`` has them.
    """
    facts = {layer.layer: layer for layer in result.layers}
    where = f"Model `{_file(result.model.path)}`"
    mistakes = Table(
        title="",
        headings=("layer", "mistake", "right code", "wrong code", "difference (LSB)"),
        rows=tuple(
            (example.layer, mistake, str(example.code), str(code), f"{code - example.code:+d}")
            for example in result.examples
            for mistake, code in _mistakes(example, facts[example.layer])
        ),
        left=2,
    )
    zeros = Table(
        title="",
        headings=("layer", "input", "code 0 stands for", "in code steps"),
        rows=tuple(
            (one.layer, arithmetic.grid(x), f"{-zero * x.scales[0]:.6g}", f"{-zero:+d}")
            for one in result.layers
            for x in one.inputs[:1]
            for zero in x.zero_points[:1]
            if one.weight_shape is not None and one.weight_shape[0] > 1 and zero
        ),
        left=2,
    )
    channels = Table(
        title="",
        headings=("layer", "channels", "least multiplier", "greatest", "ratio"),
        rows=tuple(
            (one.layer, str(one.weights.channels), f"{low:.6g}", f"{high:.6g}", f"{high / low:.3g}")
            for one in result.layers
            for low, high in one.multipliers[:1]
            if one.weights is not None and one.weights.channels
        ),
    )
    blocks = {f"mistakes-{name}": _joined([f"{where}, test image {result.image}.", table(mistakes)])}
    if zeros.rows:
        blocks[f"zeros-{name}"] = _joined([f"{where}.", table(zeros)])
    if channels.rows:
        blocks[f"channels-{name}"] = _joined([f"{where}.", table(channels)])
    if sums is not None and not channels.rows:
        blocks[f"clipping-{name}"] = _joined([_conditions(sums), table(_clipping(facts, sums))])
    return blocks


def _mistakes(example: WorkedExample, facts: LayerFacts) -> Iterator[tuple[str, int]]:
    """Each mistake that can be made in this example, and the code that comes of it."""
    low, high = limits(facts.output.dtype)

    def code(real: float, zero: int = example.zero_point) -> int:
        return min(max(round(real) + zero, low), high)

    exact = example.before_rounding
    yield "rounded down", code(floor(exact))
    if example.accumulator is None:
        (a, b), (m_a, m_b) = example.terms, example.multipliers
        yield "added without rescaling", code(a.a + b.a)
        yield "each addend rounded", code(round(m_a * a.a) + round(m_b * b.a))
        return
    (multiplier,) = example.multipliers
    for mistake, sums in _wrong_sums(example, example.accumulator, facts):
        yield mistake, code(multiplier * sums)
    if example.zero_point:
        yield "zero point of the output forgotten", code(exact, 0)
    for kind in ("fixed8", "power-of-two"):
        held = float(fixed_point(np.float64(multiplier), kind).real)  # type: ignore[arg-type]
        yield f"multiplier {kind}", code(held * example.accumulator)
    least, greatest = facts.multipliers[0]
    if least != greatest:
        other = greatest if greatest - multiplier > multiplier - least else least
        yield "multiplier of another channel", code(other * example.accumulator)


def _wrong_sums(example: WorkedExample, right: int, facts: LayerFacts) -> Iterator[tuple[str, int]]:
    zero = facts.inputs[0].zero_points[0]
    if zero:
        yield (
            "zero point of the input forgotten",
            right + zero * sum(1 if one.b is None else one.b for one in example.terms),
        )
    if facts.weights is not None and (zero := facts.weights.zero_points[0]):
        yield "zero point of the weights forgotten", right + zero * sum(one.a for one in example.terms)
    if example.bias:
        yield "bias forgotten", right - example.bias


def _clipping(facts: Mapping[str, LayerFacts], sums: AccumulatorAudit) -> Table:
    rows = []
    for one in sums.layers:
        layer = facts[one.layer]
        low, high = limits(layer.output.dtype)
        codes = [round(value * layer.multipliers[0][0]) + layer.output.zero_points[0] for value in one.observed]
        wrapped = [(value - low) % (high - low + 1) + low for value in codes]
        rows.append(
            (
                one.layer,
                f"{codes[0]:,} … {codes[1]:,}",
                f"{low} … {high}",
                ", ".join(str(there) for value, there in zip(codes, wrapped, strict=True) if value != there) or "–",
            )
        )
    headings = ("layer", "extreme codes without saturation", "codes there are", "what wrapping makes of them")
    return Table(title="", headings=headings, rows=tuple(rows))


def _fenced(example: WorkedExample) -> str:
    return "\n".join(("```text", *arithmetic.steps(example), "```"))


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
    return _joined(
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
    return _joined(
        [
            f"{first.overall.total:,} images: {tables.source(first.data)}; on {_processor(first.environment.cpu)}, "
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


def cpus(
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
        "cpus-files": _joined(["\n".join(map(_described, trials)), table(files), *_refusals(trials, made=True)]),
        "cpus-predictions": _joined(
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
        blocks["cpus-emulation"] = _joined([table(Table(title="", headings=headings, rows=rows, left=2))])
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
    if measured.backend != "onnxruntime" or not measured.model.quantized:
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


def _processor(cpu: Cpu) -> str:
    """A CPU's name and what decides its integer kernels."""
    return f"{cpu.model} ({_instructions(cpu)})"


def _processors(evaluations: Iterable[Evaluation]) -> str:
    """Those that something was measured on."""
    return "; ".join(dict.fromkeys(_processor(one.environment.cpu) for one in evaluations))


def _instructions(cpu: Cpu) -> str:
    """``AVX-512, no VNNI``."""
    if "asimd" in cpu.flags:
        return f"Arm, {'with' if 'asimddp' in cpu.flags else 'no'} dot products"
    names = {"avx512f": "AVX-512", "avx2": "AVX2", "avx": "AVX"}
    widest = next((name for flag, name in names.items() if flag in cpu.flags), "SSE")
    return f"{widest}, {'with' if has_vnni(cpu) else 'no'} VNNI"


def playground(results: Sequence[PlaygroundUse]) -> str:
    """``playground``: how long the page takes, how much memory; one column for each model."""

    def spread(seconds: Sequence[float]) -> str:
        return f"{np.median(seconds):.2f} (at most {max(seconds):.2f})"

    measured = {
        "open the page, in a fresh server (s)": [f"{one.opening_seconds:.1f}" for one in results],
        "show another layer (s)": [spread(one.layer_seconds) for one in results],
        "change a scale and see what becomes of one image (s)": [spread(one.change_seconds) for one in results],
        "SQNR of every layer (s)": [f"{one.sqnr_seconds:.1f}" for one in results],
        "top-1 with each layer alone quantized (s)": [f"{one.alone_seconds:.1f}" for one in results],
        "top-1 and SQNR, original and changed (s)": [f"{one.compared_seconds:.1f}" for one in results],
        "memory of server and kernel after 10, 20, 30, 40, 50 changes (MB)": [
            ", ".join(map(str, one.resident_mb)) for one in results
        ],
    }
    content = Table(
        title="",
        headings=("measured", *(f"`{_file(one.model.path)}`" for one in results)),
        rows=tuple((what, *cells) for what, cells in measured.items()),
    )
    first = results[0]
    note = (
        f"Median and largest of {len(first.change_seconds)} changes and as many layers, from the click until the text is "
        f"there; SQNR and top-1 over {first.images} images. {first.browser}, "
        + ", ".join(f"{name} {version}" for name, version in first.environment.libraries.items())
        + f"; {first.environment.cpu.logical_cpus} CPUs ({first.environment.cpu.model}), shared by server and browser; "
        f"load before: {', '.join(f'{one.load:.1f}' for one in results)}."
    )
    return _joined([table(content), note])


def _conditions(result: Agreement | RequantizationStudy | AccumulatorAudit) -> str:
    return f"Model `{_file(result.model.path)}`, {result.images:,} images: {tables.source(result.data)}."


def _file(path: str) -> str:
    return path.rpartition("/")[2]


def _joined(parts: list[str]) -> str:
    return "\n\n".join(parts) + "\n"
