"""Jobs around the library: evaluating, profiling, training and validating, from the command line or from Python."""
