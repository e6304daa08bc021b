"""What the playground shows and does, without the notebook: look inside a network, and change it."""
