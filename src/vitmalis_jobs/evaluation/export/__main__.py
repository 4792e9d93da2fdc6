"""`python -m evaluation.export`."""

import sys

from vitmalis_jobs.evaluation.export.job import main

if __name__ == "__main__":
    sys.exit(main())
