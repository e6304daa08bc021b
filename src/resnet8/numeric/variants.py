"""The variants of requantization: how hardware holds a real multiplier, and how it rounds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

Rounding = Literal["half-even", "half-away", "half-up", "truncate"]
Multiplier = Literal["float32", "fixed32", "fixed16", "fixed8", "power-of-two"]

ROUNDINGS: tuple[Rounding, ...] = get_args(Rounding)
MULTIPLIERS: tuple[Multiplier, ...] = get_args(Multiplier)
FIXED_BITS = {"fixed32": 32, "fixed16": 16, "fixed8": 8}
"""Width in bits of the signed integer that holds each fixed-point multiplier."""


@dataclass(frozen=True)
class Requantization:
    """How an accumulator becomes a code.

    Attributes:
        multiplier: How the real multiplier is held. ``float32`` repeats ONNX Runtime's kernels in float32.
        rounding: How the product becomes whole.

    Example:
        >>> resnet8.Requantization("fixed16", "half-up").name
        'fixed16/half-up'
    """

    multiplier: Multiplier = "float32"
    rounding: Rounding = "half-even"

    @property
    def name(self) -> str:
        """As in tables and files: ``fixed32/half-up``."""
        return f"{self.multiplier}/{self.rounding}"
