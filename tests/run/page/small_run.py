"""A run of four frames whose numbers are computed by hand, with images of flat colours."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import av
import numpy as np

from vitmalis.client.session import ClientSession
from vitmalis.explanation import DecisionExplanation
from vitmalis.metrics import MatchRule, summarise
from vitmalis.network.traces import Trace
from vitmalis.records import DecisionRecord, FrameRecord, OffloadRecord
from vitmalis.records.maps import block_map
from vitmalis.regions import ModelGeometry
from vitmalis.types import Detections, RgbImage
from vitmalis.video.spec import VideoSpec
from vitmalis_jobs.run.page.build import PlayedRun
from vitmalis_jobs.run.records import RunRecords

FPS, WIDTH, HEIGHT = 10.0, 320, 160
GEOMETRY = ModelGeometry(window=5, factor=2, patch_px=16, restoration_points=4)
"""Decision regions of 160 px: one row of two in a frame of 320 x 160."""

PERSON = [[20.0, 30.0, 60.0, 110.0], [0.9], [0]]
REFERENCES = [Detections.of(*PERSON)] * 3 + [Detections.empty()]
STAGES = {"encode_s": 0.01, "uplink_s": 0.1, "queue_s": 0.0, "decode_s": 0.02, "inference_s": 0.06, "downlink_s": 0.01}

FRAMES = [
    FrameRecord(frame_index=0, capture_time_s=0.0, render_time_s=0.01),
    FrameRecord(frame_index=1, capture_time_s=0.1, render_time_s=0.11, captured=False),
    FrameRecord(
        frame_index=2,
        capture_time_s=0.2,
        render_time_s=0.21,
        source="tracker",
        result_frame_index=0,
        shown_frame_index=2,
        # IoU with the reference 38 / 42, then a car where there is none, then a box too unsure to be shown.
        detections=Detections.of(
            [[22, 30, 62, 110], [200, 40, 280, 90], [0, 0, 9, 9]], [0.876543, 0.6, 0.2], [0, 2, 0]
        ),
    ),
    FrameRecord(
        frame_index=3,
        capture_time_s=0.3,
        render_time_s=0.31,
        source="stale",
        result_frame_index=0,
        shown_frame_index=0,
        detections=Detections.of(*PERSON),
    ),
]
OFFLOADS = [
    OffloadRecord(
        offload_id=0,
        frame_index=0,
        start_time_s=0.0,
        quality=75,
        payload_bytes=2048,
        e2e_latency_s=0.2,
        uplink_mbps=4.0,
        detections=Detections.of(*PERSON),
        **STAGES,
    ),
    OffloadRecord(
        offload_id=1,
        frame_index=2,
        start_time_s=0.2,
        status="lost",
        reason="no answer",
        tau_d=1,
        quality=70,
        restoration_point=3,
        estimated_payload_bytes=4096.0,
        estimated_e2e_latency_s=0.25,
        estimated_f1=0.75,
    ),
]
DECISION = DecisionRecord(
    offload_id=1,
    frame_index=2,
    explanation=DecisionExplanation(
        region_types=np.array([[2, 1]], np.int8),
        region_motion=np.array([[0.25, 0.75]], np.float32),
        relevance=np.array([[1.0, 0.0]]),
        frame_motion=0.125,
        frames_since_offload=2,
        retention=1.0,
        uplink_mbps=5.0,
        rtt_s=0.04,
        tau_d=np.array([0, 1, 1]),
        quality=np.array([95, 70, 50]),
        restoration_point=np.array([0, 3, 4]),
        payload_bytes=np.array([8192.0, 4096.0, 3072.0]),
        e2e_latency_s=np.array([0.5, 0.25, 0.22]),
        f1=np.array([0.9, 0.75, 0.5]),
        frontier=np.array([2, 1, 0]),
        knee=1,
        chosen=1,
        reason="knee",
        tracked=Detections.of(*PERSON),
    ),
)


COARSE = np.ones((10, 20), bool)
COARSE[2:7, 1:4] = False
"""Macroblocks of a frame that are coded at a lower quality: all but those at the person."""
VARIANTS = [
    dataclasses.replace(OFFLOADS[0], coarse_blocks=185, coarse_quality=30, coarse_map=block_map(COARSE)),
    dataclasses.replace(OFFLOADS[1], region_map="CZ"),
]
"""The offloads with coarse macroblocks, and with a cached region and one of a treatment that is not known here."""


def with_cached(run: PlayedRun) -> PlayedRun:
    """The run with a candidate that has a region cached, the chosen one."""
    explanation = dataclasses.replace(DECISION.explanation, cached_regions=np.array([0, 1, 0]))
    decisions = [dataclasses.replace(DECISION, explanation=explanation)]
    return dataclasses.replace(run, records=dataclasses.replace(run.records, decisions=decisions))


def of_bandit(run: PlayedRun) -> PlayedRun:
    """The run with a decision of bandit, which expects a reward of 0.75 of an arm without a result."""
    unknown = {"payload_bytes": np.array([8192.0, 0.0, 3072.0]), "e2e_latency_s": np.array([0.5, 0.0, 0.22])}
    explanation = dataclasses.replace(DECISION.explanation, reason="explore", **unknown)
    untried = dataclasses.replace(OFFLOADS[1], estimated_payload_bytes=0.0, estimated_e2e_latency_s=0.0)
    records = RunRecords(
        FRAMES,
        [OFFLOADS[0], dataclasses.replace(untried, decision_reason="explore")],
        [dataclasses.replace(DECISION, explanation=explanation)],
    )
    return dataclasses.replace(run, records=records)


def varied(run: PlayedRun) -> PlayedRun:
    """The run with the offloads of `VARIANTS`, none of them explained, and with frame 2 declined."""
    frames = [dataclasses.replace(frame, declined=frame.frame_index == 2) for frame in FRAMES]
    return dataclasses.replace(run, records=RunRecords(frames, VARIANTS, []))


def write_clip(path: Path) -> None:
    """Write a file with four frames for the session to name; its images are those of `images` only by number."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=int(FPS))
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for image in images():
            out.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        out.mux(stream.encode())


def images() -> list[RgbImage]:
    """The frames: grey of brightness 40, 80, 120 and 160."""
    return [np.full((HEIGHT, WIDTH, 3), 40 * (k + 1), np.uint8) for k in range(len(FRAMES))]


def small_run(clip: Path, policy: str = "vitmalis", name: str = "clip") -> PlayedRun:
    """The run, over a clip that `write_clip` wrote."""
    video = VideoSpec(str(name), str(clip), FPS, 0, len(FRAMES), WIDTH, HEIGHT, stand_in="grey frames")
    rule = MatchRule()
    return PlayedRun(
        session=ClientSession(video, "", "", GEOMETRY, policy=policy, trace="4g_00"),
        records=RunRecords(FRAMES, OFFLOADS, [DECISION]),
        references=REFERENCES,
        rule=rule,
        trace=Trace("4g_00", np.array([0.0, 0.15]), np.array([4.0, 6.0]), np.array([40.0, 50.0]), duration_s=0.25),
        metrics=summarise(FRAMES, OFFLOADS, REFERENCES, rule),
        stand_ins={"video": "grey frames"},
        facts={"model": "none"},
    )
