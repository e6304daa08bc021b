"""Quantize to int8 by PyTorch's own functions only: bare_quantize_torch.py ONNX_MODEL BATCHES OUTPUT."""

import sys
from pathlib import Path

import onnx2torch
import torch
from bare import calibration_images
from torch.ao.quantization import get_default_qconfig_mapping
from torch.ao.quantization.quantize_fx import convert_fx, prepare_fx

model, data, output = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
fed = torch.from_numpy(calibration_images(data))
torch.backends.quantized.engine = "fbgemm"
prepared = prepare_fx(onnx2torch.convert(model).eval(), get_default_qconfig_mapping("fbgemm"), (fed[:1],))
with torch.inference_mode():
    for batch in fed.split(32):
        prepared(batch)
torch.jit.script(convert_fx(prepared)).save(str(output / "bare.pt"))
