"""Fuzzing of the functions that read bytes from outside."""
