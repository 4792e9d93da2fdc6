"""Network traces: the type, its files, and a generator."""
