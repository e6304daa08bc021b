"""``resnet8 fetch``."""

from __future__ import annotations

from resnet8.cli.common import AssetsDir, Demo, assets, show


def fetch(assets_dir: AssetsDir = None, demo: Demo = False) -> None:
    """Fetch the Keras model and CIFAR-10 once, with checksums; or check a folder that has them."""
    from resnet8.data.assets import verify

    found = assets(assets_dir, demo=demo, download=True, check=True)
    official = verify(found.data_dir)
    show(f"Keras model: {found.keras_model}")
    show(f"Data:        {found.data_dir}")
    if found.demo:
        show("These are the embedded demo's: handwritten digits, not CIFAR-10.")
    elif all(official.values()):
        show("Every data file has the official checksum.")
    else:
        others = ", ".join(name for name, good in official.items() if not good)
        show(f"NOT the official CIFAR-10: {others} missing or altered. It is used, and every result says so.")
