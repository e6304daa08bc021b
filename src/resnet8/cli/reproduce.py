"""``resnet8 reproduce``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from resnet8.cli.common import AssetsDir, Demo, assets, console, progress, require, show

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console

    from resnet8.pipeline import Reproduction
    from resnet8.workers import Progress


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
    with progress() as step:
        outcome = pipeline.reproduce(
            root,
            assets=found,
            samples_per_class=samples_per_class,
            seed=seed,
            reporter=_Lines(console(err=True), step),
        )
    _show(outcome, demo=found.demo)


class _Lines:
    """A line for each stage, progress bars below."""

    def __init__(self, target: Console, step: Callable[[str], Progress]) -> None:
        self._target = target
        self.step = step

    def begin(self, stage: str) -> None:
        self.step(stage)

    def end(self, stage: str, seconds: float, *, up_to_date: bool) -> None:
        self._target.print(f"  {stage:<26} {'up to date' if up_to_date else f'{seconds:6.1f} s'}")


def _show(outcome: Reproduction, *, demo: bool) -> None:
    from resnet8.report import text
    from resnet8.report.documents import ANALYSIS

    if demo:
        show("[bold]DEMO[/bold]: handwritten digits and their own weights; no number here is CIFAR-10's.\n")
    show(text.parity(outcome.parity))
    show(text.comparison(outcome.comparison))
    total = sum(outcome.seconds.values())
    show(f"\n{len(outcome.seconds)} stages run in {total:.1f} s. The analysis: {outcome.output_dir / ANALYSIS}")
