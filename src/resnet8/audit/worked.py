"""The arithmetic of one model in numbers: every layer's parameters, one output of each kind of layer, the classes."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from resnet8 import environment, results
from resnet8.execute import engine
from resnet8.execute.exact import addends_of, terms
from resnet8.numeric.grid import dequantize, quantize
from resnet8.numeric.variants import Requantization
from resnet8.results import (
    ClassExample,
    GridRange,
    LayerFacts,
    PixelExample,
    Term,
    WorkedArithmetic,
    WorkedExample,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from resnet8.data.cifar10 import Split
    from resnet8.network.layers import AnyLayer
    from resnet8.network.program import Program
    from resnet8.numeric.grid import QParams
    from resnet8.results import ModelDescription

FIXED = Requantization("fixed32")
_PIXELS = 4


def audit_worked(model: ModelDescription, program: Program, split: Split, image: int = 0) -> WorkedArithmetic:
    """The parameters of every layer, and worked examples on one image.

    Args:
        model: The file.
        program: What it computes.
        split: The images.
        image: Index of the one that is worked through.
    """
    pixels = split.images[image : image + 1]
    values = engine.activations(program, engine.input_codes(program, pixels))
    shown: dict[str, AnyLayer] = {}
    for layer in program.layers:
        shown.setdefault(layer.role, layer)
    return WorkedArithmetic(
        model=model,
        data=split.source,
        image=image,
        label=split.class_names[int(split.labels[image])],
        input=grid(program.input.params),
        pixels=_pixels(program, pixels, values),
        layers=tuple(_facts(layer) for layer in program.layers),
        examples=tuple(_example(layer, values) for layer in shown.values()),
        logits=grid(program.logits.params),
        probabilities=None if program.probabilities is None else grid(program.probabilities),
        classes=_classes(program, values[program.logits.name].reshape(1, -1), split.class_names),
        environment=environment.current(),
        created=results.now(),
    )


def grid(params: QParams) -> GridRange:
    """Scale and zero point as a value of results: one, or the range of the channels'."""
    return GridRange(
        dtype=params.dtype,
        scales=_ends(params.scale),
        zero_points=_ends(params.zero_point),
        channels=params.scale.size if params.per_channel else None,
    )


def _ends(values: NDArray[Any]) -> tuple[Any, Any]:
    """The least and the greatest, Python's own numbers."""
    return values.min().item(), values.max().item()


def _facts(layer: AnyLayer) -> LayerFacts:
    fixed = engine.multipliers(layer, FIXED)
    multiplied, window = layer.multiplied, layer.window
    return LayerFacts(
        layer=layer.name,
        operator=layer.role,
        reads=layer.inputs,
        writes=layer.output.name,
        output_shape=layer.output.shape,
        weight_shape=None if multiplied is None or layer.added is None else multiplied.codes.shape,
        inputs=tuple(grid(one.params) for _, one in layer.sources),
        weights=None if multiplied is None else grid(multiplied.params),
        bias=None if layer.added is None else layer.bias is not None,
        output=grid(layer.output.params),
        multipliers=tuple(map(_ends, layer.real_multipliers)),
        fixed_multipliers=tuple(_ends(one.multiplier) for one in fixed),
        shifts=tuple(_ends(one.shift) for one in fixed),
        parameters=layer.parameters,
        strides=None if window is None else window.strides,
        pads=None if window is None else window.pads,
    )


def _pixels(program: Program, pixels: NDArray[np.uint8], values: dict[str, NDArray[Any]]) -> tuple[PixelExample, ...]:
    middle = pixels.shape[1] // 2
    return tuple(
        PixelExample(
            row=middle,
            column=middle + i,
            channel=0,
            real=float(pixels[0, middle, middle + i, 0]),
            code=int(values[program.input.name][0, middle, middle + i, 0]),
        )
        for i in range(_PIXELS)
    )


def _classes(program: Program, codes: NDArray[Any], names: tuple[str, ...]) -> tuple[ClassExample, ...]:
    """From the codes of the logits, (1, classes), to the codes of the probabilities."""
    reals = dequantize(codes, program.logits.params)
    soft = engine.probabilities(replace(program, probabilities=None), codes) if program.softmax else None
    coded = None if soft is None or program.probabilities is None else quantize(soft, program.probabilities)
    return tuple(
        ClassExample(
            class_name=name,
            code=int(codes[0, i]),
            real=float(reals[0, i]),
            probability=None if soft is None else float(soft[0, i]),
            probability_code=None if coded is None else int(coded[0, i]),
        )
        for i, name in enumerate(names)
    )


def _example(layer: AnyLayer, values: dict[str, NDArray[Any]]) -> WorkedExample:
    """One output of ``layer``, step by step."""
    written = values[layer.output.name]
    at = _telling(layer, values)
    found = tuple(Term(*one) for one in terms(layer, values, at))
    sums = None if layer.accumulators() is None else int(engine.integer_accumulator(layer, values)[at])
    channel = at[-1]
    fixed = engine.multipliers(layer, FIXED)
    multipliers = tuple(float(_of(one, channel)) for one in layer.real_multipliers)
    real = (
        sum(term.a * factor for term, factor in zip(found, multipliers, strict=True))
        if sums is None
        else sums * multipliers[0]
    )
    return WorkedExample(
        layer=layer.name,
        operator=layer.role,
        at=tuple(int(i) for i in at[1:]),
        terms=found,
        bias=None if layer.added is None else int(layer.added[channel]),
        accumulator=sums,
        multipliers=multipliers,
        fixed_multipliers=tuple(int(_of(one.multiplier, channel)) for one in fixed),
        shift=int(_of(fixed[0].shift, channel)),
        before_rounding=float(real),
        zero_point=layer.output.zero_point,
        code=int(written[at]),
        code_fixed=int(engine.step(layer, values, FIXED)[at]),
    )


def _telling(layer: AnyLayer, values: dict[str, NDArray[Any]]) -> tuple[int, ...]:
    """The output nearest the middle that is neither clipped nor 0, nor comes from an addend of 0."""
    written = values[layer.output.name]
    good = (written > layer.lowest) & (written < layer.highest) & (written != layer.output.zero_point)
    for addend in addends_of(layer, values):
        good &= addend != 0
    if not good.any():
        return (0,) * written.ndim
    middle = np.array([0, *(size // 2 for size in written.shape[1:-1]), 0])
    candidates = np.argwhere(good)
    return tuple(int(i) for i in candidates[np.abs(candidates - middle).sum(axis=1).argmin()])


def _of(values: NDArray[Any], channel: int) -> Any:
    return values if values.ndim == 0 else values[channel]
