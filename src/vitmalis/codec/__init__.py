"""How a frame becomes bytes and back."""
