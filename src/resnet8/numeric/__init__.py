"""The arithmetic of quantization, in plain NumPy."""
