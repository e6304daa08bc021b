"""``resnet8 audit``: the arithmetic of a quantized model, and its count, questioned on the test images."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

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
    asked,
    cells_folder,
    numbers,
    progress,
    show,
    write_json,
    written,
)
from resnet8.cli.common import data_dir as resolve

if TYPE_CHECKING:
    from collections.abc import Callable

    from resnet8.data.cifar10 import Split
    from resnet8.results import Agreement, AnyResult, ModelDescription
    from resnet8.workers import Progress

Answer = TypeVar("Answer", bound="AnyResult")
Model = Annotated[Path, typer.Argument(help="A quantized file: ONNX or TorchScript.")]

app = typer.Typer(
    help="Question the arithmetic of a quantized model, and its count, on the test images.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command()
def agreement(
    model: Model, data_dir: DataDir = None, max_samples: MaxSamples = None, json: Json = None, demo: Demo = False
) -> None:
    """Integer engine against the file's own runtime, layer by layer: every differing code, with its cause."""
    from resnet8.audit.agreement import require_explained
    from resnet8.report import tables, text
    from resnet8.runtimes.base import FORMATS

    asked = _Asked(model, data_dir, max_samples, demo=demo)
    description, _, split = asked.about
    call, content = FORMATS[description.format].call, asked.content
    result = _answer(
        lambda **told: call(model, _agreement, description, split, content=content, **told),
        f"compare {model.name}",
        json,
    )
    for graph in result.graphs:
        show(text.table(tables.agreement(graph)))
        show(text.agreement(graph, result.images))
    require_explained(result)


def _agreement(model: ModelDescription, split: Split, content: bytes, progress: Progress) -> Agreement:
    from resnet8.audit.agreement import audit_agreement
    from resnet8.runtimes.base import FORMATS

    traces = FORMATS[model.format].load().traces(Path(model.path), content)
    return audit_agreement(model, traces, split, progress)


@app.command()
def requantization(
    model: Model,
    data_dir: DataDir = None,
    max_samples: MaxSamples = None,
    exhaustive: Annotated[
        bool,
        typer.Option(
            "--exhaustive",
            help="On every accumulator that any input can give, against rational arithmetic; needs no images.  "
            "[default: on the test images]",
        ),
    ] = False,
    json: Json = None,
    demo: Demo = False,
) -> None:
    """What fixed-point multipliers and other roundings change: codes, logits, top-1; or codes of anything at all."""
    from resnet8.audit.requantization import audit_requantization
    from resnet8.report import tables, text

    if exhaustive:
        if max_samples is not None:
            raise typer.BadParameter("--exhaustive needs no images: it excludes --max-samples")
        _exhaustively(model, json)
        return
    asked = _Asked(model, data_dir, max_samples, demo=demo)
    result = _answer(partial(audit_requantization, *asked.about), f"requantize {model.name}", json)
    show(text.table(tables.requantization(result)))


def _exhaustively(model: Path, json: Path | None) -> None:
    from resnet8.audit.exhaustive import audit_exhaustively
    from resnet8.report import exhaustive, text
    from resnet8.runtimes.integer import open_integer

    opened = open_integer(model)
    result = _answer(partial(audit_exhaustively, opened.model, opened.program), f"requantize {model.name}", json)
    show(text.table(exhaustive.variants(result)))
    show(text.table(exhaustive.layers(result)))


@app.command()
def accumulators(
    model: Model, data_dir: DataDir = None, max_samples: MaxSamples = None, json: Json = None, demo: Demo = False
) -> None:
    """How wide accumulators are and must be, and what narrower ones cost."""
    from resnet8.audit.accumulators import audit_accumulators
    from resnet8.report import tables, text

    asked = _Asked(model, data_dir, max_samples, demo=demo)
    result = _answer(partial(audit_accumulators, *asked.about), f"audit {model.name}", json)
    show(text.table(tables.accumulators(result)))
    show(text.table(tables.widths(result)))


