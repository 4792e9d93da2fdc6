"""Measures: `python -m profiling.NAME` runs the installed module `vitmalis_jobs.profiling.NAME`."""

from checkout import require_environment

require_environment()

from vitmalis_jobs.profiling import __path__ as __path__  # noqa: E402
