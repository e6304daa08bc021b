"""Files appear whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from resnet8.errors import DataError, StorageError
from resnet8.files import atomic_path, read_bytes, sha256_file, write_bytes, write_text


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@settings(derandomize=True, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(first=st.binary(max_size=5000), second=st.binary(max_size=5000))
def test_what_was_written_last_is_read(tmp_path: Path, first: bytes, second: bytes) -> None:
    path = tmp_path / "new" / "folder" / "file.bin"
    for data in (first, second):
        write_bytes(path, data)
        assert read_bytes(path) == data
        assert sha256_file(path) == hashlib.sha256(data).hexdigest()
    assert content(tmp_path) == {"new/folder/file.bin": second}


def test_sha256_golden(tmp_path: Path) -> None:
    # FIPS 180-2, the one-block example.
    (tmp_path / "abc").write_bytes(b"abc")
    assert sha256_file(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_text_is_utf8_and_unchanged(tmp_path: Path) -> None:
    write_text(tmp_path / "t", "Δ «ü»\r\n")
    assert (tmp_path / "t").read_bytes() == "Δ «ü»\r\n".encode()


def test_the_name_appears_only_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "f"
    with atomic_path(path) as part:
        part.write_bytes(b"half")
        assert not path.exists()
        assert part.parent == path.parent  # a rename on one file system is atomic
    assert content(tmp_path) == {"f": b"half"}


@pytest.mark.parametrize("old", [None, b"old"])
@pytest.mark.parametrize("error", [DataError("bad"), ValueError("bad"), KeyboardInterrupt()])
def test_an_error_in_the_block_changes_nothing(tmp_path: Path, old: bytes | None, error: BaseException) -> None:
    path = tmp_path / "f"
    if old is not None:
        path.write_bytes(old)
    before = content(tmp_path)
    with pytest.raises(type(error)) as caught, atomic_path(path) as part:  # noqa: PT012
        part.write_bytes(b"half")
        raise error
    assert caught.value is error
    assert content(tmp_path) == before


def full(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("old", [None, b"old"])
@pytest.mark.parametrize("call", ["write", "fsync", "replace"])
def test_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: bytes | None, call: str) -> None:
    path = tmp_path / "f"
    if old is not None:
        path.write_bytes(old)
    before = content(tmp_path)

    def write_half(part: Path, data: bytes) -> None:
        with part.open("wb") as stream:
            stream.write(data[: len(data) // 2])
        full()

    with monkeypatch.context() as patch:
        match call:
            case "write":
                patch.setattr(Path, "write_bytes", write_half)
            case "fsync":
                patch.setattr(os, "fsync", full)
            case "replace":
                patch.setattr(Path, "replace", full)
        with pytest.raises(StorageError, match="No space left on device") as caught:
            write_bytes(path, b"new data")
    assert str(path) in str(caught.value)
    assert caught.value.remedy
    assert isinstance(caught.value.__cause__, OSError)
    assert content(tmp_path) == before
    write_bytes(path, b"new data")  # room was made
    assert content(tmp_path) == {"f": b"new data"}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_full_device(tmp_path: Path) -> None:
    """A real ENOSPC, from the kernel."""
    with pytest.raises(StorageError, match="No space left"), atomic_path(tmp_path / "f") as part:  # noqa: PT012
        part.symlink_to("/dev/full")
        part.write_bytes(b"x")
    assert list(tmp_path.iterdir()) == []
    assert Path("/dev/full").exists()


def test_a_folder_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "f" / "inside").mkdir(parents=True)
    (tmp_path / "file").touch()
    for path in (tmp_path / "f", tmp_path / "file" / "below"):
        with pytest.raises(StorageError, match="cannot write"):
            write_bytes(path, b"x")
    assert content(tmp_path) == {"file": b""}


@pytest.mark.parametrize("name", [".", "..", "/"])
def test_a_path_that_names_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StorageError, match="cannot write"):
        write_bytes(Path(name), b"x")
    assert list(tmp_path.iterdir()) == []


def test_block_that_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(StorageError), atomic_path(tmp_path / "f"):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("read", [read_bytes, sha256_file])
def test_unreadable(tmp_path: Path, read: object) -> None:
    assert callable(read)
    with pytest.raises(StorageError, match="nothing does not exist"):
        read(tmp_path / "nothing")
    with pytest.raises(StorageError, match="Is a directory"):
        read(tmp_path)
    with pytest.raises(StorageError, match="File name too long"):
        read(tmp_path / ("n" * 300))


def test_a_killed_writer_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"old")
    program = (
        "import os, sys, pathlib; from resnet8.files import atomic_path\n"
        "with atomic_path(pathlib.Path(sys.argv[1])) as part:\n"
        "    part.write_bytes(b'half'); os._exit(9)"
    )
    assert subprocess.run([sys.executable, "-c", program, str(path)], check=False).returncode == 9
    assert path.read_bytes() == b"old"
