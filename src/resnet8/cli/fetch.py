"""``resnet8 fetch``."""

from __future__ import annotations

import resnet8
from resnet8.cli.common import AssetsDir, Demo, show


def fetch(assets_dir: AssetsDir = None, demo: Demo = False) -> None:
    """Fetch the Keras model and CIFAR-10 once, with checksums; or check a folder that has them."""
    from resnet8.data.assets import verify

    found = resnet8.fetch(assets_dir, demo=demo, check=True)
    others = [name for name, good in verify(found.data_dir).items() if not good]
    show(f"Keras model: {found.keras_model}")
    show(f"Data:        {found.data_dir}")
    if found.demo:
        show("These are the embedded demo's: handwritten digits, not CIFAR-10.")
    elif not others:
        show("Every data file has the official checksum.")
    else:
        show(
            f"NOT the official CIFAR-10: {', '.join(others)} missing or altered. It is used, and every result says so."
        )
