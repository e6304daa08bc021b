"""The demo: a small data set and a trained network of the same form as the real ones, with no download.

The images are the 1,797 handwritten digits of eight by eight pixels that scikit-learn brings along
(Alpaydin and Kaynak, Optical Recognition of Handwritten Digits, UCI 1998), enlarged to 32 x 32, coloured
and made noisy; the network is a ResNet8 trained on 1,200 of them (``tools/train_demo.py``). They show every
step of the work and every command in seconds. Nothing that is measured on them says anything about
CIFAR-10.

Every image is a pure function of integers: no floating point, no interpolation of a library, and of NumPy's
random numbers only the stream that is frozen. So each file has one digest, on every machine and with every
release.
"""

from __future__ import annotations

import pickle
import struct
from hashlib import sha256
from importlib import resources
from typing import TYPE_CHECKING

import numpy as np

from resnet8.data.cifar10 import FOLDER, META, SPLIT_FILES
from resnet8.errors import DataError, StorageError, missing_extra
from resnet8.facts import CLASSES, IMAGE_SHAPE, KERAS_MODEL, VALUES_PER_IMAGE
from resnet8.files import read_bytes, reading, sha256_file, whole_folder, write_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

README = "DEMO.txt"
"""Says what the folder is; a folder that holds it is ours to repair."""

CLASS_NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")

TRAIN_PER_CLASS = 120
"""Images of each class in the five training batches together; the rest, at least 54, are the test batch."""

SEED = 8

SHA256 = {
    "data_batch_1": "ecea28496bd2cdf8f728f361bd39d392b495aa19f3d96779b7ccd72704a744bb",
    "data_batch_2": "8b8976a33478318d9241a140963a660256ac1571df81ee8176e0607d04a7a0b6",
    "data_batch_3": "04dd8c30f73952ac9b6d8a11a67670458e849234779ebdacc4db8a8a4b7df614",
    "data_batch_4": "806a5aee45d2715203452457505aa530ae5056d569436fc7045a2ac86ce7a68e",
    "data_batch_5": "645701c899c980ad2d2c3e35d1b77e7adcb82b03d702ec43092cd37785438cfd",
    "test_batch": "17726008d198a08091cd1bf4016ec9b0d990b9815048f2fead1af12b80b0f9bd",
    "batches.meta": "3ca578ef80bdc27690f64013e020d920fd5469e0b55fea4c8383c075bd535bb5",
}
"""Digest of each file: what is intact, and whether scikit-learn still brings the same digits."""

RUN_FILES = (
    "models/resnet8.onnx",
    *(
        f"models/resnet8_{name}.onnx{record}"
        for name in ("int8", "uint8", "ort-7bit-weights")
        for record in ("", ".json")
    ),
    *(f"results/{name}.json" for name in ("fp32-onnx", "published-int8", "published-uint8", "ort-7bit-weights")),
)
"""What :func:`materialize_models` brings along, by path in its folder."""

_PACKAGED_MODEL = "resnet8_digits.h5"
_PACKAGED_RUN = "run"

_INK = 16  # the digits' darkest pixel
# Chosen so that the network gets a few images wrong and some nearly so. In levels of a pixel, per channel:
_GROUND = (80, 176)  # its mean colour
_LIGHT = 28  # largest departure of a corner's colour from it
_CONTRAST = (40, 110)  # of full ink against the ground
_NOISE = 24  # largest value of each of two uniform terms

_README_TEXT = """\
This folder was made by resnet8. It has the form of the folder with the MLPerf Tiny model and CIFAR-10, but
it is a demo: handwritten digits, enlarged and coloured, and a ResNet8 trained on them. Accuracies measured
here say nothing about CIFAR-10. It may be deleted at any time.
"""

_RUN_README_TEXT = """\
This folder was made by resnet8. It holds some of the models that «resnet8 reproduce --demo» makes, and their
evaluations: a ResNet8 that reads handwritten digits. Accuracies measured here say nothing about CIFAR-10.
It may be deleted at any time.
"""


