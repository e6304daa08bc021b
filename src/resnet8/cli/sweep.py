"""``resnet8 sweep``, ``resnet8 sensitivity`` and ``resnet8 search``: many quantizations of one float model."""

from __future__ import annotations

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
    Plots,
    SamplesPerClass,
    Scheduler,
    Seed,
    asked,
    cells_folder,
    numbers,
    show,
    written,
)
from resnet8.cli.common import data_dir as resolve

if TYPE_CHECKING:
    from resnet8.quantization.recipes import Form
    from resnet8.quantization.scheme import Scheme

Model = Annotated[Path, typer.Argument(help="The float model: resnet8.onnx.")]
Like = Annotated[
    str | None,
    typer.Option(
        help="All other settings are those of this recipe: int8, int8-per-tensor, int4, or a .toml file of your own "
        "whose mode is native.  [default: each weight to its nearest code, nothing equalized]"
    ),
]
Edge = Annotated[
    str | None, typer.Option(help="Bits of the first and the last layer's weights, or «same».  [default: of --like]")
]


def sweep(
    model: Model,
    data_dir: DataDir = None,
    weights: Annotated[
        str, typer.Option(help="Bits of weights, 2 to 8: a list, or FROM-TO; 16: so fine that nothing of them is seen.")
    ] = "2-8",
    activations: Annotated[str, typer.Option(help="Bits of activations, 2 to 8.")] = "2-8",
    per: Annotated[
        str | None, typer.Option(help="Scales of weights: channel, tensor, or both.  [default: of --like]")
    ] = None,
    signed: Annotated[
        str | None, typer.Option(help="Signed codes of activations: no, yes, or both.  [default: of --like]")
    ] = None,
    bias_correction: Annotated[str | None, typer.Option(help="Yes, no, or both.  [default: of --like]")] = None,
    rounding: Annotated[
        str | None, typer.Option(help="Of weights: nearest, reconstruct, or both.  [default: of --like]")
    ] = None,
    like: Like = None,
    seeds: Annotated[str, typer.Option(help="Of the calibration draws.")] = "42",
    edge_bits: Edge = None,
    samples_per_class: SamplesPerClass = 100,
    max_samples: MaxSamples = None,
    held_out: Annotated[
        int | None,
        typer.Option(
            help="Ask about N training images that calibrate nothing, to choose settings.  [default: test images]",
            metavar="N",
        ),
    ] = None,
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
    from resnet8.report import sweeps, text
    from resnet8.sweeps.sweep import sweep as ask

    scheme, _ = _settings(like)
    if edge_bits is not None:
        scheme = replace(scheme, edge_bits=None if edge_bits == "same" else numbers("--edge-bits", edge_bits)[0])

    def axis(option: str, words: str | None, known: dict[str, Any], same: Any) -> tuple[Any, ...]:
        return (same,) if words is None else _words(option, words, known)

    axes = {
        "weights": numbers("--weights", weights),
        "activations": numbers("--activations", activations),
        "per_channel": axis("--per", per, {"channel": True, "tensor": False}, scheme.per_channel),
        "signed": axis("--signed", signed, _YES_NO, scheme.activations_signed),
        "bias_correction": axis("--bias-correction", bias_correction, _YES_NO, scheme.bias_correction),
        "rounding": axis("--rounding", rounding, _ROUNDINGS, scheme.rounding),
        "seeds": numbers("--seeds", seeds),
    }
    with asked("cells", plot) as told:
        result = ask(
            model,
            resolve(data_dir, demo=demo),
            cells_folder(cells),
            **axes,
            scheme=scheme,
            samples_per_class=samples_per_class,
            max_samples=max_samples,
            held_out_images=held_out,
            jobs=jobs,
            scheduler=scheduler,
            progress=told,
        )
    for one in sweeps.sweep(result):
        show(one.title)  # longer than the table is wide
        show(text.table(replace(one, title="")))
    written(result, json, plot, "sweep")


def sensitivity(
    model: Model,
    data_dir: DataDir = None,
    bits: Annotated[str, typer.Option(help="Few bits of weights, 2 to 8.")] = "2,4",
    activation_bits: Annotated[int, typer.Option(help="Of all activations.")] = 8,
    like: Like = None,
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
    from resnet8.report import sweeps, text
    from resnet8.sweeps.sensitivity import sensitivity as ask

    scheme, _ = _settings(like)
    with asked("cells", plot) as told:
        result = ask(
            model,
            resolve(data_dir, demo=demo),
            cells_folder(cells),
            bits=numbers("--bits", bits),
            scheme=replace(scheme, activation_bits=activation_bits),
            seed=seed,
            samples_per_class=samples_per_class,
            max_samples=max_samples,
            jobs=jobs,
            scheduler=scheduler,
            progress=told,
        )
    show(text.table(sweeps.sensitivity(result)))
    written(result, json, plot, "sensitivity")


def search(
    model: Model,
    data_dir: DataDir = None,
    max_drop: Annotated[float, typer.Option(help="Of top-1 on the held-out images, in percentage points.")] = 0.2,
    bits: Annotated[str, typer.Option(help="That a layer's weights may have, 2 to 8.")] = "2,4,8",
    like: Like = None,
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
    from resnet8.network.onnx_write import to_onnx
    from resnet8.report import sweeps, text
    from resnet8.sweeps import search as searching

    scheme, form = _settings(like)
    folder = resolve(data_dir, demo=demo)
    with asked("cells, at most", plot) as told:
        result = searching.search(
            model,
            folder,
            cells_folder(cells),
            max_drop=max_drop,
            bits=numbers("--bits", bits),
            scheme=scheme,
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
        write_text(recipe, searching.recipe_text(searching.chosen_scheme(result), comment, form))
    if output is not None:
        network = searching.chosen_network(result, model, folder)
        write_bytes(output, bytes(to_onnx(network, form, compact=True).SerializeToString()))
    written(result, json, plot, "search")


_YES_NO = {"yes": True, "no": False}
_ROUNDINGS = {"nearest": "nearest", "reconstruct": "reconstruct"}


def _settings(like: str | None) -> tuple[Scheme, Form]:
    """The scheme of a recipe, and the form of its file.

    Raises:
        QuantizationError: when the recipe is not known, or another backend carries it out.
    """
    from resnet8.quantization.recipes import recipe
    from resnet8.quantization.scheme import Scheme

    if like is None:
        return Scheme(weights_signed=False), "qoperator"  # 8 bits around 128 are the same codes, and saturate on no CPU
    chosen = recipe(like)
    return chosen.native_scheme, chosen.form


def _words(option: str, text: str, known: dict[str, Any]) -> tuple[Any, ...]:
    """What the words of a list stand for.

    Raises:
        BadParameter: when one is not known.
    """
    words = tuple(dict.fromkeys(part.strip() for part in text.split(",")))
    if set(words) - known.keys():
        raise typer.BadParameter(
            f"{option} takes {' or '.join(known)}, or several with commas between them, not «{text}»"
        )
    return tuple(known[word] for word in words)
