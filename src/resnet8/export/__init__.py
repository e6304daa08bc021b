"""Quantized networks as sources: for simulators and synthesis."""
