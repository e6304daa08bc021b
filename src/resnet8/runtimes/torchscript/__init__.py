"""A TorchScript archive, read before PyTorch loads it, and refused unless all it can do is compute a small network.

``torch.jit.load`` compiles the code in an archive and runs part of it (``__setstate__``), and TorchScript has operators
that write files (``aten::from_file``, ``aten::save``) and loops without an end. So everything is looked at as text and
as pickle instructions first, by rules that are few enough to be checked by hand:

1. An archive has a known set of members, of limited number and size, each once, whose checksums hold.
2. Its pickles build numbers, strings, tuples, lists, dictionaries, tensors that lie within their storages, and objects
   of classes that are defined in its code; nested to a limited depth, each object in one place.
3. Its code has classes and functions, made of assignments, returns and branches. What is called is an operator of the
   lists below, a function of the archive that calls operators only, or a method: ``forward`` of each submodule once,
   and those that pack a quantized layer's weights. Outside of functions nothing is called: default values of arguments
   and the bodies of classes are code that runs when the file is loaded. Loops stand in functions
   only, are few, and over short lists.
4. PyTorch gets a new archive of the members that were looked at, so that no two readers of one zip file see two things.

The names of operators are those that :mod:`resnet8.network.torch_read` knows, and the plain ones of other exports.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from resnet8.runtimes.torchscript import archive
from resnet8.runtimes.torchscript.code import check_code
from resnet8.runtimes.torchscript.pickled import check_pickle
from resnet8.runtimes.torchscript.refusal import refuse, require

if TYPE_CHECKING:
    from pathlib import Path

_MEMBER = re.compile(
    r"(?P<used>data\.pkl|constants\.pkl|version|byteorder|data/\d+|constants/\d+|code/(?:\w+/)*\w+\.py)"
    r"|traced_inputs\.pkl|traced_inputs/\d+|extra/[\w.]+|\.data/serialization_id|\.format_version|\.storage_alignment"
    r"|code/(?:\w+/)*\w+\.py\.debug_pkl"
)


def checked(path: Path, content: bytes) -> tuple[bytes, str, set[str]]:
    """A TorchScript archive that PyTorch may load, its code, as one text, and the types of its attributes' tensors.

    Args:
        path: Names the file in errors.
        content: Of the file, a zip archive.

    Raises:
        ModelError: when the archive is damaged, exceeds a limit, or could do anything but compute.
    """
    members = _members(path, content)
    code = {name: _text(path, name, data) for name, data in members.items() if name.startswith("code/")}
    classes = check_code(path, code)
    sizes = {name: len(data) for name, data in members.items()}
    types = {name: check_pickle(path, name, members[name], classes, sizes) for name in ("data.pkl", "constants.pkl")}
    return archive.packed(members), "\n".join(code.values()), types["data.pkl"]


def _members(path: Path, content: bytes) -> dict[str, bytes]:
    """The members that PyTorch needs, by their names without the archive's folder."""
    found = {}
    for name, data in archive.members(path, content).items():
        match = _MEMBER.fullmatch(name)
        if match is None:
            refuse(path, f"a member called {name[:80]!r}", "the members of a TorchScript file")
        if match["used"]:
            found[name] = data
    missing = [name for name in ("data.pkl", "constants.pkl", "version") if name not in found]
    require(path, not missing, f"no {', '.join(missing)}", "the members of a TorchScript file")
    require(path, found.get("byteorder", b"little") == b"little", "another byte order", "little-endian tensors")
    return found


def _text(path: Path, name: str, data: bytes) -> str:
    try:
        return data.decode("ascii")
    except UnicodeDecodeError:
        refuse(path, f"{name}, which is no ASCII text", "TorchScript code")
