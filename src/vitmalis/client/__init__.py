"""The mobile device's side: one state machine without I/O, and the drivers that run it."""
