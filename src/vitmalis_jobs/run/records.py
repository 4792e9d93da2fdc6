"""The records that a run left in its folder."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from vitmalis.paths import file_sha256
from vitmalis.records import (
    DECISIONS_FILE,
    FRAMES_FILE,
    OFFLOADS_FILE,
    DecisionRecord,
    FrameRecord,
    OffloadRecord,
    has_records,
    read_decisions,
    read_frames,
    read_offloads,
)


@dataclass(frozen=True, slots=True)
class RunRecords:
    """One row per frame and per offload, and per explained decision where the policy explains its decisions."""

    frames: list[FrameRecord]
    offloads: list[OffloadRecord]
    decisions: list[DecisionRecord] = field(default_factory=list)

    @property
    def seen(self) -> range:
        """The frames of the clip up to the last that was shown or offloaded; a killed client may lack its last rows."""
        shown, offloaded = ([row.frame_index for row in rows] for rows in (self.frames, self.offloads))
        return range(1 + max(shown + offloaded, default=-1))


def read_records(directory: Path) -> RunRecords:
    """Read the records in a run's folder.

    A client that was killed has left journals, which are read up to its last second.

    Raises:
        UserError: there are none, or they are damaged.
    """
    decisions = directory / DECISIONS_FILE
    return RunRecords(
        read_frames(directory / FRAMES_FILE),
        read_offloads(directory / OFFLOADS_FILE),
        read_decisions(decisions) if has_records(decisions) else [],
    )


def record_files(directory: Path) -> list[Path]:
    """The record files that are in a run's folder."""
    return [path for name in (FRAMES_FILE, OFFLOADS_FILE, DECISIONS_FILE) if (path := directory / name).is_file()]


def records_sha256(directory: Path) -> dict[str, str]:
    """SHA-256 of each record file in a run's folder, by name."""
    return {path.name: file_sha256(path) for path in record_files(directory)}
