"""Runs and scores: `python -m evaluation.NAME` runs the installed module `vitmalis_jobs.evaluation.NAME`."""

from checkout import require_environment

require_environment()

from vitmalis_jobs.evaluation import __path__ as __path__  # noqa: E402