@app.command()
def worked(
    model: Model,
    data_dir: DataDir = None,
    image: Annotated[int, typer.Option(help="Index of the test image that is worked through.")] = 0,
    json: Json = None,
    demo: Demo = False,
) -> None:
    """Every layer's parameters, one output of each kind of layer, step by step, and the classes."""
    from resnet8.audit.worked import audit_worked
    from resnet8.errors import DataError
    from resnet8.report import tables, text

    asked = _Asked(model, data_dir, None, demo=demo)
    if not 0 <= image < len(asked.split):
        raise DataError("there is no such image", found=str(image), expected=f"0 to {len(asked.split) - 1}")
    result = _answer(lambda **_: audit_worked(*asked.about, image), f"work {model.name}", json)
    show(text.table(tables.layers(result)))
    for one in result.examples:
        show(text.steps(one))
    show(text.table(tables.classes(result)))


@app.command()
def noise(
    model: Annotated[Path, typer.Argument(help="The float model: resnet8.onnx.")],
    recipe: Annotated[
        str, typer.Option(help="The recipe's name («resnet8 quantize --list»), or your own as a .toml file.")
    ],
    seeds: Annotated[int, typer.Option(help="Perturbed runs, at least 2.")] = 20,
    data_dir: DataDir = None,
    samples_per_class: Annotated[int, typer.Option(help="Calibration images of each class, at least 20.")] = 100,
    seed: Annotated[int, typer.Option(help="Of the calibration draw.")] = 42,
    max_samples: MaxSamples = None,
    json: Json = None,
    logs: Annotated[Path, typer.Option(help="Folder for the logs.")] = Path("logs"),
    demo: Demo = False,
) -> None:
    """How far a recipe's count moves when only the last bit of the float constants does.

    Each float constant is moved by -1, 0 or +1 ulp, and the recipe carried out again, once for each seed.
    """
    from resnet8.audit.noise import audit_noise
    from resnet8.report import tables, text
    from resnet8.workers import Workers

    with Workers(logs) as workers:
        question = partial(
            audit_noise,
            model,
            recipe,
            resolve(data_dir, demo=demo),
            workers,
            seeds=seeds,
            samples_per_class=samples_per_class,
            calibration_seed=seed,
            max_samples=max_samples,
        )
        result = _answer(question, f"{recipe}, {seeds + 1} runs", json)
    show(text.table(tables.noise([result])))


@app.command()
def seeds(
    model: Annotated[Path, typer.Argument(help="The float model: resnet8.onnx.")],
    recipe: Annotated[
        str, typer.Option(help="A recipe of this package's own, like int8 or int4; or your own as a .toml file.")
    ],
    seeds: Annotated[str, typer.Option(help="Of the calibration draws, at least 2: a list, or FROM-TO.")] = "42-46",
    data_dir: DataDir = None,
    samples_per_class: SamplesPerClass = 100,
    max_samples: MaxSamples = None,
    jobs: Jobs = None,
    scheduler: Scheduler = None,
    cells: Cells = None,
    json: Json = None,
    demo: Demo = False,
) -> None:
    """How far a recipe's numbers move when other images calibrate it, in exact integers.

    Finished draws are kept, and an interrupted run goes on.
    """
    from resnet8.report import tables, text
    from resnet8.sweeps.seeds import audit_seeds

    drawn = numbers("--seeds", seeds)
    with progress(remaining=True) as step:
        result = audit_seeds(
            model,
            recipe,
            resolve(data_dir, demo=demo),
            cells_folder(cells),
            seeds=drawn,
            samples_per_class=samples_per_class,
            max_samples=max_samples,
            jobs=jobs,
            scheduler=scheduler,
            progress=step(f"{recipe}, {len(drawn)} draws"),
        )
    write_json(result, json)
    show(text.table(tables.seeds([result])))


