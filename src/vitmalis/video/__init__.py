"""Video sources: clips, cameras and stand-ins, delivered at a strict rate."""
