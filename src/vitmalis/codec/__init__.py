"""Packing of frames of two resolutions and JPEG compression, in both directions."""