def materialize(folder: Path) -> Path:
    """Make ``folder`` a complete demo, in the form of the real model and data; repair it where it is damaged.

    It holds ``pretrainedResnet.h5`` and ``cifar-10-batches-py/`` with the five training batches, the test
    batch and ``batches.meta``, for :func:`resnet8.data.cifar10.read_split`; and ``DEMO.txt``, which says what it
    is. A new folder appears whole or not at all. Several processes may do this at once: every file has the
    same content whoever makes it, and no intact file is ever touched. When all is there, it only reads.

    Args:
        folder: Where; its parents are made.

    Returns:
        ``folder``.

    Raises:
        StorageError: when it cannot be written or read, or holds another model or other data (which is left
            alone).
        MissingExtraError: when something is missing and scikit-learn is not installed.
        DataError: when scikit-learn brings other digits than those that the demo was made from.
    """
    own = {KERAS_MODEL: _packaged(_PACKAGED_MODEL), README: _README_TEXT.encode()}
    digests = {f"{FOLDER}/{name}": digest for name, digest in SHA256.items()}
    digests |= {name: sha256(content).hexdigest() for name, content in own.items()}
    return _complete(folder, digests, lambda: {**_data_files(), **own})


def materialize_models(folder: Path) -> Path:
    """Make ``folder`` hold models of the demo's network and what was measured of them; repair it where it is damaged.

    They are what ``resnet8 reproduce --demo`` makes, brought along (``tools/demo_models``): ``models/resnet8.onnx``,
    those of the recipes published-int8, published-uint8 and ort-7bit-weights, each with its record, and their
    evaluations in ``results/``. Other files in the folder are left alone. It appears as :func:`materialize`'s does.

    Args:
        folder: Where; its parents are made.

    Returns:
        ``folder``.

    Raises:
        StorageError: when it cannot be written or read, or holds other models under these names (left alone).
    """
    contents = {name: _packaged(f"{_PACKAGED_RUN}/{name}") for name in RUN_FILES}
    contents[README] = _RUN_README_TEXT.encode()
    return _complete(
        folder, {name: sha256(content).hexdigest() for name, content in contents.items()}, lambda: contents
    )


def batches() -> dict[str, tuple[NDArray[np.uint8], NDArray[np.int64]]]:
    """The images and labels of each batch file, by its name.

    Returns:
        For each of ``data_batch_1`` to ``data_batch_5`` and ``test_batch`` the images,
        uint8 (N, 32, 32, 3), NHWC, RGB, 0 to 255, and the labels, int64 (N,), 0 to 9.

    Raises:
        MissingExtraError: when scikit-learn is not installed.
    """
    digits, labels = _load_digits()
    images = _render(digits)
    return {name: (images[indices], labels[indices]) for name, indices in _deal(labels).items()}


def _load_digits() -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The original digits: ink, int64 (1797, 8, 8), 0 to 16, and labels, int64 (1797,), 0 to 9."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise missing_extra("scikit-learn", "demo") from error
    bunch = load_digits()
    return bunch.images.astype(np.int64), bunch.target.astype(np.int64)


def _deal(labels: NDArray[np.int64]) -> dict[str, NDArray[np.int64]]:
    """Which digits each batch file holds: int64 indices by file name, every digit in one file, classes mixed.

    Each class is shuffled; a fifth of its first :data:`TRAIN_PER_CLASS` goes to each training batch, the rest to the
    test batch.
    """
    # The legacy generator on purpose: its stream is frozen by NumPy's policy.
    state = np.random.RandomState(SEED)
    members = [state.permutation(np.flatnonzero(labels == label)) for label in range(CLASSES)]
    names = SPLIT_FILES["train"]
    share = TRAIN_PER_CLASS // len(names)
    dealt = {
        name: np.concatenate([indices[i * share : (i + 1) * share] for indices in members])
        for i, name in enumerate(names)
    }
    dealt["test_batch"] = np.concatenate([indices[TRAIN_PER_CLASS:] for indices in members])
    return {name: state.permutation(indices) for name, indices in dealt.items()}


