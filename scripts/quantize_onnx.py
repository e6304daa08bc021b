"""ONNX Runtime static quantization to int8 and uint8: see «python scripts/quantize_onnx.py --help»."""

from resnet8.cli.scripts import main, quantize_onnx

if __name__ == "__main__":
    main(quantize_onnx)
