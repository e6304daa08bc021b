"""``resnet8 reproduce``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from resnet8.cli.common import AssetsDir, Demo, assets, console, progress, require, show

if TYPE_CHECKING:
    from resnet8.pipeline import Reproduction


def reproduce(
    assets_dir: AssetsDir = None,
    demo: Demo = False,
    output_dir: Annotated[
        Path | None,
        typer.Option(help="Where models/, results/, docs/ and logs/ go.  [default: .; with --demo: demo]"),
    ] = None,
    samples_per_class: Annotated[int, typer.Option(help="Calibration images of each class, at least 20.")] = 100,
    seed: Annotated[int, typer.Option(help="Of the calibration draw.")] = 42,
) -> None:
    """Do everything: fetch, convert and prove, quantize by every recipe, evaluate, compare, recommend.

    Run again, it redoes only what is out of date.
    """
    from resnet8 import pipeline

    require("keras", "torch")
    # The demo does not overwrite the results of a real run.
    root = output_dir or Path("demo" if demo else ".")
    found = assets(assets_dir, demo=demo, download=True)
    lines = console(err=True)

    def ended(stage: str, seconds: float | None) -> None:
        lines.print(f"  {stage:<26} {'up to date' if seconds is None else f'{seconds:6.1f} s'}")

    with progress() as step:
        outcome = pipeline.reproduce(
            root,
            assets=found,
            samples_per_class=samples_per_class,
            seed=seed,
            step=step,
            ended=ended,
        )
    _show(outcome, demo=found.demo)


def _show(outcome: Reproduction, *, demo: bool) -> None:
    from resnet8.report import text
    from resnet8.report.documents import ANALYSIS

    if demo:
        show("[bold]DEMO[/bold]: handwritten digits and their own weights; no number here is CIFAR-10's.\n")
    show(text.parity(outcome.parity))
    show(text.comparison(outcome.comparison))
    total = sum(outcome.seconds.values())
    show(f"\n{len(outcome.seconds)} stages run in {total:.1f} s. The analysis: {outcome.output_dir / ANALYSIS}")
