"""CIFAR-10 and the model file: their homes, their one reader, the calibration draw, and the demo in their shape."""
