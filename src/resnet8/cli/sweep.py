"""``resnet8 sweep``, ``resnet8 sensitivity`` and ``resnet8 search``: many quantizations of one float model."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from resnet8.cli.common import (
    Cells,
    DataDir,
    Demo,
    Jobs,
    Json,
    MaxSamples,
    SamplesPerClass,
    Scheduler,
    Seed,
    cells_folder,
    numbers,
    progress,
    say,
    show,
    write_json,
)
from resnet8.cli.common import data_dir as resolve

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from matplotlib.figure import Figure

    from resnet8.results import AnyResult
    from resnet8.workers import Progress

Model = Annotated[Path, typer.Argument(help="The float model: resnet8.onnx.")]
Plots = Annotated[
    list[Path] | None, typer.Option("--plot", help="Draw it here, .svg or .png; may be repeated.  [default: nowhere]")
]
Equalization = Annotated[str, typer.Option(help="Of channels across layers: none, activations or balanced.")]
Edge = Annotated[str, typer.Option(help="Bits of the first and the last layer's weights, or «same».")]


def sweep(
    model: Model,
    data_dir: DataDir = None,
    weights: Annotated[
        str, typer.Option(help="Bits of weights, 2 to 8: a list, or FROM-TO; 16: so fine that nothing of them is seen.")
    ] = "2-8",
    activations: Annotated[str, typer.Option(help="Bits of activations, 2 to 8.")] = "2-8",
    per: Annotated[str, typer.Option(help="Scales of weights: channel, tensor, or both.")] = "channel",
    signed: Annotated[str, typer.Option(help="Signed codes of activations: no, yes, or both.")] = "no",
    bias_correction: Annotated[str, typer.Option(help="Yes, no, or both.")] = "yes",
    rounding: Annotated[str, typer.Option(help="Of weights: nearest, reconstruct, or both.")] = "nearest",
    seeds: Annotated[str, typer.Option(help="Of the calibration draws.")] = "42",
    edge_bits: Edge = "8",
    equalization: Equalization = "none",
    samples_per_class: SamplesPerClass = 100,
    max_samples: MaxSamples = None,
    jobs: Jobs = None,
    scheduler: Scheduler = None,
    cells: Cells = None,
    json: Json = None,
    plot: Plots = None,
    demo: Demo = False,
) -> None:
    """The accuracy map of weight bits and activation bits; options that take a list are combined.

    Example: --weights 2,4,8 --activations 4,8 --per channel,tensor --bias-correction yes,no
    """
    from resnet8.quantization.scheme import Scheme
    from resnet8.report import sweeps, text
    from resnet8.sweeps.sweep import sweep as ask

    axes = {
        "weights": numbers("--weights", weights),
        "activations": numbers("--activations", activations),
        "per_channel": _words("--per", per, {"channel": True, "tensor": False}),
        "signed": _words("--signed", signed, {"no": False, "yes": True}),
        "bias_correction": _words("--bias-correction", bias_correction, {"yes": True, "no": False}),
        "rounding": _words("--rounding", rounding, {"nearest": "nearest", "reconstruct": "reconstruct"}),
        "seeds": numbers("--seeds", seeds),
    }
    with _asked("cells", plot) as told:
        result = ask(
            model,
            resolve(data_dir, demo=demo),
            cells_folder(cells),
            **axes,
            scheme=Scheme(edge_bits=_edge(edge_bits), equalization=_equalization(equalization)),
            samples_per_class=samples_per_class,
            max_samples=max_samples,
            jobs=jobs,
            scheduler=scheduler,
            progress=told,
        )
    for one in sweeps.sweep(result):
        show(one.title)  # longer than the table is wide
        show(text.table(replace(one, title="")))
    _written(result, json, plot, "sweep")


def sensitivity(
    model: Model,
    data_dir: DataDir = None,
    bits: Annotated[str, typer.Option(help="Few bits of weights, 2 to 8.")] = "2,4",
    activation_bits: Annotated[int, typer.Option(help="Of all activations.")] = 8,
    seed: Seed = 42,
    samples_per_class: SamplesPerClass = 100,
    max_samples: MaxSamples = None,
    jobs: Jobs = None,
    scheduler: Scheduler = None,
    cells: Cells = None,
    json: Json = None,
    plot: Plots = None,
    demo: Demo = False,
) -> None:
    """Where bits matter: few bits in each layer's weights alone, and in all layers but it."""
    from resnet8.quantization.scheme import Scheme
    from resnet8.report import sweeps, text
    from resnet8.sweeps.sensitivity import sensitivity as ask

    with _asked("cells", plot) as told:
        result = ask(
            model,
            resolve(data_dir, demo=demo),
            cells_folder(cells),
            bits=numbers("--bits", bits),
            scheme=Scheme(activation_bits=activation_bits),
            seed=seed,
            samples_per_class=samples_per_class,
            max_samples=max_samples,
            jobs=jobs,
            scheduler=scheduler,
            progress=told,
        )
    show(text.table(sweeps.sensitivity(result)))
    _written(result, json, plot, "sensitivity")


