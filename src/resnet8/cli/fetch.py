"""``resnet8 fetch``."""

from __future__ import annotations

import resnet8
from resnet8.cli.common import AssetsDir, Demo, show


def fetch(assets_dir: AssetsDir = None, demo: Demo = False) -> None:
    """Fetch the Keras model and CIFAR-10 once, with checksums; or check a folder that has them."""
    from resnet8.data.assets import verify
    from resnet8.facts import KERAS_SHA256
    from resnet8.files import sha256_file

    found = resnet8.fetch(assets_dir, demo=demo, check=True)
    others = [name for name, good in verify(found.data_dir).items() if not good]
    show(f"Keras model: {found.keras_model}")
    show(f"Data:        {found.data_dir}")
    if found.demo:
        show("These are the embedded demo's: handwritten digits, not CIFAR-10.")
        return
    if (digest := sha256_file(found.keras_model)) != KERAS_SHA256:
        show(f"NOT the official Keras model (SHA-256 {digest}): no number of it is comparable to published ones.")
    else:
        show("The Keras model has the official checksum.")
    if others:
        show(
            f"NOT the official CIFAR-10: {', '.join(others)} missing or altered. It is used, and every result says so."
        )
    else:
        show("Every data file has the official checksum.")
