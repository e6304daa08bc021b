"""``python -m resnet8``, and the command ``resnet8``."""

import sys
from typing import NoReturn


def main() -> NoReturn:
    """Run the command line; an interrupt is no error even while it is still being imported."""
    try:
        from resnet8.streams import prepare

        prepare()  # before anything is opened
        from resnet8.cli import main as run
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        sys.exit(130)
    run()


if __name__ == "__main__":
    main()
