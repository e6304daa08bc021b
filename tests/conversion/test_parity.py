"""The certificate: what counts as a difference, a tie, and a pass. NumPy only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from builders import CIFAR10, STRUCTURE, model
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from resnet8 import results
from resnet8.conversion.parity import TIE, TOLERANCE, certify, compare_pair, require
from resnet8.errors import ConversionError
from resnet8.results import Parity

if TYPE_CHECKING:
    from numpy.typing import NDArray


def answers(*rows: dict[int, float]) -> NDArray[np.float32]:
    """Probabilities that are 0 but for those given."""
    array = np.zeros((len(rows), 10), np.float32)
    for array_row, row in zip(array, rows, strict=True):
        for label, probability in row.items():
            array_row[label] = probability
    return array


def certificate(**probabilities: NDArray[np.float32]) -> Parity:
    return certify(
        {name: model(name) for name in probabilities}, probabilities, CIFAR10, STRUCTURE, (), known_file=None
    )


def test_a_hand_made_pair() -> None:
    first = answers({0: 0.5, 1: 0.25}, {2: 0.75, 3: 0.25}, {4: 0.5, 5: 0.5})
    second = answers({0: 0.5, 1: 0.25}, {2: 0.25, 3: 0.75}, {4: 0.5, 5: 0.5 + 2**-22})
    pair = compare_pair("a", "b", first, second)
    assert (pair.a, pair.b) == ("a", "b")
    assert pair.max_abs_difference == 0.5
    assert pair.worst_image == 1
    assert pair.differing_predictions == 2  # images 1 and 2
    assert pair.ties == 1  # image 2


def test_the_first_of_equally_bad_images_is_the_worst() -> None:
    pair = compare_pair("a", "b", answers({0: 1}, {0: 1}, {0: 1}), answers({0: 1}, {0: 0.5}, {0: 0.5}))
    assert pair.worst_image == 1


@pytest.mark.parametrize(
    ("first", "second", "tie"),
    [
        ({0: 0.5, 1: 0.5}, {0: 0.4999995, 1: 0.5}, True),
        ({0: 0.5000005, 1: 0.5}, {0: 0.5, 1: 0.5000005}, True),
        ({0: 0.500002, 1: 0.5}, {0: 0.5, 1: 0.5000005}, False),  # the first of them was sure
        ({0: 0.5000005, 1: 0.5}, {0: 0.5, 1: 0.500002}, False),  # the second was
        ({0: 0.6, 1: 0.4}, {0: 0.4, 1: 0.6}, False),
    ],
)
def test_a_tie_is_one_in_both(first: dict[int, float], second: dict[int, float], tie: bool) -> None:
    assert TIE == 1e-6
    pair = compare_pair("a", "b", answers(first), answers(second))
    assert (pair.differing_predictions, pair.ties) == (1, int(tie))


ARRAYS: Any = hnp.arrays(np.float32, (8, 10), elements=st.floats(0, 1, width=32))


@settings(derandomize=True, max_examples=50)
@given(first=ARRAYS, second=ARRAYS)
def test_laws(first: NDArray[np.float32], second: NDArray[np.float32]) -> None:
    forth, back = compare_pair("a", "b", first, second), compare_pair("b", "a", second, first)
    assert (forth.a, forth.b) == (back.b, back.a)
    assert forth.max_abs_difference == back.max_abs_difference
    assert (forth.worst_image, forth.differing_predictions, forth.ties) == (
        back.worst_image,
        back.differing_predictions,
        back.ties,
    )
    assert forth.ties <= forth.differing_predictions <= 8
    oracle = max(abs(float(a) - float(b)) for a, b in zip(first.flat, second.flat, strict=True))
    assert forth.max_abs_difference == oracle
    same = compare_pair("a", "a", first, first)
    assert (same.max_abs_difference, same.differing_predictions) == (0.0, 0)


def test_certificate_compares_every_two() -> None:
    right = answers({0: 0.75, 1: 0.25})
    proof = certificate(keras=right, onnxruntime=right + np.float32(2**-20), pytorch=right)
    assert [(pair.a, pair.b) for pair in proof.pairs] == [
        ("keras", "onnxruntime"),
        ("keras", "pytorch"),
        ("onnxruntime", "pytorch"),
    ]
    assert [pair.max_abs_difference for pair in proof.pairs] == [2**-20, 0, 2**-20]
    assert proof.passed
    assert proof.images == 1
    assert proof.tolerance == TOLERANCE == 1e-4
    assert set(proof.models) == {"keras", "onnxruntime", "pytorch"}
    assert proof.structure == STRUCTURE
    require(*proof.pairs)
    assert results.from_json(Parity, results.to_json(proof), "it") == proof


@pytest.mark.parametrize(
    ("other", "passed"),
    [
        ({0: 0.75 - 2**-14, 1: 0.25}, True),  # 6.1e-5
        ({0: 0.75 - 2**-13, 1: 0.25}, False),  # 1.2e-4
        ({0: float("nan"), 1: 0.25}, False),
    ],
)
def test_the_limit(other: dict[int, float], passed: bool) -> None:
    assert certificate(a=answers({0: 0.75, 1: 0.25}), b=answers(other)).passed is passed


def test_a_differing_prediction_fails_however_small_the_difference() -> None:
    close = certificate(a=answers({0: 0.50002, 1: 0.5}), b=answers({0: 0.5, 1: 0.50002}))
    assert close.pairs[0].max_abs_difference < TOLERANCE
    assert not close.passed
    with pytest.raises(ConversionError, match="1 predictions, 0 of them ties"):
        require(*close.pairs)


def test_a_tie_passes() -> None:
    proof = certificate(a=answers({0: 0.5, 1: 0.5}), b=answers({0: 0.5, 1: 0.5 + 2**-22}))
    assert (proof.pairs[0].differing_predictions, proof.passed) == (1, True)
    require(*proof.pairs)


def test_failure_names_the_worst_pair_and_image() -> None:
    right = answers({0: 0.75}, {1: 0.75})
    proof = certificate(keras=right, onnxruntime=right, pytorch=answers({0: 0.75}, {1: 0.25}))
    with pytest.raises(ConversionError) as caught:
        require(*proof.pairs)
    error = caught.value
    assert "keras and pytorch differ" in error.what
    assert "5.00e-01 (image 1)" in str(error.found)
    assert "at most 1e-04" in str(error.expected)
    assert error.remedy
