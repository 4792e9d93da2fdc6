"""Entry point of `python -m validation.parity`."""

import sys

from vitmalis_jobs.validation.parity.job import main

if __name__ == "__main__":
    sys.exit(main())
