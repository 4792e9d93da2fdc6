"""Entry point of `python -m profiling.latency`."""

import sys

from vitmalis_jobs.profiling.latency.job import main

if __name__ == "__main__":
    sys.exit(main())
