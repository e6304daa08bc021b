"""What using the playground costs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from resnet8.environment import Environment
from resnet8.results.evaluation import ModelDescription
from resnet8.results.storage import SCHEMA_VERSION, STRICT


@dataclass(frozen=True)
class PlaygroundUse:
    """How long the playground's page takes to answer in a browser, from the click to the text, and its memory.

    Attributes:
        model: Which one was looked into.
        images: Over how many the noise and the top-1 were computed.
        opening_seconds: From the request of the page until all of it is there, in a fresh server.
        layer_seconds: Until another layer is shown, of each time.
        change_seconds: From *Run* until the page says what one image is now, of each changed scale.
        sqnr_seconds: The SQNR of every layer.
        alone_seconds: Each layer alone.
        compared_seconds: Top-1 of original and changed model.
        resident_mb: Server and kernel after each ten changes of layer and scale, MB of 1,000,000 bytes.
        load: Average of the processes that wanted to run in the minute before.
        browser: Its version.
    """

    model: ModelDescription
    images: int
    opening_seconds: float
    layer_seconds: tuple[float, ...]
    change_seconds: tuple[float, ...]
    sqnr_seconds: float
    alone_seconds: float
    compared_seconds: float
    resident_mb: tuple[int, ...]
    load: float
    browser: str
    environment: Environment
    created: str
    kind: Literal["playground"] = "playground"
    schema_version: Literal[1] = SCHEMA_VERSION
    __pydantic_config__ = STRICT
