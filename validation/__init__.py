"""Checks the system: `python -m validation.NAME` runs the installed module `vitmalis_jobs.validation.NAME`."""

from checkout import require_environment

require_environment()

from vitmalis_jobs.validation import __path__ as __path__  # noqa: E402
