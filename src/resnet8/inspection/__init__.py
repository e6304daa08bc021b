"""What a model file holds: its quantized operations with their parameters, and its network as a drawing."""
