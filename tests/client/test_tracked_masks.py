"""Masks from the model to the screen and the records, on the virtual clock and over a real socket."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from tests.client.scripted import session, write_video
from tests.client.test_second_round import served
from tests.server.blob_server import BlobDetector
from tests.server.conftest import PATIENCE_S
from tests.virtual.test_virtual_client import TABLES
from vitmalis.client.realtime import RealtimeClient
from vitmalis.client.recorder import Recorder
from vitmalis.client.session import ClientSession
from vitmalis.instance_masks import MASK_SIDE, quantized
from vitmalis.policy import build_policy
from vitmalis.records import RecordsInfo, read_frames, write_frames
from vitmalis.types import BoxSource, Detections, RgbImage
from vitmalis.video.spec import VideoSpec
from vitmalis.virtual.cache import InferenceCache
from vitmalis.virtual.client import VirtualClient
from vitmalis.virtual.durations import Durations
from vitmalis.virtual.network import DirectConnection
from vitmalis.virtual.server import VirtualServer

MASK = quantized(np.random.default_rng(0).random((1, MASK_SIDE, MASK_SIDE)))


class MaskedBlob(BlobDetector):
    """Finds the same mask in every box."""

    def detect(self, image: RgbImage) -> Detections:
        found = super().detect(image)
        return replace(found, masks=MASK[: len(found)])


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> VideoSpec:
    return write_video(tmp_path_factory.mktemp("video") / "red.mp4")


def tracked(video: VideoSpec, address: str = "") -> ClientSession:
    return msgspec.structs.replace(session(video, address), policy="trackb2b", drain_s=PATIENCE_S)


def play_virtual(video: VideoSpec, cache: InferenceCache | None = None) -> Recorder:
    server = VirtualServer(MaskedBlob(), video, "sha", cache)
    client = VirtualClient(tracked(video), build_policy("trackb2b"), server, DirectConnection(), Durations(TABLES))
    client.play()
    return client.recorder


def play_realtime(video: VideoSpec) -> Recorder:
    with served(MaskedBlob()) as address:
        client = RealtimeClient(tracked(video, address))
        client.play()
    return client.recorder


@pytest.mark.parametrize("play", [play_virtual, play_realtime])
def test_results_and_tracked_boxes_have_the_masks_of_the_model(
    play: Callable[[VideoSpec], Recorder], video: VideoSpec, tmp_path: Path
) -> None:
    recorder = play(video)
    found = [offload.detections for offload in recorder.offloads() if len(offload.detections)]
    shown = [frame for frame in recorder.frames() if len(frame.detections)]
    if play is play_virtual:  # a real server may be done before its frame is shown
        assert BoxSource.TRACKER in {frame.source for frame in shown}
    for detections in (*found, *(frame.detections for frame in shown)):
        np.testing.assert_array_equal(detections.masks, MASK)
    write_frames(tmp_path / "frames.parquet", recorder.frames(), RecordsInfo("trackb2b", "red"))
    stored = [frame.detections.masks for frame in read_frames(tmp_path / "frames.parquet") if len(frame.detections)]
    assert len(stored) == len(shown)
    for masks in stored:
        np.testing.assert_array_equal(masks, MASK)


def test_cached_answers_make_the_same_run(video: VideoSpec, tmp_path: Path) -> None:
    files = []
    for name in ("computed", "cached"):
        recorder = play_virtual(video, InferenceCache(tmp_path, 10**7))
        write_frames(tmp_path / f"{name}.parquet", recorder.frames(), RecordsInfo("trackb2b", "red"))
        files.append((tmp_path / f"{name}.parquet").read_bytes())
    assert files[0] == files[1]
