"""The list of models: what is found, what is said of it, and that nothing stops it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import onnx
import pytest
from builders import CIFAR10, evaluation
from quantized import float_network, network, to_onnx

from resnet8 import results
from resnet8.errors import StorageError
from resnet8.evaluation import record_path
from resnet8.network.change import Change
from resnet8.playground.catalogue import Entry, evaluations, float_behind, models, of_model, stored_predictions
from resnet8.playground.opened import open_file
from resnet8.playground.saving import save
from resnet8.results import Evaluation, Parity, Quantization, load
from resnet8.runtimes import onnx_file, open_model

if TYPE_CHECKING:
    from pathlib import Path

    from resnet8.data.cifar10 import Split
    from resnet8.pipeline import Reproduction


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
        assert entry.label.startswith(f"{entry.path.name} · ")
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


# --- what each is ---


def sentences(folder: Path) -> dict[str, str]:
    return {one.name: one.sentence for one in models(folder, ())}


def test_a_sentence_says_what_a_file_is(demo_run: Path) -> None:
    float_, int8, narrow, uint8 = sentences(demo_run).values()
    assert float_ == "The float network: ONNX, as converted from Keras"
    assert int8 == "Recipe published-int8 (the published int8 model: its settings and its calibration images)"
    assert narrow.startswith(
        "Recipe ort-7bit-weights (as ort-per-channel, with weights of 7 bits: the same result on x86"
    )
    assert uint8.startswith("Recipe published-uint8 (the published uint8 model: ")


def test_without_a_record_the_types_are_told(tmp_path: Path, torch_file: Path) -> None:
    shutil.copy(torch_file, tmp_path)
    onnx.save(float_network(), tmp_path / "float.onnx")
    onnx.save(to_onnx(network(), "qdq"), tmp_path / "quantized.onnx")
    (tmp_path / "wrong.onnx").write_text("")
    assert sentences(tmp_path) == {
        "float.onnx": "The float network: ONNX; no record says where it comes from",
        "network.pt": "Weights int8, activations uint8; no record says how it was made",
        "quantized.onnx": "Weights int8, activations uint8; no record says how it was made",
        "wrong.onnx": "",
    }


def test_a_float_file_is_known_by_the_certificate_of_its_conversion(reproduced: Reproduction, tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "results").mkdir()
    for name in ("resnet8.onnx", "resnet8.pt"):
        shutil.copy(reproduced.output_dir / "models" / name, tmp_path / "models")
    onnx.save(float_network(), tmp_path / "models" / "other.onnx")
    other = "other.onnx"
    expected = {
        "resnet8.onnx": "The float network: ONNX, as converted from Keras",
        other: "The float network: ONNX; no record says where it comes from",
        "resnet8.pt": "The float network: TorchScript, as converted from ONNX",
    }
    assert sentences(tmp_path) == expected
    parity = load(Parity, reproduced.output_dir / "results/parity.json")
    described = next(one.description for one in models(tmp_path, ()) if one.name == other)
    assert described is not None
    certified = replace(parity, models={**parity.models, "onnxruntime": described})
    results.save(certified, tmp_path / "results/parity.json")
    assert sentences(tmp_path) == {**expected, other: "The float network: ONNX, as converted from Keras"}
    (tmp_path / "results/parity.json").write_text("{")
    assert sentences(tmp_path) == expected


def test_a_recipe_of_ones_own_is_told_by_its_settings(demo_run: Path, tmp_path: Path) -> None:
    for name in ("resnet8_uint8.onnx", "resnet8_int8.onnx"):
        shutil.copy(demo_run / "models" / name, tmp_path)
        record = load(Quantization, record_path(demo_run / "models" / name))
        settings = {**record.settings, "per_channel": name == "resnet8_int8.onnx"}
        results.save(replace(record, recipe="mine", settings=settings), record_path(tmp_path / name))
    assert sentences(tmp_path) == {
        "resnet8_int8.onnx": "Recipe mine (weights int8, activations int8, a scale for each channel)",
        "resnet8_uint8.onnx": "Recipe mine (weights uint8, activations uint8, one scale for a tensor)",
    }


def test_a_file_that_was_saved_says_its_changes_and_finds_its_float_model(demo_run: Path, tmp_path: Path) -> None:
    for name in ("resnet8_int8.onnx", "resnet8.onnx"):
        shutil.copy(demo_run / "models" / name, tmp_path)
    onnx.save(float_network(), tmp_path / "another.onnx")
    opened, real = open_file(tmp_path / "resnet8_int8.onnx"), open_file(tmp_path / "resnet8.onnx")
    tensor = opened.network.layers[0].output.name
    changes = [Change(tensor, "factor", 1.5), Change(tensor, "bits", 7)]
    save(tmp_path / "saved.onnx", opened, changes, real)
    save(tmp_path / "unreferred.onnx", opened, changes[:1])
    entries = {one.name: one for one in models(tmp_path, ())}
    saved = entries["saved.onnx"]
    assert saved.sentence == f"resnet8_int8.onnx with 2 changes: {tensor} factor 1.5, {tensor} bits 7"
    assert saved.notice == ""
    assert saved.label.endswith("not measured")
    found = tuple(entries.values())
    assert [one.name for one in found][:2] == ["another.onnx", "resnet8.onnx"]
    assert float_behind(saved, found) is entries["resnet8.onnx"]
    assert float_behind(entries["unreferred.onnx"], found) is entries["another.onnx"]
    # another file in its place
    shutil.copy(tmp_path / "resnet8_int8.onnx", tmp_path / "saved.onnx")
    altered = next(one for one in models(tmp_path, ()) if one.name == "saved.onnx")
    assert altered.notice.startswith("the file is not what saved.onnx.json names")
    assert altered.sentence == "Weights int8, activations int8; no record says how it was made"
    (tmp_path / "saved.onnx.json").write_text('{"kind": "change"}')
    broken = next(one for one in models(tmp_path, ()) if one.name == "saved.onnx")
    assert "saved.onnx.json is no changerecord result of this version" in broken.notice


def test_files_of_the_same_bytes_know_one_another(demo_run: Path, tmp_path: Path) -> None:
    for name in ("a.onnx", "b.onnx", "c.onnx"):
        shutil.copy(demo_run / "models/resnet8_int8.onnx", tmp_path / name)
    shutil.copy(demo_run / "models/resnet8_uint8.onnx", tmp_path)
    for name in ("x.onnx", "y.onnx"):
        (tmp_path / name).write_text("")
    assert {one.name: one.same_as for one in models(tmp_path, ())} == {
        "a.onnx": ("b.onnx", "c.onnx"),
        "b.onnx": ("a.onnx", "c.onnx"),
        "c.onnx": ("a.onnx", "b.onnx"),
        "resnet8_uint8.onnx": (),
        "x.onnx": (),
        "y.onnx": (),
    }


def test_no_framework_is_imported_for_the_list(demo_run: Path, torch_file: Path, tmp_path: Path) -> None:
    shutil.copytree(demo_run, tmp_path, dirs_exist_ok=True)
    shutil.copy(torch_file, tmp_path / "models")
    code = (
        "import sys; from pathlib import Path; from resnet8.playground.catalogue import evaluations, models;"
        "folder = Path(sys.argv[1]); print(len(models(folder, evaluations(folder))),"
        "*sorted({'torch', 'tensorflow', 'keras', 'onnxruntime'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["5"]
