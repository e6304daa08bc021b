"""Keras to ONNX (and PyTorch), proved: see «python scripts/convert.py --help»."""

if __name__ == "__main__":  # the processes that are started here import this file too
    from resnet8.cli.scripts import convert, main

    main(convert)
