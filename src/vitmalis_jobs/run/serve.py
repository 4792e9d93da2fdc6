"""Alias of the server's command line: `vitmalis serve` runs `vitmalis.server`."""

from vitmalis.server.__main__ import main

__all__ = ["main"]
