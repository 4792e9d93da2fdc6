"""The rows of a run's records: frames, offloads and explained decisions, and what is known about their run.

A column is declared once, with the attribute it stores, with its type, unit and meaning.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from vitmalis.columns import column
from vitmalis.explanation import DecisionExplanation
from vitmalis.types import BoxSource, Detections, OffloadStatus

SCHEMA_VERSION = 2
FRAMES_FILE = "frames.parquet"
OFFLOADS_FILE = "offloads.parquet"
DECISIONS_FILE = "decisions.parquet"
ENDINGS = ("complete", "interrupted", "failed")
"""How a run can end; the rows of all but the first end early."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameRecord:
    """What the user saw on one frame of the clip; frames lost by the camera have a row, too."""

    frame_index: int = column("frame", "position in the played part of the clip, from 0")
    capture_time_s: float = column("s", "capture of this frame on the run's clock")
    render_time_s: float = column("s", "when these boxes were shown, on the run's clock")
    captured: bool = column("1", "false: the frame was lost, as the camera buffer was full or the image too late", True)
    source: str = column("name", f"where the shown boxes come from: {', '.join(BoxSource)}", BoxSource.NONE)
    result_frame_index: int = column("frame", "offloaded frame the shown boxes stem from, -1 for none", -1)
    shown_frame_index: int = column("frame", "frame the shown boxes were computed for, -1 for none", -1)
    detections: Detections = field(default_factory=Detections.empty)
    tracking_s: float | None = column("s", "tracker time spent for this frame", None)
    declined: bool = column("1", "true: the policy was asked to offload this frame, and declined", False)
    undelivered: bool | None = column(
        "1", "true: lost because its image was decoded, or came from a live source, too late; null: it was not", None
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class OffloadRecord:
    """Configuration, cost and result of one offload; a lost offload has None for what is unknown."""

    offload_id: int = column("1", "number of the offload, from 0")
    frame_index: int = column("frame", "the offloaded frame")
    status: str = column("name", f"how it ended: {', '.join(OffloadStatus)}", OffloadStatus.OK)
    reason: str = column(
        "text", "why it was lost or failed, or has no second round that it should have, else empty", ""
    )
    tau_d: int = column("1", "what was downsampled: 0 nothing, 1 CMRs, 2 CMRs and SBRs", 0)
    quality: int = column("1", "JPEG quality lambda, 1..100", 95)
    restoration_point: int = column("1", "beta, 0..N", 0)
    downsampled_regions: int = column("region", "N_d, decision regions sent at low resolution", 0)
    regions: int = column("region", "decision regions of the frame", 0)
    blank_regions: int = column("region", "decision regions painted flat", 0)
    cached_regions: int = column("region", "decision regions that took their tokens from an earlier frame", 0)
    coarse_blocks: int = column("1", "macroblocks (16 px squares) coded at coarse_quality", 0)
    coarse_quality: int = column("1", "JPEG quality of these macroblocks; 0 without any", 0)
    coarse_map: str = column("hexadecimal", "a bit for each macroblock in raster order, 1: coarse; empty: none is", "")
    region_map: str = column(
        "letter", "each region in raster order: F full, L low resolution, C cached, B painted flat; empty: all F", ""
    )
    frame_downsampling: int = column("1", "how much smaller the whole frame was sent, along each axis", 1)
    asked_regions: int = column("region", "decision regions that the server asked back", 0)
    second_round_of: int = column("1", "offload whose frame this one sends again in parts, -1 for none", -1)
    payload_bytes: int | None = column("byte", "compressed frame on the wire", None)
    start_time_s: float = column("s", "start of encoding on the run's clock")
    decision_s: float | None = column("s", "time the policy took to decide", None)
    motion_s: float | None = column("s", "motion analysis of the frame that the decision knew", None)
    estimation_s: float | None = column("s", "share of decision_s that estimated candidates", None)
    optimization_s: float | None = column("s", "share of decision_s that chose among them", None)
    ahead_s: float | None = column("s", "estimation ahead of the decision, before decision_s", None)
    estimates_age_frames: int | None = column(
        "frame", "frames since the one that size and F1 were estimated from, ahead of the decision", None
    )
    decision_reason: str | None = column("name", "why this configuration: see decisions", None)
    estimated_payload_bytes: float | None = column("byte", "what payload_bytes was expected to be", None)
    estimated_e2e_latency_s: float | None = column("s", "what e2e_latency_s was expected to be", None)
    estimated_f1: float | None = column("1", "inference accuracy, or reward of bandit, that was expected, 0..1", None)
    encode_s: float | None = column("s", "packing and compression", None)
    transfer_s: float | None = column("s", "payload passing the uplink, without propagation", None)
    uplink_s: float | None = column("s", "sending to complete arrival at the server", None)
    downlink_s: float | None = column("s", "result leaving the server to its arrival", None)
    network_s: float | None = column("s", "uplink and downlink together", None)
    queue_s: float | None = column("s", "waiting at the server", None)
    decode_s: float | None = column("s", "decompression and unpacking", None)
    inference_s: float | None = column("s", "the model's forward pass with pre- and postprocessing", None)
    e2e_latency_s: float | None = column("s", "start of encoding to arrival of the result", None)
    rtt_s: float | None = column("s", "both propagation delays together", None)
    uplink_mbps: float | None = column("Mbps", "throughput this upload saw", None)
    detections: Detections = field(default_factory=Detections.empty)


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionRecord:
    """Why an offload was configured as it was, from a policy that weighs candidates."""

    offload_id: int = column("1", "number of the offload, from 0")
    frame_index: int = column("frame", "the offloaded frame")
    explanation: DecisionExplanation


@dataclass(frozen=True, slots=True)
class RecordsInfo:
    """Metadata of a file of records: the run it belongs to."""

    policy: str
    clip: str
    trace: str = ""
    clock: str = "realtime"
    ended: str = "complete"
    schema_version: int = SCHEMA_VERSION


Record = FrameRecord | OffloadRecord | DecisionRecord
RECORD_FILES: dict[type[Record], str] = {
    OffloadRecord: OFFLOADS_FILE,
    DecisionRecord: DECISIONS_FILE,
    FrameRecord: FRAMES_FILE,
}
"""The file of each record type, in the order they are written: a run with frames has its other records, too."""
ADDED_COLUMNS: dict[type[Record], set[str]] = {
    FrameRecord: {"declined", "masks", "undelivered"},
    OffloadRecord: {
        *("coarse_blocks", "coarse_quality", "coarse_map", "region_map"),
        *("cached_regions", "asked_regions", "second_round_of", "masks", "ahead_s", "estimates_age_frames"),
    },
    DecisionRecord: {"masks", "cached_regions"},
}
"""Columns that files of this schema version may lack, as they were added to it; their defaults are read then.

`masks`, `undelivered`, and `cached_regions` of decisions, are not only absent from older files, but from those of runs
without.
"""
