"""``resnet8 compare``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from resnet8.cli.common import Json, show


def compare(
    result_files: Annotated[
        list[Path],
        typer.Argument(help="Results of «resnet8 evaluate --json», one of them of a float32 model."),
    ],
    json: Json = None,
    markdown: Annotated[Path | None, typer.Option(help="Write the comparison here, as Markdown.")] = None,
    max_drop: Annotated[float, typer.Option(help="Flag drops of more than so many percentage points.")] = 5.0,
) -> None:
    """Compare models evaluated on the same images: deltas, their significance, sizes, a recommendation."""
    from resnet8 import results
    from resnet8.comparison import compare as run
    from resnet8.files import write_text
    from resnet8.render import markdown as document
    from resnet8.render import text
    from resnet8.results import Evaluation, Quantization, read_any

    loaded = [read_any(path) for path in result_files]
    pairs = [(one, path) for one, path in zip(loaded, result_files, strict=True) if isinstance(one, Evaluation)]
    comparison = run(
        [one for one, _ in pairs],
        files=[path.name for _, path in pairs],
        refused={
            one.recipe: one.refusal for one in loaded if isinstance(one, Quantization) and one.refusal is not None
        },
        max_drop_points=max_drop,
    )
    if json is not None:
        results.save(comparison, json)
    if markdown is not None:
        write_text(markdown, document.comparison(comparison))
    show(text.comparison(comparison))
