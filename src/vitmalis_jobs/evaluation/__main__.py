"""Entry point of `python -m vitmalis_jobs.evaluation`, the same as `python evaluate.py`."""

import sys

from vitmalis_jobs.evaluation.cli import main

if __name__ == "__main__":
    sys.exit(main())
