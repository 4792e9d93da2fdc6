"""Learns: `python -m training.NAME` runs the installed module `vitmalis_jobs.training.NAME`."""

from vitmalis_jobs.training import __path__ as __path__
