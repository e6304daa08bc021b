"""A file finds its runtime by its content, and what could run code is never loaded."""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resnet8.errors import MissingExtraError, ModelError, StorageError
from resnet8.runtimes import base, open_model
from resnet8.runtimes.base import FORMATS, RUNTIMES, identify, require_shapes

if TYPE_CHECKING:
    from collections.abc import Callable

    from resnet8.pipeline import Reproduction

MODEL = Path("models/model.bin")


def archive(*names: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as writer:
        for name in names:
            writer.writestr(name, b"content of " + name.encode())
    return buffer.getvalue()


SCRIPT = archive("resnet8/data.pkl", "resnet8/code/__torch__.py", "resnet8/constants.pkl", "resnet8/version")


@pytest.mark.parametrize(
    ("content", "kind", "name"),
    [
        (b"\x89HDF\r\n\x1a\n" + bytes(100), "keras-h5", "keras"),
        (b"\x1c\0\0\0TFL3" + bytes(100), "tflite", "litert"),
        (b"\x08\x07\x12\x07tf2onnx", "onnx", "onnxruntime"),
        (SCRIPT, "torchscript", "pytorch"),
    ],
)
def test_identify(content: bytes, kind: str, name: str) -> None:
    runtime = identify(MODEL, content)
    assert (runtime.format, runtime.name) == (kind, name)
    assert FORMATS[kind] is runtime is RUNTIMES[name]


@pytest.mark.parametrize(
    ("name", "kind"), [("resnet8.onnx", "onnx"), ("resnet8_int8.onnx", "onnx"), ("resnet8.pt", "torchscript")]
)
def test_identify_what_the_pipeline_wrote(reproduced: Reproduction, name: str, kind: str) -> None:
    content = (reproduced.output_dir / "models" / name).read_bytes()
    assert identify(Path("resnet8.h5"), content).format == kind  # whatever it is called


def test_every_runtime_has_its_module_and_extra() -> None:
    for runtime in RUNTIMES.values():
        assert (Path(base.__file__).parent / f"{runtime.module}.py").is_file()
        assert runtime.extra or runtime.package in {"onnxruntime", "numpy"}  # those that are always there


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"", "an empty file"),
        (b"\x89PNG\r\n\x1a\n" + bytes(50), "58 bytes beginning with .*PNG"),
        (b"<!DOCTYPE html><p>404", "DOCTYP"),
        (b"version https://git-lfs.github.com/spec/v1\n", "version"),
        (b"\x1f\x8b\x08\x00" + bytes(20), "24 bytes"),
        (b'{"kind": "evaluation"}', "kind"),
        (bytes(1000), "1,000 bytes"),
    ],
    ids=["empty", "png", "html", "git-lfs", "gzip", "json", "zeros"],
)
def test_no_model(tmp_path: Path, content: bytes, found: str) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=found) as caught:
        open_model(path)
    assert str(path) in str(caught.value)
    assert "ONNX" in str(caught.value.expected)
    assert caught.value.remedy


def test_missing_and_unreadable(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"nothing\.onnx does not exist"):
        open_model(tmp_path / "nothing.onnx")
    with pytest.raises(StorageError, match="Is a directory"):
        open_model(tmp_path)


# --- pickles ---


class Calls:
    """Pickles as a call."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize("form", ["protocol 0", "protocol 2", "protocol 4", "torch.save"])
def test_a_pickle_never_runs(tmp_path: Path, form: str) -> None:
    witness = tmp_path / "it ran"
    protocol = 2 if form == "torch.save" else int(form[-1])
    armed = pickle.dumps(Calls(os.system, f"touch '{witness}'"), protocol)
    pickle.loads(armed)
    assert witness.exists()  # it is a live round
    witness.unlink()
    path = tmp_path / "model.pt"
    if form == "torch.save":
        with zipfile.ZipFile(path, "w") as writer:
            writer.writestr("model/data.pkl", armed)
            writer.writestr("model/version", "3\n")
    else:
        path.write_bytes(armed)
    with pytest.raises(ModelError) as caught:
        open_model(path)
    assert not witness.exists()
    if form != "protocol 0":  # has no mark to know it by: just no model
        assert "refused before it was loaded: found a Python pickle" in str(caught.value)


def test_a_pickle_in_torchscripts_clothes_never_runs(tmp_path: Path) -> None:
    """The names of a TorchScript file and a pickle that calls: torch's own reader of those pickles knows no calls."""
    pytest.importorskip("torch")
    witness = tmp_path / "it ran"
    armed = pickle.dumps(Calls(os.system, f"touch '{witness}'"), 2)
    path = tmp_path / "model.pt"
    with zipfile.ZipFile(path, "w") as writer:
        for name in ("data.pkl", "constants.pkl"):
            writer.writestr(f"model/{name}", armed)
        writer.writestr("model/code/__torch__.py", "op_version_set = 1\n")
        writer.writestr("model/version", "3\n")
    with pytest.raises(ModelError, match="refused before it was loaded"):
        open_model(path)
    assert not witness.exists()


