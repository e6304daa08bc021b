"""The cache and the download, against a local server that fails in every way a server can."""

from __future__ import annotations

import errno
import gc
import gzip
import hashlib
import io
import random
import signal
import socket
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from resnet8.data import assets
from resnet8.data.assets import ENVIRONMENT_VARIABLE, HOMES, Homes, RemoteFile, cache_dir, fetch, locate, verify
from resnet8.data.cifar10 import FOLDER, MD5
from resnet8.errors import DataError, DownloadError, ModelError, Resnet8Error, StorageError

RANDOM = random.Random(8)
MODEL = RANDOM.randbytes(3000)
BATCHES = {name: RANDOM.randbytes(200 + i) for i, name in enumerate(MD5)}
MODEL_PATH, ARCHIVE_PATH = "/pretrainedResnet.h5", "/cifar-10-python.tar.gz"

Answer = Callable[[BaseHTTPRequestHandler], None]


def md5(data: bytes) -> str:
    return "md5:" + hashlib.md5(data, usedforsecurity=False).hexdigest()


def regular(name: str, data: bytes) -> tuple[tarfile.TarInfo, bytes]:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    return member, data


def link(name: str, kind: bytes, target: str) -> tuple[tarfile.TarInfo, bytes]:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member, b""


def archive(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for member, data in members:
            tar.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def batch_members(**instead: bytes) -> list[tuple[tarfile.TarInfo, bytes]]:
    return [regular(f"{FOLDER}/{name}", instead.get(name, data)) for name, data in BATCHES.items()]


ARCHIVE = archive(*batch_members(), regular(f"{FOLDER}/readme.html", b"<html>"))


def whole(data: bytes, length: str | None = None) -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", length or str(len(data)))
        handler.end_headers()
        handler.wfile.write(data)

    return answer


def moved(target: Callable[[BaseHTTPRequestHandler], str]) -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(302)
        handler.send_header("Location", target(handler))
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return answer


def half(data: bytes, then: Callable[[], object] = lambda: None) -> Answer:
    """Promises all of ``data``, sends half of it, calls ``then`` and hangs up."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data[: len(data) // 2])
        handler.wfile.flush()
        then()

    return answer


class Server(ThreadingHTTPServer):
    """Serves ``answers`` by path and keeps the paths asked for."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers: dict[str, Answer] = {MODEL_PATH: whole(MODEL), ARCHIVE_PATH: whole(ARCHIVE)}
        self.asked: list[str] = []
        self.ending = threading.Event()  # lets go of clients that an answer keeps waiting

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hung up is part of the game."""

    def homes(self, data: bytes = ARCHIVE) -> Homes:
        url = f"http://127.0.0.1:{self.server_port}"
        return Homes(
            RemoteFile("pretrainedResnet.h5", url + MODEL_PATH, "sha256:" + hashlib.sha256(MODEL).hexdigest()),
            RemoteFile("cifar-10-python.tar.gz", url + ARCHIVE_PATH, md5(data)),
            {name: md5(content) for name, content in BATCHES.items()},
            timeout=20,
        )


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        self.server.answers[self.path](self)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name in the base class
        pass


@contextmanager
def serving() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.ending.set()
            server.shutdown()
            thread.join()


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as server:
        yield server


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv(ENVIRONMENT_VARIABLE, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("RESNET8_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


COMPLETE = {"pretrainedResnet.h5": MODEL} | {f"{FOLDER}/{name}": data for name, data in BATCHES.items()}


def assert_one_line(error: Resnet8Error) -> None:
    assert "\n" not in str(error)
    assert error.found
    assert error.expected
    assert error.remedy


def make_folder(folder: Path) -> Path:
    (folder / FOLDER).mkdir(parents=True)
    for name, data in COMPLETE.items():
        (folder / name).write_bytes(data)
    return folder


# --- folders ---


def test_locate(tmp_path: Path) -> None:
    folder = make_folder(tmp_path)
    found = locate(folder)
    assert (found.keras_model, found.data_dir) == (folder / "pretrainedResnet.h5", folder / FOLDER)
    assert found.reference_tflite is None
    assert not found.demo
    reference = folder / "mlperf-tiny" / "pretrainedResnet_quant.tflite"
    reference.parent.mkdir()
    reference.touch()
    assert locate(folder).reference_tflite == reference


@pytest.mark.parametrize(
    ("missing", "kind"),
    [
        ("pretrainedResnet.h5", ModelError),
        (f"{FOLDER}/test_batch", DataError),
        (f"{FOLDER}/data_batch_3", DataError),
    ],
)
def test_locate_names_what_is_missing(tmp_path: Path, missing: str, kind: type[Resnet8Error]) -> None:
    folder = make_folder(tmp_path)
    (folder / missing).unlink()
    with pytest.raises(kind, match=Path(missing).name) as caught:
        locate(folder)
    assert_one_line(caught.value)
    assert str(folder) in str(caught.value)


def test_locate_refuses_what_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for name, found in (("nothing", "does not exist"), ("file", "is a file")):
        with pytest.raises(DataError, match=found) as caught:
            locate(tmp_path / name)
        assert_one_line(caught.value)


@pytest.mark.real
def test_locate_and_verify_the_real_folder(real_assets: Path) -> None:
    found = locate(real_assets)
    assert found.reference_tflite is not None
    assert verify(found.data_dir) == dict.fromkeys(MD5, True)
    algorithm, digest = HOMES.keras_model.digest.split(":")
    assert hashlib.new(algorithm, found.keras_model.read_bytes()).hexdigest() == digest


def test_verify(tmp_path: Path, server: Server) -> None:
    folder = make_folder(tmp_path) / FOLDER
    digests = server.homes().members
    assert verify(folder, digests) == dict.fromkeys(MD5, True)
    assert verify(folder) == dict.fromkeys(MD5, False)  # these are not the official files
    (folder / "data_batch_2").write_bytes(b"altered")
    (folder / "batches.meta").unlink()
    assert [name for name, intact in verify(folder, digests).items() if not intact] == [
        "data_batch_2",
        "batches.meta",
    ]


# --- which folder ---


def test_cache_dir(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RESNET8_CACHE", str(tmp_path))
    assert cache_dir() == tmp_path
    monkeypatch.setenv("RESNET8_CACHE", "")
    assert "resnet8" in cache_dir().parts


def test_a_named_folder_comes_before_the_variable_and_the_variable_before_the_cache(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = make_folder(tmp_path / "one"), make_folder(tmp_path / "two")
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, str(two))
    assert fetch(one, download=False).keras_model.parent == one
    assert fetch(download=False).keras_model.parent == two
    assert not cache.exists()


def test_an_error_in_the_variables_folder_names_the_variable(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, str(tmp_path / "nowhere"))
    with pytest.raises(DataError, match=ENVIRONMENT_VARIABLE) as caught:
        fetch()
    assert_one_line(caught.value)


def test_the_demo_is_put_into_the_cache_and_marked(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, str(make_folder(tmp_path / "named")))
    monkeypatch.setattr("resnet8.data.demo.materialize", make_folder)
    found = fetch(demo=True)
    assert found.keras_model.parent == cache / "demo"
    assert found.demo


# --- download ---


def test_download_once(cache: Path, server: Server, capfd: pytest.CaptureFixture[str]) -> None:
    found = fetch(homes=server.homes())
    assert found == locate(cache)
    assert content(cache) == COMPLETE
    assert fetch(homes=server.homes()) == found
    assert server.asked == [MODEL_PATH, ARCHIVE_PATH]
    assert capfd.readouterr() == ("", "")  # no terminal, no bar; and no library talks


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("progress", [True, False])
def test_the_bar_is_shown_on_a_terminal_unless_switched_off(
    cache: Path,
    server: Server,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    progress: bool,
) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    fetch(progress=progress, homes=server.homes())
    shown = terminal.getvalue()
    assert ("pretrainedResnet.h5: 100%" in shown, "cifar-10-python.tar.gz: 100%" in shown) == (
        progress,
        progress,
    )
    assert bool(shown) == progress
    assert not capsys.readouterr().out


def test_only_what_is_missing_is_downloaded(cache: Path, server: Server) -> None:
    fetch(homes=server.homes())
    (cache / FOLDER / "data_batch_4").unlink()
    kept = (cache / FOLDER / "data_batch_5").stat()
    server.asked.clear()
    fetch(homes=server.homes())
    assert server.asked == [ARCHIVE_PATH]
    assert content(cache) == COMPLETE
    assert (cache / FOLDER / "data_batch_5").stat().st_ino == kept.st_ino  # what was intact is not touched


def test_check_replaces_what_was_altered(cache: Path, server: Server) -> None:
    fetch(homes=server.homes())
    (cache / "pretrainedResnet.h5").write_bytes(MODEL[:-1])
    (cache / FOLDER / "test_batch").write_bytes(b"")
    fetch(homes=server.homes(), check=True)
    assert content(cache) == COMPLETE


def test_without_download_the_missing_are_named(cache: Path, server: Server) -> None:
    with pytest.raises(DownloadError, match=r"pretrainedResnet\.h5, .*test_batch.*resnet8 fetch") as caught:
        fetch(download=False, homes=server.homes())
    assert_one_line(caught.value)
    assert not server.asked
    assert not cache.exists()


@contextmanager
def refused(
    cache: Path, server: Server, kind: type[Resnet8Error], match: str, kept: dict[str, bytes]
) -> Iterator[None]:
    """The fetch in between fails so and leaves nothing but ``kept``; the next one, answered well, works."""
    with pytest.raises(kind, match=match) as caught:
        yield
    assert_one_line(caught.value)
    assert content(cache) == kept
    assert not list(cache.glob(".*"))
    server.answers = {MODEL_PATH: whole(MODEL), ARCHIVE_PATH: whole(ARCHIVE)}
    fetch(homes=server.homes())
    assert content(cache) == COMPLETE


BAD_ANSWERS: dict[str, tuple[Callable[[bytes], Answer], str]] = {
    "wrong checksum": (
        lambda data: whole(data[:-1] + b"?"),
        r"not the file it should be: found (md5|sha256) ",
    ),
    "empty": (lambda data: whole(b""), r"\(0 bytes\)"),
    "404": (lambda data: lambda handler: handler.send_error(404), "HTTP status 404 Not Found"),
    "500": (lambda data: lambda handler: handler.send_error(500), "HTTP status 500"),
    "cut half-way": (half, "IncompleteRead"),
    "no HTTP": (lambda data: lambda handler: None, "cannot download"),
    "a length beyond all files": (lambda data: whole(data, str(10**12)), "found 1,000,000,000,000 bytes"),
    "a redirect in a circle": (lambda data: moved(lambda handler: handler.path), "redirects"),
    **{
        f"a redirect to {target}": (lambda data, target=target: moved(lambda handler: target), "cannot download")
        for target in ("http://[", "file:///etc/passwd", "http://.x/", "http://x:99999999/", "http://\xff\xfe/", "//")
    },
}


@pytest.mark.parametrize("path", [MODEL_PATH, ARCHIVE_PATH])
@pytest.mark.parametrize("failure", BAD_ANSWERS)
def test_bad_answer(cache: Path, server: Server, path: str, failure: str) -> None:
    make, match = BAD_ANSWERS[failure]
    server.answers[path] = make(MODEL if path == MODEL_PATH else ARCHIVE)
    kept = {} if path == MODEL_PATH else {"pretrainedResnet.h5": MODEL}
    with refused(cache, server, DownloadError, match, kept):
        fetch(homes=server.homes())


def test_a_slow_server_is_waited_for(cache: Path, server: Server) -> None:
    def slowly(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)  # and no Content-Length
        handler.end_headers()
        for start in range(0, len(MODEL), 1000):
            handler.wfile.write(MODEL[start : start + 1000])
            time.sleep(0.02)

    server.answers[MODEL_PATH] = slowly
    fetch(homes=server.homes())
    assert content(cache) == COMPLETE


@pytest.mark.parametrize("when", ["before the answer", "half-way"])
def test_a_server_that_falls_silent_is_given_up(cache: Path, server: Server, when: str) -> None:
    def silence() -> None:
        server.ending.wait(20)

    server.answers[MODEL_PATH] = half(MODEL, silence) if when == "half-way" else lambda handler: silence()
    with refused(cache, server, DownloadError, r"no answer for 0\.1 s", {}):
        fetch(homes=replace(server.homes(), timeout=0.1))


def endless(handler: BaseHTTPRequestHandler, pause: float = 0) -> None:
    """Sends until the client hangs up."""
    if not hasattr(handler, "_headers_buffer"):
        handler.send_response(200)
    handler.end_headers()
    while not handler.server.ending.wait(pause):  # type: ignore[attr-defined]
        handler.wfile.write(bytes(1 if pause else 10_000))


def test_a_file_without_an_end_is_given_up(cache: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assets, "LARGEST", 100_000)
    server.answers[MODEL_PATH] = endless
    with refused(cache, server, DownloadError, r"found 1\d\d,\d\d\d bytes, which are more than any file here", {}):
        fetch(homes=server.homes())


def test_a_server_that_sends_a_byte_now_and_then_is_given_up(cache: Path, server: Server) -> None:
    server.answers[MODEL_PATH] = partial(endless, pause=0.01)
    with refused(cache, server, DownloadError, r"found \d+ bytes in 0\.1 s", {}):
        fetch(homes=replace(server.homes(), patience=0.1))


def test_a_redirect_is_followed_whatever_else_it_says(cache: Path, server: Server) -> None:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(302)
        handler.send_header("Location", "/elsewhere")
        endless(handler)

    server.answers |= {MODEL_PATH: answer, "/elsewhere": whole(MODEL)}
    fetch(homes=server.homes())
    assert content(cache) == COMPLETE


@pytest.mark.parametrize("length", ["many", "-5", "9" * 5000])
def test_a_length_that_is_none_is_not_needed(cache: Path, server: Server, length: str) -> None:
    server.answers[MODEL_PATH] = whole(MODEL, length)
    fetch(homes=server.homes())
    assert content(cache) == COMPLETE


@pytest.mark.filterwarnings("ignore:.*socket:pytest.PytestUnraisableExceptionWarning")
def test_two_lengths(cache: Path, server: Server) -> None:
    server.answers[MODEL_PATH] = whole(MODEL, "5, 7")
    with refused(cache, server, DownloadError, "multiple unmatching values", {}):
        fetch(homes=server.homes())
    gc.collect()  # urllib3 leaves the socket to it


def test_no_server(cache: Path, server: Server) -> None:
    with socket.socket() as unused:  # bound and not listening: nobody else can answer on this port
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/"
        homes = replace(server.homes(), keras_model=replace(server.homes().keras_model, url=url))
        with refused(cache, server, DownloadError, "Connection refused.*RESNET8_ASSETS", {}):
            fetch(homes=homes)


def test_no_network(cache: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    def unresolved(*args: object, **kwargs: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    match = "Name or service not known"
    with refused(cache, server, DownloadError, match, {}), monkeypatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", unresolved)
        fetch(homes=server.homes())


def test_ctrl_c_in_the_middle_leaves_nothing(cache: Path, server: Server) -> None:
    main = threading.main_thread().ident
    assert main is not None

    def interrupt() -> None:
        signal.pthread_kill(main, signal.SIGINT)
        server.ending.wait(20)

    server.answers[ARCHIVE_PATH] = half(ARCHIVE, interrupt)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a background shell job ignores it
    try:
        with pytest.raises(KeyboardInterrupt):
            fetch(homes=server.homes())
    finally:
        signal.signal(signal.SIGINT, before)
    assert content(cache) == {"pretrainedResnet.h5": MODEL}
    assert [path.name for path in cache.iterdir()] == ["pretrainedResnet.h5"]


FETCH_IN_A_PROCESS = """
import sys
from resnet8.data.assets import Homes, RemoteFile, fetch
model_url, model_digest, archive_url, archive_digest, *members = sys.argv[1:]
fetch(homes=Homes(
    RemoteFile("pretrainedResnet.h5", model_url, model_digest),
    RemoteFile("cifar-10-python.tar.gz", archive_url, archive_digest),
    dict(member.split("=") for member in members),
))
"""


def test_two_processes_at_once(cache: Path, server: Server) -> None:
    def together(answer: Answer) -> Answer:
        both = threading.Barrier(2)  # nobody is answered before both have asked

        def wait(handler: BaseHTTPRequestHandler) -> None:
            both.wait(60)
            answer(handler)

        return wait

    server.answers = {path: together(answer) for path, answer in server.answers.items()}
    homes = replace(server.homes(), timeout=60)
    model, archive_file = homes.keras_model, homes.cifar10
    arguments = [model.url, model.digest, archive_file.url, archive_file.digest]
    arguments += [f"{name}={digest}" for name, digest in homes.members.items()]
    with subprocess.Popen([sys.executable, "-c", FETCH_IN_A_PROCESS, *arguments]) as other:
        fetch(homes=homes)
        assert other.wait(60) == 0
    assert sorted(server.asked) == [ARCHIVE_PATH] * 2 + [MODEL_PATH] * 2
    assert content(cache) == COMPLETE
    assert sorted(path.name for path in cache.iterdir()) == [FOLDER, "pretrainedResnet.h5"]


# --- archive ---

CORRUPT_ARCHIVES = {
    "no archive": b"<html>Sign in to this network</html>",
    "truncated": ARCHIVE[: len(ARCHIVE) // 2],
    "altered": ARCHIVE[:200] + bytes(20) + ARCHIVE[220:],
    "compressed nonsense": gzip.compress(RANDOM.randbytes(2000)),
}


@pytest.mark.parametrize("failure", CORRUPT_ARCHIVES)
def test_corrupt_archive(cache: Path, server: Server, failure: str) -> None:
    data = CORRUPT_ARCHIVES[failure]
    server.answers[ARCHIVE_PATH] = whole(data)
    match = r"cifar-10-python\.tar\.gz from http.* cannot be unpacked"
    with refused(cache, server, DownloadError, match, {"pretrainedResnet.h5": MODEL}):
        fetch(homes=server.homes(data))


WRONG_ARCHIVES = {
    "a member missing": archive(*batch_members()[1:]),
    "a member altered": archive(*batch_members(data_batch_1=b"altered")),
    "a symbolic link": archive(link(f"{FOLDER}/data_batch_1", tarfile.SYMTYPE, "/etc/passwd"), *batch_members()[1:]),
    "a hard link": archive(*batch_members()[1:], link(f"{FOLDER}/data_batch_1", tarfile.LNKTYPE, "../../victim")),
    "a folder": archive(*batch_members()[1:], link(f"{FOLDER}/data_batch_1", tarfile.DIRTYPE, "")),
    "an absolute path": archive(regular(f"/{FOLDER}/data_batch_1", BATCHES["data_batch_1"]), *batch_members()[1:]),
}


@pytest.mark.parametrize("failure", WRONG_ARCHIVES)
def test_an_archive_without_all_the_files_is_refused(cache: Path, server: Server, failure: str) -> None:
    data = WRONG_ARCHIVES[failure]
    server.answers[ARCHIVE_PATH] = whole(data)
    match = "does not hold the files it should: found data_batch_1 missing or altered"
    with refused(cache, server, DownloadError, match, {"pretrainedResnet.h5": MODEL}):
        fetch(homes=server.homes(data))


def test_members_that_lead_elsewhere_are_never_written(cache: Path, server: Server, tmp_path: Path) -> None:
    data = archive(
        link(FOLDER, tarfile.SYMTYPE, str(tmp_path)),
        regular(str(tmp_path / "absolute"), b"evil"),
        regular(f"{FOLDER}/../../../upwards", b"evil"),
        regular(f"{FOLDER}/test_batch/../../upwards", b"evil"),
        link(f"{FOLDER}/elsewhere", tarfile.SYMTYPE, str(tmp_path)),
        regular(f"{FOLDER}/elsewhere/through-a-link", b"evil"),
        *batch_members(),
    )
    server.answers[ARCHIVE_PATH] = whole(data)
    fetch(homes=server.homes(data))
    assert content(tmp_path) == {f"cache/{name}": data for name, data in COMPLETE.items()}


# --- disk ---


@pytest.mark.parametrize(
    ("step", "kept"),
    [
        ("resnet8.data.assets._receive", {}),
        ("resnet8.data.assets.os.fsync", {}),
        ("resnet8.data.assets.shutil.copyfileobj", {"pretrainedResnet.h5": MODEL}),
    ],
)
def test_full_disk(
    cache: Path, server: Server, monkeypatch: pytest.MonkeyPatch, step: str, kept: dict[str, bytes]
) -> None:
    def full(*args: object, **kwargs: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    match = f"cannot write to the cache {cache}: found No space left on device.*RESNET8_CACHE"
    with refused(cache, server, StorageError, match, kept), monkeypatch.context() as patch:
        patch.setattr(step, full)
        fetch(homes=server.homes())


def test_unwritable_cache(cache: Path, server: Server) -> None:
    cache.write_bytes(b"a file where the folder should be")
    with pytest.raises(StorageError, match=r"cannot write to the cache .*RESNET8_CACHE") as caught:
        fetch(homes=server.homes())
    assert_one_line(caught.value)
    assert not server.asked


def test_a_read_only_cache_that_is_complete_is_enough(
    cache: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_folder(cache)
    monkeypatch.setattr(assets, "_staging", None)  # nothing may be written (root may write anywhere)
    assert fetch(homes=server.homes()) == locate(cache)


# --- the module ---


def test_importing_is_cheap() -> None:
    code = "import sys, resnet8.data.assets; sys.exit(len({'platformdirs', 'requests', 'tqdm'} & sys.modules.keys()))"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_official_homes() -> None:
    assert HOMES.keras_model.name == "pretrainedResnet.h5"
    assert HOMES.keras_model.digest.endswith("5f938a8eea605438cc7360aa13c987bc6d7bd0c8d931b2917361ae7ae4eeda2f")
    assert HOMES.cifar10.digest == "md5:c58f30108f718f92721af3b95e74349a"
    assert all(remote.url.startswith("https://") for remote in (HOMES.keras_model, HOMES.cifar10))
    assert HOMES.members == {name: f"md5:{digest}" for name, digest in MD5.items()}
