"""Files appear whole or not at all."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from resnet8.errors import DataError, StorageError
from resnet8.files import (
    atomic_path,
    read_bytes,
    read_text,
    scratch_folder,
    sha256_file,
    whole_folder,
    write_bytes,
    write_text,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager


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
        part.unlink()
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
    with atomic_path(tmp_path / "f"):
        pass
    assert content(tmp_path) == {"f": b""}


@pytest.mark.parametrize("read", [read_bytes, sha256_file])
def test_unreadable(tmp_path: Path, read: object) -> None:
    assert callable(read)
    with pytest.raises(StorageError, match="nothing does not exist"):
        read(tmp_path / "nothing")
    with pytest.raises(StorageError, match="Is a directory"):
        read(tmp_path)
    with pytest.raises(StorageError, match="File name too long"):
        read(tmp_path / ("n" * 300))


@contextmanager
def writer(kind: str, path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process in the middle of writing."""
    program = (
        "import sys, pathlib; from resnet8 import files\n"
        f"with files.{kind}(pathlib.Path(sys.argv[1])) as part:\n"
        "    (part / 'half' if part.is_dir() else part).write_bytes(b'half')\n"
        "    print('begun', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", program, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        yield process


def parts(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.name.startswith(".")]


KINDS = {"atomic_path": "f", "whole_folder": "f", "scratch_folder": "."}


@pytest.mark.parametrize("next_one", KINDS)
@pytest.mark.parametrize("kind", KINDS)
def test_what_a_killed_writer_leaves_is_cleared_by_the_next_and_never_a_living_ones(
    tmp_path: Path, kind: str, next_one: str
) -> None:
    def write() -> None:
        path = tmp_path / ("." if next_one == "scratch_folder" else "g")
        with {"atomic_path": atomic_path, "whole_folder": whole_folder, "scratch_folder": scratch_folder}[next_one](
            path
        ):
            pass
        if next_one != "scratch_folder":
            path.rmdir() if path.is_dir() else path.unlink()

    before = b"old" if kind == "atomic_path" else None
    if before is not None:
        (tmp_path / "f").write_bytes(before)
    with writer(kind, tmp_path / KINDS[kind]) as process:
        write()
        assert len(parts(tmp_path)) == 1
        process.kill()
    assert len(parts(tmp_path)) == 1  # nobody could
    write()
    assert parts(tmp_path) == []
    assert content(tmp_path) == ({} if before is None else {"f": before})


@pytest.mark.parametrize("kind", ["atomic_path", "whole_folder"])
def test_a_writer_among_others_ends_as_if_alone(tmp_path: Path, kind: str) -> None:
    with writer(kind, tmp_path / "f") as process:
        for _ in range(3):
            write_bytes(tmp_path / "g", b"x")
        process.communicate("")
    assert process.returncode == 0
    name = "f" if kind == "atomic_path" else "f/half"
    assert content(tmp_path) == {name: b"half", "g": b"x"}


def test_many_write_one_file_at_once(tmp_path: Path) -> None:
    """Each in its turn or another's, whole; and each takes the others' parts for what they are."""
    path = tmp_path / "f"
    contents = [bytes([number]) * 10_000 for number in range(8)]

    def write(data: bytes) -> None:
        for _ in range(25):
            write_bytes(path, data)
            assert read_bytes(path) in contents

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, contents))
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_part_cleared_before_it_was_locked_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    made: list[Path] = []
    name = "touch" if kind == "file" else "mkdir"
    make = getattr(Path, name)

    def raced(path: Path, *arguments: object, **options: object) -> None:
        make(path, *arguments, **options)
        if path.name.endswith(".part"):
            made.append(path)
            if len(made) < 3:
                with monkeypatch.context() as patch:
                    patch.setattr(Path, name, make)
                    write_bytes(tmp_path / "of another", b"")

    monkeypatch.setattr(Path, name, raced)
    if kind == "file":
        write_bytes(tmp_path / "f", b"new")
    else:
        with whole_folder(tmp_path / "f") as part:
            (part / "one").write_bytes(b"new")
    assert content(tmp_path) == {"f" if kind == "file" else "f/one": b"new", "of another": b""}
    assert len(set(made)) == 3
    assert parts(tmp_path) == []


def test_without_locks_nothing_is_cleared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    with writer("atomic_path", tmp_path / "f") as process:
        process.kill()
    monkeypatch.setattr(fcntl, "flock", none)
    write_bytes(tmp_path / "f", b"new")
    assert read_bytes(tmp_path / "f") == b"new"
    assert len(parts(tmp_path)) == 1


def test_only_what_was_begun_here_is_cleared(tmp_path: Path) -> None:
    names = (".part", ".f.123.part", ".resnet8-.part", ".resnet8-0123456789abcdef.part.txt", "x.resnet8")
    for name in names:
        (tmp_path / name).write_bytes(b"of another program")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "kept").write_bytes(b"")
    (tmp_path / ".resnet8-0123456789abcdef.part").symlink_to(tmp_path / "elsewhere")
    write_bytes(tmp_path / "f", b"new")
    assert content(tmp_path).keys() == {*names, "f", "elsewhere/kept"}


# --- what is no file of its own ---


