"""The report of a study: `python -m evaluation.report SWEEP` (docs/reports.md)."""

import sys

from vitmalis_jobs.evaluation.study.cli import main

if __name__ == "__main__":
    sys.exit(main())
