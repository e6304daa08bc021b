"""Evaluate a .pt by PyTorch's own functions only, by batches: bare_evaluate_torch.py MODEL BATCHES BATCH_SIZE."""

import sys
from pathlib import Path

import numpy as np
import torch
from bare import read

model, data, size = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
images, labels = read(data, "test_batch")
module = torch.jit.load(model).eval()
correct = 0
with torch.inference_mode():
    for start in range(0, len(images), size):
        predicted = module(torch.from_numpy(images[start : start + size].astype(np.float32))).argmax(1).numpy()
        correct += int((predicted == labels[start : start + size]).sum())
print(correct)
