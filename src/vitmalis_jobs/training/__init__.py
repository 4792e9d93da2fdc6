"""Training jobs: the embedded detector, the estimators and the trace generator."""
