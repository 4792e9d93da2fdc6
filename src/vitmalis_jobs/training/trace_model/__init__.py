"""The fit of the generator of network traces, and its comparison with measured traces."""