def search(
    model: Model,
    data_dir: DataDir = None,
    max_drop: Annotated[float, typer.Option(help="Of top-1 on the held-out images, in percentage points.")] = 0.2,
    bits: Annotated[str, typer.Option(help="That a layer's weights may have, 2 to 8.")] = "2,4,8",
    rounding: Annotated[str, typer.Option(help="Of weights: nearest or reconstruct.")] = "nearest",
    equalization: Equalization = "none",
    held_out: Annotated[
        int | None, typer.Option(help="Training images to choose on.  [default: 5000, or all left]", metavar="N")
    ] = None,
    seed: Seed = 42,
    samples_per_class: SamplesPerClass = 100,
    jobs: Jobs = None,
    scheduler: Scheduler = None,
    cells: Cells = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write the quantized file here, .onnx.  [default: nowhere]")
    ] = None,
    recipe: Annotated[
        Path | None, typer.Option(help="Write the choice as a recipe here, .toml.  [default: nowhere]")
    ] = None,
    json: Json = None,
    plot: Plots = None,
    demo: Demo = False,
) -> None:
    """A mixed precision: bits for each layer's weights, chosen on held-out training images, never on test images."""
    from resnet8.files import write_bytes, write_text
    from resnet8.quantization.scheme import Scheme
    from resnet8.report import sweeps, text
    from resnet8.sweeps import search as searching

    (rounded,) = _words("--rounding", rounding, {"nearest": "nearest", "reconstruct": "reconstruct"}, most=1)
    folder = resolve(data_dir, demo=demo)
    with _asked("cells, at most", plot) as told:
        result = searching.search(
            model,
            folder,
            cells_folder(cells),
            max_drop=max_drop,
            bits=numbers("--bits", bits),
            # Eight bits around 128 are the same codes, and saturate on no CPU.
            scheme=Scheme(rounding=rounded, weights_signed=False, equalization=_equalization(equalization)),
            seed=seed,
            samples_per_class=samples_per_class,
            held_out_images=held_out,
            jobs=jobs,
            scheduler=scheduler,
            progress=told,
        )
    show(text.table(sweeps.front(result)))
    if recipe is not None:
        comment = (
            f"chosen by «resnet8 search»: {result.choice.size_bytes:,} bytes, model {result.ground.model.sha256[:12]}"
        )
        write_text(recipe, searching.recipe_text(searching.chosen_scheme(result), comment))
    if output is not None:
        write_bytes(output, _file(searching.chosen_network(result, model, folder)))
    _written(result, json, plot, "search")


def _file(network: Any) -> bytes:
    """The file of a quantized network."""
    from resnet8.network.onnx_write import to_onnx

    return bytes(to_onnx(network, "qoperator", compact=True).SerializeToString())


@contextmanager
def _asked(label: str, plots: list[Path] | None) -> Iterator[Progress]:
    """The progress of a question, with the time left; what cannot be drawn is said first."""
    if plots:
        from resnet8.report.plots import require_suffix

        for path in plots:
            require_suffix(path)
    with progress(remaining=True) as step:
        yield step(label)


def _written(result: AnyResult, json: Path | None, plots: list[Path] | None, kind: str) -> None:
    write_json(result, json)
    for path in plots or ():
        from resnet8.files import write_bytes
        from resnet8.report import plots as drawing

        draw: Callable[[Any], Figure] = getattr(drawing, kind)
        write_bytes(path, drawing.content(draw(result), path.suffix))
        say(f"drawn: {path}")


def _words(option: str, text: str, known: dict[str, Any], most: int | None = None) -> tuple[Any, ...]:
    """What the words of a list stand for.

    Raises:
        BadParameter: when one is not known, or there are too many.
    """
    words = tuple(dict.fromkeys(part.strip() for part in text.split(",")))
    if set(words) - known.keys() or (most is not None and len(words) > most):
        several = "" if most == 1 else ", or several with commas between them"
        raise typer.BadParameter(f"{option} takes {' or '.join(known)}{several}, not «{text}»")
    return tuple(known[word] for word in words)


def _equalization(text: str) -> Any:
    known = {one: one for one in ("none", "activations", "balanced")}
    return _words("--equalization", text, known, most=1)[0]


def _edge(text: str) -> int | None:
    return None if text == "same" else numbers("--edge-bits", text)[0]