# --- zip archives ---


@pytest.mark.parametrize("length", [2, 4, 30, 100, len(SCRIPT) // 2, len(SCRIPT) - 22, len(SCRIPT) - 1])
def test_truncated_archive(length: int) -> None:
    with pytest.raises(ModelError, match=f"is damaged: found {length} bytes of a zip archive"):
        identify(MODEL, SCRIPT[:length])


@settings(derandomize=True, max_examples=500)
@given(
    changes=st.lists(
        st.tuples(st.integers(2, len(SCRIPT) - 1), st.integers(0, 255)),
        min_size=1,
        max_size=3,
        unique_by=lambda c: c[0],
    )
)
def test_altered_archive(changes: list[tuple[int, int]]) -> None:
    content = bytearray(SCRIPT)
    for place, value in changes:
        content[place] = value
    with contextlib.suppress(ModelError):
        assert identify(MODEL, bytes(content)).format == "torchscript"


def test_altered_archive_that_zipfile_does_not_understand() -> None:
    """Versions and encodings: zipfile has an exception of its own for each."""
    directory = SCRIPT.index(b"PK\x01\x02")
    for place, value in ((directory + 6, 255), (directory + 9, 0x08)):
        content = bytearray(SCRIPT)
        content[place] = value
        content[directory + 46] = 0xFF  # the first letter of a name: no UTF-8
        with pytest.raises(ModelError, match="is damaged"):
            identify(MODEL, bytes(content))


@pytest.mark.parametrize(
    "names",
    [("config.json", "model.weights.h5"), ("arr_0.npy",), ("word/document.xml",), ()],
    ids=["keras 3", "npz", "docx", "empty"],
)
def test_archives_of_other_things_are_not_called_pickles(names: tuple[str, ...]) -> None:
    with pytest.raises(ModelError, match="no model file that is known here") as caught:
        identify(MODEL, archive(*names))
    assert "pickle" not in str(caught.value)
    assert "zip archive" in str(caught.value.found)


@pytest.mark.parametrize("names", [("m/data.pkl", "m/version"), ("data.pkl",), ("m/constants.pkl", "m/data.pkl")])
def test_archives_of_pickles_are(names: tuple[str, ...]) -> None:
    with pytest.raises(ModelError, match="refused before it was loaded"):
        identify(MODEL, archive(*names))


@settings(derandomize=True, max_examples=300)
@given(content=st.binary(max_size=200))
def test_any_bytes_are_identified_or_refused(content: bytes) -> None:
    with contextlib.suppress(ModelError):
        assert identify(MODEL, content) in FORMATS.values()


# --- opening ---


def test_missing_runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(b"\x1c\0\0\0TFL3" + bytes(100))
    monkeypatch.setitem(sys.modules, "ai_edge_litert", None)
    monkeypatch.delitem(sys.modules, "resnet8.runtimes.litert", raising=False)
    with pytest.raises(MissingExtraError, match=r"ai_edge_litert.*pip install 'resnet8-.*\.whl\[litert\]'"):
        open_model(path)


@pytest.mark.parametrize("content", [b"\x08\x07\x12\x07tf2onnx", b"\x08", b"\x08\xff\xff\xff\xff"])
def test_damaged_onnx(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"model\.onnx") as caught:
        open_model(path)
    assert "\n" not in str(caught.value)


def test_open(reproduced: Reproduction) -> None:
    predictor = open_model(reproduced.output_dir / "models" / "resnet8.onnx")
    assert predictor.runtime == "onnxruntime"
    assert predictor.threads >= 1
    answer = predictor.probabilities(np.zeros((3, 32, 32, 3), np.float32))
    assert answer.shape == (3, 10)
    assert answer.sum(axis=1) == pytest.approx(np.ones(3))


# --- shapes ---


def test_right_shapes() -> None:
    require_shapes(MODEL, (32, 32, 3), (10,))


@pytest.mark.parametrize(
    ("inputs", "outputs", "match"),
    [
        ((3, 32, 32), (10,), r"another input shape: found \(batch, 3, 32, 32\), expected \(batch, 32, 32, 3\)"),
        ((28, 28, 1), (10,), r"another input shape"),
        ((), (10,), "another input shape"),
        ((32, 32, 3), (100,), r"another output shape: found \(batch, 100\), expected \(batch, 10\)"),
        ((32, 32, 3), (1, 10), "another output shape"),
        (("h", "w", 3), (10,), r"\(batch, h, w, 3\)"),
    ],
)
def test_wrong_shapes(inputs: tuple[object, ...], outputs: tuple[object, ...], match: str) -> None:
    with pytest.raises(ModelError, match=match):
        require_shapes(MODEL, inputs, outputs)
