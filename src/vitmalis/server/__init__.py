"""The edge server: receives compressed frames, detects, answers."""
