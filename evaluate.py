"""Play a clip against a real client and server through an emulated uplink, and score what the user saw (`--help`)."""

import sys

from checkout import require_environment

require_environment()

from vitmalis_jobs.evaluation.cli import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main())
