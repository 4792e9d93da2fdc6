"""The view of a client: what is sent to a viewer that asks, over a real socket."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vitmalis.client import view
from vitmalis.client.events import EndOffload, FrameCaptured, Render, ResultArrived, StartOffload
from vitmalis.client.outputs import Outputs
from vitmalis.client.view import NEXT, View, ViewFeed, decode_view
from vitmalis.errors import UserError
from vitmalis.instance_masks import MASK_SIDE
from vitmalis.offload import OffloadDecision, OffloadOutcome, TokenCaching
from vitmalis.types import BoxSource, Configuration, Detections, Frame, OffloadStatus

BOX = Detections.of([[1, 2, 30, 40]], [0.75], [2])
MASK = np.array([[True, False]])


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(tmp_path / "view"))
        listener.listen(1)
        yield listener


@pytest.fixture
def feed(listener: socket.socket, tmp_path: Path) -> Iterator[ViewFeed]:
    with ViewFeed(str(tmp_path / "view")) as feed:
        yield feed


@pytest.fixture
def viewer(listener: socket.socket, feed: ViewFeed) -> Iterator[Connection]:
    with Connection(listener.accept()[0].detach()) as viewer:
        yield viewer


def frame(index: int) -> Frame:
    return Frame(index, index / 10, np.full((48, 96, 3), index, np.uint8))


def render(index: int) -> Render:
    return Render(index, BOX, BoxSource.TRACKER, result_frame_index=0, shown_frame_index=index)


def next_view(viewer: Connection) -> View:
    viewer.send_bytes(NEXT)
    assert viewer.poll(60.0)
    return decode_view(viewer.recv_bytes())


def play(feed: ViewFeed, *indices: int) -> None:
    for index in indices:
        feed.observe(FrameCaptured(frame(index)))
        feed.observe(render(index))


def test_a_view_is_the_newest_frame_with_its_boxes(feed: ViewFeed, viewer: Connection) -> None:
    play(feed, 0, 1, 2)
    seen = next_view(viewer)
    assert (seen.frame_index, seen.source, seen.result_frame_index, seen.shown_frame_index) == (2, "tracker", 0, 2)
    assert seen.captured
    assert (seen.image == 2).all()
    assert seen.detections.boxes_xyxy.tolist() == [[1, 2, 30, 40]]
    assert seen.detections.labels.tolist() == [2]
    assert (seen.latency_s, seen.offload) == (None, None)
    play(feed, 3, 4)
    assert next_view(viewer).frame_index == 4, "those in between were not asked for"


def test_masks_are_viewed_with_their_boxes(feed: ViewFeed, viewer: Connection) -> None:
    masks = np.arange(MASK_SIDE**2, dtype=np.uint8).reshape(1, MASK_SIDE, MASK_SIDE)
    feed.observe(FrameCaptured(frame(0)))
    feed.observe(replace(render(0), detections=replace(render(0).detections, masks=masks)))
    np.testing.assert_array_equal(next_view(viewer).detections.masks, masks)


def test_who_watches_gets_the_last_view_after_the_end(
    feed: ViewFeed, viewer: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(view, "_LAST_S", 60.0)
    play(feed, 0)
    assert next_view(viewer).frame_index == 0
    play(feed, 1, 2)
    ended = threading.Thread(target=feed.__exit__, args=(None, None, None))
    ended.start()
    assert next_view(viewer).frame_index == 2
    ended.join()
    with pytest.raises(EOFError):
        viewer.recv_bytes()


def test_a_frame_that_the_camera_lost_is_shown_as_the_one_before(feed: ViewFeed, viewer: Connection) -> None:
    play(feed, 0)
    feed.observe(render(1))
    seen = next_view(viewer)
    assert (seen.frame_index, seen.captured) == (1, False)
    assert (seen.image == 0).all()


def test_the_next_frame_may_come_before_this_one_is_rendered(feed: ViewFeed, viewer: Connection) -> None:
    feed.observe(FrameCaptured(frame(0)))
    feed.observe(FrameCaptured(frame(1)))
    feed.observe(render(0))
    assert (next_view(viewer).image == 0).all()


def test_the_last_offload_from_its_start_to_its_result(feed: ViewFeed, viewer: Connection) -> None:
    decision = OffloadDecision(Configuration(1, 70, 3), downsample_mask=MASK)
    feed.observe(StartOffload(0, frame(0), decision))
    play(feed, 0)
    offload = next_view(viewer).offload
    assert offload is not None
    assert (offload.frame_index, offload.configuration) == (0, Configuration(1, 70, 3))
    assert offload.downsample_mask is not None
    assert offload.downsample_mask.tolist() == [[True, False]]
    assert (offload.status, offload.payload_bytes) == (None, None)
    outcome = OffloadOutcome(0, decision, 2048, *[0.01] * 5, e2e_latency_s=0.25)
    feed.observe(ResultArrived(0, BOX, outcome))
    feed.observe(EndOffload(0, OffloadStatus.OK))
    play(feed, 1)
    seen = next_view(viewer)
    assert seen.latency_s == 0.25
    assert seen.offload is not None
    assert (seen.offload.payload_bytes, seen.offload.e2e_latency_s) == (2048, 0.25)
    assert seen.offload.status is OffloadStatus.OK


def test_an_earlier_offload_changes_nothing_of_the_last_one(feed: ViewFeed, viewer: Connection) -> None:
    decision = OffloadDecision(Configuration())
    for number in (0, 1):
        feed.observe(StartOffload(number, frame(number), decision))
    feed.observe(ResultArrived(0, BOX, OffloadOutcome(0, decision, 2048, *[0.01] * 5, e2e_latency_s=0.25)))
    feed.observe(EndOffload(0, OffloadStatus.LOST))
    play(feed, 2)
    offload = next_view(viewer).offload
    assert offload is not None
    assert (offload.frame_index, offload.payload_bytes, offload.status) == (1, None, None)


@pytest.mark.parametrize("changes", [{"blank_mask": MASK}, {"caching": TokenCaching(0, MASK)}])
def test_regions_without_pixels_are_known(changes: dict[str, Any], feed: ViewFeed, viewer: Connection) -> None:
    feed.observe(StartOffload(0, frame(0), OffloadDecision(Configuration(0, 70, 3), **changes)))
    play(feed, 0)
    offload = next_view(viewer).offload
    assert offload is not None
    assert offload.unsent_mask is not None
    assert offload.unsent_mask.tolist() == MASK.tolist()


def test_a_viewer_that_is_gone_ends_nothing(feed: ViewFeed, viewer: Connection) -> None:
    viewer.close()
    feed.join(60.0)
    assert not feed.is_alive()
    play(feed, 0, 1)


def test_no_viewer_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no viewer listens there"):
        Outputs(recording=tmp_path / "camera.mkv", viewer=str(tmp_path / "nothing"))
    assert list(tmp_path.iterdir()) == []


def test_a_view_of_other_bytes_is_refused() -> None:
    with pytest.raises(ValueError):
        decode_view(b"\x93\x01\x02\x03")
