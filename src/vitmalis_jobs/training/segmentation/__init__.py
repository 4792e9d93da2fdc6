"""Training of the embedded detector's mask head on rendered scenes, which have true masks."""
