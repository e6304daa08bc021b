"""Questions about a quantized model's arithmetic, answered on the test images; each answer is a result."""
