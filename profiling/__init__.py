"""Measures: `python -m profiling.NAME` runs the installed module `vitmalis_jobs.profiling.NAME`."""

from vitmalis_jobs.profiling import __path__ as __path__
