"""Fitting the generator of network traces and showing how close it comes."""
