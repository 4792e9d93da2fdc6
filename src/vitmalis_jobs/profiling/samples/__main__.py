"""Entry point of `python -m profiling.samples`."""

import sys

from vitmalis_jobs.profiling.samples.job import main

if __name__ == "__main__":
    sys.exit(main())
