"""``resnet8 quantize``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from resnet8.cli.common import DataDir, Demo, show
from resnet8.cli.common import data_dir as resolve


def quantize(
    model: Annotated[Path | None, typer.Argument(help="The float model: resnet8.onnx, or its resnet8.pt.")] = None,
    recipe: Annotated[str | None, typer.Option(help="Name of the recipe (see --list).")] = None,
    output: Annotated[Path | None, typer.Option(help="The quantized file to write.")] = None,
    data_dir: DataDir = None,
    samples_per_class: Annotated[int, typer.Option(help="Calibration images of each class, at least 20.")] = 100,
    seed: Annotated[int, typer.Option(help="Of the calibration draw.")] = 42,
    logs: Annotated[Path, typer.Option(help="Folder for the logs.")] = Path("logs"),
    list_recipes: Annotated[bool, typer.Option("--list", help="List the recipes and exit.")] = False,
    demo: Demo = False,
) -> None:
    """Quantize a float model by a named recipe, and write beside it a record of how (OUTPUT.json)."""
    from resnet8.recipes import RECIPES
    from resnet8.render import tables, text

    if list_recipes:
        show(text.table(tables.recipes(tuple(RECIPES.values()))))
        return
    if model is None or recipe is None or output is None:
        missing = [
            name for name, value in (("MODEL", model), ("--recipe", recipe), ("--output", output)) if value is None
        ]
        raise typer.BadParameter(f"missing {', '.join(missing)} (or --list)")
    run(model, recipe, output, resolve(data_dir, demo=demo), samples_per_class, seed, logs)


def run(model: Path, recipe: str, output: Path, data_dir: Path, samples_per_class: int, seed: int, logs: Path) -> None:
    """Draw the calibration set, quantize, and say what came of it."""
    from resnet8.calibration import calibrate
    from resnet8.evaluation import record_path
    from resnet8.quantization import quantize as make
    from resnet8.recipes import recipe as find
    from resnet8.workers import Workers

    chosen = find(recipe)
    chosen.require_calibration(samples_per_class, seed)
    with Workers(logs) as workers:
        record = make(model, recipe, output, calibrate(data_dir, samples_per_class, seed, chosen.draw), workers)
    if record.refusal is not None:
        show(f"{recipe}: refused. {record.refusal}\nNo model was written; the record is {record_path(output)}")
        return
    size = output.stat().st_size
    show(f"{output}: {size:,} bytes, by {recipe} in {record.seconds:.1f} s; record: {record_path(output)}")
