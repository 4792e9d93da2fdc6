"""Evaluation: runs, sweeps, reports and explanations, with the real client and server."""
