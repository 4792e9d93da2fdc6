"""Jobs that measure durations on this machine, and sizes and accuracies of configurations."""
