"""Checks of the system itself: parity, fuzzing, fault injection, soak, clock agreement, several clients."""
