"""The known external files: where they live, what they must be, the cache, and the download.

One rule keeps the cache sound: a file gets its name there only after its digest was right and its bytes are
on disk. So a name that is there stands for a good file and need not be hashed at every run, an interrupted
download leaves nothing to mistake for a file, and two processes that fetch at once only replace a file by its
equal.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
import sys
import tarfile
import time
import zlib
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from resnet8.data.cifar10 import FOLDER, MD5, find
from resnet8.errors import DataError, DownloadError, ModelError, Resnet8Error
from resnet8.facts import KERAS_MODEL, KERAS_SHA256
from resnet8.files import LARGEST, clear, opened, reading, scratch_folder, settle, writing

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ENVIRONMENT_VARIABLE = "RESNET8_ASSETS"
"""Names a folder to use instead of the cache."""

CACHE_VARIABLE = "RESNET8_CACHE"
"""Names the folder of the cache."""

REFERENCE_TFLITE = Path("mlperf-tiny", "pretrainedResnet_quant.tflite")

_BY_HAND = f"fetch the file by hand and set {ENVIRONMENT_VARIABLE} to its folder"


@dataclass(frozen=True)
class Assets:
    """Where the inputs of a run are.

    Attributes:
        keras_model: ``pretrainedResnet.h5``.
        data_dir: The folder holding ``test_batch`` and its siblings.
        reference_tflite: The reference's own int8 model, where the folder has it.
        demo: Whether these are the embedded demo's.
    """

    keras_model: Path
    data_dir: Path
    reference_tflite: Path | None
    demo: bool


@dataclass(frozen=True)
class RemoteFile:
    """A file on a server: its name here, its address, and its digest as ``algorithm:hex``."""

    name: str
    url: str
    digest: str


@dataclass(frozen=True)
class Homes:
    """Where the assets come from, and what they must be.

    Attributes:
        keras_model: The Keras file.
        cifar10: The gzipped tar archive of the batch files.
        members: Digest (``algorithm:hex``) of each file taken from the archive, by name; the rest is ignored.
        timeout: Seconds without a byte after which a server is given up.
        patience: Seconds that a file may take.
    """

    keras_model: RemoteFile
    cifar10: RemoteFile
    members: Mapping[str, str]
    timeout: float = 30.0
    patience: float = 3600.0


HOMES = Homes(
    keras_model=RemoteFile(
        KERAS_MODEL,
        "https://raw.githubusercontent.com/mlcommons/tiny/1afd2c9820f795965a6134facd0b4dfae41ef23f/"
        "benchmark/training/image_classification/trained_models/pretrainedResnet.h5",
        f"sha256:{KERAS_SHA256}",
    ),
    cifar10=RemoteFile(
        "cifar-10-python.tar.gz",
        "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
        "md5:c58f30108f718f92721af3b95e74349a",
    ),
    members={name: f"md5:{md5}" for name, md5 in MD5.items()},
)
"""The official ones."""


def cache_dir() -> Path:
    """The folder of downloaded assets: ``RESNET8_CACHE`` if set, else the system's place for caches."""
    if folder := os.environ.get(CACHE_VARIABLE):
        return Path(folder)
    import platformdirs

    return platformdirs.user_cache_path("resnet8")


def locate(directory: Path) -> Assets:
    """The assets in a folder with ``pretrainedResnet.h5`` and ``cifar-10-batches-py/``; nothing is hashed.

    Raises:
        DataError: when there is no such folder, or batch files are missing; they are named.
        ModelError: when the Keras file is missing.
        StorageError: when the folder cannot be read.
    """
    with reading(directory):
        if not directory.is_dir():
            raise DataError(
                f"no assets in {directory}",
                found="it is a file" if directory.exists() else "it does not exist",
                expected=f"a folder holding {KERAS_MODEL} and {FOLDER}/",
                remedy="check the path, or run without it to use the download",
            )
        keras_model = directory / KERAS_MODEL
        if not keras_model.is_file():
            raise ModelError(
                f"no Keras model in {directory}",
                found=f"no file {KERAS_MODEL}",
                expected=f"a folder holding {KERAS_MODEL} and {FOLDER}/",
                remedy=f"put it there (it comes from {HOMES.keras_model.url}), or run «resnet8 fetch»",
            )
        data_dir = find(directory)
        if missing := [name for name in MD5 if not (data_dir / name).is_file()]:
            raise DataError(
                f"CIFAR-10 in {data_dir} is not complete",
                found=f"no {', '.join(missing)}",
                expected=f"the {len(MD5)} files {', '.join(MD5)}",
                remedy=f"unpack the whole of {HOMES.cifar10.name} there, or run «resnet8 fetch»",
            )
        reference = directory / REFERENCE_TFLITE
        return Assets(keras_model, data_dir, reference if reference.is_file() else None, demo=False)


