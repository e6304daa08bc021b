"""ONNX Runtime static quantization to int8 and uint8: see «python scripts/quantize_onnx.py --help»."""

if __name__ == "__main__":
    from resnet8.cli.scripts import main, quantize_onnx

    main(quantize_onnx)
