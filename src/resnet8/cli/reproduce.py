"""``resnet8 reproduce``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import resnet8
from resnet8.cli.common import AssetsDir, Demo, SamplesPerClass, Seed, console, progress, require, show


def reproduce(
    assets_dir: AssetsDir = None,
    demo: Demo = False,
    output_dir: Annotated[
        Path | None,
        typer.Option(help="Where models/, results/, docs/ and logs/ go.  [default: .; with --demo: demo]"),
    ] = None,
    samples_per_class: SamplesPerClass = 100,
    seed: Seed = 42,
) -> None:
    """Do everything: fetch, convert and prove, quantize by every recipe, evaluate, compare, recommend.

    Run again, it redoes only what is out of date.
    """
    from rich.text import Text

    from resnet8.report import text
    from resnet8.report.documents import ANALYSIS

    require("keras", "torch")
    found = resnet8.fetch(assets_dir, demo=demo)
    lines = console(err=True)

    def ended(stage: str, seconds: float | None) -> None:
        lines.print(f"  {stage:<26} {'up to date' if seconds is None else f'{seconds:6.1f} s'}")

    with progress() as step:
        outcome = resnet8.reproduce(
            output_dir or Path("demo" if demo else "."),  # the demo does not overwrite the results of a real run
            assets=found,
            samples_per_class=samples_per_class,
            seed=seed,
            step=step,
            ended=ended,
        )
    if found.demo:
        show(
            Text.assemble(
                ("DEMO", "bold"), ": handwritten digits and their own weights; no number here is CIFAR-10's.\n"
            )
        )
    show(text.parity(outcome.parity))
    show(text.comparison(outcome.comparison))
    total = sum(outcome.seconds.values())
    show(f"\n{len(outcome.seconds)} stages run in {total:.1f} s. The analysis: {outcome.output_dir / ANALYSIS}")
