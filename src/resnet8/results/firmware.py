"""What exported C libraries take on a microcontroller."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from resnet8.environment import Environment
from resnet8.results.evaluation import DataSource, ModelDescription
from resnet8.results.storage import SCHEMA_VERSION, STRICT


@dataclass(frozen=True)
class FirmwareLibrary:
    """One model as a C library.

    Attributes:
        recipe: Name of the recipe that made the model.
        model: The file.
        requantization: As ``fixed32/half-even``.
        constants: Bytes of weights, biases, multipliers and shifts, as the library's README counts them.
        flash: Bytes of code and constants.
        ram: Bytes of static memory.
        stack: Bytes of stack that one prediction used, at most.
        instructions: Of one prediction, at most, with the DSP extension.
        plain_instructions: The same in plain C.
        wrong: Logits that differ from the integer engine's, of all images, both ways; 0 or something is broken.
    """

    recipe: str
    model: ModelDescription
    requantization: str
    constants: int
    flash: int
    ram: int
    stack: int
    instructions: int
    plain_instructions: int
    wrong: int


@dataclass(frozen=True)
class FirmwareStudy:
    """Exported libraries, compiled for and run on an emulated board.

    Attributes:
        libraries: One for each model.
        data: The images: the first of the test split.
        images: How many.
        compiler: Its first words about itself.
        flags: Given to it.
        emulator: Likewise, with the board.
    """

    libraries: tuple[FirmwareLibrary, ...]
    data: DataSource
    images: int
    compiler: str
    flags: str
    emulator: str
    environment: Environment
    created: str
    kind: Literal["firmware"] = "firmware"
    schema_version: Literal[1] = SCHEMA_VERSION
    __pydantic_config__ = STRICT
