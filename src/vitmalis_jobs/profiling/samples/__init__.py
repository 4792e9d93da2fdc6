"""What profiling samples are made of: moments of a clip, and how every configuration would have done at each."""
