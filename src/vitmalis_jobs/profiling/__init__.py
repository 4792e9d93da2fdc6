"""Measuring: how long things take on this machine, and how well the emulation holds."""