def verify(data_dir: Path, digests: Mapping[str, str] = HOMES.members) -> dict[str, bool]:
    """Whether each file in ``data_dir`` is there with its digest (by default: is the official one), by name.

    Raises:
        StorageError: when a file cannot be read.
    """
    return {name: _intact(data_dir / name, digest) for name, digest in digests.items()}


def fetch(
    directory: Path | None = None,
    *,
    demo: bool = False,
    download: bool = True,
    progress: bool = True,
    check: bool = False,
    homes: Homes = HOMES,
) -> Assets:
    """The assets of a run: the demo's, a named folder's, or the cache's, after downloading what it lacks.

    Args:
        directory: A folder to use; else the one that ``RESNET8_ASSETS`` names, else the cache.
        demo: Use the embedded demo, whatever else is named.
        download: Whether files may be downloaded.
        progress: Show a progress bar on standard error, if that is a terminal.
        check: Hash what the cache holds, and download anew what was altered since.
        homes: Where the files come from.

    Raises:
        DataError: as :func:`locate`.
        ModelError: as :func:`locate`.
        DownloadError: when a file cannot be downloaded or is not what it should be, or when one is needed and
            ``download`` is false; the intact files of the cache are kept.
        StorageError: when the cache cannot be read or written.
    """
    if demo:
        from resnet8.data.demo import materialize

        return replace(locate(materialize(cache_dir() / "demo")), demo=True)
    if directory is not None:
        return locate(directory)
    if named := os.environ.get(ENVIRONMENT_VARIABLE):
        try:
            return locate(Path(named))
        except Resnet8Error as error:
            raise type(error)(
                f"{ENVIRONMENT_VARIABLE}={named}: {error.what}",
                found=error.found,
                expected=error.expected,
                remedy=error.remedy,
            ) from error
    cache = cache_dir()
    _complete(cache, homes, download=download, show=progress and sys.stderr.isatty(), check=check)
    return locate(cache)


def _complete(cache: Path, homes: Homes, *, download: bool, show: bool, check: bool) -> None:
    """Download into ``cache`` what it lacks."""
    clear(cache)
    model = homes.keras_model
    lacks_model = not _intact(cache / model.name, model.digest if check else None)
    lacking = [
        name for name, digest in homes.members.items() if not _intact(cache / FOLDER / name, digest if check else None)
    ]
    if not (lacks_model or lacking):
        return
    if not download:
        raise DownloadError(
            f"not all assets are in the cache {cache}",
            found=f"no intact {', '.join([model.name] * lacks_model + lacking)}",
            expected="all of them, as downloading was not allowed",
            remedy=f"run «resnet8 fetch», or set {ENVIRONMENT_VARIABLE} to a folder that holds them",
        )
    with _staging(cache) as staging:
        if lacks_model:
            settle(_download(model, staging, homes, show=show), cache / model.name)
        if lacking:
            archive = _download(homes.cifar10, staging, homes, show=show)
            folder = _extract(archive, staging / FOLDER, homes)
            (cache / FOLDER).mkdir(exist_ok=True)
            for name in lacking:
                settle(folder / name, cache / FOLDER / name)


@contextmanager
def _staging(cache: Path) -> Iterator[Path]:
    """A folder of this call's own, on the cache's file system; removed at the end, however that comes."""
    with writing(
        f"cannot write to the cache {cache}",
        expected="a writable folder with 400 MB free",
        remedy=f"make room, or name another folder with {CACHE_VARIABLE}",
    ):
        cache.mkdir(parents=True, exist_ok=True)
        with scratch_folder(cache) as folder:
            yield folder


