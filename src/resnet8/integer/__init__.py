"""The quantized network as integer arithmetic: what is computed (program), read from a file (extract), done (engine).

Pure NumPy but for :mod:`resnet8.integer.extract`, which reads ONNX.
"""
