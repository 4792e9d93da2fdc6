"""Decision regions: the grid over a frame in which resolution is chosen."""

from vitmalis.regions.grid import RegionGrid

__all__ = ["RegionGrid"]
