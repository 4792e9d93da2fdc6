"""A recording for the viewer Rerun (https://rerun.io): frames with boxes, and F1, ages and latencies along the clip."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from vitmalis.errors import UserError
from vitmalis.matching import match
from vitmalis.metrics.summary import STAGES
from vitmalis.paths import atomic_path
from vitmalis.types import COCO_CLASSES, Detections, RgbImage
from vitmalis_jobs.run.page.build import PlayedRun

RECORDING = "run.rrd"
JPEG_QUALITY = 80
FRAME, TIME = "frame", "capture_time"
"""Timelines."""


def write_rerun(run: PlayedRun, images: Iterator[RgbImage], folder: Path) -> list[Path]:
    """Write the recording of a run; returns its path in a list.

    Args:
        run: what was played.
        images: of its frames, in their order.
        folder: for the file.

    Raises:
        UserError: the package rerun-sdk is not installed.
    """
    try:
        import rerun
    except ModuleNotFoundError as error:
        raise UserError("--format rerun needs rerun-sdk: pip install 'vitmalis[rerun]'") from error
    title = f"{run.session.policy} on {run.session.video.name} over {run.session.trace}"
    with (
        atomic_path(folder / RECORDING) as temporary,
        rerun.RecordingStream("vitmalis", recording_id=uuid.uuid4()) as recording,  # the viewer joins those of one id
    ):
        recording.save(temporary)
        recording.send_recording_name(title)
        _log_classes(rerun, recording)
        _log_frames(rerun, recording, run, images)
        _log_offloads(rerun, recording, run)
        recording.disconnect()
    return [folder / RECORDING]


def _log_classes(rerun: Any, recording: Any) -> None:
    recording.log("/", rerun.AnnotationContext(list(enumerate(COCO_CLASSES))), static=True)


def _log_frames(rerun: Any, recording: Any, run: PlayedRun, images: Iterator[RgbImage]) -> None:
    for frame, image in zip(run.records.frames, images, strict=False):
        _set_time(recording, frame.frame_index, frame.capture_time_s)
        recording.log("camera", rerun.Image(image).compress(jpeg_quality=JPEG_QUALITY))
        recording.log("camera/shown", _boxes(rerun, frame.detections.above(run.rule.score_threshold)))
        if frame.result_frame_index >= 0:
            _log_number(rerun, recording, "age_of_boxes_frames", frame.frame_index - frame.result_frame_index)
        if run.references is None:
            continue
        reference = run.references[frame.frame_index]
        recording.log("camera/reference", _boxes(rerun, reference.above(run.rule.score_threshold)))
        f1 = match(frame.detections, reference, run.rule).f1
        if f1 is not None:
            _log_number(rerun, recording, "f1", f1)


def _log_offloads(rerun: Any, recording: Any, run: PlayedRun) -> None:
    captured_s = {frame.frame_index: frame.capture_time_s for frame in run.records.frames}
    for offload in run.records.offloads:
        _set_time(recording, offload.frame_index, captured_s.get(offload.frame_index, offload.start_time_s))
        for name in ("e2e_latency_s", *STAGES):
            if (value := getattr(offload, name)) is not None:
                _log_number(rerun, recording, f"latency/{name}", value)
        if offload.payload_bytes is not None:
            _log_number(rerun, recording, "offload/payload_kib", offload.payload_bytes / 1024)


def _set_time(recording: Any, frame_index: int, capture_time_s: float) -> None:
    recording.set_time(FRAME, sequence=frame_index)
    recording.set_time(TIME, duration=capture_time_s)


def _boxes(rerun: Any, detections: Detections) -> Any:
    rows = zip(detections.labels, detections.scores, strict=True)
    return rerun.Boxes2D(
        array=np.asarray(detections.boxes_xyxy),
        array_format=rerun.Box2DFormat.XYXY,
        class_ids=detections.labels,
        labels=[f"{COCO_CLASSES[label]} {score:.2f}" for label, score in rows],
    )


def _log_number(rerun: Any, recording: Any, entity: str, value: float) -> None:
    recording.log(entity, rerun.Scalars([float(value)]))
