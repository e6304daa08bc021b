"""What became of many damaged inputs, and of many interrupted runs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from resnet8.environment import Environment
from resnet8.results.storage import SCHEMA_VERSION, STRICT


@dataclass(frozen=True)
class Reliability:
    """A trial of damaged inputs and interrupted runs (``tools/reliability``).

    Attributes:
        outcomes: What became of the inputs or runs, and of how many, by what was tried and by the outcome's name; those
            that are not allowed are there too, with 0 where none was met.
        failures: Names of the outcomes that are not allowed.
        elsewhere: The environment of what was tried in another one than the rest, by what was tried.
    """

    outcomes: dict[str, dict[str, int]]
    failures: tuple[str, ...]
    environment: Environment
    created: str
    elsewhere: dict[str, Environment] = field(default_factory=dict)
    kind: Literal["reliability"] = "reliability"
    schema_version: Literal[1] = SCHEMA_VERSION
    __pydantic_config__ = STRICT