def _render(digits: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Digits as photographs of a kind: lit unevenly, ink lighter or darker than the ground, noisy.

    Clean digits are too easy: with every probability near 0 or 1, no quantization could change an answer. Of ink, int64
    (N, 8, 8), 0 to 16, to uint8 (N, 32, 32, 3), NHWC, RGB, 0 to 255.
    """
    count = len(digits)
    height, width, channels = IMAGE_SHAPE
    state = np.random.RandomState(SEED)  # frozen stream, as above
    corners = state.randint(_GROUND[0], _GROUND[1] + 1, (count, 1, 1, channels))
    corners = corners + state.randint(-_LIGHT, _LIGHT + 1, (count, 2, 2, channels))
    contrast = state.randint(_CONTRAST[0], _CONTRAST[1] + 1, (count, 1, 1, channels))
    sign = 2 * state.randint(0, 2, (count, 1, 1, 1)) - 1
    noise = sum(state.randint(-_NOISE, _NOISE + 1, (count, *IMAGE_SHAPE)) for _ in range(2))

    ink, ink_unit = _enlarge(digits[..., None], height, width)
    ground, ground_unit = _enlarge(corners, height, width)
    values = ground // ground_unit + sign * (contrast * ink // (_INK * ink_unit)) + noise
    images: NDArray[np.uint8] = np.clip(values, 0, 255).astype(np.uint8)
    return images


def _enlarge(grids: NDArray[np.int64], height: int, width: int) -> tuple[NDArray[np.int64], int]:
    """Bilinear enlargement in integers, pixel centres aligned, edges held.

    Of int64 (N, h, w, C), whose ``h`` and ``w`` divide ``height`` and ``width``, to int64 (N, height, width, C): the
    values times a unit, exactly; and that unit, ``(2 height / h) (2 width / w)``.
    """
    rows, columns = _bilinear_weights(grids.shape[1], height), _bilinear_weights(grids.shape[2], width)
    unit = int(rows[0].sum() * columns[0].sum())
    return np.einsum("yi,xj,nijc->nyxc", rows, columns, grids, optimize=True), unit


def _bilinear_weights(source: int, target: int) -> NDArray[np.int64]:
    """Weights of linear interpolation, int64 (target, source); each row sums to ``2 target / source``."""
    factor = target // source
    weights = np.zeros((target, source), np.int64)
    for i in range(target):
        # The centre of pixel i lies at (2 i + 1 - factor) / (2 factor) source pixels.
        below, part = divmod(2 * i + 1 - factor, 2 * factor)
        weights[i, max(below, 0)] += 2 * factor - part
        weights[i, min(below + 1, source - 1)] += part
    return weights


def _data_files() -> dict[str, bytes]:
    """The files of the data set, by their path in the demo folder; each is what it was when the network was trained."""
    contents = {}
    for number, (name, (images, labels)) in enumerate(batches().items(), start=1):
        title = f"training batch {number} of 5" if name != "test_batch" else "testing batch 1 of 1"
        contents[name] = _python2_pickle(
            {
                b"batch_label": title.encode(),
                b"labels": labels.tolist(),
                b"data": images.transpose(0, 3, 1, 2).reshape(len(images), -1),
                b"filenames": [
                    f"{CLASS_NAMES[label]}_{name}_{i:04}.png".encode() for i, label in enumerate(labels.tolist())
                ],
            }
        )
    contents[META] = _python2_pickle(
        {
            b"num_cases_per_batch": TRAIN_PER_CLASS * CLASSES // len(SPLIT_FILES["train"]),
            b"label_names": [name.encode() for name in CLASS_NAMES],
            b"num_vis": VALUES_PER_IMAGE,
        }
    )
    for name, content in contents.items():
        if (digest := sha256(content).hexdigest()) != SHA256[name]:
            raise DataError(
                f"the demo's {name} does not come out as it did when its network was trained",
                found=f"sha256 {digest}",
                expected=SHA256[name],
                remedy="install another release of scikit-learn, or report this",
            )
    return {f"{FOLDER}/{name}": content for name, content in contents.items()}


def _python2_pickle(value: object) -> bytes:
    """``value`` pickled as CIFAR-10's files are: protocol 2, by Python 2, strings being bytes.

    Python 3 writes bytes in protocol 2 as a call of ``_codecs.encode``, which a careful reader refuses; and
    how NumPy names itself in a pickle changes between releases.
    """
    return pickle.PROTO + b"\x02" + _opcodes(value) + pickle.STOP


_ARRAY = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nM\0\0\x85U\1b\x87R(M\1\0"
"""``_reconstruct(ndarray, (0,), b"b")``, and the beginning of its state: version 1; then comes its shape."""

_UINT8 = b"cnumpy\ndtype\nU\2u1M\0\0M\1\0\x87R(M\3\0U\1|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffM\0\0tb"
"""``dtype(b"u1", 0, 1)`` with its state: version 3, byte order, no fields."""


def _opcodes(value: object) -> bytes:
    if isinstance(value, bytes):
        if len(value) < 256:
            return pickle.SHORT_BINSTRING + struct.pack("<B", len(value)) + value
        return pickle.BINSTRING + struct.pack("<i", len(value)) + value
    if isinstance(value, int):
        return pickle.BININT2 + struct.pack("<H", value)
    if isinstance(value, list):
        return pickle.EMPTY_LIST + _many(value, pickle.APPENDS)
    if isinstance(value, dict):
        return pickle.EMPTY_DICT + _many((part for item in value.items() for part in item), pickle.SETITEMS)
    if isinstance(value, np.ndarray) and value.dtype == np.uint8:
        content = pickle.NEWFALSE + _opcodes(value.tobytes()) + pickle.TUPLE + pickle.BUILD  # in C order
        return _ARRAY + _many(value.shape, pickle.TUPLE) + _UINT8 + content
    raise TypeError(f"no opcodes for {type(value).__name__}")


def _many(values: Iterable[object], last: bytes) -> bytes:
    return pickle.MARK + b"".join(map(_opcodes, values)) + last


def _packaged(name: str) -> bytes:
    """A file that the package brings along."""
    with resources.as_file(resources.files(__name__) / name) as path:
        return read_bytes(path)


def _complete(folder: Path, digests: Mapping[str, str], contents: Callable[[], Mapping[str, bytes]]) -> Path:
    """Make ``folder`` hold files of these SHA-256 digests, by path in it; ``contents`` is asked when one is missing."""
    with reading(folder):
        if _spoilt(folder, digests):
            _refuse_foreign(folder, digests)
            made = contents()
            if not folder.exists():
                _create(folder, made)
            # What is still not right was damaged before. After a new build, whoever's, that is nothing.
            for name in _spoilt(folder, digests):
                write_bytes(folder / name, made[name])
    return folder


def _spoilt(folder: Path, digests: Mapping[str, str]) -> list[str]:
    """Paths in ``folder`` of the files that are missing or not what they should be."""
    return [
        name
        for name, digest in digests.items()
        if not (folder / name).is_file() or sha256_file(folder / name) != digest
    ]


def _refuse_foreign(folder: Path, digests: Mapping[str, str]) -> None:
    """Refuse a folder with another model or other data, such as the real ones: a repair would overwrite them."""
    if (folder / README).exists():
        return
    for name in _spoilt(folder, digests):
        if (folder / name).exists():
            raise StorageError(
                f"{folder} is not a demo folder",
                found=f"another {name} in it",
                expected="a new folder, or an earlier demo",
                remedy="choose another folder",
            )


def _create(folder: Path, contents: Mapping[str, bytes]) -> None:
    """Write all into a new folder; if another process was faster, its folder stays."""
    try:
        with whole_folder(folder) as part:
            for name, content in contents.items():
                path = part / name
                path.parent.mkdir(exist_ok=True)
                path.write_bytes(content)
    except StorageError:
        if not folder.is_dir():
            raise
