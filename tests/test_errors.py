"""The exception family: one line that says four things, and that survives a process boundary."""

from __future__ import annotations

import inspect
import pickle
from importlib import metadata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resnet8 import errors
from resnet8.errors import Resnet8Error, missing_extra

FAMILY = [
    kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, Resnet8Error)
]  # the base too


def test_says_four_things_in_one_line() -> None:
    error = errors.DataError("x.bin is no batch", found="3 bytes", expected="a pickle", remedy="fetch it anew")
    assert str(error) == "x.bin is no batch: found 3 bytes, expected a pickle; fetch it anew"
    assert (error.what, error.found, error.expected, error.remedy) == (
        "x.bin is no batch",
        "3 bytes",
        "a pickle",
        "fetch it anew",
    )


@pytest.mark.parametrize(
    ("facts", "text"),
    [
        ({}, "bad"),
        ({"found": "1"}, "bad: found 1"),
        ({"expected": "2"}, "bad: expected 2"),
        ({"remedy": "go"}, "bad; go"),
        ({"found": "1", "remedy": "go"}, "bad: found 1; go"),
        ({"found": ""}, "bad: found"),  # an empty finding is a finding
    ],
)
def test_leaves_out_what_is_not_known(facts: dict[str, str], text: str) -> None:
    assert str(Resnet8Error("bad", **facts)) == text


TEXTS = st.none() | st.text()


@settings(derandomize=True)
@given(kind=st.sampled_from(FAMILY), what=st.text(), found=TEXTS, expected=TEXTS, remedy=TEXTS)
def test_any_words_give_one_line_and_survive_pickling(
    kind: type[Resnet8Error], what: str, found: str | None, expected: str | None, remedy: str | None
) -> None:
    error = kind(what, found=found, expected=expected, remedy=remedy)
    assert len(str(error).splitlines()) <= 1
    back = pickle.loads(pickle.dumps(error))
    assert type(back) is kind
    assert vars(back) == vars(error)
    assert str(back) == str(error)


def test_every_member_is_a_nonzero_exit_and_documented() -> None:
    assert len(FAMILY) >= 10
    for kind in FAMILY:
        assert kind.exit_code != 0
        assert kind.__doc__


def test_a_refusal_can_be_told_from_other_quantization_errors() -> None:
    assert issubclass(errors.BackendRefusal, errors.QuantizationError)


def test_missing_extra_names_the_commands_that_install_it() -> None:
    error = missing_extra("torch", "torch")
    assert isinstance(error, errors.MissingExtraError)
    assert "torch" in error.what
    assert "«uv sync»" in str(error)
    assert f"pip install 'resnet8-{metadata.version('resnet8')}-py3-none-any.whl[torch]'" in str(error)
