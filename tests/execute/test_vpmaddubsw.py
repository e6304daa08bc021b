"""The int16 step of VPMADDUBSW against the instruction's definition, one pair of bytes at a time."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from quantized import activation, network, random_codes, refilled, weighted

from resnet8.execute import engine
from resnet8.execute.vpmaddubsw import affected, pairs, saturating
from resnet8.numeric.grid import limits

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from resnet8.network.layers import Weighted
    from resnet8.numeric.grid import Dtype


def literally(layer: Weighted, codes: NDArray[Any]) -> NDArray[Any]:
    """Accumulators as the instructions make them, in plain Python.

    A row of unsigned bytes and a column of signed ones; products of neighbours are added and clipped to int16, those
    sums added up in int32. The zero point of the activations is taken off then, ``zero * sum(w)``; the bias is added.
    """
    shift = -limits(layer.x.params.dtype)[0]
    rows = im2col(layer, codes, shift)
    columns = layer.weights.codes.reshape(-1, layer.weights.shape[-1]).T.tolist()
    zero = layer.x.zero_point + shift
    result = []
    for row in rows:
        for channel, column in enumerate(columns):
            products = [x * w for x, w in zip(row, column, strict=True)]
            products += [0] * (len(products) % 2)
            total = sum(min(max(products[i] + products[i + 1], -32768), 32767) for i in range(0, len(products), 2))
            result.append(total - zero * sum(column) + int(layer.added[channel]))
    return np.array(result).reshape(len(codes), *layer.output.shape)


def im2col(layer: Weighted, codes: NDArray[Any], shift: int) -> list[list[int]]:
    height, width, channels = layer.x.shape if len(layer.x.shape) == 3 else (1, 1, layer.x.shape[0])
    rows, columns = layer.output.shape[:2] if len(layer.output.shape) == 3 else (1, 1)
    result = []
    for image in codes.reshape(-1, height, width, channels).tolist():
        for row in range(rows):
            for column in range(columns):
                depth = []
                for i in range(layer.weights.shape[0]):
                    for j in range(layer.weights.shape[1]):
                        y = row * layer.strides[0] + i - layer.pads[0]
                        x = column * layer.strides[1] + j - layer.pads[1]
                        inside = 0 <= y < height and 0 <= x < width
                        depth += image[y][x] if inside else [layer.x.zero_point] * channels
                result.append([code + shift for code in depth])
    return result


def heavy(
    seed: int,
    x: Any,
    *,
    kernel: tuple[int, int] = (3, 3),
    strides: tuple[int, int] = (1, 1),
    pads: tuple[int, int, int, int] = (1, 1, 1, 1),
    dense: bool = False,
    out: int = 6,
) -> Weighted:
    """Weights of which half are at ±127, in runs of one sign, so that pairs saturate at both ends."""
    rng = np.random.default_rng(seed)
    shape = (out,) if dense else (0, 0, out)
    options: dict[str, Any] = {"dense": True} if dense else {"kernel": kernel, "strides": strides, "pads": pads}
    layer = weighted(rng, x, activation("y", shape), bias=1000, per_channel=True, **options)
    weights = layer.weights.codes.copy()
    extreme = rng.random(weights.shape) < 0.6
    weights[extreme] = rng.choice([-127, 127], weights.shape)[extreme]
    return refilled(layer, weights)


def bright(rng: np.random.Generator, shape: tuple[int, ...], dtype: Dtype) -> NDArray[Any]:
    """Codes near the top, where products are large."""
    high = limits(dtype)[1]
    return (high - np.minimum(rng.geometric(0.02, shape) - 1, 255)).astype(dtype)


@pytest.mark.parametrize("zero", [0, 17, 128, 255])
@pytest.mark.parametrize("dtype", ["uint8", "int8"])
@pytest.mark.parametrize(
    ("shape", "options"),
    [
        ((4, 5, 2), {}),  # depth 18
        ((4, 5, 3), {}),  # depth 27: odd, the last weight has no neighbour
        ((5, 5, 1), {"strides": (2, 2), "pads": (0, 0, 1, 1)}),  # depth 9: pairs cross the kernel's rows
        ((3, 3, 7), {"kernel": (1, 1), "pads": (0, 0, 0, 0)}),
        ((11,), {"dense": True}),
        ((12,), {"dense": True}),
        ((1,), {"dense": True}),
    ],
    ids=["even", "odd", "strided", "1x1", "dense odd", "dense even", "dense of one"],
)
def test_accumulators_are_those_of_the_instruction(
    shape: tuple[int, ...], options: dict[str, Any], dtype: Dtype, zero: int
) -> None:
    low = limits(dtype)[0]
    layer = heavy(50, activation("x", shape, zero_point=low + zero, dtype=dtype), **options)
    codes = bright(np.random.default_rng(51), (3, *shape), dtype)
    found = saturating(layer, codes)
    np.testing.assert_array_equal(found, literally(layer, codes))
    changed = (found != engine.accumulate(layer, codes)).mean()
    assert changed > 0.1 if shape != (1,) else changed == 0


def test_both_ends_saturate() -> None:
    layer = heavy(52, activation("x", (2,)), dense=True, out=3)
    weights = np.array([[127, -127, 127], [127, -127, -127]], np.int8).reshape(1, 1, 2, 3)
    layer = refilled(layer, weights, bias=np.zeros(3, np.int32))
    codes = np.array([[129, 129], [255, 3], [130, 128], [0, 0], [255, 255], [255, 4]], np.uint8)
    fit = [[32766, -32766, 0], [32766, -32766, 32004], [32766, -32766, 254], [0, 0, 0]]
    assert engine.accumulate(layer, codes).tolist() == [*fit, [64770, -64770, 0], [32893, -32893, 31877]]
    assert saturating(layer, codes).tolist() == [*fit, [32767, -32768, 0], [32767, -32768, 31877]]


def test_the_least_int16_is_no_saturation() -> None:
    """-32768 fits int16 and 32768 does not: -128 * 128 * 2, and 128 * 128 * 2 with a weight that int8 does not have."""
    layer = heavy(53, activation("x", (2,)), dense=True, out=1)
    weights = np.full((1, 1, 2, 1), -128, np.int8)
    layer = refilled(layer, weights, bias=np.zeros(1, np.int32))
    codes = np.array([[128, 128], [128, 129], [129, 128]], np.uint8)
    assert engine.accumulate(layer, codes).ravel().tolist() == [-32768, -32896, -32896]
    assert saturating(layer, codes).ravel().tolist() == [-32768, -32768, -32768]


def test_int8_activations_are_shifted_by_128() -> None:
    """Code 127 is the byte 255; the shift makes products large that would have been small."""
    x = activation("x", (2,), zero_point=0, dtype="int8")
    weights = np.full((1, 1, 2, 1), 127, np.int8)
    layer = refilled(heavy(54, x, dense=True, out=1), weights, bias=np.array([0], np.int32))
    codes = np.array([[1, 1], [0, 1], [2, 2], [127, 127], [-128, -128]], np.int8)
    # bytes 129 + 129: 32766, fits; 130 + 130: 33020, 253 too large
    wanted = [254, 127, 508 - 253, 2 * 127 * 127 - (64770 - 32767), -2 * 128 * 127]
    assert saturating(layer, codes).ravel().tolist() == wanted


def test_padding_is_the_byte_of_the_zero_point() -> None:
    """A padded pair has products of zero * w, which saturate like any other."""
    x = activation("x", (1, 1, 2), zero_point=255)
    layer = heavy(55, x, kernel=(3, 3), pads=(1, 1, 1, 1), out=1)
    layer = refilled(layer, np.full((3, 3, 2, 1), 127, np.int8), bias=np.array([0], np.int32))
    codes = np.array([[[[255, 255]]]], np.uint8)
    assert engine.accumulate(layer, codes).ravel().tolist() == [0]
    assert saturating(layer, codes).ravel().tolist() == [9 * (32767 - 64770)]
    np.testing.assert_array_equal(saturating(layer, codes), literally(layer, codes))


def test_the_pairs_found_are_those_that_can_saturate() -> None:
    layer = heavy(56, activation("x", (3, 3, 3)))
    columns = layer.weights.codes.reshape(-1, 6).T.tolist()
    wanted = set()
    for channel, column in enumerate(columns):
        padded = [*column, 0]
        for i in range(0, 28, 2):
            sums = [x * padded[i] + y * padded[i + 1] for x in (0, 255) for y in (0, 255)]
            if max(sums) > 32767 or min(sums) < -32768:
                wanted.add((i // 2, channel))
    index, channel = pairs(layer)
    assert set(zip(index.tolist(), channel.tolist(), strict=True)) == wanted
    assert 10 < len(wanted) < 14 * 6


def test_small_weights_never_saturate() -> None:
    rng = np.random.default_rng(57)
    layer = weighted(rng, activation("x", (5, 5, 4)), activation("y", (0, 0, 3)), kernel=(3, 3), largest=64)
    assert not len(pairs(layer)[0])
    codes = np.full((2, 5, 5, 4), 255, np.uint8)
    np.testing.assert_array_equal(saturating(layer, codes), engine.accumulate(layer, codes))


@pytest.mark.parametrize("dtype", ["uint8", "int8"])
def test_layers_of_other_kernels_are_exact(dtype: Dtype) -> None:
    x = activation("x", (4, 4, 3), zero_point=9, dtype=dtype)
    signed = heavy(58, x)
    unsigned = weighted(
        np.random.default_rng(59), x, activation("y", (0, 0, 6)), kernel=(3, 3), pads=(1, 1, 1, 1), dtype="uint8"
    )
    codes = bright(np.random.default_rng(60), (2, 4, 4, 3), dtype)
    assert affected(signed)
    assert (saturating(signed, codes) != engine.accumulate(signed, codes)).any()
    for layer in (replace(signed, kernel="float"), unsigned, replace(unsigned, kernel="float")):
        assert not affected(layer)
        np.testing.assert_array_equal(saturating(layer, codes), engine.accumulate(layer, codes))


def test_codes_are_not_written_to_and_images_do_not_mix() -> None:
    layer = heavy(61, activation("x", (4, 4, 3)))
    codes = random_codes(np.random.default_rng(62), (5, 4, 4, 3), "uint8")
    before = codes.copy()
    together = saturating(layer, codes)
    np.testing.assert_array_equal(codes, before)
    for i in range(5):
        np.testing.assert_array_equal(saturating(layer, codes[i : i + 1])[0], together[i])


def test_a_whole_network_runs_with_saturating_accumulators() -> None:
    program = network(largest=127)
    images = np.random.default_rng(63).integers(0, 256, (5, 32, 32, 3), np.uint8)
    codes = engine.input_codes(program, images)
    wrote: dict[str, Any] = {}
    engine.run(program, codes, accumulators=saturating, watch=wrote.__setitem__)
    by_hand = engine.step(program.layers[0], {"image": codes}, accumulators=literally)
    np.testing.assert_array_equal(wrote["first"], by_hand)
