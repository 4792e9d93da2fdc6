"""The mobile device: one state machine without I/O, and the realtime driver that runs it."""
