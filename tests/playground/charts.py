"""What a chart says."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator


def specified(chart: Any) -> dict[str, Any]:
    """The chart's specification; Altair checks it against Vega-Lite's schema."""
    return chart.to_dict()  # type: ignore[no-any-return]


def rows(chart: Any) -> list[dict[str, Any]]:
    """The rows of all data in a chart."""

    def found(node: Any) -> Iterator[dict[str, Any]]:
        for key, value in node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ():
            if key == "data":
                yield from json.loads(stored[value["name"]])
            else:
                yield from found(value)

    specification = specified(chart)
    stored = specification.pop("datasets")
    return list(found(specification))
