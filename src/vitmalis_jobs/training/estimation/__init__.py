"""Training of the estimators of payload size and accuracy on profiling samples."""
