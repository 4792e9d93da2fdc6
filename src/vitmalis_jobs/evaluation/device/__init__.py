"""Runs that are played on a device: exported here, scored here afterwards."""
