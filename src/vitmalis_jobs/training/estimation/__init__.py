"""Learning to estimate payload size and accuracy from profiling samples."""
