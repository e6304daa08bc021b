"""Keras to ONNX (and PyTorch), proved: see «python scripts/convert.py --help»."""

from resnet8.cli.scripts import convert, main

if __name__ == "__main__":
    main(convert)
