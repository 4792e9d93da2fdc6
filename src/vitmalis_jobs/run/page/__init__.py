"""The page of a run: one HTML file, to be opened offline, that plays the clip with what was shown, sent and decided."""
