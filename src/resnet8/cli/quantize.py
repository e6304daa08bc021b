"""``resnet8 quantize``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import resnet8
from resnet8.cli.common import DataDir, Demo, Logs, SamplesPerClass, Seed, progress, show
from resnet8.cli.common import data_dir as resolve

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from resnet8.results import Calibration


def quantize(
    model: Annotated[
        Path | None, typer.Argument(help="The float model: resnet8.onnx, or its resnet8.pt.  [required without --list]")
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(help="The recipe's name (see --list), or your own as a .toml file.  [required without it]"),
    ] = None,
    output: Annotated[Path | None, typer.Option(help="The quantized file to write.  [required without --list]")] = None,
    data_dir: DataDir = None,
    samples_per_class: SamplesPerClass = 100,
    seed: Seed = 42,
    logs: Logs = Path("logs"),
    list_recipes: Annotated[bool, typer.Option("--list", help="List the recipes and exit.")] = False,
    demo: Demo = False,
) -> None:
    """Quantize a float model by a named recipe, and write beside it a record of how (OUTPUT.json)."""
    from resnet8.quantization.recipes import RECIPES
    from resnet8.report import tables, text

    if list_recipes:
        show(text.table(tables.recipes(tuple(RECIPES.values()))))
        return
    if model is None or recipe is None or output is None:
        given = {"MODEL": model, "--recipe": recipe, "--output": output}
        raise typer.BadParameter(f"missing {', '.join(name for name in given if given[name] is None)} (or --list)")
    run(model, {recipe: output}, resolve(data_dir, demo=demo), samples_per_class, seed, logs)


def run(
    model: Path,
    outputs: Mapping[str, Path],
    data_dir: Path,
    samples_per_class: int,
    seed: int,
    logs: Path,
    said: Callable[[Calibration], None] = lambda _: None,
) -> list[Path]:
    """Draw the calibration sets, quantize by each recipe, say what came of it, and return the models that did.

    The training images are read once, while the frameworks are imported.

    Args:
        model: The float model.
        outputs: The file to write, by recipe.
        data_dir: CIFAR-10's folder.
        samples_per_class: Calibration images of each class.
        seed: Of the draws.
        logs: Folder for the logs.
        said: Told of the first recipe's set, once it is drawn.
    """
    from resnet8.quantization.recipes import recipe as find

    recipes = [find(name) for name in outputs]
    for one in recipes:
        one.require_calibration(samples_per_class, seed)
    written = []
    with resnet8.Workers(logs) as workers:
        for one in recipes:
            workers[one.framework].warm(one.backend.module)
        from resnet8.data.calibration import sample
        from resnet8.evaluation import record_path

        train = resnet8.read_split(data_dir, "train")
        drawn = {one.draw: sample(train, samples_per_class, seed, one.draw) for one in recipes}
        said(drawn[recipes[0].draw][1])
        for one, output in zip(recipes, outputs.values(), strict=True):
            with progress() as step:
                told = step(f"quantize by {one.name}")
                made = resnet8.quantize(model, one, drawn[one.draw], workers, progress=told)
            made.save(output)
            record, kept = made.record, record_path(output)
            if made.content is None:
                show(f"{one.name}: refused. {record.refusal}\nNo model was written; the record is {kept}")
                continue
            show(f"{output}: {len(made.content):,} bytes, by {one.name} in {record.seconds:.1f} s; record: {kept}")
            written.append(output)
    return written
