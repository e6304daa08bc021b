"""What a TorchScript archive may hold before PyTorch loads it: hostile archives, made for the purpose."""

from __future__ import annotations

import contextlib
import io
import pickle
import re
import warnings
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from torch_quantized import saved

from resnet8.errors import ModelError
from resnet8.runtimes import torchscript

if TYPE_CHECKING:
    from collections.abc import Callable

IT = Path("it.pt")
CODE = "code/__torch__/it.py"


class Small(torch.nn.Module):
    """A convolution, a dense layer, and a submodule for each."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 4, 3, padding=1)
        self.dense = torch.nn.Linear(4, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.conv(images.permute(0, 3, 1, 2)))
        return torch.softmax(self.dense(x.mean([2, 3])), 1)


def content(module: torch.nn.Module) -> bytes:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the deprecation of torch.jit
        written = io.BytesIO()
        torch.jit.save(torch.jit.trace(module.eval(), torch.zeros(2, 32, 32, 3)), written)
    return written.getvalue()


@pytest.fixture(scope="module")
def small() -> bytes:
    torch.manual_seed(3)
    return content(Small())


def members(archive: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        return {name.partition("/")[2]: opened.read(name) for name in opened.namelist()}


def archived(found: dict[str, bytes], root: str = "it") -> bytes:
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as archive:
        for name, data in found.items():
            archive.writestr(f"{root}/{name}", data)
    return written.getvalue()


def by_hand(code: str, data: object = None) -> bytes:
    """An archive with one class, whose code is given; never to be loaded."""
    pickled = pickle.dumps(data, protocol=2)
    return archived({"data.pkl": pickled, "constants.pkl": pickle.dumps((), 2), "version": b"3\n", CODE: code.encode()})


def forward(*lines: str) -> str:
    body = "".join(f"    {line}\n" for line in lines)
    return f"class It(Module):\n  def forward(self: __torch__.it.It,\n    x: Tensor) -> Tensor:\n{body}"


def refused(archive: bytes, found: str) -> None:
    with pytest.raises(ModelError, match=re.escape(found)):
        torchscript.checked(IT, archive)


def probabilities(archive: bytes) -> np.ndarray:
    images = torch.from_numpy(np.random.default_rng(1).integers(0, 256, (2, 32, 32, 3)).astype(np.float32))
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")  # the deprecation of torch.jit
        return torch.jit.load(io.BytesIO(archive)).eval()(images).numpy()


def test_a_checked_archive_computes_what_it_did(small: bytes) -> None:
    archive, code, _types = torchscript.checked(IT, small)
    np.testing.assert_array_equal(probabilities(archive), probabilities(small))
    assert "torch._convolution" in code
    assert members(archive).keys() < members(small).keys()


def test_the_simplest_archive_by_hand_passes() -> None:
    torchscript.checked(IT, by_hand(forward("return torch.relu(x)")))


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        (('return torch.from_file("/tmp/x", True, 10)',), "the operator torch.from_file (code/__torch__/it.py:4)"),
        (('_0 = torch.save(x, "/tmp/x")', "return x"), "the operator torch.save"),
        (("return ops.aten.relu(x)",), "a call of ops.aten.relu"),
        (("return ops.quantized.relu6(x)",), "the operator ops.quantized.relu6"),
        (("f = torch.save", 'return f(x, "y")'), "an operator as a value"),
        (("f = torch", 'return (f).save(x, "y")'), "a call of f.save"),
        (("return torch._C.relu(x)",), "a call of torch._C.relu"),
        (("return __torch__.torch.classes.some.Thing(x)",), "a call of __torch__.torch.classes.some.Thing"),
        (("f = __torch__.elsewhere.f", "return f(x)"), "a call of __torch__.elsewhere.f"),
        (("while True:", "  pass", "return x"), "While"),
        (("for i in range(4):", "  pass", "return x"), "a loop"),
        (("return torch.pad(x, [0, 100000])",), "the number 100000"),
        (("return torch.pad(x, [0, 1000])",), "padding of more than the map"),
        (("return torch.quantize_per_tensor(x, 1., 0, 255)",), "a data type of torch.quantize_per_tensor"),
        (("return torch.quantize_per_tensor(x, 1., 0, -1)",), "a data type of torch.quantize_per_tensor"),
        (("t = torch.size(x, 1)", "return torch.softmax(x, 1, t)"), "a data type of torch.softmax"),
        (("return torch.mean(x, [1], False, 99)",), "a data type of torch.mean"),
        (("a = self.a", "_0 = (a).forward(x)", "return (a).forward(x)"), "a submodule that is called twice"),
        (("a = self.a", "b = self.a", "_0 = (a).forward(x)", "return (b).forward(x)"), "called twice"),
        (("a = self.a", 'b = getattr(a, "b")', "_0 = (a).forward(x)", "return (b).forward(x)"), "called twice"),
        (("return (self).forward(x)",), "a call of forward"),
        (("a = self.a", "a = self.b", "return (a).forward(x)"), "a call of forward"),
        (("return [y for y in x]",), "ListComp"),
        (("import os", "return x"), "Import"),
        (("return (lambda: x)()",), "Lambda"),
        (("return torch.add(x, other=x)",), "keyword"),
        (("return " + "torch.relu(" * 60 + "x" + ")" * 60,), "nested too deep"),
        (("return " + "(" * 300 + "x" + ")" * 300,), "SyntaxError"),
        (("return " + "-" * 200_000 + "1",), "Error"),
        (("return x" + ".a" * 100_000,), "code/__torch__/it.py"),
    ],
)
def test_code_that_could_do_more_than_compute(lines: tuple[str, ...], found: str) -> None:
    refused(by_hand(forward(*lines)), found)


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("x = 1\n", "a statement outside of functions"),
        ("class It(NamedTuple):\n  x : int\n", "the class It"),
        ("class It(Module):\n  x = torch.zeros(3)\n", "a call outside of functions"),
        ("def f(x: int=torch.f(3)) -> int:\n  return x\n", "an argument with a computed default value"),
        ("class It(Module):\n  x : torch.zeros(3)\n", "a call outside of functions"),
        ("class It(Module, f(3)):\n  pass\n", "a call outside of functions"),
        ("class It(Module, a.B):\n  pass\n", "the class It"),
        ("class It(Module):\n  def unpack(it) -> int:\n    return 1\n", "a method of it"),
        ("class It(Module):\n  def unpack() -> int:\n    return 1\n", "a method of nothing"),
        ("def f(x: List[int]=[3]) -> int:\n  return x\n", "an argument with a computed default value"),
        ("def f(*x: int) -> int:\n  return x\n", "an argument with a computed default value, or of an unusual kind"),
        ("def f(x: torch.save(1, 2)) -> int:\n  return x\n", "a call outside of functions"),
        ("def f(x: int) -> torch.save(1, 2):\n  return x\n", "a call outside of functions"),
        ("def f(getattr: int) -> int:\n  return getattr(1)\n", "an argument called getattr"),
        ("def f(x: int) -> int:\n  y : int = x\n  return y\n", "an annotated value in a function"),
        ("class It(Module):\n  def run(self) -> int:\n    return 1\n", "the method run"),
        ("class It(Module):\n  def unpack(self) -> int:\n    return (self).unpack()\n", "a call of self.unpack"),
        ("def f(x: Tensor) -> Tensor:\n  return __torch__.it.f(x)\n", "a call of __torch__.it.f"),
        ("@torch.jit.export\ndef f(x: Tensor) -> Tensor:\n  return x\n", "a decorator"),
        ("def f(x: int) -> int:\n  def g() -> int:\n    return 1\n  return x\n", "a function within a function"),
        ("def f(x: int) -> int:\n  for i in range(99999):\n    pass\n  return x\n", "the number 99999"),
        ("def f(x: int) -> int:\n  for i in range(999):\n    pass\n  return x\n", "a loop"),
        ("def f(x: int) -> int:\n  for i in range(x):\n    pass\n  return x\n", "a loop"),
        ("def f(x: int) -> int:\n" + "  for i in range(8):\n    pass\n" * 3 + "  return x\n", "3 loops"),
        ("def f(x: List[int]) -> int:\n" + "  _0 = torch.extend(x, x)\n" * 40 + "  return 1\n", "lists that grow"),
        ("def f(x: int) -> int:\n  return 'ü'\n", "no ASCII text"),
        ("\0", "Error"),
        ("# " + "x" * 2**20, "characters of code"),
    ],
)
def test_forms_of_code(code: str, found: str) -> None:
    refused(by_hand(code), found)


def nested(depth: int) -> tuple[object, ...]:
    value: tuple[object, ...] = ()
    for _ in range(depth):
        value = (value,)
    return value


def instructions(*parts: bytes) -> bytes:
    return b"\x80\x02" + b"".join(parts) + b"."


STORAGE = b"((X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x04tQ"
TENSOR = b"ctorch._utils\n_rebuild_tensor_v2\n"


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (instructions(b"cos\nsystem\nX\x02\x00\x00\x00ls\x85R"), "the name os system"),
        (instructions(b"c__torch__.it\nThat\n)\x81"), "the name __torch__.it That"),
        (instructions(b"c__torch__.torch.classes.some\nThing\n)\x81"), "the name __torch__.torch.classes.some Thing"),
        (instructions(b"X\x01\x00\x00\x00a)R"), "a call of"),
        (instructions(b")" + b"\x85" * 5_000), "nested too deep"),
        (instructions(b"]q\x00h\x00a"), "one list in two places"),
        (instructions(b"c__torch__.it\nIt\n)\x81q\x00h\x00"), "one object in two places"),
        (instructions(b"Nr\xff\xff\xff\x7f"), "a value remembered as number 2,147,483,647"),
        (instructions(b"Nq\x00q\x02"), "a value remembered as number 2"),
        (instructions(b"(i__main__\nIt\n"), "the instruction INST"),
        (instructions(b"\x8c\x02os\x8c\x06system\x93)R"), "the instruction"),
        (b"", "Error"),
        (b"\x80\x02h\x07.", "KeyError"),
        (b"\x80\x02a.", "IndexError"),
    ],
)
def test_pickles_that_build_something_else(data: bytes, found: str) -> None:
    refused(archived(members(by_hand(forward("return x"))) | {"data.pkl": data}), found)


@pytest.mark.parametrize(
    ("stored", "offset", "size", "stride", "found"),
    [
        (16, 0, b"K\x04\x85", b"K\x01\x85", None),
        (16, 1, b"K\x04\x85", b"K\x01\x85", "a tensor (4,) in a storage of 4"),
        (16, 0, b"K\x05\x85", b"K\x01\x85", "a tensor (5,)"),
        (16, 0, b"J\x00\x00\x00\x7f\x85", b"K\x00\x85", "a tensor (2130706432,)"),
        (16, 0, b"J\xff\xff\xff\xff\x85", b"K\x01\x85", "a tensor (-1,)"),
        (12, 0, b"K\x04\x85", b"K\x01\x85", "a storage of 16 bytes called 0"),
    ],
)
def test_tensors_lie_within_their_storages(
    stored: int, offset: int, size: bytes, stride: bytes, found: str | None
) -> None:
    storage = STORAGE[1:]  # the outer mark is the arguments' own
    data = instructions(
        TENSOR, b"(", storage, b"K" + bytes([offset]), size, stride, b"\x89ccollections\nOrderedDict\n)RtR"
    )
    archive = archived(members(by_hand(forward("return x"))) | {"data.pkl": data, "data/0": bytes(stored)})
    if found is None:
        torchscript.checked(IT, archive)
    else:
        refused(archive, found)


def without(name: str) -> Callable[[dict[str, bytes]], bytes]:
    return lambda found: archived({key: data for key, data in found.items() if key != name})


def twice(found: dict[str, bytes]) -> bytes:
    written = io.BytesIO(archived(found))
    with warnings.catch_warnings(), zipfile.ZipFile(written, "a") as archive:
        warnings.simplefilter("ignore")  # of the second member of one name
        archive.writestr(f"it/{CODE}", forward('return torch.save(x, "y")'))
    return written.getvalue()


@pytest.mark.parametrize(
    ("alter", "found"),
    [
        (without("data.pkl"), "no data.pkl"),
        (without("version"), "no version"),
        (twice, "one twice"),
        (lambda found: archived(found | {"model.json": b"{}"}), "a member called 'model.json'"),
        (lambda found: archived(found | {"code/../x.py": b""}), "a member called 'code/../x.py'"),
        (lambda found: archived(found | {f"data/{n}": b"" for n in range(2_001)}), "2,0"),
        (lambda found: archived(found | {"byteorder": b"big"}), "another byte order"),
        (lambda found: archived(found)[:-30], "it.pt is damaged"),
        (lambda found: archived(found).replace(b"torch.relu(x)", b"torch.rely(x)"), "Bad CRC-32"),
    ],
)
def test_the_archive_itself(alter: Callable[[dict[str, bytes]], bytes], found: str) -> None:
    refused(alter(members(by_hand(forward("return torch.relu(x)")))), found)


def test_an_archive_that_would_fill_the_memory() -> None:
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("it/data/0", bytes(65 * 2**20))
    assert len(written.getvalue()) < 2**17
    refused(written.getvalue(), "bytes when unpacked")


def test_compressions_that_take_memory_by_a_number_in_the_file() -> None:
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("it/data/0", bytes(16))
    refused(written.getvalue(), "an unusual compression")


class Sneaky(torch.nn.Module):
    """A module whose saved state runs an operator when it is loaded."""

    def __init__(self, target: str) -> None:
        super().__init__()
        self.target = target

    @torch.jit.export
    def __getstate__(self) -> tuple[str, bool]:
        return (self.target, self.training)

    @torch.jit.export
    def __setstate__(self, state: tuple[str, bool]) -> None:
        self.target = state[0]
        self.training = state[1]
        self.target += str(torch.from_file(state[0], True, 4).numel())

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images


def test_an_archive_that_writes_a_file_when_it_is_loaded(tmp_path: Path) -> None:
    target = tmp_path / "written"
    archive = saved(Sneaky(str(target)), tmp_path / "sneaky.pt").read_bytes()
    refused(archive, "the operator torch.from_file")
    assert not target.exists()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the deprecation of torch.jit
        torch.jit.load(io.BytesIO(archive))
    assert target.stat().st_size == 16, "PyTorch itself guards against this now: the check is not needed any more"


def test_an_archive_whose_signature_writes_a_file_when_it_is_loaded(small: bytes, tmp_path: Path) -> None:
    target = tmp_path / "written"
    found = members(small)
    name = next(name for name in found if b"class Small(" in found[name] and name.endswith(".py"))
    given = f'Tensor,\n    y: Tensor=torch.from_file("{target}", True, 4)) -> Tensor:'.encode()
    archive = archived(found | {name: found[name].replace(b"Tensor) -> Tensor:", given, 1)})
    refused(archive, "an argument with a computed default value")
    assert not target.exists()
    with contextlib.suppress(RuntimeError), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the deprecation of torch.jit
        torch.jit.load(io.BytesIO(archive))
    assert target.stat().st_size == 16, "PyTorch itself guards against this now: the check is not needed any more"
