"""Print the seconds of a script that evaluates image by image, imports included: bare_torch.py ONNX_MODEL DATA_DIR."""

import time

started = time.perf_counter()

import sys
from pathlib import Path

import numpy as np
import onnx2torch
import torch

from resnet8.data.cifar10 import read_split

module = onnx2torch.convert(sys.argv[1]).eval()
split = read_split(Path(sys.argv[2]), "test")
with torch.inference_mode():
    for image in split.images:
        module(torch.from_numpy(image[None].astype(np.float32)))
print(time.perf_counter() - started)
