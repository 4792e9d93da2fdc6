"""Latency tables of a device and a server."""
