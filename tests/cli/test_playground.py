"""``resnet8 playground`` up to where Marimo takes over."""

from __future__ import annotations

import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from shell import INTERRUPTIBLE
from typer.testing import CliRunner

from resnet8.cli import app
from resnet8.cli import playground as module
from resnet8.playground import sources

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from shell import Shell

pytest.importorskip("marimo")


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[tuple[list[str], dict[str, str]]]:
    """How Marimo's server was started, in place of starting it."""
    remembered: list[tuple[list[str], dict[str, str]]] = []
    monkeypatch.setattr(os, "execve", lambda _, command, environment: remembered.append((command, environment)))
    monkeypatch.setenv("RESNET8_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv(sources.FOLDER_VARIABLE, raising=False)
    return remembered


def run(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["playground", *map(str, arguments)], catch_exceptions=False)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ((), ["run"]),
        (("--edit",), ["edit"]),
        (("--port", 8123, "--headless"), ["run", "--port", "8123", "--headless"]),
    ],
)
def test_options_become_those_of_marimo(
    started: list[tuple[list[str], dict[str, str]]], options: tuple[object, ...], expected: list[str]
) -> None:
    assert run(*options).exit_code == 0
    ((command, environment),) = started
    server = [sys.executable, "-m", "resnet8.playground.server"]
    assert command == [*server, expected[0], str(module.notebook()), "--token", *expected[1:]]
    assert sources.FOLDER_VARIABLE not in environment


def test_the_folder_is_handed_on(started: list[tuple[list[str], dict[str, str]]], tmp_path: Path) -> None:
    assert run(tmp_path).exit_code == 0
    assert started[0][1][sources.FOLDER_VARIABLE] == str(tmp_path)


def test_the_demo_is_there_before_the_server(started: list[tuple[list[str], dict[str, str]]], tmp_path: Path) -> None:
    assert run("--demo").exit_code == 0
    folder = tmp_path / "cache" / "demo-models"
    assert started[0][1][sources.FOLDER_VARIABLE] == str(folder)
    assert (folder / "models" / "resnet8_int8.onnx").is_file()


def test_an_installed_notebook_is_edited_as_a_copy(
    started: list[tuple[list[str], dict[str, str]]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = tmp_path / "site-packages" / module.INSTALLED
    installed.parent.mkdir()
    installed.write_text("installed")
    monkeypatch.setattr(module, "notebook", lambda: installed)
    monkeypatch.chdir(tmp_path)
    assert run("--edit").exit_code == 0
    assert (tmp_path / "quantization.py").read_text() == "installed"
    (tmp_path / "quantization.py").write_text("mine")
    assert run("--edit").exit_code == 0
    assert (tmp_path / "quantization.py").read_text() == "mine"
    assert run().exit_code == 0
    assert [command[3:] for command, _ in started] == [
        ["edit", "quantization.py", "--token"],
        ["edit", "quantization.py", "--token"],
        ["run", str(installed), "--token"],
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nowhere",), "there is no folder nowhere: found it does not exist, expected a folder with models/"),
        (("file",), "there is no folder file: found it is a file"),
        (("n" * 5000,), "found File name too long"),
        (("--port", "0"), "'--port': Input should be greater than or equal to 1"),
        (("folder", "--demo"), "--demo: it excludes a folder"),
    ],
)
def test_bad_input_is_one_message(shell: Shell, arguments: tuple[str, ...], message: str) -> None:
    (shell.folder / "file").write_text("")
    (shell.folder / "folder").mkdir(exist_ok=True)
    done = shell.run("playground", *arguments)
    assert done.returncode != 0
    assert message in " ".join(done.stderr.replace("│", " ").split())
    assert "Traceback" not in done.stderr


def test_a_port_in_use_is_named(shell: Shell) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = shell.run("playground", "--headless", "--port", port)
    assert done.returncode == 1
    assert f"cannot listen on port {port}: found Address already in use" in done.stderr
    assert done.stdout == ""


def test_without_marimo_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, shell: Shell) -> None:
    hidden = "import sys, importlib.util as u; old = u.find_spec; "
    hidden += "u.find_spec = lambda name, *rest: None if name == 'marimo' else old(name, *rest); "
    hidden += "from resnet8.__main__ import main; sys.argv = ['resnet8', 'playground']; main()"
    done = subprocess.run(
        [sys.executable, "-c", hidden], cwd=shell.folder, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode != 0
    assert "whl[playground]'" in done.stderr
    assert "Traceback" not in done.stderr


MARK = "RESNET8_TEST_SERVER"
"""Tells a server's processes, by the environment that they inherit."""


def until(holds: Callable[[], bool]) -> None:
    for _ in range(300):
        if holds():
            return
        time.sleep(0.2)
    pytest.fail("it does not come to pass")


def answers(port: int) -> bool:
    """Whether a server is there."""
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=10)) as connection:
        try:
            connection.request("GET", "/health")
            return connection.getresponse().status == 200
        except OSError:
            return False


