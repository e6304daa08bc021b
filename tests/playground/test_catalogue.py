"""The list of models: what is found, what is said of it, and that nothing stops it."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING

import onnx
import pytest
from builders import CIFAR10, evaluation
from quantized import float_network, network, to_onnx

from resnet8 import results
from resnet8.errors import StorageError
from resnet8.playground.catalogue import Entry, evaluations, float_behind, models, of_model, stored_predictions
from resnet8.results import Evaluation, load
from resnet8.runtimes import onnx_file, open_model

if TYPE_CHECKING:
    from pathlib import Path

    from resnet8.data.cifar10 import Split


def test_no_folder_and_an_empty_one_have_no_models(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"there is no folder .*nowhere: found it does not exist"):
        models(tmp_path / "nowhere", evaluations(tmp_path / "nowhere"))
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="found it is a file"):
        models(tmp_path / "file", evaluations(tmp_path / "file"))
    with pytest.raises(StorageError, match="File name too long"):
        models(tmp_path / ("n" * 5000), ())
    with pytest.raises(StorageError, match="File name too long"):
        evaluations(tmp_path / ("n" * 5000))
    (tmp_path / "file").unlink()
    assert models(tmp_path, evaluations(tmp_path)) == ()
    (tmp_path / "models").mkdir()
    assert models(tmp_path, evaluations(tmp_path)) == ()
    assert evaluations(tmp_path) == ()


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor:UserWarning")
def test_every_model_is_described_as_its_runtime_describes_it(demo_run: Path, torch_file: Path, tmp_path: Path) -> None:
    shutil.copytree(demo_run, tmp_path, dirs_exist_ok=True)
    shutil.copy(torch_file, tmp_path / "models")
    entries = models(tmp_path, evaluations(tmp_path))
    names = ["network.pt", "resnet8.onnx", "resnet8_int8.onnx", "resnet8_ort-7bit-weights.onnx", "resnet8_uint8.onnx"]
    assert [entry.path.name for entry in entries] == names
    for entry in entries:
        assert entry.error == ""
        assert entry.description == open_model(entry.path).model
        assert entry.quantized == (entry.path.name != "resnet8.onnx")
        assert entry.label.startswith(f"{entry.path.name} · {entry.kind} · ")
        assert (entry.score is None) == entry.label.endswith("not measured") == (entry.path.suffix == ".pt")


def test_accuracy_is_that_of_the_results(demo_run: Path) -> None:
    entries = models(demo_run, evaluations(demo_run))
    by_name = {entry.path.name: entry for entry in entries}
    measured = load(Evaluation, demo_run / "results/published-uint8.json")
    assert by_name["resnet8_uint8.onnx"].score == measured.overall
    assert models(demo_run / "models", evaluations(demo_run / "models")) == entries


def test_predictions_come_from_the_results_of_the_very_file(demo_run: Path, demo_split: Split) -> None:
    known = evaluations(demo_run)
    entry = next(one for one in models(demo_run, known) if one.path.name == "resnet8_uint8.onnx")
    assert entry.description is not None
    assert entry.score is not None
    digest = entry.description.sha256
    stored = stored_predictions(known, digest, demo_split)
    assert stored is not None
    assert (stored == demo_split.labels).sum() == entry.score.correct
    assert stored_predictions(known, "unknown", demo_split) is None
    assert stored_predictions(known, digest, demo_split.first(10)) is None
    assert stored_predictions((evaluation("01", "01"),), "unknown", demo_split) is None


def test_the_float_model_is_found_by_the_record(demo_run: Path) -> None:
    entries = models(demo_run, evaluations(demo_run))
    by_name = {entry.path.name: entry for entry in entries}
    found = float_behind(by_name["resnet8_int8.onnx"], entries)
    assert found is by_name["resnet8.onnx"]
    assert found.description is not None
    other = replace(found, description=replace(found.description, sha256="other"))
    assert float_behind(by_name["resnet8_int8.onnx"], (other, found)) is found
    unrecorded = replace(by_name["resnet8_int8.onnx"], path=found.path.with_name("unrecorded.onnx"))
    assert float_behind(unrecorded, (other, found)) is other
    assert float_behind(found, ()) is None


def test_files_that_are_no_models_are_listed_with_what_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "damaged.onnx").write_bytes(to_onnx(network(), "qdq").SerializeToString()[:500])
    (tmp_path / "empty.pt").write_bytes(b"")
    (tmp_path / "other.onnx").write_bytes(b"\x00\x00\x00\x00TFL3")
    (tmp_path / "notes.txt").write_text("no model")
    onnx.save(float_network(), tmp_path / "good.onnx")
    damaged, empty, good, other = models(tmp_path, evaluations(tmp_path))
    assert "is no valid ONNX model" in damaged.error
    assert "an empty file" in empty.error
    assert "a file for LiteRT" in other.error
    assert good.error == ""
    assert good.label.endswith("not measured")
    for entry in (damaged, empty, other):
        assert (entry.description, entry.score, entry.quantized) == (None, None, False)
        assert entry.path.name in entry.label


def test_a_model_that_is_not_what_its_record_names_says_so(demo_run: Path, tmp_path: Path) -> None:
    for name in ("resnet8_int8.onnx", "resnet8_uint8.onnx"):
        shutil.copy(demo_run / "models" / name, tmp_path)
    shutil.copy(demo_run / "models/resnet8_uint8.onnx.json", tmp_path)
    shutil.copy(demo_run / "models/resnet8_uint8.onnx.json", tmp_path / "resnet8_int8.onnx.json")
    altered, whole = models(tmp_path, ())
    assert altered.notice.startswith("the file is not what resnet8_int8.onnx.json names")
    assert (altered.error, whole.notice) == ("", "")


@pytest.mark.parametrize("name", ["missing", "n" * 300])
def test_a_link_that_leads_nowhere_takes_no_other_file_away(tmp_path: Path, name: str) -> None:
    (tmp_path / "link.onnx").symlink_to(name)
    (tmp_path / "folder.onnx").mkdir()
    onnx.save(float_network(), tmp_path / "good.onnx")
    good, link = models(tmp_path, evaluations(tmp_path))
    assert (good.path.name, good.error) == ("good.onnx", "")
    assert "link.onnx" in link.error


def test_a_name_that_is_no_text_takes_no_other_file_away(tmp_path: Path) -> None:
    onnx.save(float_network(), tmp_path / os.fsdecode(b"\xff.onnx"))
    onnx.save(float_network(), tmp_path / "good.onnx")
    good, bad = models(tmp_path, evaluations(tmp_path))
    assert (good.name, good.error) == ("good.onnx", "")
    assert bad.error == "\ufffd.onnx cannot be shown: found a name that is not UTF-8; rename the file"
    assert (bad.name, bad.label) == ("\ufffd.onnx", "\ufffd.onnx · \ufffd.onnx cannot be shown")
    folder = tmp_path / os.fsdecode(b"\xff")
    folder.mkdir()
    with pytest.raises(StorageError, match=r"the folder '.*udcff' cannot be shown: found a name that is not UTF-8"):
        models(folder, ())


def test_a_fault_in_reading_is_that_files_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    onnx.save(float_network(), tmp_path / "bad.onnx")
    onnx.save(float_network(), tmp_path / "good.onnx")
    read = onnx_file.read

    def faulty(path: Path, content: bytes) -> onnx.ModelProto:
        if path.name == "bad.onnx":
            raise IndexError("list index out of range")
        return read(path, content)

    monkeypatch.setattr(onnx_file, "read", faulty)
    bad, good = models(tmp_path, ())
    assert "bad.onnx cannot be opened by ONNX Runtime: found IndexError: list index out of range" in bad.error
    assert good.error == ""


def test_the_own_runtime_on_all_images_counts(tmp_path: Path) -> None:
    labels = "0123456789" * 2
    own = evaluation(labels, labels)
    others = (
        replace(own, runtime="integer", overall=results.score(1, 20)),
        own,
        replace(own, data=replace(CIFAR10, subset="first-20"), overall=results.score(2, 20)),
        replace(own, model_sha256="other", overall=results.score(3, 20)),
    )
    folder = tmp_path / "results"
    for number, one in enumerate(others):
        results.save(one, folder / f"{number}.json")
    (folder / "broken.json").write_text("{")
    known = evaluations(tmp_path)
    assert known == others
    assert of_model(known, own.model_sha256) == own
    assert of_model(known[:1], own.model_sha256) == others[0]
    assert of_model(known, "unknown") is None


def test_an_entry_without_a_description_is_not_quantized(tmp_path: Path) -> None:
    assert not Entry(tmp_path, "label").quantized
