"""The job that samples sizes and accuracies of offloads, from which the estimators learn."""
