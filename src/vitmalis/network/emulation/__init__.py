"""The emulated network: a trace-driven link, TCP's window, and the relay that applies them."""
