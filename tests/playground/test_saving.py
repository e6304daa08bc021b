"""The changed model as a file: valid, the same network, measured where it is not, never half written; as code."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from builders import noise
from quantized import assert_same_program, network, to_onnx

from resnet8.data.cifar10 import preprocess
from resnet8.errors import ModelError, StorageError
from resnet8.evaluation import record_path
from resnet8.facts import IR_VERSION, OPSET
from resnet8.files import sha256_file
from resnet8.network import onnx_write
from resnet8.network.change import Change, apply
from resnet8.network.layers import Weighted
from resnet8.network.onnx_read import extract
from resnet8.playground.flow import flow
from resnet8.playground.opened import open_file
from resnet8.playground.saving import (
    TRIED,
    ChangeRecord,
    Difference,
    beside,
    equivalent,
    free_name,
    save,
)
from resnet8.results import from_json, load, to_json
from resnet8.runtimes import integer, open_model
from resnet8.runtimes.ort import Trace

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from resnet8.data.cifar10 import Split
    from resnet8.network.layers import AnyLayer
    from resnet8.network.program import Program
    from resnet8.playground.opened import Opened

IMAGES = noise(32, 11)
DEMO = ("resnet8_int8.onnx", "resnet8_uint8.onnx", "resnet8_ort-7bit-weights.onnx")
NARROW = (Change("image", "bits", 7), Change("shifted", "bits", 4), Change("logits", "bits", 6))
MOVED = (
    Change("second", "zero_point", 30),
    Change("joined", "factor", 1.5),
    Change("second_conv.w", "bits", 4),
    Change("scaling.c", "factor", 1.1),
)


def written(folder: Path, form: Any = "qdq", **how: Any) -> Path:
    path = folder / "network.onnx"
    onnx.save(to_onnx(network(4, **how), form), path)
    return path


@pytest.mark.parametrize("changes", [(), NARROW, MOVED, (*NARROW, *MOVED)], ids=["none", "narrow", "moved", "all"])
@pytest.mark.parametrize("per_channel", [False, True], ids=["per-tensor", "per-channel"])
@pytest.mark.parametrize(("of_x", "of_w"), [("uint8", "int8"), ("uint8", "uint8"), ("int8", "int8")])
def test_what_is_written_is_read_back_the_same(of_x: Any, of_w: Any, per_channel: bool, changes: Any) -> None:
    changed = apply(network(1, of_x, of_w, per_channel=per_channel), changes)
    model = onnx_write.to_onnx(changed)
    assert (model.ir_version, [entry.version for entry in model.opset_import]) == (IR_VERSION, [OPSET])
    assert_same_program(extract(model, "changed.onnx"), changed)


@pytest.mark.parametrize("form", ["qdq", "qoperator"])
@pytest.mark.parametrize("changes", [NARROW, MOVED], ids=["narrow", "moved"])
def test_the_saved_file_predicts_in_onnx_runtime_what_was_promised(tmp_path: Path, form: Any, changes: Any) -> None:
    opened = open_file(written(tmp_path, form))
    changed = apply(opened.require_quantized(), changes)
    record = save(tmp_path / "out" / "changed.onnx", opened, changes)
    path = tmp_path / "out" / "changed.onnx"
    again = open_file(path)
    onnx.checker.check_model(onnx.load(path), full_check=True)
    np.testing.assert_array_equal(
        flow(again.require_quantized(), IMAGES).probabilities, flow(changed, IMAGES).probabilities
    )
    found = open_model(path).probabilities(preprocess(IMAGES))
    assert (found.argmax(axis=1) == flow(changed, IMAGES).probabilities.argmax(axis=1)).mean() >= 0.95
    assert record.model_sha256 == sha256_file(path) == again.description.sha256
    assert record.source == opened.description
    assert record.changes == tuple(changes)
    assert (record.reference, record.not_in_the_file) == (None, ())
    assert load(ChangeRecord, tmp_path / "out" / "changed.onnx.json") == record


def test_a_rounding_is_not_in_the_file_and_the_record_says_so(tmp_path: Path) -> None:
    opened = open_file(written(tmp_path))
    record = save(tmp_path / "changed.onnx", opened, [Change("second", "rounding", "truncate")])
    (lost,) = record.not_in_the_file
    assert lost.startswith("second: rounding truncate; ONNX has no place for a rounding")
    saved = open_file(tmp_path / "changed.onnx").require_quantized()
    assert all(layer.rounding is None for layer in saved.layers)
    assert_same_program(saved, opened.require_quantized())
    assert record.notice == f"Not in the file: {lost}; what it computes otherwise was not measured"


def test_a_rounding_that_files_have_is_not_said_to_be_lost(tmp_path: Path) -> None:
    opened = open_file(written(tmp_path))
    changes = [Change("second", "rounding", "truncate"), Change("second", "rounding", "half-even")]
    assert save(tmp_path / "changed.onnx", opened, changes).not_in_the_file == ()


# --- what is not in the file ---


def assert_measured(record: ChangeRecord, changed: Program, path: Path, images: NDArray[np.uint8]) -> None:
    """Against the activations and probabilities of both networks, as they are looked into."""
    one, other = flow(changed, images), flow(open_file(path).require_quantized(), images)
    name = changed.logits.name
    apart = np.abs(one.values[name].astype(int) - other.values[name].astype(int))
    classes = (one.probabilities.argmax(axis=1) != other.probabilities.argmax(axis=1)).sum()
    assert record.difference == Difference(len(images), classes, (apart != 0).mean(), apart.max())
    assert load(ChangeRecord, record_path(path)) == record


def test_what_a_lost_rounding_does_is_measured(tmp_path: Path) -> None:
    opened = open_file(written(tmp_path))
    changes = [Change(name, "rounding", "truncate") for name in ("second", "joined", "mean", "logits")]
    record = save(tmp_path / "changed.onnx", opened, changes, images=IMAGES)
    changed = apply(opened.require_quantized(), changes)
    assert_measured(record, changed, tmp_path / "changed.onnx", IMAGES)
    assert record.difference is not None
    assert record.difference.largest > 0
    assert record.notice.endswith(f"; {record.difference}")
    # A rounding that no code of the scores depends on.
    same = save(tmp_path / "same.onnx", opened, [Change("logits", "rounding", "half-away")], images=IMAGES[:1])
    assert same.notice.endswith("; on 1 test images no logit code differs")


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor:UserWarning")
def test_what_lost_float_biases_do_is_measured(torch_file: Path, tmp_path: Path) -> None:
    opened = open_file(torch_file)
    record = save(tmp_path / "changed.onnx", opened, [], images=IMAGES)
    assert_measured(record, opened.require_quantized(), tmp_path / "changed.onnx", IMAGES)
    (lost,) = record.not_in_the_file
    assert lost.endswith("in ONNX a quantized layer's bias is int32")
    assert "step" not in lost


@pytest.mark.parametrize("images", [None, IMAGES[:0]])
def test_without_images_nothing_is_measured(tmp_path: Path, images: Any) -> None:
    opened = open_file(written(tmp_path))
    record = save(tmp_path / "changed.onnx", opened, [Change("second", "rounding", "truncate")], images=images)
    assert record.difference is None
    assert record.notice.endswith("; what it computes otherwise was not measured")


def test_a_file_that_holds_everything_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resnet8.execute.native.run", None)
    record = save(tmp_path / "changed.onnx", open_file(written(tmp_path)), NARROW, images=IMAGES)
    assert (record.difference, record.notice) == (None, "")


def test_no_more_than_so_many_images_are_run(tmp_path: Path) -> None:
    images = noise(TRIED + 1, 5)
    opened = open_file(written(tmp_path))
    record = save(tmp_path / "changed.onnx", opened, [Change("mean", "rounding", "truncate")], images=images)
    assert record.difference is not None
    assert record.difference.images == TRIED


def test_nothing_is_written_where_the_measurement_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: object) -> None:
        raise MemoryError

    opened = open_file(written(tmp_path))
    monkeypatch.setattr("resnet8.execute.native.run", failing)
    with pytest.raises(MemoryError):
        save(tmp_path / "changed.onnx", opened, [Change("second", "rounding", "truncate")], images=IMAGES)
    assert [one.name for one in tmp_path.iterdir()] == ["network.onnx"]


@pytest.mark.parametrize(
    ("difference", "text"),
    [
        (
            Difference(500, 14, 0.72, 4),
            "on 500 test images 14 change class; 72.00 % of the logit codes differ, by up to 4",
        ),
        (
            Difference(1000, 1, 0.0001, 1),
            "on 1,000 test images 1 changes class; 0.01 % of the logit codes differ, by up to 1",
        ),
        (Difference(20, 0, 0, 0), "on 20 test images no logit code differs"),
    ],
)
def test_a_difference_in_words(difference: Difference, text: str) -> None:
    assert str(difference) == text


def test_a_record_from_before_it_was_measured_is_read(tmp_path: Path) -> None:
    record = save(tmp_path / "changed.onnx", open_file(written(tmp_path)), NARROW)
    old = to_json(record).replace('  "difference": null,\n', "")
    assert "difference" not in old
    assert from_json(ChangeRecord, old, "old") == record


def test_a_record_in_a_sentence(tmp_path: Path) -> None:
    opened = open_file(written(tmp_path, per_channel=True))
    three = (Change("first", "zero_point", 7), Change("dense.w", "scale", 0.0123456789, 3), Change("first", "bits", 4))
    sentences = [
        save(tmp_path / f"{len(changes)}.onnx", opened, changes).sentence
        for changes in ((), three[:1], three, (*three, Change("mean", "factor", 2.0)))
    ]
    told = "first zero point 7, dense.w scale of channel 3 0.0123457, first bits 4"
    assert sentences == [
        "network.onnx as it is",
        "network.onnx with 1 change: first zero point 7",
        f"network.onnx with 3 changes: {told}",
        f"network.onnx with 4 changes: {told}, 1 more",
    ]


# --- the file ---


def test_a_name_that_is_too_long_is_an_error_of_one_line(tmp_path: Path) -> None:
    opened = open_file(written(tmp_path))
    with pytest.raises(StorageError, match="File name too long"):
        save(tmp_path / ("n" * 300 + ".onnx"), opened, NARROW)


@pytest.mark.parametrize("name", ["changed.pt", "changed", ""])
def test_the_name_of_the_file_must_say_what_it_is(tmp_path: Path, name: str) -> None:
    opened = open_file(written(tmp_path))
    with pytest.raises(StorageError, match=r"is no name for the model: found .*, expected a name that ends in \.onnx"):
        save(tmp_path / name, opened, NARROW)
    assert [path.name for path in tmp_path.iterdir()] == [Path(opened.description.path).name]


def test_a_saved_file_with_narrow_codes_is_read_by_the_commands(tmp_path: Path) -> None:
    opened = open_file(written(tmp_path))
    save(tmp_path / "narrow.onnx", opened, NARROW)
    changed = apply(opened.require_quantized(), NARROW)
    found = open_model(tmp_path / "narrow.onnx", integer.open_content).probabilities(preprocess(IMAGES))
    np.testing.assert_array_equal(found, flow(changed, IMAGES).probabilities)
    trace = Trace(tmp_path / "narrow.onnx", (tmp_path / "narrow.onnx").read_bytes(), optimize=True)
    assert {"uint7", "uint4", "uint6"} <= {one.params.dtype for one in trace.program.activations.values()}


def test_a_saved_file_can_be_changed_and_saved_again(tmp_path: Path) -> None:
    opened = open_file(written(tmp_path))
    save(tmp_path / "one.onnx", opened, NARROW)
    again = open_file(tmp_path / "one.onnx")
    more = [Change("first", "bits", 5)]
    save(tmp_path / "two.onnx", again, more)
    expected = apply(apply(opened.require_quantized(), NARROW), more)
    found = open_file(tmp_path / "two.onnx").require_quantized()
    assert_same_program(found, expected)
    np.testing.assert_array_equal(flow(found, IMAGES).probabilities, flow(expected, IMAGES).probabilities)


def test_what_was_killed_between_the_model_and_its_record_is_completed(tmp_path: Path) -> None:
    opened = open_file(written(tmp_path))
    path = tmp_path / "changed.onnx"
    record = save(path, opened, NARROW)
    content = path.read_bytes()
    record_path(path).unlink()
    with pytest.raises(StorageError, match="is there already"):
        save(path, opened, [Change("first", "bits", 5)])  # another model
    assert save(path, opened, NARROW).model_sha256 == record.model_sha256
    assert path.read_bytes() == content
    assert record_path(path).is_file()


def test_nothing_is_overwritten_and_nothing_stays_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = open_file(written(tmp_path))
    for there in ("changed.onnx", "changed.onnx.json"):
        (tmp_path / there).write_text("mine")
        with pytest.raises(StorageError, match=r"is there already.*nothing is overwritten"):
            save(tmp_path / "changed.onnx", opened, [])
        assert (tmp_path / there).read_text() == "mine"
        (tmp_path / there).unlink()

    def full(*_: object) -> None:
        raise StorageError("the disk is full")

    monkeypatch.setattr("resnet8.results.save", full)
    with pytest.raises(StorageError, match="the disk is full"):
        save(tmp_path / "changed.onnx", opened, [])
    assert [one.name for one in tmp_path.iterdir()] == ["network.onnx"]


@pytest.mark.parametrize("name", ["changed.onnx", "é 1 (2)-a_b+c.onnx", "x..onnx", "console.onnx", f"{'n' * 195}.onnx"])
def test_a_name_is_beside_the_model(tmp_path: Path, name: str) -> None:
    opened = open_file(written(tmp_path))
    path = beside(tmp_path / "network.onnx", name)
    save(path, opened, [])
    assert sorted(one.name for one in tmp_path.iterdir()) == sorted(["network.onnx", name, f"{name}.json"])


@pytest.mark.parametrize(
    "name",
    [
        "",
        "..",
        "../out.onnx",
        "a/out.onnx",
        "a\\out.onnx",
        "/out.onnx",
        "C:out.onnx",
        "~/out.onnx",
        "out\0.onnx",
        "out\n.onnx",
        ".out.onnx",
        "-out.onnx",
        "\udcff.onnx",
        f"{'n' * 300}.onnx",
        f"{'é' * 150}.onnx",
        "con",
        "CON.onnx",
        "nul .onnx",
        "com1.x.onnx",
    ],
)
def test_a_path_or_no_name_is_a_line_and_nothing_is_written(tmp_path: Path, name: str) -> None:
    with pytest.raises(StorageError, match="is no name for the model") as caught:
        beside(tmp_path / "in" / "network.onnx", name)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400
    assert list(tmp_path.iterdir()) == []


def test_a_free_name_is_taken_neither_by_a_file_nor_by_a_record(tmp_path: Path) -> None:
    model = tmp_path / "resnet8_int8.onnx"
    assert free_name(model) == "resnet8_int8_changed.onnx"
    (tmp_path / "resnet8_int8_changed.onnx").touch()
    assert free_name(model) == "resnet8_int8_changed-2.onnx"
    (tmp_path / "resnet8_int8_changed-2.onnx.json").touch()
    (tmp_path / "RESNET8_int8_changed-3.ONNX").touch()  # the same file on some systems
    assert free_name(model) == "resnet8_int8_changed-4.onnx"
    assert free_name(model, ["resnet8_int8_changed-4.onnx"]) == "resnet8_int8_changed-5.onnx"
    (tmp_path / "resnet8_int8_changed-4.onnx").symlink_to("nowhere")
    assert free_name(model) == "resnet8_int8_changed-5.onnx"


def test_no_two_files_are_offered_one_name(tmp_path: Path) -> None:
    stems = ("a", "a_pt", "a_changed", "a_changed_pt", "a.pt", "a-2", "a_changed-2")
    names = [free_name(tmp_path / f"{stem}{suffix}") for stem in stems for suffix in (".onnx", ".pt")]
    assert names[:2] == ["a_changed.onnx", "a_changed_pt.onnx"]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("name", ["a&b.onnx", "-a.onnx", f"{'n' * 190}.onnx", "\udcff.pt"])
def test_a_free_name_is_one_that_can_be_saved(tmp_path: Path, name: str) -> None:
    found = free_name(tmp_path / name)
    assert beside(tmp_path / name, found) == tmp_path / "changed.onnx"
    (tmp_path / found).touch()
    assert free_name(tmp_path / name) == "changed-2.onnx"


def test_a_free_name_in_no_folder_is_a_line(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="nowhere does not exist"):
        free_name(tmp_path / "nowhere" / "a.onnx")


@pytest.mark.parametrize("link", ["changed.onnx", "changed.onnx.json"])
def test_nothing_is_written_through_a_link_that_leads_out(tmp_path: Path, link: str) -> None:
    folder, outside = tmp_path / "in", tmp_path / "outside"
    folder.mkdir()
    opened = open_file(written(folder))
    (folder / link).symlink_to(outside)
    with pytest.raises(StorageError, match=r"is there already.*nothing is overwritten"):
        save(folder / "changed.onnx", opened, [])
    assert not outside.exists()
    assert sorted(one.name for one in folder.iterdir()) == sorted(["network.onnx", link])


def test_a_float_model_is_not_saved(tmp_path: Path, demo_run: Path) -> None:
    real = open_file(demo_run / "models/resnet8.onnx")
    with pytest.raises(ModelError, match="is not quantized"):
        save(tmp_path / "changed.onnx", real, [])
    assert list(tmp_path.iterdir()) == []


# --- code ---


def executed(code: str) -> dict[str, Any]:
    names: dict[str, Any] = {}
    exec(compile(code, "equivalent", "exec"), names)  # noqa: S102 - it is what is tested
    return names


def assert_same_change(code: str, opened: Opened, changes: Sequence[Change], real: Opened | None) -> None:
    names = executed(code)
    behind = None if real is None else opened.reference(real)
    expected = apply(opened.require_quantized(), changes, behind)
    assert names["changes"] == list(changes)
    assert_same_program(names["changed"], expected)
    assert [one.rounding for one in names["changed"].layers] == [one.rounding for one in expected.layers]


def test_the_code_makes_the_same_change(tmp_path: Path) -> None:
    opened = open_file(written(tmp_path, per_channel=True))
    changes = (*NARROW, *MOVED, Change("second", "rounding", "half-up"), Change("dense.w", "scale", 0.02, channel=3))
    assert_same_change(equivalent(opened, changes), opened, changes, None)
    record = save(tmp_path / "changed.onnx", opened, changes)
    assert record.code == equivalent(opened, changes)


# --- the demo ---


def with_integer_bias(layer: AnyLayer) -> AnyLayer:
    if not isinstance(layer, Weighted) or layer.real_bias is None:
        return layer
    return replace(layer, real_bias=None)


def assert_saved_as_promised(opened: Opened, real: Opened | None, images: NDArray[np.uint8], path: Path) -> None:
    parameter = opened.network.layers[0].parameter
    assert parameter is not None
    changes = (
        Change(opened.network.layers[2].output.name, "bits", 6),
        Change(opened.network.layers[4].output.name, "factor", 1.3),
        Change(parameter.name, "bits", 6),
    )
    changed = apply(opened.require_quantized(), changes, None if real is None else opened.reference(real))
    record = save(path, opened, changes, real)
    assert record.reference == (None if real is None else real.description)
    assert_same_change(record.code, opened, changes, real)
    # PyTorch keeps biases in float; the file has them as int32, and the record says so.
    assert bool(record.not_in_the_file) == (opened.description.format == "torchscript")
    layers = tuple(with_integer_bias(layer) for layer in changed.layers)
    promised = flow(replace(changed, layers=layers), images).probabilities
    assert (promised.argmax(axis=1) == flow(changed, images).probabilities.argmax(axis=1)).mean() >= 0.95
    again = open_file(path).require_quantized()
    np.testing.assert_array_equal(flow(again, images).probabilities, promised)
    found = open_model(path).probabilities(preprocess(images))
    assert (found.argmax(axis=1) == promised.argmax(axis=1)).mean() >= 0.95


@pytest.mark.parametrize("name", DEMO)
def test_a_changed_demo_model_is_saved_with_its_predictions(
    name: str, demo_run: Path, demo_split: Split, tmp_path: Path
) -> None:
    opened, real = (open_file(demo_run / "models" / one) for one in (name, "resnet8.onnx"))
    assert_saved_as_promised(opened, real, demo_split.images[:40], tmp_path / "changed.onnx")


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor:UserWarning")
def test_a_torchscript_model_is_saved_as_onnx(torch_file: Path, tmp_path: Path) -> None:
    assert_saved_as_promised(open_file(torch_file), None, IMAGES, tmp_path / "changed.onnx")


@pytest.mark.parametrize("name", DEMO)
def test_a_mild_change_in_a_real_form_of_file_keeps_the_network_recognisable(name: str, demo_run: Path) -> None:
    opened, real = (open_file(demo_run / "models" / one) for one in (name, "resnet8.onnx"))
    original, behind = opened.require_quantized(), opened.reference(real)
    before = flow(original, IMAGES[:20]).probabilities.argmax(axis=1)
    np.testing.assert_array_equal(before, flow(apply(original, [], behind), IMAGES[:20]).probabilities.argmax(axis=1))
    parameter = original.layers[0].parameter
    assert parameter is not None
    changes = [Change(one, "factor", 1.01) for one in (original.layers[3].output.name, parameter.name)]
    mild = flow(apply(original, changes, behind), IMAGES[:20]).probabilities.argmax(axis=1)
    assert (before == mild).mean() >= 0.7
