"""Judging: runs the real client and server and turns their records into results."""
