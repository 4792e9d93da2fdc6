"""Boxes and masks of a finished run in the formats of other tools."""
