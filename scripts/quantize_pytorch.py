"""PyTorch static quantization to int8: see «python scripts/quantize_pytorch.py --help»."""

from resnet8.cli.scripts import main, quantize_pytorch

if __name__ == "__main__":
    main(quantize_pytorch)
