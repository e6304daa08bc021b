"""A quantized network as source for other tools: what computes the engine's codes without this package."""
