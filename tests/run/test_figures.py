from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vitmalis.instance_masks import MASK_SIDE
from vitmalis.records import FrameRecord, OffloadRecord
from vitmalis.types import COCO_CLASSES, Detections, RgbImage
from vitmalis_jobs.run.figures import plots
from vitmalis_jobs.run.figures.comparison_video import ComparisonVideo
from vitmalis_jobs.run.figures.panels import colour_of, save_png, with_boxes

FPS = 15.0


def boxes(x: float) -> Detections:
    return Detections.of([[x, 40, x + 60, 100], [200, 30, 260, 120]], [0.9, 0.7], [0, 2])


@pytest.fixture
def references() -> list[Detections]:
    return [boxes(20 + 4 * i) for i in range(30)]


@pytest.fixture
def frames() -> list[FrameRecord]:
    rows = []
    for i in range(30):
        common = {"frame_index": i, "capture_time_s": i / FPS, "render_time_s": (i + 1) / FPS}
        if i < 6:
            rows.append(FrameRecord(**common, captured=i != 3))
        else:
            source = "remote" if i == 20 else "tracker"
            shown = boxes(16 + 4 * i)
            rows.append(
                FrameRecord(
                    **common, source=source, result_frame_index=i - i % 5, shown_frame_index=i - 1, detections=shown
                )
            )
    return rows


@pytest.fixture
def offloads() -> list[OffloadRecord]:
    stages = {"encode_s": 0.01, "uplink_s": 0.1, "queue_s": 0.0, "decode_s": 0.02, "inference_s": 0.2}
    rows = [
        OffloadRecord(offload_id=i, frame_index=5 * i, start_time_s=i / 3, e2e_latency_s=0.33, **stages)
        for i in range(5)
    ]
    return [*rows, OffloadRecord(offload_id=5, frame_index=25, start_time_s=5 / 3, status="lost", reason="gone")]


def image(i: int, height: int = 145, width: int = 301) -> RgbImage:
    return np.full((height, width, 3), 60 + i, np.uint8)


def test_the_film_plays_again(
    tmp_path: Path, frames: list[FrameRecord], offloads: list[OffloadRecord], references: list[Detections]
) -> None:
    import av

    video = ComparisonVideo(frames, offloads, references, FPS)
    video.write(tmp_path / "rendered.mp4", (image(i) for i in range(30)))
    with av.open(str(tmp_path / "rendered.mp4")) as container:
        stream = container.streams.video[0]
        images = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
        assert stream.codec_context.name == "h264"
        assert stream.codec_context.pix_fmt == "yuv420p"
        assert float(stream.average_rate) == FPS
    assert len(images) == 30
    assert images[0].shape[0] % 2 == images[0].shape[1] % 2 == 0
    assert images[0].shape[1] >= 602


def test_a_shorter_film_takes_the_first_images(
    tmp_path: Path, frames: list[FrameRecord], references: list[Detections]
) -> None:
    import av

    ComparisonVideo(frames, [], references, FPS).write(tmp_path / "rendered.mp4", (image(i) for i in range(4)))
    with av.open(str(tmp_path / "rendered.mp4")) as container:
        assert sum(1 for _ in container.decode(video=0)) == 4


def test_boxes_are_drawn_on_both_sides(frames: list[FrameRecord], references: list[Detections]) -> None:
    shown = ComparisonVideo(frames, [], references, FPS).draw(10, image(10))
    left, right = shown[40:, :301], shown[40:, 309:]
    for side in (left, right):
        assert (side == colour_of(0)).all(axis=-1).any()
        assert (side == colour_of(2)).all(axis=-1).any()
    first = ComparisonVideo(frames, [], references, FPS).draw(0, image(0))
    assert not (first[40:, :301] == colour_of(0)).all(axis=-1).any()  # nothing was shown yet


def test_masks_are_tinted_in_the_colour_of_their_class() -> None:
    """The left half of a box that reaches beyond the image, outlined in that colour; the rest stays as it was."""
    image = np.full((60, 80, 3), 100, np.uint8)
    mask = np.zeros((1, MASK_SIDE, MASK_SIDE), np.uint8)
    mask[:, :, : MASK_SIDE // 2] = 255
    drawn = with_boxes(image, Detections.of([[-20, 10, 60, 100]], [0.9], [0], mask))
    tinted = (0.55 * 100 + 0.45 * np.array(colour_of(0))).astype(np.uint8)
    assert drawn[50, 10].tolist() == tinted.tolist()
    assert drawn[50, 19].tolist() == list(colour_of(0))
    assert drawn[50, 20].tolist() == drawn[50, 30].tolist() == drawn[50, 70].tolist() == [100] * 3
    assert (image == 100).all()


def test_the_still_is_a_rich_and_typical_frame(frames: list[FrameRecord], references: list[Detections]) -> None:
    assert ComparisonVideo(frames, [], references, FPS).typical() >= 6


def test_every_class_has_a_readable_colour() -> None:
    for label in range(len(COCO_CLASSES)):
        assert max(colour_of(label)) > 180


def test_plots_and_still_are_images(
    tmp_path: Path, frames: list[FrameRecord], offloads: list[OffloadRecord], references: list[Detections]
) -> None:
    from PIL import Image

    plots.latency_breakdown(tmp_path / "latency.png", offloads, "title")
    plots.rendering_f1(tmp_path / "f1.png", frames, references, "title")
    save_png(tmp_path / "still.png", ComparisonVideo(frames, offloads, references, FPS).draw(10, image(10)))
    for name in ("latency.png", "f1.png", "still.png"):
        with Image.open(tmp_path / name) as shown:
            assert np.asarray(shown.convert("L")).std() > 5


def test_a_run_without_results_has_plots_too(tmp_path: Path, frames: list[FrameRecord]) -> None:
    plots.latency_breakdown(tmp_path / "latency.png", [], "title")
    plots.rendering_f1(tmp_path / "f1.png", frames[:3], [Detections.empty()] * 3, "title")
    assert (tmp_path / "latency.png").stat().st_size > 0
    assert (tmp_path / "f1.png").stat().st_size > 0


def test_bars_of_offloads_in_flight_do_not_cover_each_other() -> None:
    """The second starts 0.3 s after the first, which takes 0.5 s; the third after the second has ended."""
    widths = plots.bar_widths_s(np.array([0.0, 0.3, 1.0]), np.array([0.5, 0.5, 0.5]))
    assert widths.tolist() == [0.3, 0.5, 0.5]
