"""The fused engine next to the eager one: `python -m profiling.fused`."""