def _download(remote: RemoteFile, folder: Path, homes: Homes, *, show: bool) -> Path:
    """The path of ``remote`` in ``folder``, downloaded and verified."""
    import requests
    from urllib3.exceptions import HTTPError

    path = folder / remote.name
    try:
        _receive(remote, path, homes, show=show)
    except (requests.RequestException, HTTPError, ValueError) as error:  # the last from a redirect to no address
        raise _failed(remote, _reason(error, homes.timeout)) from error
    algorithm, expected = remote.digest.split(":")
    if (found := _digest(path, algorithm)) != expected:
        raise DownloadError(
            f"{remote.name} from {remote.url} is not the file it should be",
            found=f"{algorithm} {found} ({path.stat().st_size:,} bytes)",
            expected=f"{algorithm} {expected}",
            remedy=f"it was discarded; try again, or {_BY_HAND}",
        )
    return path


def _receive(remote: RemoteFile, path: Path, homes: Homes, *, show: bool) -> None:
    """Write to ``path`` what the server sends, within limits of size and time."""
    import requests
    from tqdm import tqdm

    def follow(response: requests.Response, **_: object) -> None:
        if response.is_redirect:
            response.close()  # what else it says is of no use, and may have no end

    ending = time.monotonic() + homes.patience
    # Without the header a server may compress the file once more, or call a .tar.gz a compressed .tar.
    ask = partial(requests.get, headers={"Accept-Encoding": "identity"}, hooks={"response": follow})
    with path.open("wb") as file, ask(remote.url, stream=True, timeout=homes.timeout) as response:
        response.raise_for_status()
        promised = response.raw.length_remaining
        with tqdm(total=promised, desc=remote.name, unit="B", unit_scale=True, disable=not show) as bar:
            size = promised or 0
            while size <= LARGEST and (part := response.raw.read1(1 << 16)):
                bar.update(file.write(part))
                size = file.tell()
                if time.monotonic() > ending:
                    raise _failed(remote, f"{size:,} bytes in {homes.patience:g} s")
    if size > LARGEST:
        raise _failed(remote, f"{size:,} bytes, which are more than any file here")


def _failed(remote: RemoteFile, found: str) -> DownloadError:
    return DownloadError(
        f"cannot download {remote.name} from {remote.url}",
        found=found,
        expected="the whole file",
        remedy=f"check the network and try again, or {_BY_HAND}",
    )


def _reason(error: Exception, timeout: float) -> str:
    """What went wrong with a request: the innermost of the exceptions that the libraries wrapped."""
    import requests

    if isinstance(error, requests.HTTPError) and error.response is not None:
        return f"HTTP status {error.response.status_code} {error.response.reason}"
    root: BaseException = error
    while inner := root.__cause__ or root.__context__:
        root = inner
    if isinstance(root, TimeoutError):
        return f"no answer for {timeout:g} s"
    return (root.strerror if isinstance(root, OSError) else None) or str(root)


def _extract(archive: Path, folder: Path, homes: Homes) -> Path:
    """``folder`` with the known members of ``archive``, verified.

    No path of the archive is ever used: regular members with a known name are copied, all others ignored.
    """
    folder.mkdir()
    known = {f"{FOLDER}/{name}": name for name in homes.members}
    try:
        with tarfile.open(archive, "r:gz") as tar:
            for member in tar:
                if member.name in known and member.isreg() and (source := tar.extractfile(member)) is not None:
                    with source, (folder / known[member.name]).open("wb") as target:
                        shutil.copyfileobj(source, target)
    except (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise DownloadError(
            f"{archive.name} from {homes.cifar10.url} cannot be unpacked",
            found=str(error),
            expected="a complete gzipped tar archive",
            remedy=f"it was discarded; try again, or {_BY_HAND}",
        ) from error
    if wrong := [name for name, intact in verify(folder, homes.members).items() if not intact]:
        raise DownloadError(
            f"{archive.name} from {homes.cifar10.url} does not hold the files it should",
            found=f"{', '.join(wrong)} missing or altered",
            expected=f"{len(homes.members)} regular files with known digests in {FOLDER}/",
            remedy=f"it was discarded; try again, or {_BY_HAND}",
        )
    return folder


def _intact(path: Path, digest: str | None) -> bool:
    """Whether the file is there and, where a digest is given, has it."""
    with reading(path):
        if not path.is_file():
            return False
    if digest is None:
        return True
    algorithm, expected = digest.split(":")
    return _digest(path, algorithm) == expected


def _digest(path: Path, algorithm: str) -> str:
    # Not for security: md5 is what CIFAR-10's home publishes, and some systems forbid it for anything else.
    with opened(path) as stream:
        return hashlib.file_digest(stream, partial(hashlib.new, algorithm, usedforsecurity=False)).hexdigest()
