"""The emulated network: a trace-driven link, TCP's congestion window, and the relay that applies both to real bytes."""
