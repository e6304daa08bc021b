"""ONNX to PyTorch: see «python scripts/convert_pytorch.py --help»."""

from resnet8.cli.scripts import convert_pytorch, main

if __name__ == "__main__":
    main(convert_pytorch)
