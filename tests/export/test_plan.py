"""Layers that share a block of memory compute what they compute with memory of their own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from quantized import activation, addition, network, pool, weighted

from resnet8.data import demo
from resnet8.data.cifar10 import random_images
from resnet8.execute import engine
from resnet8.export.plan import Plan, plan, separate
from resnet8.facts import IMAGE_SHAPE
from resnet8.network.program import Program
from resnet8.numeric.variants import Requantization
from resnet8.runtimes.integer import open_integer

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from resnet8.network.layers import AnyLayer
    from resnet8.network.tensors import Activation

HOW = Requantization("fixed32")


def run_in_one_block(program: Program, schedule: Plan, codes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The logits of one image, when every code lies where the plan says and nowhere else."""
    memory = np.full(schedule.size, 0x55, np.uint8)

    def put(one: Activation, values: NDArray[np.uint8]) -> None:
        offset = schedule.offsets[one.name]
        assert offset % 4 == 0
        memory[offset : offset + values.size] = values.view(np.uint8).reshape(-1)

    def get(one: Activation) -> NDArray[np.uint8]:
        offset = schedule.offsets[one.name]
        taken = memory[offset : offset + int(np.prod(one.shape))].copy()
        return taken.view(one.dtype).reshape(1, *one.shape)

    put(program.input, codes)
    for step in schedule.steps:
        values: dict[str, NDArray[np.uint8]] = {}
        for layer in step.layers:
            for one in layer.reads:
                if one.name not in values:
                    values[one.name] = get(one)
            values[layer.output.name] = engine.step(layer, values, HOW)
        put(step.output, values[step.output.name])
    return get(program.logits)


def assert_plan_computes(program: Program) -> Plan:
    schedule = plan(program)
    codes = engine.input_codes(program, random_images(1, seed=8).images)
    found = run_in_one_block(program, schedule, codes)
    np.testing.assert_array_equal(found.reshape(1, -1), engine.run(program, codes, HOW))
    assert schedule.live <= schedule.size
    return schedule


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_every_kind_of_layer(dtype: str) -> None:
    program = network(dtype=dtype)
    schedule = assert_plan_computes(program)
    # The residual sum is computed with the convolution before it; all other layers are steps.
    assert [step.total is not None for step in schedule.steps].count(True) == 1
    assert sum(len(step.layers) for step in schedule.steps) == len(program.layers)


def test_the_real_networks_need_no_more_than_is_live() -> None:
    models = Path(demo.__file__).parent / "run/models"
    folded = open_integer(models / "resnet8_ort-7bit-weights.onnx").program
    schedule = assert_plan_computes(folded)
    assert (schedule.size, schedule.live, separate(folded)) == (32_768, 32_768, 49_152)
    unfolded = assert_plan_computes(open_integer(models / "resnet8_int8.onnx").program)
    assert (unfolded.size, unfolded.live) == (49_152, 49_152)


def branches(*, own: bool, again: bool) -> Program:
    """A map, a convolution of it, and their sum; ``own``: of two of the same, ``again``: the map is read later, too."""
    rng = np.random.default_rng(5)
    image = activation("image", IMAGE_SHAPE, 1.0)
    first = weighted(rng, image, activation("first", (0, 0, 4), 40.0, 120), kernel=(8, 8), strides=(8, 8), name="first")
    second = weighted(rng, first.output, activation("second", (0, 0, 4), 30.0, 110), name="second")
    other = second.output if own else first.output
    joined = addition(second.output, other, activation("joined", first.output.shape, 60.0, 100), "joined")
    layers: list[AnyLayer] = [first, second, joined]
    last = joined.output
    if again:
        more = addition(last, first.output, activation("more", last.shape, 70.0, 90), "more")
        layers.append(more)
        last = more.output
    mean = pool(last, activation("mean", (1, 1, 4), 60.0, 100))
    flat = replace(mean.output, shape=(4,), nchw=False)
    dense = weighted(rng, flat, activation("logits", (10,), 50.0, 128), dense=True, name="dense")
    return Program(image, (*layers, mean, dense), dense.output, softmax=True, probabilities=None)


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("again", [False, True])
def test_what_is_read_again_is_not_written_over(own: bool, again: bool) -> None:
    schedule = assert_plan_computes(branches(own=own, again=again))
    (step,) = [step for step in schedule.steps if step.layer.name == "second"]
    assert (step.total is None) == own  # a sum of a tensor with itself reads its codes twice
    # The convolution reads all of a position's channels before it writes one: no tensor that it reads is written over.
    assert schedule.offsets["joined"] != schedule.offsets["first"]


def test_logits_are_kept_to_the_end() -> None:
    program = branches(own=False, again=False)
    early = replace(program, logits=program.layers[0].output)  # the later layers run all the same
    schedule = plan(early)
    codes = engine.input_codes(early, random_images(1, seed=8).images)
    values: dict[str, NDArray[np.uint8]] = {}
    engine.run(early, codes, HOW, watch=values.__setitem__)
    np.testing.assert_array_equal(run_in_one_block(early, schedule, codes), values["first"])