def test_a_link_stays_and_what_it_names_is_written(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "old").write_bytes(b"old")
    for name, target in (("link", "there/old"), ("dangling", "there/new"), ("chain", "link"), ("far", "new/folder/f")):
        (tmp_path / name).symlink_to(target)
        write_bytes(tmp_path / name, name.encode())
        assert (tmp_path / name).readlink() == Path(target)
    assert content(tmp_path / "there") == {"old": b"chain", "new": b"dangling"}
    assert (tmp_path / "new/folder/f").read_bytes() == b"far"
    assert not list(tmp_path.rglob("*.part"))


def test_an_error_leaves_what_a_link_names(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"old")
    (tmp_path / "link").symlink_to("f")
    with pytest.raises(KeyError), atomic_path(tmp_path / "link") as part:  # noqa: PT012
        part.write_bytes(b"half")
        raise KeyError
    assert {path.name for path in tmp_path.iterdir()} == {"f", "link"}
    assert (tmp_path / "link").read_bytes() == b"old"


def test_links_in_a_circle(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    for use in (lambda path: write_bytes(path, b"x"), read_bytes, sha256_file):
        with pytest.raises(StorageError, match="symbolic links"):
            use(tmp_path / "a")
    assert (tmp_path / "a").is_symlink()


def received(fifo: Path, data: bytes) -> bytes:
    """What comes out of a FIFO that ``data`` is written to."""
    with ThreadPoolExecutor(1) as pool:
        reader = pool.submit(fifo.read_bytes)
        write_bytes(fifo, data)
        return reader.result(20)


def test_a_fifo_gets_the_data_and_stays(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link").symlink_to("fifo")
    data = bytes(range(256)) * 1000  # more than it holds at once
    for name in ("fifo", "link"):
        assert received(tmp_path / name, data) == data
    assert (tmp_path / "fifo").is_fifo()
    assert {path.name for path in tmp_path.iterdir()} == {"fifo", "link"}


def test_a_device_is_written_to_and_stays(tmp_path: Path) -> None:
    """A link to it, for its folder: root could replace the device itself."""
    for name in ("null", "full"):
        (tmp_path / name).symlink_to(f"/dev/{name}")
    write_text(tmp_path / "null", "x")
    with pytest.raises(StorageError, match=r"cannot write .*/full: found No space left on device"):
        write_text(tmp_path / "full", "x")
    assert all(path.is_char_device() for path in tmp_path.iterdir())
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("target", ["/dev/stdout", "out.json"])
def test_standard_output_by_name_is_where_it_was(tmp_path: Path, target: str) -> None:
    """Where it is a file, replacing that would lose what is printed."""
    program = (
        "import sys, pathlib; from resnet8.files import write_bytes\n"
        "print('before', flush=True); write_bytes(pathlib.Path(sys.argv[1]), b'data\\n'); print('after')"
    )
    with (tmp_path / "out.json").open("wb") as out:
        subprocess.run([sys.executable, "-c", program, target], stdout=out, cwd=tmp_path, check=True)
    assert (tmp_path / "out.json").read_bytes() == b"before\ndata\nafter\n"


@pytest.mark.parametrize("read", [read_bytes, sha256_file])
def test_only_a_file_of_limited_size_is_read(tmp_path: Path, read: Callable[[Path], object]) -> None:
    os.mkfifo(tmp_path / "fifo")
    with (tmp_path / "sparse").open("wb") as stream:
        stream.truncate(20 * 10**9)
    for path in (tmp_path / "fifo", Path("/dev/zero"), Path("/dev/null")):
        with pytest.raises(StorageError, match=f"{path} cannot be read as a file: found a device, FIFO or socket"):
            read(path)
    with pytest.raises(StorageError, match=r"sparse is too large: found 20,000,000,000 bytes, expected at most 268,4"):
        read(tmp_path / "sparse")


def test_text_with_a_name_that_is_not_utf8(tmp_path: Path) -> None:
    write_text(tmp_path / "t", os.fsdecode(b"ma\xffm\xc3\xbcll"))
    assert (tmp_path / "t").read_bytes() == "ma\\udcffmüll".encode()


def test_a_scratch_folder_without_room_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_room: Callable[[], AbstractContextManager[None]]
) -> None:
    """Whatever a library makes of it; any other failure in the block stays what it is."""

    def use(folder: Path) -> None:
        try:
            (folder / "made").write_bytes(bytes(2000))
        except OSError:
            raise ValueError("damaged") from None
        raise ValueError("truly damaged")

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(ValueError, match="truly damaged"), scratch_folder() as folder:
        use(folder)
    with no_room():
        words = "cannot write temporary files: found File too large.*TMPDIR"
        with pytest.raises(StorageError, match=words), scratch_folder() as folder:
            use(folder)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "nowhere"))
    with (
        pytest.raises(StorageError, match=r"cannot write temporary files: found No such file.*TMPDIR"),
        scratch_folder(),
    ):
        pass


def test_text_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "latin").write_bytes("ü".encode("latin-1"))
    with pytest.raises(StorageError, match="latin is no text: found 'utf-8' codec can't decode byte 0xfc"):
        read_text(tmp_path / "latin")


def test_an_interrupt_while_a_part_is_removed_leaves_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupts = [KeyboardInterrupt]
    unlink = Path.unlink

    def interrupted(path: Path) -> None:
        if interrupts:
            raise interrupts.pop()
        unlink(path)

    monkeypatch.setattr(Path, "unlink", interrupted)
    with pytest.raises(KeyboardInterrupt), atomic_path(tmp_path / "it"):
        raise ValueError  # the part is removed, not given its name
    assert list(tmp_path.iterdir()) == []
