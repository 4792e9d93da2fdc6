"""A run on the virtual clock: client, link and server in this process, time computed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import cv2

from vitmalis.client.session import SESSION_FILE, write_session
from vitmalis.errors import UserError
from vitmalis.estimation import load_latency_tables
from vitmalis.paths import cache_dir, file_sha256
from vitmalis.policy import build_policy
from vitmalis.records import RecordsInfo, write_run
from vitmalis.types import Detections, RgbImage
from vitmalis.video.spec import VideoSpec, open_video
from vitmalis_jobs.common.console import Terminal
from vitmalis_jobs.common.detectors import loaded_detector
from vitmalis_jobs.run.processes import Played
from vitmalis_jobs.run.spec import RunSpec

if TYPE_CHECKING:
    from vitmalis.virtual.cache import InferenceCache
    from vitmalis.virtual.durations import Durations

CACHE_FOLDER = "inference"
MAX_DECODED_BYTES = 1_000_000_000
"""A clip that is larger is decoded anew for each run; 21 s of 960x540 at 30 FPS are not."""


def play_virtually(
    plan: RunSpec, model_id: str, references: Sequence[Detections], directory: Path, terminal: Terminal
) -> tuple[Played, dict[str, float]]:
    """Play the clip on the virtual clock and write its records.

    Args:
        plan: of the run, with latency tables.
        model_id: of the references.
        references: of every frame, which an oracle may see.
        directory: for the records.
        terminal: shows progress.

    Returns:
        The records, and metrics of the inference cache.

    Raises:
        UserError: the latency tables do not fit the clip or the clock.
    """
    from vitmalis.virtual.client import VirtualClient
    from vitmalis.virtual.network import connect
    from vitmalis.virtual.server import VirtualServer

    config = plan.config
    session = plan.session("", model_id, directory)
    write_session(session, directory / SESSION_FILE)
    cv2.setNumThreads(config.client.threads)
    cache = inference_cache(config.inference_cache.max_gb) if config.inference_cache.enabled else None
    hits, misses = (cache.hits, cache.misses) if cache else (0, 0)
    with terminal.progress("playing in virtual time") as step:
        client = VirtualClient(
            session,
            build_policy(config.policy_kind, **plan.policy_options),
            VirtualServer(loaded_detector(config.model), plan.clip, file_sha256(Path(plan.clip.path)), cache),
            connect(config.link["name"], plan.trace, config.link.get("transport", "ideal")),
            _durations(plan),
            lambda done, offloads, lost: step(done, plan.clip.frames, f"{offloads} offloads, {lost} lost"),
            clip_images,
        )
        client.attach_lookahead(references, plan.rule)
        client.play()
    recorder = client.recorder
    played = Played(recorder.frames(), recorder.offloads(), recorder.decisions())
    info = RecordsInfo(policy=session.policy, clip=session.video.name, trace=session.trace, clock="virtual")
    write_run(directory, info, played.frames, played.offloads, played.decisions)
    if cache is None:
        return played, {}
    return played, {"cache_hits": cache.hits - hits, "cache_misses": cache.misses - misses}


@lru_cache(maxsize=1)
def inference_cache(max_gb: float) -> InferenceCache:
    """The one that all virtual runs of this project share."""
    from vitmalis.virtual.cache import InferenceCache

    return InferenceCache(cache_dir() / CACHE_FOLDER, round(max_gb * 1e9))


def clip_images(clip: VideoSpec) -> Iterator[RgbImage]:
    """Frames of a clip, decoded once for all runs of a sweep that play it one after the other, if memory allows it."""
    size_bytes = 3 * clip.width * clip.height * clip.frames
    if size_bytes > MAX_DECODED_BYTES:
        return open_video(clip)
    return iter(_decoded(clip, file_sha256(Path(clip.path))))


@lru_cache(maxsize=1)
def _decoded(clip: VideoSpec, _sha256: str) -> list[RgbImage]:
    """By the file's content, too: a file may be another one by the next run."""
    images = list(open_video(clip))
    for image in images:
        image.flags.writeable = False  # they belong to all runs
    return images


def _durations(plan: RunSpec) -> Durations:
    """The configured durations, from tables of the very frames that are played."""
    from vitmalis.virtual.durations import Durations

    if plan.latency_tables is None:
        raise RuntimeError("a virtual run was planned without latency tables")
    tables, latency, clip = load_latency_tables(plan.latency_tables), plan.config.latency, plan.clip
    measured = tables.model, tables.width_px, tables.height_px
    wanted = plan.config.model.name, clip.width, clip.height
    if measured != wanted:
        raise UserError(
            f"latency.tables={plan.latency_tables}: measured with {measured[0]} on {measured[1]}x{measured[2]} frames, "
            f"this run has {wanted[0]} and {wanted[1]}x{wanted[2]}"
        )
    return Durations(tables, latency.seed if latency.name == "sampled" else None)
