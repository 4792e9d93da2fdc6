"""Video sources: clips, cameras and rendered stand-ins, delivered at a strict rate."""
