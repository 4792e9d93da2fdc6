"""Learns: `python -m training.NAME` runs the installed module `vitmalis_jobs.training.NAME`."""

from checkout import require_environment

require_environment()

from vitmalis_jobs.training import __path__ as __path__  # noqa: E402
