"""Play a clip against a real client and server through an emulated uplink, and judge what the user saw (`--help`)."""

import sys

from vitmalis_jobs.evaluation.cli import main

if __name__ == "__main__":
    sys.exit(main())
