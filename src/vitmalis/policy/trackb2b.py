"""TrackB2B: Back2Back with a local tracker between results (paper, VI-A)."""

from __future__ import annotations

from vitmalis.policy.back2back import Back2Back


class TrackB2B(Back2Back):
    """Offloads like `Back2Back`; the client's tracker carries the boxes to the frames in between."""

    uses_tracker = True
