"""In what order a network's layers run on a small machine, and where in one block of memory their codes lie."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from resnet8.network.layers import AnyLayer
    from resnet8.network.program import Program
    from resnet8.network.tensors import Activation

_ALIGNMENT = 4


@dataclass(frozen=True, eq=False)
class Step:
    """A layer, with the sum that follows it where both are computed at once.

    Attributes:
        layer: The layer.
        total: The sum of its codes and another tensor's, computed code by code: they are written nowhere themselves.
    """

    layer: AnyLayer
    total: AnyLayer | None = None

    @property
    def layers(self) -> tuple[AnyLayer, ...]:
        """The layer, and the sum where there is one."""
        return (self.layer,) if self.total is None else (self.layer, self.total)

    @property
    def output(self) -> Activation:
        """What it writes."""
        return self.layers[-1].output

    @property
    def residual(self) -> str | None:
        """The other addend's name."""
        return None if self.total is None else other_addend(self.total, self.layer.output.name)

    @property
    def reads(self) -> tuple[str, ...]:
        """Names of all that it reads."""
        return self.layer.inputs if self.residual is None else (*self.layer.inputs, self.residual)

    @property
    def overwrites(self) -> tuple[str, ...]:
        """Names of what it may write over, when nothing else reads that: code by code it reads what it replaces."""
        if self.layer.added is None and self.layer.count == 1:
            return self.layer.inputs
        return () if self.residual is None or self.residual in self.layer.inputs else (self.residual,)


@dataclass(frozen=True, eq=False)
class Plan:
    """A schedule with its memory.

    Attributes:
        steps: In order.
        offsets: Of the first code of each tensor in the block, by its name, multiples of four.
        size: Bytes of the block.
        live: Bytes of codes that are needed at once, at most: no block is smaller.
    """

    steps: tuple[Step, ...]
    offsets: dict[str, int]
    size: int
    live: int


@dataclass(eq=False)
class _Buffer:
    """A part of the block: one tensor, or several that take one another's place.

    Attributes:
        first: Step at which it is written first; -1 for the images.
        last: Step at which it is read last.
    """

    names: list[str]
    size: int
    first: int
    last: int
    offset: int = 0

    def meets(self, other: _Buffer) -> bool:
        return self.first <= other.last and other.first <= self.last


def plan(program: Program) -> Plan:
    """The schedule of ``program``: sums of two tensors with the layer before them, memory used again and again.

    Places are given by size, the largest first, each as low as what is live beside it allows.
    """
    steps = _steps(program)
    buffers = _buffers(program, steps)
    placed: list[_Buffer] = []
    for one in sorted(buffers, key=lambda buffer: (-buffer.size, buffer.first)):
        one.offset = _lowest(one, sorted((b for b in placed if b.meets(one)), key=lambda buffer: buffer.offset))
        placed.append(one)
    return Plan(
        steps=steps,
        offsets={name: one.offset for one in buffers for name in one.names},
        size=max(one.offset + one.size for one in buffers),
        live=max(sum(one.size for one in buffers if one.first <= now <= one.last) for now in range(len(steps))),
    )


def separate(program: Program) -> int:
    """Bytes of codes that are needed at once when every layer writes a tensor of its own: for comparison."""
    steps = tuple(Step(layer) for layer in program.layers)
    lives = _lives(program, steps)
    return max(
        sum(_size(program.activations[name]) for name, (first, last) in lives.items() if first <= now <= last)
        for now in range(len(steps))
    )


def other_addend(total: AnyLayer, name: str) -> str:
    """The addend of a sum of two tensors that is not ``name``; the same where both are."""
    return next((one for one in total.inputs if one != name), name)


def _steps(program: Program) -> tuple[Step, ...]:
    place = {layer.output.name: number for number, layer in enumerate(program.layers)}
    readers: dict[str, int] = {program.logits.name: 1}
    for name in (name for layer in program.layers for name in layer.inputs):
        readers[name] = readers.get(name, 0) + 1
    totals: dict[str, AnyLayer] = {}
    for layer in program.layers:
        if layer.residual:
            # The addend that is computed last: the other one is there when it is.
            last = max(layer.inputs, key=lambda name: place.get(name, -1))
            writer = program.writers.get(last)
            if writer is not None and writer.window is not None and readers[last] == 1:
                totals[last] = layer
    fused = {id(total) for total in totals.values()}
    return tuple(Step(layer, totals.get(layer.output.name)) for layer in program.layers if id(layer) not in fused)


def _lives(program: Program, steps: Sequence[Step]) -> dict[str, tuple[int, int]]:
    """The first and the last step of each tensor; that of the logits is behind the end."""
    lives = {program.input.name: (-1, 0)}
    for number, step in enumerate(steps):
        for name in step.reads:
            lives[name] = (lives[name][0], number)
        lives[step.output.name] = (number, number)
    lives[program.logits.name] = (lives[program.logits.name][0], len(steps))
    return lives


def _buffers(program: Program, steps: Sequence[Step]) -> list[_Buffer]:
    lives = _lives(program, steps)
    image = _Buffer([program.input.name], _size(program.input), *lives[program.input.name])
    found, holder = [image], {program.input.name: image}
    for number, step in enumerate(steps):
        name, size = step.output.name, _size(step.output)
        free = [one for read in step.overwrites if lives[read][1] == number and (one := holder[read]).size == size]
        if free:
            free[0].names.append(name)
            free[0].last = lives[name][1]
            holder[name] = free[0]
        else:
            holder[name] = _Buffer([name], size, *lives[name])
            found.append(holder[name])
    return found


def _size(activation: Activation) -> int:
    codes = 1
    for length in activation.shape:
        codes *= length
    return -(-codes // _ALIGNMENT) * _ALIGNMENT


def _lowest(one: _Buffer, beside: Sequence[_Buffer]) -> int:
    offset = 0
    for other in beside:
        if offset + one.size <= other.offset:
            break
        offset = max(offset, other.offset + other.size)
    return offset
