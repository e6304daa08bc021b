"""Print the seconds that bare session.run calls take: bare_ort.py MODEL DATA_DIR BATCH."""

import sys
import time
from pathlib import Path

import numpy as np
import onnxruntime

from resnet8.data.cifar10 import read_split

model, data, batch = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
images = read_split(data, "test").images
session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
seconds = 0.0
for start in range(0, len(images), batch):
    fed = {session.get_inputs()[0].name: images[start : start + batch].astype(np.float32)}
    started = time.perf_counter()
    session.run(None, fed)
    seconds += time.perf_counter() - started
print(seconds)
