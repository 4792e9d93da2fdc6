"""A recording for the viewer Rerun (https://rerun.io): frames, boxes and masks; F1, ages and latencies over time."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitmalis.errors import UserError
from vitmalis.matching import match
from vitmalis.metrics.summary import STAGES
from vitmalis.paths import atomic_path
from vitmalis.types import COCO_CLASSES, Detections, RgbImage
from vitmalis_jobs.evaluation.export.object_map import object_map
from vitmalis_jobs.run.page.build import PlayedRun

RECORDING = "run.rrd"
JPEG_QUALITY = 80
FRAME, TIME = "frame", "capture_time"
"""Timelines."""
MASK_OPACITY = 0.35
"""Opacity of masks: those shown and those of references lie over the frame at the same time."""
BACKGROUND, TRANSPARENT = len(COCO_CLASSES), (0, 0, 0, 0)
"""Class of pixels that belong to no object, and its colour, RGBA."""


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
        log = _Log(rerun, recording, run)
        log.classes()
        log.frames(images)
        log.offloads()
        recording.disconnect()
    return [folder / RECORDING]


@dataclass(frozen=True, slots=True)
class _Log:
    """What is written of a run: `rerun` is the package, `recording` an open one."""

    rerun: Any
    recording: Any
    run: PlayedRun

    def classes(self) -> None:
        """Names of the classes, for boxes and pixels of masks."""
        names: list[tuple[Any, ...]] = [*enumerate(COCO_CLASSES)]
        if self.run.has_masks:
            names.append((BACKGROUND, "background", TRANSPARENT))
        self.recording.log("/", self.rerun.AnnotationContext(names), static=True)

    def frames(self, images: Iterator[RgbImage]) -> None:
        """Frames with what was shown on them and their references, and the numbers of each."""
        run, has_masks = self.run, self.run.has_masks
        for frame, image in zip(run.records.frames, images, strict=False):
            self._set_time(frame.frame_index, frame.capture_time_s)
            self.recording.log("camera", self.rerun.Image(image).compress(jpeg_quality=JPEG_QUALITY))
            self._objects("camera/shown", frame.detections, has_masks)
            if frame.result_frame_index >= 0:
                self._number("age_of_boxes_frames", frame.frame_index - frame.result_frame_index)
            if run.references is None:
                continue
            reference = run.references[frame.frame_index]
            self._objects("camera/reference", reference, has_masks)
            f1 = match(frame.detections, reference, run.rule).f1
            if f1 is not None:
                self._number("f1", f1)

    def offloads(self) -> None:
        """Latencies and sizes, each at the frame that was offloaded."""
        captured_s = {frame.frame_index: frame.capture_time_s for frame in self.run.records.frames}
        for offload in self.run.records.offloads:
            self._set_time(offload.frame_index, captured_s.get(offload.frame_index, offload.start_time_s))
            for name in ("e2e_latency_s", *STAGES):
                if (value := getattr(offload, name)) is not None:
                    self._number(f"latency/{name}", value)
            if offload.payload_bytes is not None:
                self._number("offload/payload_kib", offload.payload_bytes / 1024)

    def _set_time(self, frame_index: int, capture_time_s: float) -> None:
        self.recording.set_time(FRAME, sequence=frame_index)
        self.recording.set_time(TIME, duration=capture_time_s)

    def _objects(self, entity: str, detections: Detections, has_masks: bool) -> None:
        """Boxes of the objects that count; in a run with masks also their pixels, none of them where none is shown."""
        counted = detections.above(self.run.rule.score_threshold)
        rows = zip(counted.labels, counted.scores, strict=True)
        boxes = self.rerun.Boxes2D(
            array=np.asarray(counted.boxes_xyxy),
            array_format=self.rerun.Box2DFormat.XYXY,
            class_ids=counted.labels,
            labels=[f"{COCO_CLASSES[label]} {score:.2f}" for label, score in rows],
        )
        self.recording.log(entity, boxes)
        if has_masks:
            classes = _class_map(counted, self.run.session.video.size)
            self.recording.log(f"{entity}/masks", self.rerun.SegmentationImage(classes, opacity=MASK_OPACITY))

    def _number(self, entity: str, value: float) -> None:
        self.recording.log(entity, self.rerun.Scalars([float(value)]))


def _class_map(detections: Detections, frame_size: tuple[int, int]) -> NDArray[np.uint8]:
    """The label of each pixel's object, (height, width), and `BACKGROUND`."""
    labels = np.append(detections.labels, BACKGROUND).astype(np.uint8)  # of `NOTHING`, -1, the last
    return labels[object_map(detections, frame_size)]
