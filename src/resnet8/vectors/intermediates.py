"""What is inside a layer, between the codes that it reads and those that it writes, for who builds it in parts."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from resnet8.errors import DataError
from resnet8.execute import engine
from resnet8.execute.exact import partial_sums
from resnet8.numeric.rounding import round_shift
from resnet8.vectors.formats import Field

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from resnet8.network.layers import AnyLayer
    from resnet8.numeric.variants import Requantization

_PARTIAL = re.compile("partial-sums:([0-9]{1,6})")
WORDS = ("partial-sums:R", "sums", "products", "unclamped")
"""What can be asked for, as options name it; R is a number of rows."""


@dataclass(frozen=True)
class Intermediates:
    """What of a layer's inside is exported, besides the accumulator, which always is.

    Attributes:
        rows: Rows of each partial sum: how many products one array adds up; none without partial sums.
        sums: The sum of all products, without the bias.
        products: What is shifted to the right: accumulator times multiplier; of a sum the two products, added.
        unclamped: What is shifted and rounded, plus the zero point, before the clamp.
    """

    rows: int | None = None
    sums: bool = False
    products: bool = False
    unclamped: bool = False

    @property
    def words(self) -> tuple[str, ...]:
        """As options name them."""
        named = tuple(one.name for one in fields(self)[1:] if getattr(self, one.name))
        return named if self.rows is None else (f"partial-sums:{self.rows}", *named)

    def tiles(self, layer: AnyLayer) -> tuple[int, ...] | None:
        """Rows of each partial sum of ``layer``, the last often fewer; none where there are none."""
        if self.rows is None or layer.added is None or layer.multiplied is None:
            return None
        depth = len(layer.multiplied.columns)
        return tuple(min(self.rows, depth - start) for start in range(0, depth, self.rows))

    def fields(
        self, layer: AnyLayer, values: Mapping[str, NDArray[Any]], requantization: Requantization
    ) -> Iterator[Field]:
        """The arrays that are asked for, as far as ``layer`` has them; int32, or int64 where that is too narrow.

        Args:
            layer: The layer.
            values: Codes of its inputs by name, (images, *shape).
            requantization: A fixed-point one.
        """
        for name, asked, rows in (("partial_sums", self.rows is not None, self.rows), ("sums", self.sums, None)):
            sums = partial_sums(layer, values, rows) if asked else None
            if sums is not None and rows is not None:
                axes = "image, tile, row, column, channel" if sums.ndim == 5 else "image, tile, channel"
                yield Field(name, narrowest(sums), axes)
            elif sums is not None:
                yield images_field(name, narrowest(sums[:, 0]))
        if self.products or self.unclamped:
            total, shift = engine.numerator(layer, values, requantization)
            if self.products:
                yield images_field("products", total)
            if self.unclamped:
                whole = round_shift(total, shift, requantization.rounding) + layer.output.zero_point
                yield images_field("unclamped", narrowest(whole))


NOTHING = Intermediates()


def choose_intermediates(words: Sequence[str]) -> Intermediates:
    """What ``words`` ask for (:data:`WORDS`), each once.

    Raises:
        DataError: when one is none of them, or R is 0, or partial sums are asked for with two numbers of rows.
    """
    rows: set[int] = set()
    for word in words:
        match = _PARTIAL.fullmatch(word)
        if match is not None and int(match[1]):
            rows.add(int(match[1]))
        elif word not in WORDS[1:]:
            raise DataError(
                "there is no such intermediate value",
                found=word or "nothing",
                expected=f"{', '.join(WORDS)} with R from 1",
                remedy="the accumulator is always exported",
            )
    if len(rows) > 1:
        raise DataError(
            "partial sums have one number of rows",
            found=", ".join(map(str, sorted(rows))),
            expected="one",
            remedy="export twice, into two folders",
        )
    return Intermediates(next(iter(rows), None), *(word in words for word in WORDS[1:]))


def images_field(name: str, values: NDArray[Any]) -> Field:
    """What is one number for each output of each image."""
    return Field(name, values, "image, row, column, channel" if values.ndim == 4 else "image, channel")


def narrowest(values: NDArray[np.int64]) -> NDArray[Any]:
    """``values`` as int32 if it holds them."""
    narrow = values.astype(np.int32)
    return narrow if (narrow == values).all() else values
