"""Quantize to int8 and uint8 by ONNX Runtime's own functions only: bare_quantize_ort.py ONNX_MODEL BATCHES OUTPUT."""

import sys
from pathlib import Path

import onnx
from bare import calibration_images
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static

model, data, output = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
fed = calibration_images(data)
name = onnx.load(model).graph.input[0].name


class Images(CalibrationDataReader):
    """Hands out one image after another."""

    def __init__(self) -> None:
        self._left = iter(range(len(fed)))

    def get_next(self) -> dict[str, object] | None:
        """The next image, or none."""
        i = next(self._left, None)
        return None if i is None else {name: fed[i : i + 1]}


for kind in (QuantType.QInt8, QuantType.QUInt8):
    quantize_static(
        model,
        str(output / f"bare_{kind}.onnx"),
        Images(),
        quant_format=QuantFormat.QDQ,
        activation_type=kind,
        weight_type=kind,
        calibrate_method=CalibrationMethod.MinMax,
    )
