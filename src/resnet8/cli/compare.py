"""``resnet8 compare``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from resnet8.cli.common import Json, say, show, write_json

if TYPE_CHECKING:
    from resnet8.results import Evaluation, NoiseStudy, Quantization, SeedStudy


def compare(
    result_files: Annotated[
        list[Path],
        typer.Argument(
            metavar="RESULT",
            help="Results of «resnet8 evaluate --json», one of them of a float32 model, and of «resnet8 audit noise "
            "--json» and «resnet8 audit seeds --json»; or folders that hold them.",
        ),
    ],
    json: Json = None,
    markdown: Annotated[
        Path | None, typer.Option(help="Write the comparison here, as Markdown.  [default: nowhere]")
    ] = None,
    max_drop: Annotated[float, typer.Option(help="Flag drops of more than so many percentage points.")] = 5.0,
) -> None:
    """Compare models evaluated on the same images: deltas, their significance, sizes, a recommendation.

    Of a folder, every .json directly inside is read. Results of other kinds are skipped.
    """
    from resnet8.comparison import compare as run
    from resnet8.files import write_text
    from resnet8.report import analysis, text
    from resnet8.report.document import markdown as written
    from resnet8.results import Evaluation, NoiseStudy, Quantization, SeedStudy

    loaded = _read(result_files)
    pairs = [(path, one) for path, one in loaded if isinstance(one, Evaluation)]
    comparison = run(
        [one for _, one in pairs],
        files=[path.name for path, _ in pairs],
        refused={
            one.recipe: one.refusal for _, one in loaded if isinstance(one, Quantization) and one.refusal is not None
        },
        noise=[one for _, one in loaded if isinstance(one, NoiseStudy)],
        seeds=[one for _, one in loaded if isinstance(one, SeedStudy)],
        max_drop_points=max_drop,
    )
    write_json(comparison, json)
    if markdown is not None:
        write_text(markdown, written(*analysis.comparison(comparison)))
    show(text.comparison(comparison))


def _read(named: list[Path]) -> list[tuple[Path, Evaluation | Quantization | NoiseStudy | SeedStudy]]:
    """Each result, and where it is kept; what is skipped is said in a line.

    A file that was named must be sound; one that only lies in a folder may be anything.

    Raises:
        StorageError: when something cannot be read.
        ResultError: when a named file is damaged, or nothing is left to compare.
    """
    from resnet8.errors import ResultError, StorageError
    from resnet8.files import reading
    from resnet8.results import read_any

    found: list[tuple[Path, Evaluation | Quantization | NoiseStudy | SeedStudy]] = []
    skipped: list[str] = []
    for place in named:
        with reading(place):
            inside = sorted(place.glob("*.json")) if place.is_dir() else None
        for path in [place] if inside is None else inside:
            try:
                result = read_any(path)
            except (ResultError, StorageError):
                if inside is None:
                    raise
                skipped.append(f"{path.name} (unreadable)")
                continue
            if result is None:
                skipped.append(path.name)
            else:
                found.append((path, result))
    words = f"{len(skipped)} of another kind: {', '.join(skipped)}"
    if not found:
        raise ResultError(
            "there is nothing to compare",
            found=words if skipped else "no .json file",
            expected="evaluations (resnet8 evaluate … --json F)",
        )
    if skipped:
        say(f"skipped {words}")
    return found
