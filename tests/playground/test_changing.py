"""Changes as they are entered and added up: what is news, what undoes, what each does; and which layers hold one."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from quantized import assert_same_program, network
from reals import real_of

from resnet8.errors import QuantizationError
from resnet8.network.change import Change, apply
from resnet8.numeric.grid import QParams, qparams
from resnet8.numeric.variants import ROUNDINGS
from resnet8.playground.changing import Effect, added, changed_layers, effects, entered, present, without
from resnet8.playground.noise import INPUT

if TYPE_CHECKING:
    from resnet8.network.program import Program

PER_TENSOR = network(4)
PER_CHANNEL = network(4, per_channel=True)
JOINED = PER_TENSOR.activations["joined"].params
WEIGHTS = PER_CHANNEL.writers["logits"].parameter


def change_of(tensor: str, field: Any, value: Any, channel: int | None = None) -> Change:
    return Change(tensor, field, value, channel)


# --- what was entered ---


@pytest.mark.parametrize(
    ("field", "text", "channel", "expected"),
    [
        ("scale", " 0.05 ", "", Change("t", "scale", 0.05)),
        ("factor", 2.0, " 3 ", Change("t", "factor", 2.0, 3)),
        ("zero_point", "-7", "0", Change("t", "zero_point", -7, 0)),
        ("zero_point", 0, "", Change("t", "zero_point", 0)),
        ("bits", 4, "", Change("t", "bits", 4)),
        ("rounding", "truncate", "", Change("t", "rounding", "truncate")),
    ],
)
def test_texts_become_numbers(field: Any, text: object, channel: str, expected: Change) -> None:
    change = entered("t", field, text, channel)
    assert change == expected
    assert type(change.value) is type(expected.value)


@pytest.mark.parametrize(
    ("field", "text", "channel", "message"),
    [
        ("scale", "much", "", "t: the scale is no number: found 'much', expected a number; write it like"),
        ("bits", "4.5", "", "t: the bits is no whole number: found 4.5"),
        ("zero_point", "nan", "", "t: the zero_point is no whole number: found nan"),
        ("scale", "1", "-1", "the channel is no number: found -1, expected the number of an output channel, from 0"),
        ("scale", "1", "²", "the channel is no number"),
    ],
)
def test_what_is_no_number_is_refused(field: Any, text: object, channel: str, message: str) -> None:
    with pytest.raises(QuantizationError, match=re.escape(message)):
        entered("t", field, text, channel)


@pytest.mark.parametrize(
    ("field", "told"),
    [
        ("scale", "no scale was given: found nothing, expected a scale; type a scale; each channel has its own"),
        ("factor", "no factor was given: found nothing, expected a factor; type a factor"),
        ("zero_point", "expected a zero point; type a zero point; each channel has its own"),
        ("bits", "expected a number of bits; type a number of bits"),
        ("rounding", "expected a rounding; type a rounding"),
    ],
)
@pytest.mark.parametrize("blank", ["", "  ", None])
def test_what_is_blank_is_refused(field: Any, told: str, blank: object) -> None:
    with pytest.raises(QuantizationError, match=re.escape(told) + "$"):
        entered("t", field, blank)


# --- what is news ---


def refused(before: tuple[Change, ...], change: Change, original: Program = PER_TENSOR) -> str:
    with pytest.raises(QuantizationError) as caught:
        added(before, change, original)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("scale", "1.10000002", "scale 1.10000002, expected another scale than it has already; type another scale"),
        ("scale", "1.1", "scale 1.1, expected another scale"),
        ("factor", "1", "factor 1, expected another factor"),
        ("factor", "1.00000001", "factor 1.00000001"),
        ("zero_point", "105", "zero point 105"),
        ("bits", 8, "number of bits 8"),
        ("rounding", "half-even", "rounding half-even"),
    ],
)
def test_what_the_tensor_has_is_no_news(field: Any, value: object, told: str) -> None:
    assert f"{float(JOINED.scale):.9g}" == "1.10000002"
    message = refused((), entered("joined", field, value))
    assert message.startswith(f"joined: nothing would change: found {told}")


def test_what_an_earlier_change_gave_the_tensor_is_no_news() -> None:
    for before, change in (
        (change_of("joined", "scale", 0.5), change_of("joined", "scale", 0.5)),
        (change_of("joined", "factor", 2.0), change_of("joined", "factor", 2.0)),
        (change_of("joined", "factor", 2.0), change_of("joined", "scale", 2.2)),
        (change_of("joined", "scale", 1.0), change_of("joined", "factor", 1.0)),
        (change_of("joined", "bits", 4), change_of("joined", "bits", 4)),
        (change_of("joined", "rounding", "truncate"), change_of("joined", "rounding", "truncate")),
    ):
        assert added((), before, PER_TENSOR) == (before,)
        assert "nothing would change" in refused((before,), change)


def test_a_scale_of_one_channel_is_compared_with_that_channels() -> None:
    assert WEIGHTS is not None
    scales = WEIGHTS.params.scale
    own = entered("dense.w", "scale", f"{scales[3]:.9g}", "3")
    assert "nothing would change" in refused((), own, PER_CHANNEL)
    other = entered("dense.w", "scale", f"{scales[3]:.9g}", "4")
    assert added((), other, PER_CHANNEL) == (other,)


def test_what_makes_no_sense_is_said_as_such() -> None:
    assert "the tensor is not known" in refused((), change_of("nothing", "scale", 1.0))
    assert "a scale makes no sense" in refused((), change_of("joined", "scale", -1.0))
    assert "has no such channel" in refused((), change_of("joined", "scale", 1.0, 3))
    assert "has no rounding of its own" in refused((), change_of("image", "rounding", "truncate"))


# --- what takes the place of what ---


@pytest.mark.parametrize(
    ("before", "change", "expected"),
    [
        ("joined scale 2", "joined scale 3", "joined scale 3"),
        ("joined factor 2", "joined factor 3", "joined factor 3"),
        ("joined scale 2, joined factor 3", "joined scale 4", "joined scale 4"),
        ("joined scale 2", "joined factor 3", "joined scale 2, joined factor 3"),
        ("joined scale 2, joined factor 3", "joined factor 4", "joined scale 2, joined factor 4"),
        ("joined scale 2, second scale 3", "joined scale 4", "second scale 3, joined scale 4"),
        ("joined bits 4", "joined scale 2", "joined bits 4, joined scale 2"),
        ("joined bits 4, joined zero_point 3", "joined zero_point 5", "joined bits 4, joined zero_point 5"),
        ("dense.w scale 2 1", "dense.w scale 3 2", "dense.w scale 2 1, dense.w scale 3 2"),
        ("dense.w scale 2 1, dense.w factor 3 2", "dense.w scale 4", "dense.w scale 4"),
        ("dense.w scale 2 1", "dense.w factor 3", "dense.w scale 2 1, dense.w factor 3"),
        ("dense.w scale 2", "dense.w scale 3 1", "dense.w scale 2, dense.w scale 3 1"),
        ("dense.w zero_point 2 1", "dense.w zero_point 3", "dense.w zero_point 3"),
        # back to what the original has: as if the earlier change were undone
        ("joined scale 2", "joined scale 1.1", ""),
        ("joined factor 2", "joined factor 1", ""),
        ("joined factor 2", "joined scale 1.1", ""),
        ("joined scale 2, joined factor 3", "joined factor 1", "joined scale 2"),
        ("joined zero_point 3", "joined zero_point 105", ""),
        ("joined bits 4, second bits 3", "joined bits 8", "second bits 3"),
        ("joined rounding truncate", "joined rounding half-even", ""),
        # fewer bits have another scale: the one that was typed counts
        ("joined bits 4", "joined scale 1.1", "joined bits 4, joined scale 1.1"),
    ],
)
def test_one_change_more(before: str, change: str, expected: str) -> None:
    earlier, (more,), wanted = map(changes_of, (before, change, expected))
    assert added(earlier, more, PER_CHANNEL) == wanted


def changes_of(text: str) -> tuple[Change, ...]:
    """Of ``tensor field value channel`` each, commas between."""
    parts = (one.split() for one in text.split(", ") if one)
    return tuple(entered(tensor, field, value, *channel) for tensor, field, value, *channel in parts)  # type: ignore[arg-type]


CHANGES = st.one_of(
    st.builds(change_of, st.sampled_from(["joined", "dense.w"]), st.just("scale"), st.sampled_from([0.5, 1.1, 2.0])),
    st.builds(change_of, st.sampled_from(["joined", "dense.w"]), st.just("factor"), st.sampled_from([0.5, 1.0, 2.0])),
    st.builds(change_of, st.just("joined"), st.just("zero_point"), st.sampled_from([0, 3, 105])),
    st.builds(change_of, st.sampled_from(["joined", "dense.w"]), st.just("bits"), st.sampled_from([4, 6, 8])),
    st.builds(change_of, st.just("joined"), st.just("rounding"), st.sampled_from(ROUNDINGS)),
    st.builds(change_of, st.just("dense.w"), st.just("scale"), st.sampled_from([0.01, 0.5]), st.sampled_from([0, 7])),
    st.builds(change_of, st.just("dense.w"), st.just("factor"), st.sampled_from([0.5, 2.0]), st.sampled_from([0, 7])),
)


@settings(derandomize=True, max_examples=50)
@given(st.lists(CHANGES, max_size=6))
def test_what_is_added_is_always_seen(wanted: list[Change]) -> None:
    """Each change that is taken makes another network of it; each that is refused would not have."""
    changes: tuple[Change, ...] = ()
    for change in wanted:
        before = facts(apply(PER_CHANNEL, changes), change.tensor)
        try:
            more = added(changes, change, PER_CHANNEL)
        except QuantizationError as error:
            if "nothing would change" in str(error):
                kept = [one for one in changes if (one.tensor, one.field, one.channel) != key(change)]
                assert facts(apply(PER_CHANNEL, [*kept, change]), change.tensor) == before
            continue
        assert facts(apply(PER_CHANNEL, more), change.tensor) != before
        changes = more
        assert len({key(one) for one in changes}) == len(changes)


def key(change: Change) -> tuple[object, ...]:
    return change.tensor, change.field, change.channel


def facts(program: Program, tensor: str) -> tuple[object, ...]:
    """Everything a change of this tensor can be seen by; codes of weights are those of a grid."""
    found = program.activations.get(tensor) or next(
        one for layer in program.layers if (one := layer.parameter) is not None and one.name == tensor
    )
    rounding = program.writers[tensor].rounding if tensor in program.writers else None
    grid = found.params
    return grid.dtype, tuple(np.ravel(grid.scale)), tuple(np.ravel(grid.zero_point)), rounding


def test_one_of_the_changes_is_undone() -> None:
    changes = changes_of("joined scale 2, second bits 4, mean factor 3")
    assert without(changes, 1) == (changes[0], changes[2])
    assert without(changes[:1], 0) == ()
    for number in (-1, 3):
        with pytest.raises(QuantizationError, match=rf"there is no change {number + 1}: found 3 changes"):
            without(changes, number)


# --- what each change does ---


def told(original: Program, text: str) -> list[tuple[str, str, str]]:
    changes = changes_of(text)
    found = effects(original, changes, apply(original, changes))
    assert [(one.tensor, one.field, one.channel) for one in found] == [key(one) for one in changes]
    return [(one.old, one.new, one.resulting) for one in found]


def test_an_effect_is_of_its_change() -> None:
    changes = (Change("joined", "scale", 0.123456789),)
    (found,) = effects(PER_TENSOR, changes, apply(PER_TENSOR, changes))
    assert found == Effect("joined", "scale", None, "1.1", "0.123457", "s 0.1235, z 105, 8 bits")
    assert effects(PER_TENSOR, (), PER_TENSOR) == ()


def test_effects_of_activations() -> None:
    assert told(PER_TENSOR, "joined zero_point 7, second rounding truncate, mean factor 2, mean bits 4") == [
        ("105", "7", "s 1.1, z 7, 8 bits"),
        ("half-even", "truncate", "truncate"),
        # around the middle code: 2 * 0.5 * 127 / 7
        ("0.5", "× 2", "s 18.14, z 8, 4 bits"),
        ("8", "4", "s 18.14, z 8, 4 bits"),
    ]
    assert told(network(4, "int8"), "joined zero_point -7") == [("−23", "−7", "s 1.1, z −7, 8 bits")]


def test_effects_of_weights() -> None:
    assert WEIGHTS is not None
    scales = WEIGHTS.params.scale
    low, high = f"{scales.min():.3g}", f"{scales.max():.3g}"
    assert told(PER_CHANNEL, "dense.w scale 0.25 3") == [(f"{scales[3]:.6g}", "0.25", "s 0.25, z 0, 8 bits")]
    assert told(PER_CHANNEL, "dense.w scale 0.25") == [
        (f"{low} … {high} per channel", "0.25", "s 0.25 … 0.25 per channel, z 0, 8 bits")
    ]
    # Codes of four bits lie in the file as int8; they are four bits all the same.
    ((old, new, resulting),) = told(PER_CHANNEL, "dense.w bits 4")
    assert (old, new) == ("8", "4")
    assert resulting.endswith("per channel, z 0, 4 bits")


# --- where a change is ---


@pytest.mark.parametrize(
    ("text", "layers"),
    [
        ("", set()),
        ("image factor 2", {INPUT}),
        ("joined factor 2", {"joining"}),
        ("joined bits 4, second_conv.w factor 2", {"joining", "second_conv"}),
        ("second rounding truncate", {"second_conv"}),
        ("dense.w scale 0.5 3", {"dense"}),
        ("scaling.c factor 2, shifting.c zero_point 100", {"scaling", "shifting"}),
        ("joined factor 2, joined factor 0.5", set()),
    ],
)
@pytest.mark.parametrize("with_reference", [False, True])
def test_the_layers_that_hold_a_change(text: str, layers: set[str], with_reference: bool) -> None:
    reference = real_of(network(4, per_channel=True)) if with_reference else None
    assert changed_layers(PER_CHANNEL, apply(PER_CHANNEL, changes_of(text), reference)) == layers


def test_accumulators_hold_no_change_of_their_own() -> None:
    original = network(4).with_float_logits()
    changed = apply(original, changes_of("mean factor 2"))
    assert not changed.logits.params.same_as(original.logits.params)
    assert changed_layers(original, changed) == {"pool"}
    assert changed_layers(original, apply(original, changes_of("dense.w factor 2"))) == {"dense"}
    assert changed_layers(original, apply(original, changes_of("logits scale 0.5"))) == {"dense"}
    assert_same_program(apply(original, ()), original)


# --- what a tensor has ---


@pytest.mark.parametrize(
    ("field", "channel", "value", "words"),
    [
        ("scale", "", "", "0.1 … 0.3 per channel"),
        ("scale", "1", "0.3", "0.3"),
        ("scale", " 0 ", "0.1", "0.1"),
        ("scale", "7", "", "0.1 … 0.3 per channel"),  # there is no such channel: Run says so
        ("scale", "x", "", "0.1 … 0.3 per channel"),
        ("zero_point", "", "-1", "-1"),  # all have the same
    ],
)
def test_what_is_there_is_shown_as_it_would_be_typed(field: Any, channel: str, value: str, words: str) -> None:
    grid = QParams(np.array([0.1, 0.3], np.float32), np.array([-1, -1], np.int32), "int8")
    assert present(grid, field, channel) == (value, words)


def test_a_value_for_all_is_blank_where_channels_differ() -> None:
    grid = QParams(np.array([0.1, 0.1], np.float32), np.array([0, -1], np.int32), "int8")
    assert present(grid, "zero_point") == ("", "−1 … 0")
    assert present(qparams(0.3, 5, "uint8"), "scale") == ("0.3", "0.3")
