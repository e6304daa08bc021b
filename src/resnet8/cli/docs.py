"""``resnet8 docs``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from resnet8.cli.common import show


def docs(
    root: Annotated[Path, typer.Option(help="The repository, or an output folder of «reproduce».")] = Path(),
    check: Annotated[bool, typer.Option("--check", help="Write nothing; fail when a document is out of date.")] = False,
) -> None:
    """Fill in the generated parts of the documents from results/, and draw their pictures (extra «plots»)."""
    from resnet8.errors import ResultError
    from resnet8.files import write_bytes, write_text
    from resnet8.report import pictures
    from resnet8.report.documents import stale

    texts, drawings = stale(root), pictures.outdated(root)
    outdated = [*texts, *drawings]
    if check and outdated:
        raise ResultError(
            "documents do not say what results/ says",
            found=", ".join(str(path) for path in outdated),
            expected="every generated part up to date",
            remedy="run «resnet8 docs»",
        )
    for path, text in texts.items():
        write_text(path, text)
        show(f"{path}: written")
    for path, content in pictures.drawn(root).items():
        write_bytes(path, content)
        show(f"{path}: drawn")
    if not outdated:
        show("every generated part is up to date")
