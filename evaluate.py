"""Play a clip against a real client and server through an emulated uplink, and score what the user saw (`--help`)."""

import sys

try:
    from vitmalis_jobs.evaluation.cli import main
except ModuleNotFoundError as error:
    print(
        f"error: {sys.executable} has no module '{error.name}': run `make install`, then `source .venv/bin/activate`",
        file=sys.stderr,
    )
    sys.exit(2)

if __name__ == "__main__":
    sys.exit(main())
