"""A folder of vectors on the disk: each array in the forms its readers want."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from resnet8.vectors import formats

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from resnet8.vectors.formats import Field
    from resnet8.vectors.golden import Golden


class Writer:
    """Writes files below ``folder``.

    Attributes:
        digests: Hex SHA-256 of each file, by its path in the folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.digests: dict[str, str] = {}

    def write(self, path: str, content: bytes) -> None:
        """Write one file."""
        target = self._folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
        self.digests[path] = hashlib.sha256(content).hexdigest()

    def arrays(self, path: str, prefix: str, fields: Sequence[Field], headers: dict[str, Sequence[Field]]) -> None:
        """Write a folder of arrays: all in one .npz, each as hex, and as C headers.

        Args:
            path: The folder.
            prefix: Of every name in C.
            fields: All arrays.
            headers: What each header holds, by its name.
        """
        self.write(f"{path}/vectors.npz", formats.npz(fields))
        for field in fields:
            self.write(f"{path}/{field.name}.hex", formats.hex_lines(path, field))
        for name, part in headers.items():
            self.write(f"{path}/{name}.h", formats.c_header(f"{prefix}_{name}_H", prefix, part))

    def layer(self, path: str, one: Golden, *, own_input: bool) -> None:
        """Write a layer's folder; in the network, the header of its input is that of the layer that writes it."""
        headers: dict[str, Sequence[Field]] = {"parameters": one.parameters, "expected": one.expected}
        if own_input:
            headers["input"] = one.inputs
        self.arrays(path, one.folder, (*one.inputs, *one.parameters, *one.expected), headers)
