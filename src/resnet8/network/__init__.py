"""The network: layers over tensors (layers), read from files, rewritten, and written."""
