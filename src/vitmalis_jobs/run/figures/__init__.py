"""Images and videos of a run, drawn from its records."""
