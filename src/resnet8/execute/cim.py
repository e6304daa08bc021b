"""What arrays of memory cells compute in place of exact sums: compute-in-memory, from cell to accumulator.

A layer's accumulator is ``sum((x - zero_x) * (w - zero_w)) + bias`` over its depth, in the order kernel row, kernel
column, channel (im2col, :func:`resnet8.execute.patches.patches`). The rows of an array are ``R`` consecutive products
of that depth; what is left fills the last array in part. The scheme is the usual one of bit-sliced weights and
bit-serial inputs (Shafiee et al. 2016, «ISAAC», ISCA, section V), with codes counted from the type's least:

* Inputs: ``u = x - x_min``, unsigned, are applied ``d`` bits at a time, the lowest first: ``u = sum_j 2^(d j) u_j``.
  Padding applies the zero point's code.
* Weights: *offset* cells hold ``v = w - w_min``; *differential* ones the magnitude of ``w - zero_w`` in one of two
  columns, for what is positive and what is negative. Either is cut into slices of ``b`` bits a cell, the lowest first:
  ``v = sum_s 2^(b s) v_s``. There are as many as the type needs (offset), or the layer's largest magnitude.
* A column adds up ``S = sum_k u_jk g_ks`` over its rows: ``g = v_s`` in ideal cells.
* An ADC of ``n`` bits reads each sum: ``code = clip(round_half_even(S / step), 0, 2^n - 1)``, ``step = max(1, top /
  2^n)`` (an ideal ADC: W. Kester, «The Data Conversion Handbook», 2005, section 2.1). With ``2^n > top`` it is exact.
  ``top`` is the largest sum of ``R`` ideal cells, ``R (2^d - 1) (2^b - 1)`` (*full*), or one that few sums of the layer
  exceed on calibration images (*calibrated*).
* Digital, exact: ``D = sum ± 2^(d j + b s) code`` over steps, slices, arrays and the two columns; ``accumulator =
  round_half_even(step D) + bias - zero_u sum(w - zero_w)``, ``zero_u = zero_x - x_min``, and with offset cells ``+
  (w_min - zero_w) sum(u)``.

Cells vary when they are programmed, once for a run: ``g = v (1 + sigma e)`` (*multiplicative*) or ``v + sigma e``
(*additive*), ``e`` normal, never below 0. Read noise is added to each sum before the ADC. Both in units of the least
conductance step times the least input.

Sums are computed by float matrix products of whole numbers, exact in any order. Conductances that vary are rounded to
multiples of 2^-16, so theirs are too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from resnet8.errors import QuantizationError
from resnet8.execute.engine import EXACT_FLOAT32
from resnet8.execute.patches import patches
from resnet8.numeric.grid import limits, of_width, storage, width

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from resnet8.network.layers import Weighted

Signed = Literal["offset", "differential"]
"""How cells, which hold no negative numbers, hold weights."""
AdcRange = Literal["full", "calibrated"]
"""What the greatest code of an ADC stands for."""
Spread = Literal["multiplicative", "additive"]
"""How the conductance of cells varies."""
Layout = tuple[int, int, int, Signed]
"""Rows, bits of a cell, bits of a DAC step, and how cells hold signs: what decides the sums of ideal cells."""

ROWS, CELL_BITS, DAC_BITS, ADC_BITS = (1, 1024), (1, 8), (1, 8), (1, 32)
LARGEST_TALLY = 2**22
"""Sums that calibration can tell apart."""
_CONDUCTANCE = 2**16
_NEAR_TIES = 2**22
"""Below this a quotient of float32 is rounded to the same whole number as the exact one."""


@dataclass(frozen=True)
class Array:
    """Arrays of memory cells, and how they are driven and read.

    Attributes:
        rows: Cells that a column adds up, 1 to 1,024.
        cell_bits: Of a weight in one cell, 1 to 8.
        dac_bits: Of an input applied at once, 1 to 8; 1 is bit-serial.
        adc_bits: Of the ADC that reads a column's sum, 1 to 32.
        signed: ``differential`` or ``offset``.
        adc_range: ``full``: up to the largest sum of ``rows`` ideal cells; ``calibrated``: up to ``percentile`` of the
            layer's sums on calibration images.
        percentile: Above 0, up to 100, which is the largest sum there.
        variation: Standard deviation of the cells' conductance, in the unit that ``spread`` says; 0 for ideal cells.
        spread: ``multiplicative``: relative to what a cell holds; ``additive``: in steps of the conductance.
        read_noise: Standard deviation of what is added to each sum, in its units: a cell of level 1, an input of 1.
        seed: Of variation and noise.

    Raises:
        QuantizationError: when a value is out of range.
    """

    rows: int = 64
    cell_bits: int = 1
    dac_bits: int = 1
    adc_bits: int = 6
    signed: Signed = "differential"
    adc_range: AdcRange = "full"
    percentile: float = 100.0
    variation: float = 0.0
    spread: Spread = "multiplicative"
    read_noise: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        _require("the rows of an array are out of range", self.rows, *ROWS)
        _require("the bits of a cell are out of range", self.cell_bits, *CELL_BITS)
        _require("the bits of a DAC step are out of range", self.dac_bits, *DAC_BITS)
        _require("the bits of the ADC are out of range", self.adc_bits, *ADC_BITS)
        _require("the seed is out of range", self.seed, 0, 2**32 - 1)
        _require("the percentile of the ADC's range is out of range", self.percentile, math.ulp(0.0), 100)
        _require("the variation of cells is out of range", self.variation, 0, 10)
        _require("the read noise is out of range", self.read_noise, 0, 1e6)
        for name, word, known in (
            ("signed", self.signed, Signed),
            ("adc_range", self.adc_range, AdcRange),
            ("spread", self.spread, Spread),
        ):
            if word not in get_args(known):
                raise QuantizationError(
                    f"{name} of an array is not known", found=str(word), expected=" or ".join(get_args(known))
                )
        if self.adc_range == "calibrated" and self.full > LARGEST_TALLY:
            raise QuantizationError(
                "the sums of a column are too many to calibrate an ADC's range",
                found=f"0 to {self.full:,}",
                expected=f"up to {LARGEST_TALLY:,}",
                remedy="take fewer rows, or fewer bits of a cell or a DAC step, or the full range",
            )

    @property
    def full(self) -> int:
        """The largest sum of a column of ideal cells: ``R (2^d - 1) (2^b - 1)``."""
        return int(self.rows * (2**self.dac_bits - 1) * (2**self.cell_bits - 1))

    @property
    def random(self) -> bool:
        """Whether runs differ."""
        return self.variation > 0 or self.read_noise > 0

    @property
    def layout(self) -> Layout:
        """What decides the sums of ideal cells."""
        return self.rows, self.cell_bits, self.dac_bits, self.signed


def ideal(layout: Layout) -> Array:
    """Arrays whose ADCs have a code for each sum."""
    rows, cell_bits, dac_bits, signed = layout
    full = Array(rows, cell_bits, dac_bits, signed=signed).full
    return Array(rows, cell_bits, dac_bits, full.bit_length(), signed)


def _require(what: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:  # NaN neither
        bounds = f"above 0, up to {high:g}" if 0 < low < 1 else f"{low:,} to {high:,}"
        raise QuantizationError(what, found=f"{value}", expected=bounds)


@dataclass(frozen=True)
class Adc:
    """An analog-to-digital converter.

    Attributes:
        bits: Of its codes.
        top: The sum at the end of its range, ``2^bits`` steps, where a step is more than one unit of the sum.
    """

    bits: int
    top: int

    @property
    def most(self) -> int:
        """The greatest code."""
        return int(2**self.bits - 1)

    @cached_property
    def ratio(self) -> tuple[int, int]:
        """Codes for a sum, as a fraction in lowest terms, at most 1."""
        if 2**self.bits >= self.top:
            return 1, 1
        common = math.gcd(2**self.bits, self.top)
        return 2**self.bits // common, self.top // common

    @property
    def step(self) -> float:
        """What a code stands for, in units of the sum."""
        return self.ratio[1] / self.ratio[0]


@dataclass(frozen=True, eq=False)
class Programmed:
    """A layer's weights in arrays.

    Attributes:
        array: The arrays.
        adc: Reads every column.
        tiles: Conductances of each array, (rows, slices * columns for a sign * channels out), times the numerator of
            :attr:`Adc.ratio`.
        digital: What a code of each column counts for, (slices * columns for a sign * channels out, channels out).
        key: Of the random numbers: run and number of the layer.
    """

    array: Array
    adc: Adc
    tiles: tuple[NDArray[Any], ...]
    digital: NDArray[Any]
    key: tuple[int, int]

    @property
    def columns(self) -> int:
        """How many sums an array gives at each step."""
        return len(self.digital)

    def conversions(self, layer: Weighted) -> int:
        """How many sums the ADCs read for one image."""
        positions = math.prod(layer.output.shape[:-1])
        return positions * steps(layer, self.array) * len(self.tiles) * self.columns

    def generator(self, image: int) -> np.random.Generator | None:
        """Of the read noise of one image; none without."""
        if not self.array.read_noise:
            return None
        return np.random.default_rng(np.random.SeedSequence(self.array.seed, spawn_key=(*self.key, 1, image)))


def steps(layer: Weighted, array: Array) -> int:
    """In how many steps an input is applied."""
    return -(-width(layer.x.params.dtype) // array.dac_bits)


def levels(layer: Weighted, array: Array) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """What ideal cells hold, int64 (depth, columns), and the weight of each column, int64 (columns, channels out).

    Columns are in the order slice, sign (the positive first), channel out.
    """
    if array.signed == "offset":
        dtype = layer.weights.params.dtype
        held, bits = [layer.weights.columns.astype(np.int64) - limits(dtype)[0]], width(dtype)
    else:
        held = [np.maximum(layer.matrix, 0), np.maximum(-layer.matrix, 0)]
        bits = max(1, int(np.abs(layer.matrix).max()).bit_length())
    slices = range(-(-bits // array.cell_bits))
    cells = [one >> array.cell_bits * s & 2**array.cell_bits - 1 for s in slices for one in held]
    identity = np.eye(layer.matrix.shape[1], dtype=np.int64)
    weight = [sign * identity << array.cell_bits * s for s in slices for sign in (1, -1)[: len(held)]]
    return np.concatenate(cells, axis=1), np.concatenate(weight)


def program(layer: Weighted, array: Array, top: int | None = None, run: int = 0, number: int = 0) -> Programmed:
    """Write a layer's weights into arrays.

    Args:
        layer: A quantized layer.
        array: The arrays.
        top: Of the ADC's range; the full one when left out.
        run: Which of the runs that differ by variation and noise.
        number: Of the layer in its network.
    """
    adc = Adc(array.adc_bits, array.full if top is None else top)
    cells, digital = levels(layer, array)
    tiles = -(-len(cells) // array.rows)
    codes = min(adc.most, adc.top) * tiles * int(np.abs(digital).sum(axis=0).max())
    small = (
        not array.variation
        and adc.ratio[0] * array.full <= EXACT_FLOAT32
        and adc.ratio[1] * 2**array.adc_bits <= _NEAR_TIES
        and codes <= EXACT_FLOAT32
    )
    dtype: Any = np.float32 if small else np.float64
    held = _varied(cells, array, (run, number)) * adc.ratio[0]
    starts = range(0, len(held), array.rows)
    return Programmed(
        array=array,
        adc=adc,
        tiles=tuple(np.ascontiguousarray(held[start : start + array.rows], dtype) for start in starts),
        digital=digital.astype(dtype),
        key=(run, number),
    )


def _varied(cells: NDArray[np.int64], array: Array, key: tuple[int, int]) -> NDArray[np.float64]:
    """Conductances as they come out, in multiples of 2^-16."""
    ideal = cells.astype(np.float64)
    if not array.variation:
        return ideal
    random = np.random.default_rng(np.random.SeedSequence(array.seed, spawn_key=(*key, 0)))
    off = array.variation * random.standard_normal(ideal.shape)
    found = ideal * (1 + off) if array.spread == "multiplicative" else ideal + off
    return np.maximum(np.rint(found * _CONDUCTANCE) / _CONDUCTANCE, 0)


def accumulate(
    layer: Weighted, codes: NDArray[Any], programmed: Programmed, first: int = 0
) -> tuple[NDArray[np.float64], int]:
    """The accumulators of a layer whose products are added up in arrays, bias included.

    Args:
        layer: The layer.
        codes: (N, H, W, C) or (N, C).
        programmed: Its weights in arrays (:func:`program`).
        first: Number of the first image; each image has read noise of its own.

    Returns:
        Whole numbers, float64 (N, *output shape), and how many sums the ADC clipped.
    """
    constant = layer.added.astype(np.int64) - _zero(layer) * layer.matrix.sum(axis=0)
    below = limits(layer.weights.params.dtype)[0] - layer.weights.params.zero_point.astype(np.int64)
    numerator, divisor = programmed.adc.ratio
    result = np.empty((len(codes), math.prod(layer.output.shape)))
    clipped = 0
    for number, inputs in enumerate(_inputs(layer, codes)):
        total, lost = _converted(layer, inputs, programmed, programmed.generator(first + number))
        clipped += lost
        found = np.rint(total * divisor / numerator) + constant
        if programmed.array.signed == "offset":
            found += inputs.sum(axis=1, dtype=np.int64, keepdims=True) * below
        result[number] = found.ravel()
    return result.reshape(len(codes), *layer.output.shape), clipped


def tally(layer: Weighted, codes: NDArray[Any], programmed: Programmed) -> NDArray[np.int64]:
    """How often each sum of ideal cells occurs in a layer's columns, int64 (full + 1,).

    Args:
        layer: The layer.
        codes: (N, H, W, C) or (N, C).
        programmed: Its weights, written with an ADC that has a code for each sum.
    """
    found = np.zeros(programmed.array.full + 1, np.int64)
    for inputs in _inputs(layer, codes):
        for applied in _applied(layer, inputs, programmed):
            for sums in _sums(applied, programmed):
                found += np.bincount(sums.astype(np.intp).ravel(), minlength=len(found))
    return found


def _zero(layer: Weighted) -> int:
    return layer.x.zero_point - limits(layer.x.params.dtype)[0]


def _inputs(layer: Weighted, codes: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """What is applied to the rows for each image, counted from the least code: unsigned (positions, depth)."""
    dtype, low = layer.x.params.dtype, limits(layer.x.params.dtype)[0]
    unsigned = storage(of_width("uint8", width(dtype)))
    for image in codes.reshape(len(codes), 1, *layer.map_shape):
        yield patches(image, layer, np.int64, low).astype(unsigned)


def _applied(layer: Weighted, inputs: NDArray[Any], programmed: Programmed) -> Iterator[NDArray[Any]]:
    """What is applied in each step, (positions, depth)."""
    bits, unsigned = programmed.array.dac_bits, inputs.dtype.type
    for step in range(steps(layer, programmed.array)):
        yield (inputs >> unsigned(bits * step) & unsigned(2**bits - 1)).astype(programmed.digital.dtype)


def _sums(applied: NDArray[Any], programmed: Programmed) -> Iterator[NDArray[Any]]:
    """The sums of every array in one step, (positions, columns), times the ADC's numerator."""
    rows = programmed.array.rows
    for number, tile in enumerate(programmed.tiles):
        yield applied[:, number * rows : (number + 1) * rows] @ tile


