"""Street frames made from files of public repositories: `python -m training.fetch_street`."""