@app.command()
def cim(
    model: Model,
    data_dir: DataDir = None,
    rows: Annotated[str, typer.Option(help="Of an array, 1 to 1024: a list, or FROM-TO.")] = "64",
    adc_bits: Annotated[str, typer.Option(help="Of the ADC that reads a column, 1 to 32: a list, or FROM-TO.")] = "6",
    cell_bits: Annotated[int, typer.Option(help="Of a weight in a cell, 1 to 8.")] = 1,
    dac_bits: Annotated[int, typer.Option(help="Of an input applied at once, 1 to 8; 1 is bit-serial.")] = 1,
    signed: Annotated[str, typer.Option(help="How cells hold weights: differential or offset.")] = "differential",
    adc_range: Annotated[
        str, typer.Option(help="Full: up to the largest sum of the rows; calibrated: up to --percentile of the sums.")
    ] = "full",
    percentile: Annotated[
        float, typer.Option(help="Of each layer's sums on calibration images, above 0; 100 is the largest.")
    ] = 100,
    calibration_images: Annotated[int, typer.Option(help="Training images that set calibrated ranges.")] = 50,
    variation: Annotated[float, typer.Option(help="Standard deviation of the cells' conductance.")] = 0,
    spread: Annotated[
        str, typer.Option(help="Of the variation: multiplicative, or additive, in steps of the conductance.")
    ] = "multiplicative",
    read_noise: Annotated[
        float, typer.Option(help="Standard deviation of what is added to each sum, in units of one cell's.")
    ] = 0,
    runs: Annotated[int, typer.Option(help="Programmings of arrays with variation or noise.")] = 3,
    seed: Annotated[int, typer.Option(help="Of variation, noise and calibration images.")] = 0,
    max_samples: Annotated[
        int | None,
        typer.Option("--images", "--max-samples", help="Only the first N images.  [default: all]", metavar="N"),
    ] = None,
    jobs: Jobs = None,
    scheduler: Scheduler = None,
    cells: Cells = None,
    json: Json = None,
    plot: Plots = None,
    demo: Demo = False,
) -> None:
    """What a compute-in-memory array does to the network: cells, columns, and an ADC of few bits.

    Lists of rows and bits of the ADC make a map. Finished blocks of images are kept, and an interrupted run goes on.
    """
    import numpy as np

    from resnet8.data.calibration import held_out
    from resnet8.data.cifar10 import read_split
    from resnet8.execute.cim import Array
    from resnet8.report import cim as tables
    from resnet8.report import text
    from resnet8.sweeps.cim import DEFAULT_CALIBRATION, audit_cim

    options: dict[str, Any] = {
        "cell_bits": cell_bits,
        "dac_bits": dac_bits,
        "signed": signed,
        "adc_range": adc_range,
        "variation": variation,
        "spread": spread,
        "read_noise": read_noise,
        "seed": seed,
        "percentile": percentile,
    }
    arrays = [
        Array(rows=one, adc_bits=bits, **options)
        for one in numbers("--rows", rows)
        for bits in numbers("--adc-bits", adc_bits)
    ]
    about = _Asked(model, data_dir, max_samples, demo=demo).about
    calibration = None
    if adc_range == "calibrated":
        train = read_split(resolve(data_dir, demo=demo), "train")
        calibration = held_out(train, np.empty(0, np.int64), calibration_images, DEFAULT_CALIBRATION, seed)
    with asked(f"{model.name} in memory", plot) as told:
        result = audit_cim(
            *about,
            cells_folder(cells),
            arrays=arrays,
            calibration=calibration,
            runs=runs,
            jobs=jobs,
            scheduler=scheduler,
            progress=told,
        )
    found = tables.arrays(result)
    show(found.title)  # longer than the table is wide
    show(text.table(replace(found, title="")))
    for one in tables.maps(result):
        show(one.title)
        show(text.table(replace(one, title="")))
    if len(result.cells) == 1:
        show(text.table(tables.layers(result, result.cells[0])))
    written(result, json, plot, "cim")


class _Asked:
    """A quantized file and the images that it is asked about.

    Attributes:
        content: The file.
        split: The images.
        about: What the file is, its network in the engine, and the images.
    """

    def __init__(self, model: Path, data_dir: Path | None, max_samples: int | None, *, demo: bool) -> None:
        from resnet8.data.cifar10 import read_split
        from resnet8.evaluation import choose
        from resnet8.files import read_bytes
        from resnet8.runtimes.integer import open_content

        self.content = read_bytes(model)
        predictor = open_content(model, self.content)
        self.split = choose(read_split(resolve(data_dir, demo=demo), "test"), None, max_samples)
        self.about = (predictor.model, predictor.program, self.split)


def _answer(question: Callable[..., Answer], label: str, json: Path | None) -> Answer:
    """The result of ``question``, which takes a ``progress``, shown under ``label``; written where it was asked for."""
    with progress() as step:
        result = question(progress=step(label))
    write_json(result, json)
    return result
