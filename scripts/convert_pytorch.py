"""ONNX to PyTorch: see «python scripts/convert_pytorch.py --help»."""

if __name__ == "__main__":
    from resnet8.cli.scripts import convert_pytorch, main

    main(convert_pytorch)
