"""The live view of a run: a page on this machine that shows what the client renders while it plays."""

from vitmalis_jobs.run.live.viewer import live_view

__all__ = ["live_view"]
