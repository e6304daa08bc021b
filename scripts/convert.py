"""Keras to ONNX (and PyTorch), proved: see «python scripts/convert.py --help»."""

if __name__ == "__main__":
    from resnet8.cli.scripts import convert, main

    main(convert)
