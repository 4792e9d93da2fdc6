"""Learning: the embedded detector and the estimators."""
