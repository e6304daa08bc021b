"""PyTorch static quantization to int8: see «python scripts/quantize_pytorch.py --help»."""

if __name__ == "__main__":
    from resnet8.cli.scripts import main, quantize_pytorch

    main(quantize_pytorch)
