"""Entry point of `python -m vitmalis_jobs.profiling.fused`."""

from __future__ import annotations

from vitmalis_jobs.profiling.fused.job import main

if __name__ == "__main__":
    raise SystemExit(main())
