"""Entry point of `python -m validation.reader_fuzz`."""

import sys

from vitmalis_jobs.validation.reader_fuzz.job import main

if __name__ == "__main__":
    sys.exit(main())
