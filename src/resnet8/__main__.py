"""``python -m resnet8``."""

from resnet8.cli import main

if __name__ == "__main__":
    main()
