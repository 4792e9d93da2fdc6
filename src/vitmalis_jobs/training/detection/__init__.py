"""Training of the embedded detector: data, augmentation, optimisation and validation."""
