"""What runs a network, in plain NumPy: on reals, on integers as ONNX Runtime, an accelerator or fbgemm computes."""
