"""TorchScript files in PyTorch: what is opened, what is refused, and that nothing in a file is run."""

from __future__ import annotations

import io
import pickle
import warnings
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from resnet8.data.cifar10 import preprocess, read_split
from resnet8.errors import ModelError
from resnet8.evaluation import evaluate
from resnet8.results import Evaluation, load
from resnet8.runtimes import open_model

if TYPE_CHECKING:
    from resnet8.data.assets import Assets
    from resnet8.pipeline import Reproduction


class Linear(torch.nn.Module):
    """Flatten, one matrix, softmax."""

    def __init__(self, pixels: int = 32 * 32 * 3, classes: int = 10) -> None:
        super().__init__()
        self.matrix = torch.nn.Linear(pixels, classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.softmax(self.matrix(images.flatten(1)), 1)


class Fixed(Linear):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.softmax(self.matrix(images.reshape(1, -1)), 1)


class Pair(Linear):
    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:  # type: ignore[override]
        return images, images


def scripted(module: torch.nn.Module, path: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the deprecation of torch.jit
        torch.jit.save(torch.jit.script(module), path)
    return path


def test_a_model_of_the_right_form_is_opened(tmp_path: Path) -> None:
    model = open_model(scripted(Linear(), tmp_path / "linear.onnx"))  # the name does not matter
    assert model.runtime == "pytorch"
    assert (model.model.format, model.model.dtype) == ("torchscript", "float32")
    assert model.probabilities(np.zeros((3, 32, 32, 3), np.float32)).shape == (3, 10)


@pytest.mark.parametrize(
    ("module", "match"),
    [
        (Linear(pixels=28 * 28), "does not take CIFAR-10 images"),
        (Linear(classes=100), r"another output shape: found \(batch, 100\), expected \(batch, 10\)"),
        (Fixed(), "does not take CIFAR-10 images"),
        (Pair(), "cannot be opened by PyTorch"),
    ],
)
def test_another_form_is_refused(tmp_path: Path, module: torch.nn.Module, match: str) -> None:
    with pytest.raises(ModelError, match=match) as caught:
        open_model(scripted(module, tmp_path / "other.pt"))
    assert "\n" not in str(caught.value)
    assert caught.value.remedy


def test_numbers_that_are_not_finite_are_refused(tmp_path: Path, demo_assets: Assets) -> None:
    module = Linear()
    torch.nn.init.constant_(module.matrix.weight, float("inf"))
    path = scripted(module, tmp_path / "infinite.pt")
    with pytest.raises(ModelError, match="not finite: found 5 images"):
        evaluate(path, demo_assets.data_dir, max_samples=5)


def test_every_truncation_is_refused(reproduced: Reproduction, tmp_path: Path) -> None:
    content = (reproduced.output_dir / "models/resnet8.pt").read_bytes()
    path = tmp_path / "part.pt"
    for end in (4, 100, len(content) // 2, len(content) - 30, len(content) - 1):
        path.write_bytes(content[:end])
        with pytest.raises(ModelError, match=r"part\.pt is damaged: .*zip archive without its end"):
            open_model(path)


def test_damage_in_the_middle_is_refused(reproduced: Reproduction, tmp_path: Path) -> None:
    source = reproduced.output_dir / "models/resnet8.pt"
    path = tmp_path / "damaged.pt"
    with zipfile.ZipFile(source) as archive:
        members = [item for item in archive.infolist() if item.file_size > 64]
        places = [(item.filename, item.header_offset + item.file_size // 2 + 128) for item in members]
    assert any("/data/" in name for name, _ in places)
    for _, place in places:
        damaged = bytearray(source.read_bytes())
        damaged[place : place + 16] = bytes(byte ^ 0xFF for byte in damaged[place : place + 16])
        path.write_bytes(damaged)
        with pytest.raises(ModelError, match=r"damaged\.pt"):
            open_model(path)


def test_what_pytorch_says_in_many_lines_is_told_by_its_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = scripted(Linear(), tmp_path / "linear.pt")

    def load(*_: object, **__: object) -> None:
        raise RuntimeError("The following operation failed.\nTraceback of TorchScript:\n  File ...\nRuntimeError: bits")

    monkeypatch.setattr(torch.jit, "load", load)
    with pytest.raises(ModelError, match=r"linear\.pt cannot be loaded by PyTorch: found RuntimeError: bits, expected"):
        open_model(path)


class Bomb:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.marker,))


def test_the_bomb_works(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Bomb(tmp_path / "marker")))
    assert (tmp_path / "marker").exists()


@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_a_pickle_is_refused_before_it_runs(tmp_path: Path, protocol: int) -> None:
    path, marker = tmp_path / "model.pt", tmp_path / "marker"
    path.write_bytes(pickle.dumps(Bomb(marker), protocol))
    with pytest.raises(ModelError, match=r"refused before it was loaded|no model file that is known"):
        open_model(path)
    assert not marker.exists()


@pytest.mark.parametrize("archive", [True, False])
def test_what_torch_save_wrote_is_refused_before_it_runs(tmp_path: Path, archive: bool) -> None:
    path, marker = tmp_path / "model.pt", tmp_path / "marker"
    torch.save({"model": Bomb(marker)}, path, _use_new_zipfile_serialization=archive)
    with pytest.raises(ModelError, match="refused before it was loaded: found a Python pickle, which can run any code"):
        open_model(path)
    assert not marker.exists()


def test_a_pickle_dressed_up_as_torchscript_is_not_run(tmp_path: Path) -> None:
    source, path, marker = scripted(Linear(), tmp_path / "good.pt"), tmp_path / "bad.pt", tmp_path / "marker"
    for victim in ("data.pkl", "constants.pkl"):
        with zipfile.ZipFile(source) as good, zipfile.ZipFile(path, "w") as bad:
            for name in good.namelist():
                evil = name.endswith(f"/{victim}")
                bad.writestr(name, pickle.dumps(Bomb(marker), 2) if evil else good.read(name))
        with pytest.raises(ModelError, match=r"bad\.pt"):
            open_model(path)
        assert not marker.exists()


def test_a_zip_that_holds_something_else_is_refused(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("letter/readme.txt", "hello")
    path = tmp_path / "model.pt"
    path.write_bytes(buffer.getvalue())
    with pytest.raises(ModelError):
        open_model(path)


# --- agreement ---


def test_pytorch_agrees_with_onnx_runtime(reproduced: Reproduction, demo_assets: Assets) -> None:
    images = preprocess(read_split(demo_assets.data_dir, "test").images[:50])
    ours, theirs = (open_model(reproduced.output_dir / f"models/resnet8.{kind}") for kind in ("pt", "onnx"))
    for batch_size in (1, 3, 50):
        batch = images[:batch_size]
        np.testing.assert_allclose(ours.probabilities(batch), theirs.probabilities(batch), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("file", "result", "dtype"),
    [("resnet8.pt", "fp32-pytorch", "float32"), ("resnet8_int8.pt", "torch-int8", "uint8/int8")],
)
def test_pytorch_answers_as_recorded(
    reproduced: Reproduction, demo_assets: Assets, file: str, result: str, dtype: str
) -> None:
    recorded = load(Evaluation, reproduced.output_dir / f"results/{result}.json")
    again = evaluate(reproduced.output_dir / "models" / file, demo_assets.data_dir)
    assert (again.predictions, again.overall, again.model.dtype) == (recorded.predictions, recorded.overall, dtype)
    assert again.overall.accuracy > 0.9
