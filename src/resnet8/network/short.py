"""A network under short names: in a file of a few thousand numbers, names and what is said twice are what is left over.

Layers and the tensors that they write are called by kind and number, ``c1`` the first convolution, its parameters
``w1`` and ``b1``, those of other layers ``wd1`` and ``bd1``; the images' codes are ``x``. A ReLU whose zero point is
the output's least code is left out: that code is where numbers saturate, with it or without.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from resnet8.numeric.grid import limits

if TYPE_CHECKING:
    from resnet8.network.layers import Layer
    from resnet8.network.program import Program
    from resnet8.network.tensors import Activation

    L = TypeVar("L", bound=Layer)

IMAGES = "x"
_LETTERS = {"conv": "c", "dense": "d", "mul": "m", "add": "a", "average-pool": "p", "rescale": "r"}


def shortened(program: Program) -> Program:
    """``program``, which computes the same, with short names and without the ReLUs that saturation is."""
    numbers: Counter[str] = Counter()
    names = {program.input.name: IMAGES}
    for layer in program.layers:
        numbers[layer.operator] += 1
        names[layer.output.name] = f"{_LETTERS[layer.operator]}{numbers[layer.operator]}"

    def activation(one: Activation) -> Activation:
        return replace(one, name=names[one.name])

    def renamed(one: L) -> L:
        name = names[one.output.name]
        behind = name.removeprefix(_LETTERS["conv"])
        changed = replace(one.on(activation), name=name, nodes=(name,), relu=one.relu and not _saturates(one.output))
        if (parameter := one.parameter) is not None:
            changed = changed.with_parameter(replace(parameter, name=f"w{behind}"))
        return changed if one.bias is None else replace(changed, bias=replace(one.bias, name=f"b{behind}"))

    return replace(
        program,
        input=activation(program.input),
        layers=tuple(renamed(one) for one in program.layers),
        logits=activation(program.logits),
    )


def _saturates(output: Activation) -> bool:
    """Whether nothing below real 0 has a code."""
    return output.grid is not None and output.zero_point == limits(output.params.dtype)[0]