@pytest.fixture(params=[()])
def served(shell: Shell, request: pytest.FixtureRequest) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """The command with its server, and the server's port; the parameter holds more options."""
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTIBLE, "playground", "--headless", "--port", str(port), *request.param],
        cwd=shell.folder,
        env=shell.environment | {MARK: str(port)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        until(lambda: answers(port))
        yield process, port
    finally:
        process.kill()
        process.communicate()


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_signal_ends_the_server_too(served: tuple[subprocess.Popen[str], int], how: signal.Signals) -> None:
    process, port = served
    os.kill(process.pid, how)
    output, _ = process.communicate(timeout=30)
    assert "Traceback" not in output
    assert not answers(port)


def asked(port: int, path: str, headers: dict[str, str]) -> tuple[http.client.HTTPResponse, bytes]:
    """The server's answer, and how it begins."""
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=10)) as connection:
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        body = answer.fp.read1(10_000) if answer.status == 101 else answer.read()
        return answer, body


SOCKET = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}
SESSION = "/ws?session_id=s_123456"


def entered(process: subprocess.Popen[str], port: int) -> tuple[str, str]:
    """The token that the command prints, and the cookie that the browser gets for it."""
    assert process.stdout is not None
    printed = (re.search(r"access_token=([\w-]+)", line) for line in process.stdout)
    token = next(one[1] for one in printed if one)
    answer, _ = asked(port, f"/?access_token={token}", {})
    return token, str(answer.getheader("Set-Cookie")).partition(";")[0]


@pytest.mark.slow
def test_neither_another_site_nor_another_name_gets_anything(served: tuple[subprocess.Popen[str], int]) -> None:
    """Of a page of another site, and of one whose name was made to lead here: with the cookie, and even the token."""
    process, port = served
    own = {"Host": f"localhost:{port}", "Origin": f"http://localhost:{port}"}
    for headers in ({}, own):
        shown, _ = asked(port, "/", headers)
        assert "/auth/login" in str(shown.getheader("Location"))
        assert asked(port, SESSION, SOCKET | headers)[0].status == 403
    token, cookie = entered(process, port)
    own |= {"Cookie": cookie}
    page, content = asked(port, "/", own)
    assert page.status == 200
    assert b"marimo" in content
    socket, said = asked(port, SESSION, SOCKET | own)
    assert socket.status == 101
    assert b"kernel-ready" in said
    for foreign in (
        {"Origin": "https://elsewhere.example"},
        {"Origin": "http://localhost:1"},  # another server on this machine: its pages have the same cookies
        {"Origin": "null"},
        {"Host": "elsewhere.example"},
        {"Host": f"elsewhere.example:{port}", "Origin": f"http://elsewhere.example:{port}"},
    ):
        for path, headers in (("/", own), (f"/?access_token={token}", own), (SESSION, SOCKET | own)):
            answer, body = asked(port, path, headers | foreign)
            assert answer.status in (400, 403), (path, foreign)
            assert body.startswith(b"Invalid "), (path, foreign)
    assert process.poll() is None


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="this system does not show processes as files")
@pytest.mark.parametrize("served", [("--edit",)], indirect=True)
def test_no_kernel_outlives_the_command(
    served: tuple[subprocess.Popen[str], int],
) -> None:
    process, port = served
    _, cookie = entered(process, port)

    def there() -> set[int]:
        found = set()
        for environ in Path("/proc").glob("[0-9]*/environ"):
            with suppress(OSError):  # of another user, or it ended meanwhile
                if f"{MARK}={port}".encode() in environ.read_bytes().split(b"\0"):
                    found.add(int(environ.parent.name))
        return found

    assert asked(port, SESSION, SOCKET | {"Cookie": cookie})[0].status == 101
    until(lambda: len(there()) > 1)
    process.kill()
    until(lambda: not there() - {process.pid})