def _converted(
    layer: Weighted, inputs: NDArray[Any], programmed: Programmed, random: np.random.Generator | None
) -> tuple[NDArray[np.float64], int]:
    """The codes of all sums, shifted and added, float64 (positions, channels out), and how many were clipped."""
    total, clipped = np.zeros((len(inputs), programmed.digital.shape[1])), 0
    for step, applied in enumerate(_applied(layer, inputs, programmed)):
        codes: NDArray[Any] | None = None
        for sums in _sums(applied, programmed):
            clipped += _read(sums, programmed, random)
            codes = sums if codes is None else np.add(codes, sums, out=codes)
        total += (codes @ programmed.digital).astype(np.float64) * 2.0 ** (programmed.array.dac_bits * step)
    return total, clipped


def _read(sums: NDArray[Any], programmed: Programmed, random: np.random.Generator | None) -> int:
    """Make the ADC's codes of ``sums``, in place; how many were clipped."""
    array, adc = programmed.array, programmed.adc
    numerator, divisor = adc.ratio
    if random is not None:
        sums += random.standard_normal(sums.shape, np.float32) * np.float32(array.read_noise * numerator)
    if divisor != 1:
        sums /= divisor
    if divisor != 1 or array.random:
        np.rint(sums, out=sums)
    high, low = sums.max() > adc.most, random is not None and sums.min() < 0
    if not (high or low):
        return 0
    clipped = int(np.count_nonzero(sums > adc.most) + np.count_nonzero(sums < 0))
    np.clip(sums, 0, adc.most, out=sums)
    return clipped
